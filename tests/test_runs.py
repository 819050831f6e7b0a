"""Run folders: which one a command gets, and what is written down about it."""

from pathlib import Path

import pytest

from fineface_train.runs import RunConfig, choose_folder, provenance


def finish(folder: Path) -> None:
    (folder / "bundle").mkdir(parents=True)
    for path in (folder / "bundle" / "config.json", folder / "finished.json"):
        path.write_text("{}")


def test_fresh_starts_over_once_and_goes_on_with_what_it_started(tmp_path: Path) -> None:
    plain, fresh, identity = RunConfig(root=str(tmp_path)), RunConfig(root=str(tmp_path), fresh=True), {"seed": 0}
    first = choose_folder(plain, "run", identity)
    assert choose_folder(fresh, "run", identity) == first
    first.mkdir()
    second = choose_folder(fresh, "run", identity)
    assert second.name == f"{first.name}-2"
    second.mkdir()
    assert choose_folder(fresh, "run", identity) == second
    finish(second)
    assert choose_folder(fresh, "run", identity).name == f"{first.name}-3"
    assert choose_folder(plain, "run", identity) == first
    assert choose_folder(plain, "run", {"seed": 1}) != first


def test_provenance_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance()["git"] is None
