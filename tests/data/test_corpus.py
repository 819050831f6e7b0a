"""The ToyFACS corpus: its layouts, its bytes, and what must and must not be in it."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AU_COUNT, AU_KEYS, AUS
from fineface_train.toyfacs import corpus as corpus_module
from fineface_train.toyfacs.combinations import HELD_OUT_COMBINATIONS, SEEN_COMBINATIONS, active_mask, holds_held_out
from fineface_train.toyfacs.config import DISFA_SUBJECTS, CorpusConfig
from fineface_train.toyfacs.corpus import corpus_stamp, read_stamp, sample_expressions, write_corpus
from fineface_train.toyfacs.faces import BACKGROUNDS, HAIRS, SHIRTS, SKINS, is_held_out_identity
from tests.conftest import SMALL
from tests.data.conftest import affectnet_config, disfa_config


def _bytes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _identity(caption: str) -> tuple[str, ...]:
    """The identity that a caption tells."""
    skin = next(name for name in SKINS if f"{name} skin" in caption)
    style = "bald" if "a bald head" in caption else next(name for name in ("short", "long") if f"{name} " in caption)
    hair = next(name for name in HAIRS if f"{name} temples" in caption or f"{style} {name} hair" in caption)
    return (skin, hair, style, "yes" if "glasses" in caption else "no", "yes" if "a beard" in caption else "no")


def test_the_layouts_are_those_of_the_real_datasets(corpus: Path) -> None:
    labels = corpus / "disfa" / "ActionUnit_Labels"
    assert sorted(path.name for path in labels.iterdir()) == ["SN001", "SN002", "SN003"]
    assert sorted(path.name for path in (labels / "SN001").iterdir()) == sorted(f"SN001_au{au}.txt" for au in AUS)
    lines = (labels / "SN001" / "SN001_au12.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [str(frame) for frame in range(1, 13)]
    assert {line.split(",")[1] for line in lines} <= set("012345")
    assert sorted(path.name for path in (corpus / "disfa" / "frames" / "SN001").iterdir()) == [
        f"{index:05d}.png" for index in range(12)
    ]
    assert len((labels / "SN002" / "SN002_au1.txt").read_text().splitlines()) == 11
    metadata = pd.read_csv(corpus / "affectnet" / "affecnet_metadata.csv")
    assert list(metadata) == [
        *("ImageName", "HasFace", "IsPhoto", "IsReal", "ImageResolutionX", "ImageResolutionY"),
        *(f"{key}_rec" for key in AU_KEYS),
        "TextDescription",
    ]
    for name, width, height in zip(
        metadata["ImageName"], metadata["ImageResolutionX"], metadata["ImageResolutionY"], strict=True
    ):
        with Image.open(corpus / "affectnet" / "images" / name) as image:
            assert image.size == (width, height)


def test_disfa_subjects_have_their_real_names() -> None:
    assert len(DISFA_SUBJECTS) == len(set(DISFA_SUBJECTS)) == 27
    assert {"SN001", "SN032"} <= set(DISFA_SUBJECTS)
    assert not {"SN014", "SN015", "SN019", "SN020", "SN022"} & set(DISFA_SUBJECTS)


def test_one_config_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    write_corpus(SMALL, tmp_path / "again", progress=False)
    assert _bytes(tmp_path / "again") == _bytes(corpus)
    write_corpus(dataclasses.replace(SMALL, seed=6), tmp_path / "other", progress=False)
    assert _bytes(tmp_path / "other") != _bytes(corpus)


def test_an_interrupted_corpus_is_never_taken_as_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus_module, "_write_affectnet", stop)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(SMALL, tmp_path / "corpus", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_only_a_corpus_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    with pytest.raises(ValueError, match=r"thesis: exists and is no ToyFACS corpus"):
        write_corpus(SMALL, tmp_path / "thesis", progress=False)
    small = dataclasses.replace(SMALL, disfa_subjects=1, disfa_frames=2, affectnet_images=50)
    for seed in (0, 1):
        config = dataclasses.replace(small, seed=seed)
        write_corpus(config, tmp_path / "corpus", progress=False)
        assert read_stamp(tmp_path / "corpus") == corpus_stamp(config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "thesis"]


def test_no_held_out_identity_enters(corpus: Path) -> None:
    captions = pd.read_csv(corpus / "disfa" / "disfa_captions.csv")
    by_subject = captions.groupby("subject")["caption"].apply(lambda texts: {_identity(text) for text in texts})
    assert all(len(identities) == 1 for identities in by_subject)
    texts = [*captions["caption"], *pd.read_csv(corpus / "affectnet" / "affecnet_metadata.csv")["TextDescription"]]
    assert not any(is_held_out_identity(_identity(text)) for text in texts)


def test_captions_tell_attributes_and_no_expression(corpus: Path) -> None:
    texts = pd.read_csv(corpus / "affectnet" / "affecnet_metadata.csv")["TextDescription"]
    assert all(
        any(f"{shirt} shirt" in text for shirt in SHIRTS) and any(ground in text for ground in BACKGROUNDS)
        for text in texts
    )
    assert not any(
        word in text
        for text in texts
        for word in ("raiser", "lowerer", "puller", "depressor", "wrinkler", "stretcher", "lips part", "jaw")
    )


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_expressions_of_a_whole_part(integers: bool, seed: int) -> None:
    config = CorpusConfig()
    aus = sample_expressions(np.random.default_rng(seed), config.affectnet_images, integers=integers)
    active = aus > 0
    assert aus.shape == (config.affectnet_images, AU_COUNT)
    assert aus.min() == 0
    assert aus.max() == 5
    assert (aus == np.rint(aus)).all() if integers else aus[active].min() >= 1
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    assert alone.mean(axis=0).min() >= 0.02
    assert not holds_held_out(aus).any()
    shown = {tuple(row) for row in active}
    assert {tuple(row) for row in active_mask(SEEN_COMBINATIONS)} <= shown
    # Sparse and co-occurring otherwise: cheeks rise with the lip corners far more often than without them.
    assert 1 < active.sum(axis=1).mean() < 3
    assert (
        active[active[:, AU_KEYS.index("AU12")], AU_KEYS.index("AU6")].mean()
        > 2 * active[~active[:, AU_KEYS.index("AU12")], AU_KEYS.index("AU6")].mean()
    )


def test_combinations() -> None:
    seen, held_out = active_mask(SEEN_COMBINATIONS), active_mask(HELD_OUT_COMBINATIONS)
    assert len(seen) == len(held_out) == 25
    assert len({tuple(row) for row in (*seen, *held_out)}) == 50
    for combination in (*SEEN_COMBINATIONS, *HELD_OUT_COMBINATIONS):
        assert 2 <= len(combination) <= 5
        assert set(combination) <= set(AU_KEYS)
        # AU6 at 1 is the paper's own, in AU6+12+25.
        assert all(2 <= value <= 5 or (key, value) == ("AU6", 1) for key, value in combination.items())
    assert not holds_held_out(seen).any()
    assert holds_held_out(held_out).all()
    superset = held_out[0] | seen[0]
    assert holds_held_out(superset)
    named = [
        {6: 1, 12: 4, 25: 4},
        {4: 2, 15: 3, 17: 4},
        dict.fromkeys((1, 2, 5, 25, 26), 3),
        {4: 3, 6: 4, 17: 2, 20: 3},
        {1: 4, 2: 4, 4: 3, 9: 3},
        {6: 3, 12: 3},
    ]
    for paper in named:
        assert {f"AU{au}": value for au, value in paper.items()} in (*SEEN_COMBINATIONS, *HELD_OUT_COMBINATIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"disfa_subjects": 28}, r"data\.toyfacs\.disfa_subjects=28: must lie in 1\.\.27"),
        ({"disfa_frames": 1}, r"disfa_frames=1"),
        ({"affectnet_images": 10}, r"affectnet_images=10"),
        ({"annotator_noise": -0.1}, r"annotator_noise=-0\.1"),
        ({"resolution": 8}, r"resolution=8"),
        ({"seed": -1}, r"seed=-1"),
    ],
)
def test_config_errors_name_key_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorpusConfig(**change).validate("data.toyfacs")


def test_fixture_configs_are_valid(corpus: Path) -> None:
    SMALL.validate("data.toyfacs")
    disfa_config(corpus).validate("data.disfa")
    affectnet_config(corpus).validate("data.affectnet")


def test_drawings_are_those_of_this_version(corpus: Path) -> None:
    """Corpora on disk are known by `DRAWING`, so one that changes needs another. Means of 4 x 4 parts, 0-255."""
    golden = json.loads((Path(__file__).parents[1] / "golden" / "drawings.json").read_text())
    assert golden["version"] == corpus_stamp(SMALL)["code"]
    for name, means in golden["images"].items():
        with Image.open(corpus / name) as image:
            parts = np.array(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), float)
        assert np.abs(parts - np.array(means)).max() <= 1, name
