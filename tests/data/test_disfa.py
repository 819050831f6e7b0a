"""The DISFA reader: truth comes back, neutral frames are thinned, and every fault is named."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AUS
from fineface_train.data.disfa.config import FOLDS, DisfaConfig, Mismatch
from fineface_train.data.disfa.layout import SUBJECTS, find_copy
from fineface_train.data.disfa.reader import input_files, read_disfa, splits
from fineface_train.data.stages import Stages
from fineface_train.toyfacs.combinations import holds_held_out
from fineface_train.toyfacs.corpus import sample_expressions
from tests.conftest import SMALL
from tests.data.conftest import disfa_config, disfa_samples, no_models


def test_truth_comes_back_exactly(corpus: Path) -> None:
    table = disfa_samples(disfa_config(corpus), seed=0)
    truth = sample_expressions(np.random.default_rng((SMALL.seed, 1)), 12 + 11 + 12, integers=True)
    assert np.array_equal(table.aus(), truth)
    assert table.frame["image"].iloc[0].endswith("frames/SN001/00000.png")
    assert table.frame["id"].iloc[0] == "disfa/SN001/00001"
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in table.frame["image"])
    assert not holds_held_out(table.aus()).any()
    assert table.counts["disfa"]["read"] == table.counts["disfa"]["kept"] == 35


def test_labels_and_images_belong_together(corpus: Path) -> None:
    """A mouth differs from the subject's usual one where AUs of the lower face are labelled; shifted by a frame it
    would not."""
    table = disfa_samples(disfa_config(corpus), seed=0)
    mouths = np.stack(
        [np.asarray(Image.open(path).convert("L"), dtype=float)[38:56, 18:46] for path in table.frame["image"]]
    )
    labelled = table.aus()[:, AUS.index(12) :].sum(axis=1)
    change = np.zeros(len(table))
    for rows in table.frame.groupby("subject").indices.values():
        change[rows] = np.abs(mouths[rows] - np.median(mouths[rows], axis=0)).mean(axis=(1, 2))
    assert np.corrcoef(change, labelled)[0, 1] > 0.6
    assert abs(np.corrcoef(np.roll(change, 1), labelled)[0, 1]) < 0.4


def test_a_subject_is_in_one_split_only(corpus: Path) -> None:
    table = disfa_samples(disfa_config(corpus), seed=0)
    assert (table.frame.groupby("subject")["split"].nunique() == 1).all()
    assert table.frame.groupby("split")["subject"].nunique().to_dict() == {"train": 2, "validation": 1}


@pytest.mark.parametrize("fold", range(3))
def test_a_fold_tests_its_subjects_and_trains_on_the_others(fold: int) -> None:
    split = splits(SUBJECTS, DisfaConfig(fold=fold), seed=0)
    assert sorted(subject for subject, name in split.items() if name == "test") == list(FOLDS[fold])
    assert pd.Series(split).value_counts().to_dict() == {"train": 16, "test": 9, "validation": 2}
    assert splits(SUBJECTS, DisfaConfig(fold=fold), seed=1) != split
    with pytest.raises(ValueError, match=r"fold=\d: SN014 are in no fold"):
        splits([*SUBJECTS, "SN014"], DisfaConfig(fold=fold), seed=0)


def test_a_share_of_the_subjects_can_be_kept_for_the_test() -> None:
    without, split = splits(SUBJECTS, DisfaConfig(), seed=0), splits(SUBJECTS, DisfaConfig(test_share=0.2), seed=0)
    assert pd.Series(without).value_counts().to_dict() == {"train": 24, "validation": 3}
    assert pd.Series(split).value_counts().to_dict() == {"train": 18, "test": 6, "validation": 3}
    assert {subject for subject, name in without.items() if name == "validation"} == {
        subject for subject, name in split.items() if name == "validation"
    }


def test_subjects_are_chosen_for_splits_among_those_that_have_frames(own_corpus: Path) -> None:
    frame = disfa_samples(disfa_config(own_corpus)).frame
    (chosen,) = frame.loc[frame["split"] == "validation", "subject"].unique()
    for path in (own_corpus / "disfa" / "frames" / chosen.removeprefix("disfa/")).iterdir():
        Image.new("RGB", (63, 64)).save(path)
    frame = disfa_samples(disfa_config(own_corpus)).frame
    assert chosen not in set(frame["subject"])
    assert frame.groupby("split")["subject"].nunique().to_dict() == {"train": 1, "validation": 1}
    with pytest.raises(
        ValueError, match=r"data\.disfa: no frame is left \(.*under min_side 35.*lower data\.disfa\.min_side=100 or"
    ):
        disfa_samples(disfa_config(own_corpus, min_side=100))


class Captioner(Stages):
    """Says each file's name, and nothing sensible of the first."""

    def captions(self, paths: Sequence[str]) -> pd.DataFrame:
        names = [f"a picture called {Path(path).stem}" for path in paths]
        return pd.DataFrame(
            {
                "path": paths,
                "caption": names,
                "status": ["repeats"] + ["ok"] * (len(names) - 1),
                "fault": "",
                "made_with": "a model",
            }
        )


def test_captions_can_be_made_of_the_frames_that_are_used(corpus: Path, tmp_path: Path) -> None:
    config = disfa_config(corpus, captions=None, neutral_share=0.0)
    with pytest.raises(ValueError, match=r"data\.blip2\.model=null: captions"):
        disfa_samples(config, seed=0)
    table = read_disfa(find_copy(config), 0, Captioner(**vars(no_models(tmp_path)))).table
    all_of = disfa_samples(disfa_config(corpus, neutral_share=0.0)).frame
    assert table.counts["disfa"]["dropped: caption: repeats"] == 1
    assert table.counts["disfa"]["kept"] == len(table) == len(all_of) - 1
    assert table.counts["disfa"]["read"] == 35
    assert table.frame["id"].tolist() == all_of["id"].iloc[1:].tolist()
    assert table.frame["caption"].tolist() == [
        f"a picture called {int(name[-5:]) - 1:05d}" for name in table.frame["id"]
    ]
    assert set(table.frame["caption_from"]) == {"a model"}
    assert set(table.frame["aus_from"]) == {"ActionUnit_Labels"}


def test_captions_are_joined_by_subject_and_frame(own_corpus: Path) -> None:
    path = own_corpus / "disfa" / "disfa_captions.csv"
    captions = pd.read_csv(path)
    before = disfa_samples(disfa_config(own_corpus), seed=0).frame["caption"].tolist()
    captions.sample(frac=1, random_state=0).to_csv(path, index=False)
    assert disfa_samples(disfa_config(own_corpus), seed=0).frame["caption"].tolist() == before
    captions[["caption"]].to_csv(path, index=False)
    assert disfa_samples(disfa_config(own_corpus), seed=0).frame["caption"].tolist() == before
    captions[["caption"]].iloc[:-1].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"34 captions in row order, but the labels have 35 frames"):
        disfa_samples(disfa_config(own_corpus), seed=0)
    captions.iloc[1:].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"1 of 35 frames have no caption, the first is SN001, frame 1"):
        disfa_samples(disfa_config(own_corpus), seed=0)
    captions.assign(caption=captions["caption"].where(captions.index != 20, " ")).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"1 of 35 frames have no caption, the first is SN002, frame 9"):
        disfa_samples(disfa_config(own_corpus), seed=0)
    captions.astype({"frame": object}).assign(frame=captions["frame"].where(captions.index != 20, "nine")).to_csv(
        path, index=False
    )
    with pytest.raises(ValueError, match=r"line 22: frame='nine': must be a number"):
        disfa_samples(disfa_config(own_corpus), seed=0)
    captions.assign(subject=captions["subject"].str.replace("SN00", "sn")).to_csv(
        path, index=False, encoding="utf-8-sig", lineterminator="\r\n"
    )
    assert disfa_samples(disfa_config(own_corpus), seed=0).frame["caption"].tolist() == before
    pd.concat([captions, captions.iloc[:1]]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"line 37: subject SN001, frame 1 occurs twice"):
        disfa_samples(disfa_config(own_corpus), seed=0)
    captions.drop(columns="caption").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"columns missing: caption"):
        disfa_samples(disfa_config(own_corpus), seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "{subject}/{index:05d}.png"),
        ("file", "{index:05d}.jpg"),
        ("file_name", "LeftVideo{subject}_comp_{index:04d}"),
        ("frame_id", "{index}"),
        ("Frame Nr", "{index}.0"),
        ("", "{row}"),
    ],
)
@pytest.mark.parametrize("subjects", [True, False])
def test_captions_in_row_order_beside_a_column_of_another_order_are_refused(
    name: str, value: str, subjects: bool, own_corpus: Path
) -> None:
    path = own_corpus / "disfa" / "disfa_captions.csv"
    captions = pd.read_csv(path)
    before = disfa_samples(disfa_config(own_corpus)).frame["caption"].tolist()
    cells = [
        value.format(subject=row.subject, index=row.frame - 1, row=place)
        for place, row in enumerate(captions.itertuples())
    ]
    told = captions.assign(**{name: cells})[[name, *(["subject"] if subjects else []), "caption"]]
    told.to_csv(path, index=False)
    assert disfa_samples(disfa_config(own_corpus)).frame["caption"].tolist() == before
    order = [*range(20), *range(21, 23), 20, *range(23, 35)]  # one row of SN002 stands two too low
    told.iloc[order].to_csv(path, index=False)
    with pytest.raises(
        ValueError,
        match=rf"captions\.csv, line 2[24]: {re.escape(name or '(no name)')}='.*': does not follow the labels' "
        rf"frames.*add columns",
    ):
        disfa_samples(disfa_config(own_corpus))
    told.sample(frac=1, random_state=0).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"captions\.csv, line \d+: .*add columns subject and frame"):
        disfa_samples(disfa_config(own_corpus))


@pytest.mark.parametrize(
    "column",
    [
        np.random.default_rng(0).random(35),
        np.random.default_rng(0).random(35) * 1e-9,
        np.random.default_rng(0).integers(0, 9, 35),
        ["a man who is 30", *["a man"] * 34],
        [f"12:{number}:01.{number}" for number in range(35, 0, -1)],
        [*range(34, 0, -1), ""],
        [*range(34, 0, -1), "x"],
    ],
    ids=["scores", "small_scores", "repeated", "text", "times", "not_all_told", "not_all_numbers"],
)
def test_columns_that_number_nothing_do_not_matter_to_captions_in_row_order(
    column: Sequence[object], own_corpus: Path
) -> None:
    path = own_corpus / "disfa" / "disfa_captions.csv"
    before = disfa_samples(disfa_config(own_corpus)).frame["caption"].tolist()
    captions = pd.read_csv(path)[["caption"]].assign(other=column)
    captions.to_csv(path, index=False)
    assert disfa_samples(disfa_config(own_corpus)).frame["caption"].tolist() == before


def test_captions_in_row_order_stay_with_their_frames_whatever_is_left_out(own_corpus: Path) -> None:
    """The rows are of all labelled frames: also where a label file lacks one, a subject is left out, or one has a fault
    that nothing lets pass."""
    path = own_corpus / "disfa" / "disfa_captions.csv"
    usual = disfa_samples(disfa_config(own_corpus)).frame.set_index("id")
    keys = pd.read_csv(path)
    keys.assign(caption=[f"{subject} {frame}" for subject, frame in zip(keys["subject"], keys["frame"], strict=True)])[
        ["caption"]
    ].to_csv(path, index=False)

    def told(**changes: object) -> pd.DataFrame:
        frame = disfa_samples(disfa_config(own_corpus, **changes)).frame
        assert frame["caption"].tolist() == [f"{one.split('/')[1]} {int(one.split('/')[2])}" for one in frame["id"]]
        return frame

    assert len(told()) == len(usual)
    first, *others = [subject.removeprefix("disfa/") for subject in usual["subject"].unique()]
    assert set(told(subjects=others)["subject"]) == {f"disfa/{subject}" for subject in others}
    assert input_files(find_copy(disfa_config(own_corpus, subjects=others)))[:12] == sorted(
        (own_corpus / "disfa" / "ActionUnit_Labels" / first).iterdir()
    )
    labels = own_corpus / "disfa" / "ActionUnit_Labels" / first
    file = next(labels.glob("*_au12.txt"))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:4], *lines[5:]]) + "\n")
    assert len(told(mismatch=Mismatch.common)) == len(usual) - 1
    next(labels.glob("*_au20.txt")).unlink()
    with pytest.raises(
        ValueError,
        match=rf"1 of 3 subjects .*{first}_au20.txt: missing.*; mend the copy, or leave such subjects out with "
        rf"data.disfa.subjects",
    ):
        told(mismatch=Mismatch.common)
    assert len(told(subjects=others)) == len(usual) - (usual["subject"] == f"disfa/{first}").sum()


def test_captions_beside_two_columns_without_a_name_are_refused(own_corpus: Path) -> None:
    path = own_corpus / "disfa" / "disfa_captions.csv"
    captions = pd.read_csv(path).set_index(["subject", "frame"]).rename_axis([None, None])
    captions.to_csv(path)
    assert path.read_text().startswith(",,caption")
    with pytest.raises(
        ValueError, match=r"captions\.csv, line 1: 2 columns have no name.*add columns subject and frame"
    ):
        disfa_samples(disfa_config(own_corpus))


def test_captions_of_frames_without_labels_are_told(own_corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = own_corpus / "disfa" / "disfa_captions.csv"
    captions = pd.read_csv(path)
    before = disfa_samples(disfa_config(own_corpus)).frame["caption"].tolist()
    assert "without labels" not in caplog.text
    strange = pd.DataFrame({"subject": ["SN002", "SN031"], "frame": [12, 1], "caption": ["too late", "nobody"]})
    pd.concat([captions, strange]).to_csv(path, index=False)
    assert disfa_samples(disfa_config(own_corpus)).frame["caption"].tolist() == before
    assert (
        "captions.csv: 2 of 37 captions are of frames without labels, and not used; the first is in line 37: SN002, "
        "frame 12" in caplog.text
    )
    caplog.clear()
    disfa_samples(disfa_config(own_corpus, subjects=["SN001", "SN002"]))
    assert "captions.csv: 1 of 37 captions are of frames without labels" in caplog.text


def test_frames_without_an_au_are_thinned_by_the_seed(tmp_path: Path) -> None:
    """One long subject, in jpg as the real frames: 400 frames of which 300 show nothing."""
    subject, frames = "SN001", 400
    labels, images = tmp_path / "ActionUnit_Labels" / subject, tmp_path / "frames" / subject
    labels.mkdir(parents=True)
    images.mkdir(parents=True)
    for au in AUS:
        (labels / f"{subject}_au{au}.txt").write_text(
            "".join(f"{frame},{3 if au == 12 and frame <= 100 else 0}\n" for frame in range(1, frames + 1))
        )
    Image.new("RGB", (70, 66)).save(images / "00000.jpg")
    for index in range(1, frames):
        shutil.copy(images / "00000.jpg", images / f"{index:05d}.jpg")
    pd.DataFrame({"subject": subject, "frame": range(1, frames + 1), "caption": "a person"}).to_csv(
        tmp_path / "disfa_captions.csv", index=False
    )

    def read(seed: int, share: float) -> set[str]:
        table = disfa_samples(DisfaConfig(root=str(tmp_path), neutral_share=share), seed)
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
    table = disfa_samples(disfa_config(own_corpus), seed=0)
    assert set(table.frame["subject"]) == {"disfa/SN001", "disfa/SN003"}
    assert table.counts["disfa"]["dropped: subject's frames under min_side"] == 11


def test_a_missing_folder_says_which_key_to_set_and_where_to_get_disfa(own_corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.disfa\.root=null.*DISFA_ROOT.*mohammadmahoor"):
        disfa_samples(DisfaConfig(), seed=0)
    with pytest.raises(ValueError, match=r"data\.disfa\.images=nowhere.*nowhere does not exist.*mohammadmahoor"):
        disfa_samples(disfa_config(own_corpus, images="nowhere"), seed=0)
    shutil.rmtree(own_corpus / "disfa" / "ActionUnit_Labels")
    (own_corpus / "disfa" / "ActionUnit_Labels").mkdir()
    with pytest.raises(ValueError, match=r"holds no folder per subject"):
        disfa_samples(disfa_config(own_corpus), seed=0)


def test_images_may_be_numbered_from_one(own_corpus: Path) -> None:
    before = disfa_samples(disfa_config(own_corpus), seed=0).frame
    for subject in (own_corpus / "disfa" / "frames").iterdir():
        for path in sorted(subject.iterdir(), reverse=True):
            path.rename(path.with_name(f"{int(path.stem) + 1:05d}.png"))
    after = disfa_samples(disfa_config(own_corpus, first_index=1), seed=0).frame
    assert before.drop(columns="image").equals(after.drop(columns="image"))
    assert after["image"].iloc[0].endswith("SN001/00001.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_pattern": "{subject}/frame.jpg"},
            r"data\.disfa\.image_pattern='\{subject\}/frame\.jpg': must contain",
        ),
        ({"first_index": -1}, r"first_index=-1"),
        ({"neutral_share": 1.5}, r"neutral_share=1\.5"),
        ({"image_pattern": "{subject}/{index}_{index}.jpg"}, r"once \{index\}"),
        ({"video_pattern": "*"}, r"video_pattern='\*': must contain \{subject\}"),
        ({"frame_quality": 0}, r"frame_quality=0: must lie in 1\.\.100"),
        ({"first_label": -1}, r"first_label=-1"),
        ({"subjects": ["SN001", "SN2"]}, r"data\.disfa\.subjects: 'SN2' is no subject"),
        ({"test_share": 1.1}, r"test_share=1\.1"),
        ({"fold": 3}, r"fold=3: must be 0, 1 or 2"),
        ({"fold": 0, "test_share": 0.1}, r"fold=0: .*with data\.disfa\.test_share=0"),
        ({"min_side": -1}, r"min_side=-1"),
    ],
)
def test_config_errors_name_key_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DisfaConfig(**change).validate("data.disfa")
