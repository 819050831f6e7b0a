"""`prepare`: one table and one manifest, made once, and made again when something changed."""

import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from fineface_train.aus import AUS
from fineface_train.compose import load_config
from fineface_train.data.config import DataConfig
from fineface_train.data.crew import Crew
from fineface_train.data.disfa.config import DisfaConfig
from fineface_train.data.labels import LabelsConfig, Scope
from fineface_train.data.manipulation.config import ManipulationConfig
from fineface_train.data.mixture import Mixture
from fineface_train.data.prepare import prepare
from fineface_train.data.prepared import read_manifest
from fineface_train.data.table import SampleTable
from fineface_train.files import write_json
from fineface_train.overrides import choices
from fineface_train.toyfacs.combinations import holds_held_out
from tests.conftest import SMALL
from tests.data.conftest import affectnet_config, disfa_config

QUIET = Crew(quiet=True)


def _config(root: Path) -> DataConfig:
    corpus = root / "corpus"
    return DataConfig(
        root=str(root),
        toyfacs=dataclasses.replace(SMALL),
        disfa=disfa_config(corpus),
        affectnet=affectnet_config(corpus),
    )


@pytest.fixture
def config(corpus: Path, tmp_path: Path) -> DataConfig:
    """A config whose corpus is drawn already."""
    shutil.copytree(corpus, tmp_path / "toy" / "corpus")
    return _config(tmp_path / "toy")


def test_both_sources_in_one_table_with_a_manifest(tmp_path: Path) -> None:
    config = _config(tmp_path / "toy")
    table = prepare(config, crew=QUIET)
    manifest = read_manifest(config.root)
    assert set(table.frame["source"]) == {"disfa", "affectnet"}
    assert manifest["table"]["rows"] == len(table) == sum(manifest["table"]["splits"].values())
    assert (
        manifest["table"]["fingerprint"]
        == table.fingerprint()
        == SampleTable.read(tmp_path / "toy" / "table.parquet").fingerprint()
    )
    assert manifest["sources"]["affectnet"]["dropped: HasFace is false"] == 1
    assert manifest["sources"] == table.counts
    assert sorted(path.name for path in (tmp_path / "toy").glob("[!.]*")) == [
        *(
            "corpus",
            "correction.json",
            "dropped.parquet",
            "manifest.json",
            "peaks.parquet",
            "raw.parquet",
            "table.parquet",
        )
    ]
    active = table.aus() > 0
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    assert alone.mean(axis=0).min() >= 0.02
    assert min(manifest["table"]["alone_share"].values()) >= 0.02
    assert not holds_held_out(table.aus()).any()


def test_nothing_is_done_twice(config: DataConfig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = prepare(config, crew=QUIET)
    files = {path: path.stat().st_mtime_ns for path in Path(config.root).rglob("*")}
    caplog.clear()
    again = prepare(config, crew=QUIET)
    assert "nothing changed" in caplog.text
    assert again.frame.equals(first.frame)
    assert again.counts == first.counts
    assert {path: path.stat().st_mtime_ns for path in Path(config.root).rglob("*")} == files


def test_what_changed_is_made_again(config: DataConfig) -> None:
    first = prepare(config, crew=QUIET)
    config.seed = 1
    assert prepare(config, crew=QUIET).fingerprint() != first.fingerprint()
    config.seed = 0
    assert config.affectnet is not None
    assert config.toyfacs is not None
    config.affectnet.low_cut = 2.0
    changed = prepare(config, crew=QUIET)
    active = changed.aus()[(changed.frame["source"] == "affectnet").to_numpy()]
    assert active[active > 0].min() >= 2
    config.affectnet.low_cut = 1.0
    assert prepare(config, crew=QUIET).fingerprint() == first.fingerprint()
    config.toyfacs.seed = 9
    assert prepare(config, crew=QUIET).fingerprint() != first.fingerprint()
    assert read_manifest(config.root)["corpus"]["config"]["seed"] == 9


@pytest.mark.parametrize(
    "change", [{"test_share": 1.0}, {"test_share": 0.7}, {"fold": 2, "subjects": ["SN001", "SN002"]}]
)
def test_data_without_a_row_to_train_on_are_refused(config: DataConfig, change: dict) -> None:
    corpus = Path(config.root) / "corpus"
    alone = dataclasses.replace(
        config,
        toyfacs=None,
        disfa=disfa_config(corpus, **change),
        affectnet=None,
        root=str(Path(config.root) / "alone"),
    )
    with pytest.raises(
        ValueError, match=r"data: no row is left to train on \(disfa test \d+\); lower data\.disfa\.test_share"
    ):
        prepare(alone, crew=QUIET)
    together = dataclasses.replace(alone, affectnet=config.affectnet)  # trained on the one, tested on the other
    splits = prepare(together, crew=QUIET).frame.groupby("source")["split"].unique()
    assert set(splits["disfa"]) == {"test"}
    assert "train" in splits["affectnet"]


def test_the_seed_and_the_share_for_validation_are_choices(config: DataConfig) -> None:
    assert config.affectnet is not None
    first = prepare(config, crew=QUIET).frame
    config.affectnet.validation_share = 0.5
    split = prepare(config, crew=QUIET).frame.loc[first["source"] == "affectnet", "split"]
    assert 0.3 < (split == "validation").mean() < 0.7
    config.affectnet.validation_share = 1.0
    with pytest.raises(ValueError, match=r"data\.affectnet\.validation_share=1\.0: must lie in 0\.\.1, and below 1"):
        config.validate("data")


def test_edited_labels_are_noticed(config: DataConfig) -> None:
    first = prepare(config, crew=QUIET)
    path = Path(config.root) / "corpus" / "disfa" / "ActionUnit_Labels" / "SN001" / "SN001_au12.txt"
    path.write_text("".join(f"{frame},5\n" for frame in range(1, 13)))
    assert prepare(config, crew=QUIET).fingerprint() != first.fingerprint()


def test_a_correction_that_changed_is_noticed(config: DataConfig, tmp_path: Path) -> None:
    prepare(config, crew=QUIET)
    given = Path(shutil.copy(Path(config.root) / "correction.json", tmp_path / "given.json"))
    assert config.affectnet is not None
    config.affectnet.correction = str(given)
    first = prepare(config, crew=QUIET)
    given.write_text(given.read_text().replace('"height": 1.0', '"height": 0.5'))
    assert prepare(config, crew=QUIET).fingerprint() != first.fingerprint()
    given.unlink()
    with pytest.raises(ValueError, match=r"data\.affectnet\.correction=.*given\.json: .* does not exist"):
        prepare(config, crew=QUIET)


@pytest.mark.parametrize("name", ["raw.parquet", "correction.json", "dropped.parquet", "peaks.parquet"])
def test_what_lies_beside_the_table_is_made_again_when_it_is_damaged(
    config: DataConfig, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = prepare(config, crew=QUIET)
    path = Path(config.root) / name
    whole = path.read_bytes()
    for damage in (lambda: path.write_bytes(whole[: len(whole) // 2]), path.unlink):
        caplog.clear()
        damage()
        assert prepare(config, crew=QUIET).fingerprint() == first.fingerprint()
        assert f"{name} changed since it was written, preparing again" in caplog.text
        assert path.read_bytes() == whole


def test_images_that_changed_or_are_gone_are_noticed(config: DataConfig, caplog: pytest.LogCaptureFixture) -> None:
    table = prepare(config, crew=QUIET)
    image = Path(table.frame["image"].iloc[-1])
    shutil.copy(table.frame["image"].iloc[-2], image)
    prepare(config, crew=QUIET)
    assert "images changed or are gone, preparing again" in caplog.text
    image.unlink()
    with pytest.raises(ValueError, match=rf"1 of \d+ images are missing, the first is {image}"):
        prepare(config, crew=QUIET)


def test_the_table_does_not_depend_on_where_it_lies(config: DataConfig, tmp_path: Path) -> None:
    shutil.copytree(config.root, tmp_path / "elsewhere")
    tables = [prepare(each, crew=QUIET) for each in (config, _config(tmp_path / "elsewhere"))]
    assert tables[0].fingerprint() == tables[1].fingerprint()
    assert tables[0].frame["image"].iloc[0] != tables[1].frame["image"].iloc[0]


def test_weights_of_sources(config: DataConfig) -> None:
    table = prepare(config, crew=QUIET)
    training = table.frame["split"] == "train"
    by_rows = config.weights(table)
    assert by_rows == {
        source: (training & (table.frame["source"] == source)).sum() for source in ("disfa", "affectnet")
    }
    assert config.disfa is not None
    assert config.affectnet is not None
    config.disfa.weight, config.affectnet.weight = 3.0, 1.0
    assert config.weights(table) == {"disfa": 3.0, "affectnet": 1.0}
    mixture = Mixture(table, config.weights(table), config.rarity_weighting, seed=0)
    drawn = table.frame["source"].to_numpy()[[mixture.row(index) for index in range(2000)]]
    assert np.mean(drawn == "disfa") == pytest.approx(0.75, abs=0.04)


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no manifest\.json; run `fineface prepare` first"):
        read_manifest(tmp_path)
    with pytest.raises(
        ValueError, match=r"data: has no source; set data\.disfa, data\.affectnet or data\.manipulation"
    ):
        DataConfig().validate("data")
    with pytest.raises(ValueError, match=r"data\.rarity_weighting=-1"):
        DataConfig(disfa=DisfaConfig(), rarity_weighting=-1).validate("data")
    with pytest.raises(ValueError, match=r"data\.disfa\.min_side=-1"):
        DataConfig(disfa=DisfaConfig(min_side=-1)).validate("data")
    with pytest.raises(ValueError, match=r"set data\.disfa\.weight and data\.affectnet\.weight: all of them, or none"):
        DataConfig(disfa=DisfaConfig(weight=1.0), affectnet=affectnet_config(tmp_path)).validate("data")
    with pytest.raises(ValueError, match=r"data\.disfa\.root=null.*DISFA_ROOT"):
        prepare(DataConfig(root=str(tmp_path), disfa=DisfaConfig()))


@pytest.mark.parametrize("name", ["toyfacs", "disfa", "affectnet", "disfa_affectnet"])
def test_presets_compose(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in choices("data")
    monkeypatch.delenv("DISFA_ROOT", raising=False)
    monkeypatch.setenv("AFFECTNET_ROOT", "/datasets/affectnet")
    data = load_config([f"data={name}", "data.root=/prepared"]).data
    assert data.name == name
    assert (data.disfa is not None, data.affectnet is not None) == (name != "affectnet", name != "disfa")
    if data.toyfacs is not None:
        assert data.disfa is not None
        assert data.disfa.root == "/prepared/corpus/disfa"
    elif data.disfa is not None:
        assert data.disfa.root is None
        assert data.disfa.neutral_share == 0.1
    if data.toyfacs is None and data.affectnet is not None:
        assert data.affectnet.root == "/datasets/affectnet"
        assert data.affectnet.min_side == 512


def test_the_preset_of_a_list_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIPULATION_ROOT", "/datasets/faces")
    data = load_config(
        ["data=manipulation", "data.manipulation.aus=[1,2,4,5,6,9,12,15,17,20,25,26]", "data.manipulation.scale=1"]
    ).data
    assert list(data.sources) == ["manipulation"]
    assert data.sources["manipulation"] == ManipulationConfig(root="/datasets/faces", aus=list(AUS), scale=1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fineface", LabelsConfig()),
        ("published", LabelsConfig(std=0.2, scope=Scope.batch)),
        ("none", LabelsConfig(0.0, 0.0, Scope.sample)),
    ],
)
def test_label_presets_compose(name: str, expected: LabelsConfig) -> None:
    assert load_config([f"labels={name}"]).labels == expected


def test_a_folder_that_was_prepared_before_a_key_came_is_known_again(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = DataConfig(root=str(tmp_path / "data"), affectnet=affectnet_config(corpus))
    prepare(config, crew=Crew(quiet=True))
    manifest = read_manifest(tmp_path / "data")
    for part in ("affectnet", "annotate"):
        del manifest["config"][part]["scale"]
    write_json(tmp_path / "data" / "manifest.json", manifest)
    caplog.clear()
    prepare(config, crew=Crew(quiet=True))
    assert "nothing changed" in caplog.text
    config.affectnet = affectnet_config(corpus, scale=2.0)
    prepare(config, crew=Crew(quiet=True))
    assert "data.affectnet.scale=2.0 (was 1.0) changed, preparing again" in caplog.text
    assert read_manifest(tmp_path / "data")["config"]["affectnet"]["scale"] == 2.0
