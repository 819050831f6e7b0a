"""The DISFA reader: truth comes back, neutral frames are thinned, and every fault is named."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AUS
from fineface_train.data.disfa import read_disfa
from fineface_train.data.disfa_layout import DisfaConfig
from fineface_train.toyfacs.combinations import holds_held_out
from fineface_train.toyfacs.corpus import sample_expressions
from tests.conftest import SMALL
from tests.data.conftest import disfa_config


def _labels(corpus: Path, subject: str, au: int) -> Path:
    return corpus / "disfa" / "ActionUnit_Labels" / subject / f"{subject}_au{au}.txt"


def test_truth_comes_back_exactly(corpus: Path) -> None:
    table = read_disfa(disfa_config(corpus), seed=0)
    truth = sample_expressions(np.random.default_rng((SMALL.seed, 1)), 12 + 11 + 12, integers=True)
    assert np.array_equal(table.aus(), truth)
    assert table.frame["image"].iloc[0].endswith("frames/SN001/00000.png")
    assert table.frame["id"].iloc[0] == "disfa/SN001/00001"
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in table.frame["image"])
    assert not holds_held_out(table.aus()).any()
    assert table.counts["disfa"]["read"] == table.counts["disfa"]["kept"] == 35


def test_labels_and_images_belong_together(corpus: Path) -> None:
    """A mouth differs from the subject's usual one where AUs of the lower face are labelled; shifted by a frame it would not."""
    table = read_disfa(disfa_config(corpus), seed=0)
    mouths = np.stack([np.asarray(Image.open(path).convert("L"), dtype=float)[38:56, 18:46] for path in table.frame["image"]])
    labelled = table.aus()[:, AUS.index(12) :].sum(axis=1)
    change = np.zeros(len(table))
    for rows in table.frame.groupby("subject").indices.values():
        change[rows] = np.abs(mouths[rows] - np.median(mouths[rows], axis=0)).mean(axis=(1, 2))
    assert np.corrcoef(change, labelled)[0, 1] > 0.6
    assert abs(np.corrcoef(np.roll(change, 1), labelled)[0, 1]) < 0.4


def test_a_subject_is_in_one_split_only(corpus: Path) -> None:
    table = read_disfa(disfa_config(corpus), seed=0)
    assert (table.frame.groupby("subject")["split"].nunique() == 1).all()
    assert table.frame.groupby("split")["subject"].nunique().to_dict() == {"train": 2, "validation": 1}


def test_captions_are_joined_by_subject_and_frame(own_corpus: Path) -> None:
    path = own_corpus / "disfa" / "disfa_captions.csv"
    captions = pd.read_csv(path)
    before = read_disfa(disfa_config(own_corpus), seed=0).frame["caption"].tolist()
    captions.sample(frac=1, random_state=0).to_csv(path, index=False)
    assert read_disfa(disfa_config(own_corpus), seed=0).frame["caption"].tolist() == before
    captions[["caption"]].to_csv(path, index=False)
    assert read_disfa(disfa_config(own_corpus), seed=0).frame["caption"].tolist() == before
    captions[["caption"]].iloc[:-1].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"34 captions in row order, but the labels have 35 frames"):
        read_disfa(disfa_config(own_corpus), seed=0)
    captions.iloc[1:].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"1 of 35 labelled frames have no caption, the first is SN001, frame 1"):
        read_disfa(disfa_config(own_corpus), seed=0)
    pd.concat([captions, captions.iloc[:1]]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"subject SN001, frame 1 occurs twice"):
        read_disfa(disfa_config(own_corpus), seed=0)
    captions.drop(columns="caption").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"no column 'caption'"):
        read_disfa(disfa_config(own_corpus), seed=0)


def test_frames_without_an_au_are_thinned_by_the_seed(tmp_path: Path) -> None:
    """One long subject, in jpg as the real frames: 400 frames of which 300 show nothing."""
    subject, frames = "SN001", 400
    labels, images = tmp_path / "ActionUnit_Labels" / subject, tmp_path / "frames" / subject
    labels.mkdir(parents=True)
    images.mkdir(parents=True)
    for au in AUS:
        (labels / f"{subject}_au{au}.txt").write_text("".join(f"{frame},{3 if au == 12 and frame <= 100 else 0}\n" for frame in range(1, frames + 1)))
    Image.new("RGB", (70, 66)).save(images / "00000.jpg")
    for index in range(1, frames):
        shutil.copy(images / "00000.jpg", images / f"{index:05d}.jpg")
    pd.DataFrame({"subject": subject, "frame": range(1, frames + 1), "caption": "a person"}).to_csv(tmp_path / "disfa_captions.csv", index=False)

    def read(seed: int, share: float) -> set[str]:
        table = read_disfa(DisfaConfig(root=str(tmp_path), neutral_share=share), seed)
        assert (table.frame["AU12"] > 0).sum() == 100
        assert table.counts["disfa"]["dropped: no AU"] == frames - len(table)
        return set(table.frame["id"])

    tenth = read(0, 0.1)
    assert 15 <= len(tenth) - 100 <= 45
    assert read(0, 0.1) == tenth
    assert read(1, 0.1) != tenth
    assert tenth < read(0, 0.5)
    assert len(read(0, 0.0)) == 100
    assert len(read(0, 1.0)) == 400


def test_small_frames_are_dropped_by_subject(own_corpus: Path) -> None:
    for path in (own_corpus / "disfa" / "frames" / "SN002").iterdir():
        Image.new("RGB", (63, 64)).save(path)
    table = read_disfa(disfa_config(own_corpus), seed=0)
    assert set(table.frame["subject"]) == {"disfa/SN001", "disfa/SN003"}
    assert table.counts["disfa"]["dropped: subject's frames under min_side"] == 11


def test_a_missing_folder_says_which_key_to_set_and_where_to_get_disfa(own_corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.disfa\.root=null.*DISFA_ROOT.*mohammadmahoor"):
        read_disfa(DisfaConfig(), seed=0)
    with pytest.raises(ValueError, match=r"data\.disfa\.images=nowhere.*nowhere does not exist.*mohammadmahoor"):
        read_disfa(disfa_config(own_corpus, images="nowhere"), seed=0)
    shutil.rmtree(own_corpus / "disfa" / "ActionUnit_Labels")
    (own_corpus / "disfa" / "ActionUnit_Labels").mkdir()
    with pytest.raises(ValueError, match=r"holds no folder per subject"):
        read_disfa(disfa_config(own_corpus), seed=0)


@pytest.mark.parametrize(
    ("line", "text", "rule"),
    [
        (3, "3,6", r"line 3: '3,6': the intensity must lie in 0\.\.5"),
        (3, "3,-1", r"line 3: '3,-1': the intensity must lie in 0\.\.5"),
        (3, "3,nan", r"line 3: '3,nan': the intensity must lie in 0\.\.5"),
        (4, "4", r"line 4: '4': must read frame,intensity"),
        (4, "4,1,1", r"line 4: '4,1,1': must read frame,intensity"),
        (1, "0,1", r"line 1: '0,1': frames must count 1, 2, 3"),
    ],
)
def test_a_bad_label_is_named_by_file_and_line(own_corpus: Path, line: int, text: str, rule: str) -> None:
    path = _labels(own_corpus, "SN002", 12)
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"SN002_au12\.txt, " + rule):
        read_disfa(disfa_config(own_corpus), seed=0)


def test_counts_that_disagree_are_named(own_corpus: Path) -> None:
    path = _labels(own_corpus, "SN003", 26)
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"SN003: the label files disagree.*SN003_au1\.txt 12.*SN003_au26\.txt 11"):
        read_disfa(disfa_config(own_corpus), seed=0)
    path.write_text("")
    with pytest.raises(ValueError, match=r"SN003_au26\.txt: holds no frames"):
        read_disfa(disfa_config(own_corpus), seed=0)
    path.unlink()
    with pytest.raises(ValueError, match=r"SN003_au26\.txt: missing; a subject needs the labels of AUs 1, 2, 4"):
        read_disfa(disfa_config(own_corpus), seed=0)
    path.write_text(text)
    with pytest.raises(ValueError, match=r"SN001: 12 images, but the labels of SN001 have 12 frames \(SN001/00012\.png is missing\).*first_index=1"):
        read_disfa(disfa_config(own_corpus, first_index=1), seed=0)
    frames = own_corpus / "disfa" / "frames" / "SN001"
    shutil.copy(frames / "00000.png", frames / "00012.png")
    with pytest.raises(ValueError, match=r"SN001: 13 images, but the labels of SN001 have 12 frames"):
        read_disfa(disfa_config(own_corpus), seed=0)


def test_images_may_be_numbered_from_one(own_corpus: Path) -> None:
    before = read_disfa(disfa_config(own_corpus), seed=0).frame
    for subject in (own_corpus / "disfa" / "frames").iterdir():
        for path in sorted(subject.iterdir(), reverse=True):
            path.rename(path.with_name(f"{int(path.stem) + 1:05d}.png"))
    after = read_disfa(disfa_config(own_corpus, first_index=1), seed=0).frame
    assert before.drop(columns="image").equals(after.drop(columns="image"))
    assert after["image"].iloc[0].endswith("SN001/00001.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_pattern": "{subject}/frame.jpg"}, r"data\.disfa\.image_pattern='\{subject\}/frame\.jpg': must contain"),
        ({"first_index": -1}, r"first_index=-1"),
        ({"neutral_share": 1.5}, r"neutral_share=1\.5"),
        ({"min_side": -1}, r"min_side=-1"),
        ({"weight": -1.0}, r"weight=-1\.0"),
    ],
)
def test_config_errors_name_key_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DisfaConfig(**change).validate("data.disfa")
