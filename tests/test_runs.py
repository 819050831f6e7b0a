"""Run folders: which one a command gets, and what is written down about it."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from fineface_train.compose import combinations
from fineface_train.loop.runs import RunConfig, choose_folder, provenance


def finish(folder: Path) -> None:
    (folder / "bundle").mkdir(parents=True)
    for path in (folder / "bundle" / "config.json", folder / "finished.json"):
        path.write_text("{}")


def test_fresh_starts_over_once_and_goes_on_with_what_it_started(tmp_path: Path) -> None:
    def choose(fresh: bool, seed: int = 0) -> Path:
        return choose_folder(RunConfig(root=str(tmp_path), fresh=fresh), "run", {"seed": seed}, with_report=True)

    first, second = choose(fresh=False), choose(fresh=True)
    assert second.name == f"{first.name}-2"
    second.mkdir()
    assert choose(fresh=True) == second  # stopped while it trained
    finish(second)
    assert choose(fresh=True) == second  # or while it was evaluated
    (second / "report.html").touch()
    assert choose(fresh=True).name == f"{first.name}-3"
    assert choose(fresh=False) == first
    assert choose(fresh=False, seed=1) != first


def test_provenance_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance()["git"] is None


def test_a_run_from_the_source_alone_says_that_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "fineface-train":
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr("fineface_train.loop.runs.version", version)
    assert provenance()["versions"]["fineface-train"] == "not installed"


def test_combinations_of_swept_values() -> None:
    assert combinations(["seed=0,1", "encoder=none,res_mlp64", "trainer.betas=[0.9,0.99]"])[1] == [
        "seed=0",
        "encoder=res_mlp64",
        "trainer.betas=[0.9,0.99]",
    ]
    assert combinations(["seed=range(3)"]) == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert combinations(["prompt=a man, smiling", "aus=AU1=5,AU2=3"]) == [["prompt=a man, smiling", "aus=AU1=5,AU2=3"]]
    assert ["encoder=individual"] in combinations(["encoder=glob(*)"])
