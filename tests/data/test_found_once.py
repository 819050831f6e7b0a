"""Each data set is looked for once on disk, and what was found is passed on."""

import collections
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fineface_train.cli import main
from fineface_train.config import Config
from fineface_train.data.affectnet import layout as affectnet
from fineface_train.data.config import DataConfig
from fineface_train.data.crew import Crew
from fineface_train.data.disfa import layout as disfa
from fineface_train.data.disfa.config import DisfaConfig
from fineface_train.data.disfa.layout import find_copy
from fineface_train.data.manipulation import reader as manipulation
from fineface_train.data.manipulation.config import ManipulationConfig
from fineface_train.data.manipulation.reader import write_manipulation
from fineface_train.data.prepare import prepare
from fineface_train.data.sources import rows_to_expect
from fineface_train.loop.accelerator import make_accelerator
from fineface_train.verbs.checkup.faults import find_faults
from tests.data.conftest import affectnet_config, no_models, read_affectnet
from tests.data.crews import run_crew
from tests.data.disfa_copy import Copy


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Iterator[collections.Counter[str]]:
    """How often each folder is listed, and each finder called."""
    counter: collections.Counter[str] = collections.Counter()
    listed, scanned = Path.iterdir, os.scandir

    def iterdir(self: Path) -> Iterator[Path]:
        counter[str(self)] += 1
        return listed(self)

    def scandir(path: Any = ".") -> Any:
        counter[str(path)] += 1
        return scanned(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(os, "scandir", scandir)
    for module in (disfa, affectnet, manipulation):

        def find(config: Any, real: Any = module.find_copy, name: str = module.__name__) -> Any:
            counter[name] += 1
            return real(config)

        monkeypatch.setattr(module, "find_copy", find)
    yield counter
    monkeypatch.undo()


def sources(corpus: Path, root: Path) -> DataConfig:
    """A copy of each: DISFA's with names that are not the usual ones, so that its folder has to be listed."""
    Copy(labels="ActionUnit Labels", images="Frames", captions="DISFA captions.csv").write(corpus, root / "disfa")
    table = read_affectnet(affectnet_config(corpus), 0, no_models(root / "models")).table
    (root / "list").mkdir()
    write_manipulation(table, root / "list" / "aus_dataset.pkl", corpus / "affectnet" / "images")
    return DataConfig(
        root=str(root / "prepared"),
        disfa=DisfaConfig(str(root / "disfa"), image_pattern="{subject}/{index:05d}.png", neutral_share=1.0),
        affectnet=affectnet_config(corpus),
        manipulation=ManipulationConfig(
            str(root / "list"),
            images=str(corpus / "affectnet" / "images"),
            aus=[1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26],
            captions="captions.csv",
        ),
    )


def once(looked: collections.Counter[str], root: Path) -> None:
    for module in (disfa, affectnet, manipulation):
        assert looked[module.__name__] == 1, looked
    assert looked[str(root / "disfa")] == 1, looked
    assert looked[str(root / "list")] == 0, looked


def test_prepare_looks_for_each_source_once(corpus: Path, tmp_path: Path, looked: collections.Counter[str]) -> None:
    config = sources(corpus, tmp_path)
    looked.clear()
    prepare(config, crew=Crew(quiet=True))
    once(looked, tmp_path)
    looked.clear()
    prepare(config, crew=Crew(quiet=True))
    once(looked, tmp_path)


def test_the_processes_of_a_launch_look_once_together(
    corpus: Path, tmp_path: Path, looked: collections.Counter[str]
) -> None:
    config = sources(corpus, tmp_path)
    alone = prepare(config, crew=Crew(quiet=True))
    looked.clear()
    config.root = str(tmp_path / "by two")
    tables = run_crew(2, lambda crew: prepare(config, crew=crew))
    assert [table.fingerprint() for table in tables] == [alone.fingerprint()] * 2
    once(looked, tmp_path)


def test_doctor_looks_for_each_source_once(corpus: Path, tmp_path: Path, looked: collections.Counter[str]) -> None:
    config = Config(data=sources(corpus, tmp_path))
    looked.clear()
    faults, found = find_faults(config, make_accelerator(config.trainer))
    assert not [fault for fault in faults if fault.startswith("data.")]
    assert rows_to_expect(found) > 0
    once(looked, tmp_path)


def test_everything_that_is_missing_of_disfa_is_told_by_doctor_at_once(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Copy().write(corpus, tmp_path / "disfa")
    (root / "frames").rename(tmp_path / "elsewhere")
    (root / "disfa_captions.csv").unlink()
    label = next((root / "ActionUnit_Labels").glob("SN002/*12.txt"))
    label.write_text("1,9\n")
    copy = find_copy(DisfaConfig(str(root), subjects=["SN002", "SN099"]))
    assert [fault.partition(":")[0] for fault in copy.faults] == [
        "data.disfa.images=frames",
        "data.disfa.captions=disfa_captions.csv",
        "data.disfa.subjects",
    ]
    with pytest.raises(ValueError, match=r"data\.disfa\.images=frames: .* does not exist"):
        copy.check()
    main(["doctor", "data=disfa", f"data.disfa.root={root}", f"data.root={tmp_path / 'data'}"])
    told = capsys.readouterr().err
    for words in ("data.disfa.images=frames: ", "data.disfa.captions=disfa_captions.csv: ", "line 1: '1,9'"):
        assert words in told
