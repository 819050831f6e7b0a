"""Copies of DISFA that are laid out in other ways give the same table; what a copy lacks is told for all subjects at
once."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.data.config import DataConfig
from fineface_train.data.crew import Crew
from fineface_train.data.disfa.clues import subject_of
from fineface_train.data.disfa.config import FOLDS, Camera, DisfaConfig, Mismatch
from fineface_train.data.disfa.layout import SUBJECTS, find_copy
from fineface_train.data.disfa.reader import ensure_frames, input_files
from fineface_train.data.formats.frame_format import FrameFormat
from fineface_train.data.prepare import prepare
from fineface_train.data.table import SampleTable
from fineface_train.toyfacs.config import DISFA_SUBJECTS
from tests.data.conftest import affectnet_config, disfa_config, disfa_samples
from tests.data.disfa_copy import Copy
from tests.data.videos import spoil_packet, write_video

OTHERS = [subject for subject in SUBJECTS if subject > "SN003"]
MINE = {"image_pattern": "{subject}/{index:05d}.png", "neutral_share": 1.0}


def read(root: Path, **config: object) -> SampleTable:
    values = DisfaConfig(root=str(root), **(MINE | config))  # type: ignore[arg-type]
    values.validate("data.disfa")
    ensure_frames(find_copy(values), root.with_name("extracted"), Crew(quiet=True))
    return disfa_samples(values, 0, root.with_name("extracted"))


@pytest.fixture(scope="module")
def usual(corpus: Path) -> SampleTable:
    """The table of the corpus as it is drawn."""
    return disfa_samples(disfa_config(corpus), seed=0)


def videos(**differences: object) -> Copy:
    return Copy(images=None, **({"videos": "Videos_LeftCamera"} | differences))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("copy", "config"),
    [
        (Copy(), {}),
        # Names of folders and files.
        (Copy(labels="Actionunit labels", images="Frames", captions="DISFA_captions.csv"), {}),
        (Copy(labels="ActionUnit_Labels/ActionUnit_Labels"), {}),
        (Copy(labels="Labels", images="png/aligned"), {"labels": "Labels", "images": "png/aligned"}),
        (Copy(label_file="{subject}_AU{au}.txt"), {}),
        (Copy(label_file="{subject}_AU{au:02d}.TXT"), {}),
        (Copy(label_file="au{au}.txt"), {}),
        (Copy(image_file="{subject}_{index:04d}.png"), {"image_pattern": "{subject}_{index:04d}.png"}),
        (Copy(image_file="{subject}/{index}.png"), {}),
        (
            Copy(image_file="LeftVideo{subject}_comp/LeftVideo{subject}_comp_{index:04d}.png", first_index=1),
            {"image_pattern": "LeftVideo{subject}_comp/LeftVideo{subject}_comp_{index:04d}.png", "first_index": 1},
        ),
        # Numbering.
        (Copy(first_index=1), {"first_index": 1}),
        (Copy(first_label=0), {"first_label": 0}),
        # Lines of labels.
        (Copy(label_line="{frame},{value:.0f}\r\n"), {}),
        (Copy(label_line="{frame}, {value:.1f}\n", tail="\n\n"), {}),
        (Copy(label_line="{frame};{value:.0f}\n", head=b"\xef\xbb\xbf"), {}),
        (Copy(label_line=" {frame}\t{value:.0f} \r\n", tail=" \r\n"), {}),
        (Copy(label_line="{frame}.0 {value:.0f}\n"), {}),
        # Videos.
        (videos(), {}),
        (
            videos(codec="mpeg4", videos="Video_LeftCamera", video_file="LeftVideo{subject}_Comp.AVI"),
            {"frame_format": FrameFormat.png},
        ),
        (videos(videos="Left_Video", video_file="{subject}.mp4", codec="mpeg4"), {}),
        (videos(videos="Videos_LeftCamera/Videos_LeftCamera"), {"captions": "disfa_captions.csv"}),
        (videos(videos="clips", video_file="s-{subject}-l.avi"), {"videos": "clips", "video_pattern": "s-{subject}-l"}),
        (videos(videos="Video_RightCamera", video_file="RightVideo{subject}_comp.avi"), {"camera": Camera.right}),
        (Copy(videos="Videos_LeftCamera"), {"videos": "Videos_LeftCamera"}),
        (Copy(videos="Videos_LeftCamera"), {"videos": None}),
        (Copy(videos="Videos_LeftCamera"), {}),
    ],
)
def test_copies_that_differ_give_the_same_table(
    copy: Copy, config: dict, corpus: Path, usual: SampleTable, tmp_path: Path
) -> None:
    table = read(copy.write(corpus, tmp_path / "disfa"), **config)
    assert table.fingerprint() == usual.fingerprint()
    exact = copy.images is not None and config.get("videos") != "Videos_LeftCamera"
    assert all(("extracted" in path) != exact for path in table.frame["image"])
    pictures, wanted = (
        np.stack([np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in each.frame["image"]])
        for each in (table, usual)
    )
    away = np.abs(pictures[:, None] - wanted[None]).mean(axis=(2, 3, 4))  # of each picture from every one
    assert (away.argmin(axis=1) == np.arange(len(table))).all()
    assert away.diagonal().max() <= (0 if exact else 6)


@pytest.mark.parametrize(
    ("more", "spans"), [({"SN001": 1, "SN002": -1}, ["SN001:1..13", "SN002:1..10"]), ({"SN001": -2}, ["SN001:1..10"])]
)
@pytest.mark.parametrize("kind", ["frames", "videos"])
def test_images_and_labels_that_differ_in_number(
    kind: str,
    more: dict[str, int],
    spans: list[str],
    corpus: Path,
    usual: SampleTable,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """4,844 here and 4,845 there, in small: refused, with every subject named; once it is known which labels they are,
    what both have, counted."""
    copy = Copy(more_images=more) if kind == "frames" else videos(more_images=more)
    root = copy.write(corpus, tmp_path / "disfa")
    labelled = usual.frame.groupby("subject").size().rename(lambda name: name.removeprefix("disfa/"))
    for mismatch in Mismatch:
        with pytest.raises(
            ValueError, match=rf"{len(more)} of 3 subjects.*nothing tells.*data\.disfa\.spans=\[SUBJECT:FIRST\.\.LAST\]"
        ) as error:
            read(root, mismatch=mismatch)
        assert "mismatch=common" not in str(error.value)
        assert all(subject in str(error.value) for subject in more)
        assert "SN003" not in str(error.value)
    caplog.clear()
    with pytest.raises(ValueError, match=r"data\.disfa\.mismatch=common"):
        read(root, spans=spans)
    table = read(root, mismatch=Mismatch.common, spans=spans)
    kept = {
        f"disfa/{subject}/{frame:05d}"
        for subject, count in labelled.items()
        for frame in range(1, count + 1 + min(0, more.get(subject, 0)))
    }
    assert set(table.frame["id"]) == kept
    wanted = usual.frame[usual.frame["id"].isin(kept)].drop(columns="image").reset_index(drop=True)
    assert table.frame.drop(columns="image").equals(wanted)
    lost = {f"dropped: no image, {subject}": -surplus for subject, surplus in more.items() if surplus < 0}
    assert {name: count for name, count in table.counts["disfa"].items() if "no image" in name} == lost
    assert all(
        f"{subject}: {labelled[subject] + min(0, surplus)} images" in caplog.text
        for subject, surplus in more.items()
        if surplus < 0
    )


def test_a_lost_image_is_left_out_and_shifts_nothing(corpus: Path, usual: SampleTable, tmp_path: Path) -> None:
    root = Copy().write(corpus, tmp_path / "disfa")
    for name in ("SN001/00001.png", "SN002/00004.png"):
        (root / "frames" / name).unlink()
    with pytest.raises(
        ValueError, match=r"2 of 3 subjects.*SN001: 11 images.*without an image: 1, from frame 2\).*SN002.*from frame 5"
    ):
        read(root)
    table = read(root, mismatch=Mismatch.common)
    lost = usual.frame["id"].isin(["disfa/SN001/00002", "disfa/SN002/00005"])
    assert table.frame.drop(columns="image").equals(usual.frame[~lost].drop(columns="image").reset_index(drop=True))
    assert [Path(path).stem for path in table.frame["image"]] == [
        Path(path).stem for path in usual.frame["image"][~lost]
    ]
    assert table.counts["disfa"]["read"] == table.counts["disfa"]["kept"] + 2


@pytest.mark.parametrize("mismatch", list(Mismatch))
@pytest.mark.parametrize(
    ("copy", "config", "message"),
    [
        (
            Copy(first_index=1),
            {},
            r"SN001: images are numbered 1 to 12, but 12 .*first_index=0 are 0 to 11.*\(alike with 3 "
            r"subjects\).*first_index=1 would fit",
        ),
        (Copy(first_index=7), {}, r"no subject has an image 0: data\.disfa\.first_index=7 would fit"),
        (
            Copy(),
            {"first_index": 1},
            r"images are numbered 0 to 11, but 12 labelled frames with data\.disfa\.first_index=1 are 1 to 12",
        ),
        (
            Copy(first_label=0),
            {},
            r"SN001_au1\.txt, line 1: '0,\d': frames must count from 1, by .*same in 36 files of 3 subjects\); "
            r"data\.disfa\.first_label=0 would fit$",
        ),
        (
            Copy(image_file="{subject}/{index:05d}.jpg"),
            {},
            r"image_pattern='\{subject\}/\{index:05d\}\.png' fits no file, such as SN001/00000\.jpg",
        ),
        (
            Copy(),
            {"image_pattern": "{subject}/f{index}.png"},
            r"image_pattern='\{subject\}/f\{index\}\.png' fits no file, such as SN001/00000\.png",
        ),
        (
            Copy(image_file="{subject}_{index:04d}.png"),
            {},
            r"fits no file, such as SN001_0000\.png in .*frames; .*='\{subject\}_\{index:04d\}\.png' would",
        ),
        (
            Copy(image_file="{subject}/aligned/frame_det_00_{index:06d}.bmp"),
            {},
            r"fits no file, such as SN001/aligned/.*; "
            r"data\.disfa\.image_pattern='\{subject\}/aligned/frame_det_00_\{index:06d\}\.bmp' would",
        ),
        (
            Copy(image_file="LeftVideo{subject}_comp/{index}.png"),
            {},
            r"such as LeftVideoSN001_comp/0\.png .*='LeftVideo\{subject\}_comp/\{index\}\.png' would",
        ),
        (
            Copy(image_file="all/{subject[4]}-{index}.png"),
            {},
            r"fits no file, such as 1-0\.png in .*frames/all; images are told by a subject such as SN001",
        ),
    ],
)
def test_numbers_that_fit_no_frame_never_pass(
    copy: Copy, config: dict, message: str, mismatch: Mismatch, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read(copy.write(corpus, tmp_path / "disfa"), mismatch=mismatch, **config)


@pytest.mark.parametrize("name", ["{0}/{1}.jpg", "{0}/aligned/{1}.png", "{0}_{1}.png"])
def test_one_subject_whose_images_are_called_otherwise_is_told(name: str, corpus: Path, tmp_path: Path) -> None:
    root = Copy().write(corpus, tmp_path / "disfa")
    for path in sorted((root / "frames" / "SN002").iterdir()):
        moved = root / "frames" / name.format("SN002", path.stem)
        moved.parent.mkdir(exist_ok=True)
        path.rename(moved)
    (root / "frames" / "SN002" / "notes.txt").write_text("x")
    fault = (
        rf"1 of 3 subjects.*SN002: 0 images, .*image_pattern='.*' does not fit its "
        rf"{name.format('SN002', '00000')}: rename, move or convert"
    )
    with pytest.raises(ValueError, match=fault):
        read(root)


def test_one_subject_numbered_from_another_base_never_passes(corpus: Path, tmp_path: Path) -> None:
    root = Copy().write(corpus, tmp_path / "disfa")
    for path in sorted((root / "frames" / "SN002").iterdir(), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 1:05d}.png"))
    for mismatch in Mismatch:
        with pytest.raises(
            ValueError,
            match=r"1 of 3 subjects.*SN002: images are numbered 1 to 11, but 11 labelled frames .* are 0 to 10",
        ):
            read(root, mismatch=mismatch)


def test_one_subject_that_may_be_numbered_from_another_base_never_passes(corpus: Path, tmp_path: Path) -> None:
    """Images 1 to 10 of 11 labels: the first is lost, or the last and all are numbered from 1. Nobody can tell."""
    root = Copy().write(corpus, tmp_path / "disfa")
    (root / "frames" / "SN002" / "00000.png").unlink()
    for mismatch in Mismatch:
        with pytest.raises(
            ValueError,
            match=r"1 of 3 subjects.*SN002: images are numbered 1 to 10, but 11 labelled frames .* are 0 to 10",
        ):
            read(root, mismatch=mismatch)


def test_a_subject_that_begins_one_later_and_has_gaps_never_passes(corpus: Path, tmp_path: Path) -> None:
    """Images 1 to 10 of 11 labels without 5: numbered from 1 with two lost, or from 0 with the first lost; two later
    likewise."""
    root = Copy().write(corpus, tmp_path / "disfa")
    for number in (0, 5):
        (root / "frames" / "SN002" / f"{number:05d}.png").unlink()
    for mismatch in Mismatch:
        with pytest.raises(
            ValueError,
            match=r"1 of 3 subjects.*SN002: images are numbered 1 to 10, .*image 0 is missing: put "
            r"it.*data\.disfa\.subjects",
        ):
            read(root, mismatch=mismatch)
    assert set(read(root, subjects=["SN001", "SN003"]).frame["subject"]) == {"disfa/SN001", "disfa/SN003"}
    (root / "frames" / "SN002" / "00001.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 subjects.*SN002: images are numbered 2 to 10, .*nothing tells"):
        read(root, mismatch=Mismatch.common)
    assert (
        read(root, mismatch=Mismatch.common, spans=["SN002:3..11"]).frame["subject"] == "disfa/SN002"
    ).sum() == 11 - 3


def test_subjects_that_are_missing_or_strange(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = Copy(without=["SN002"]).write(corpus, tmp_path / "disfa")
    assert set(read(root).frame["subject"]) == {"disfa/SN001", "disfa/SN003"}
    assert f"labels of 25 of its 27 subjects are missing: SN002, {', '.join(OTHERS)}" in caplog.text
    with pytest.raises(ValueError, match=r"data\.disfa\.subjects: SN002 named, but not there; there are SN001, SN003"):
        read(root, subjects=["SN001", "SN002"])
    caplog.clear()
    assert set(read(root, subjects=["SN003"]).frame["subject"]) == {"disfa/SN003"}
    assert not caplog.text
    shutil.copytree(root / "frames" / "SN001", root / "frames" / "SN032")
    with pytest.raises(ValueError, match=r"SN032: has images, but no labels"):
        read(root)
    assert len(read(root, mismatch=Mismatch.common)) == 24
    assert "SN032: has images, but no labels" in caplog.text
    shutil.rmtree(root / "frames" / "SN003")
    with pytest.raises(
        ValueError,
        match=r"2 of 3 subjects.*SN003: 0 images, but the labels have 12 frames \(without an image: 12, from frame 1\)",
    ):
        read(root)
    (root / "ActionUnit_Labels" / "SN003").rename(root / "ActionUnit_Labels" / "SN014")
    for path in (root / "ActionUnit_Labels" / "SN014").iterdir():
        path.rename(path.with_name(path.name.replace("SN003", "SN014")))
    (root / "frames" / "SN032").rename(root / "frames" / "SN014")
    caplog.clear()
    read(root, captions=_captions(root, "SN014"))
    assert "not among its subjects, but read: SN014" in caplog.text


def _captions(root: Path, subject: str) -> str:
    frame = pd.read_csv(root / "disfa_captions.csv")
    frame["subject"] = frame["subject"].replace("SN003", subject)
    frame.to_csv(root / "others.csv", index=False)
    return "others.csv"


def test_faults_of_all_subjects_are_told_at_once(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = Copy().write(corpus, tmp_path / "disfa")
    labels = root / "ActionUnit_Labels"
    (labels / "SN001" / "SN001_au12.txt").write_text("1,0\n2,7\n3,x\n")
    (labels / "SN002" / "SN002_au1.txt").unlink()
    path = labels / "SN003" / "SN003_au26.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    (root / "frames" / "SN003" / "00004.png").unlink()
    told = [
        "SN001_au12.txt, line 2: '2,7': the intensity must lie in 0..5",
        "SN001_au12.txt, line 3: '3,x': must read frame,intensity",
        "SN002: SN002_au1.txt: missing; a subject needs the labels of AUs 1, 2, 4",
        "SN003: the label files disagree on the number of frames: 11 have 12, SN003_au26.txt 11",
        "SN003: 11 images, but the labels have 11 frames (without an image: 1, from frame 5, without a label: 1, from ",
    ]
    with pytest.raises(ValueError, match="3 of 3 subjects are not as they should be") as error:
        read(root)
    assert all(fault in str(error.value) for fault in told)
    assert "\n" not in str(error.value)
    with pytest.raises(
        ValueError, match=r"2 of 3 subjects .*; mend the copy, or leave such subjects out with data\.disfa\.subjects"
    ) as error:
        read(root, mismatch=Mismatch.common)  # what may pass is not what stops it
    assert all(fault in str(error.value) for fault in told[:3])
    assert "SN003" not in str(error.value)
    for number in (1, 2, 6):
        (root / "frames" / "SN002" / f"{number:05d}.png").write_bytes(b"")
        shutil.copy(root / "frames" / "SN002" / "00000.png", root / "frames" / "SN002" / f"{number}.png")
    with pytest.raises(ValueError, match="; and 3 more, told above"):
        read(root)
    assert all(fault in caplog.text for fault in [*told, "both are image 1", "both are image 2", "both are image 6"])


def test_labels_that_only_some_files_have_are_left_out_and_counted(
    corpus: Path, usual: SampleTable, tmp_path: Path
) -> None:
    root = Copy().write(corpus, tmp_path / "disfa")
    path = root / "ActionUnit_Labels" / "SN002" / "SN002_au4.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3] + lines[5:-1]))
    with pytest.raises(ValueError, match=r"SN002_au4\.txt, line 4: frames 4 to 5 are missing before it"):
        read(root)
    table = read(root, mismatch=Mismatch.common)
    lost = usual.frame["id"].isin([f"disfa/SN002/{frame:05d}" for frame in (4, 5, 11)])
    assert table.frame.drop(columns="image").equals(usual.frame[~lost].drop(columns="image").reset_index(drop=True))
    assert table.counts["disfa"]["dropped: not in all label files, SN002"] == 3
    assert table.counts["disfa"]["read"] == 35


def test_a_broken_video_is_told_and_loses_only_what_is_broken(corpus: Path, usual: SampleTable, tmp_path: Path) -> None:
    root = videos().write(corpus, tmp_path / "disfa")
    spoil_packet(root / "Videos_LeftCamera" / "LeftVideoSN002_comp.avi", 4)
    with pytest.raises(
        ValueError,
        match=r"1 of 3 subjects.*LeftVideoSN002_comp\.avi: the file promises 11 frames; its clock leaves out 1 before "
        r"frame 4",
    ):
        read(root)
    table = read(root, mismatch=Mismatch.common)
    assert set(usual.frame["id"]) - set(table.frame["id"]) == {"disfa/SN002/00005"}
    (root / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi").write_bytes(b"RIFF")
    for mismatch in Mismatch:
        with pytest.raises(ValueError, match=r"LeftVideoSN001_comp\.avi: cannot be read"):
            read(root, mismatch=mismatch)


def test_a_varying_frame_rate_passes_only_with_as_many_frames_as_labels(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = videos().write(corpus, tmp_path / "disfa")
    pictures = [np.asarray(Image.open(path)) for path in sorted((corpus / "disfa" / "frames" / "SN001").iterdir())]
    path = root / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"
    write_video(path, pictures, times=[3 * index + (index in (4, 7)) for index in range(12)], rate=60)
    assert read(root).fingerprint() == disfa_samples(disfa_config(corpus), seed=0).fingerprint()
    assert "its frame rate varies (4 uneven steps); its 12 frames are as many as the labels" in caplog.text
    write_video(path, pictures[:-1], times=[3 * index + (index in (4, 7)) for index in range(11)], rate=60)
    for mismatch in Mismatch:
        with pytest.raises(ValueError, match=r"which of its 11 frames belongs to which of 12 labels is not sure"):
            read(root, mismatch=mismatch)


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (
            lambda root: shutil.rmtree(root / "Videos_LeftCamera"),
            {},
            r"images=frames: .*frames does not exist, nor does a folder of videos such as .* holds",
        ),
        (
            lambda root: None,
            {"videos": None},
            r"images=frames: .*frames does not exist; set data\.disfa\.root.* holds ActionUnit_Labels, "
            r"Videos_LeftCamera",
        ),
        (lambda root: None, {"videos": "Video_Left"}, r"data\.disfa\.videos=Video_Left: .*does not exist"),
        (
            lambda root: None,
            {"camera": Camera.right, "videos": "Videos_LeftCamera"},
            r"no video of the right camera .* it holds LeftVideoSN001_comp\.avi, ",
        ),
        (lambda root: None, {"video_pattern": "Left{subject}"}, r"video_pattern='Left\{subject\}' fits"),
        (
            lambda root: (root / "videos_leftcamera").mkdir(),
            {"videos": "VIDEOSLEFTCAMERA"},
            r"Videos_LeftCamera and videos_leftcamera could both be",
        ),
        (
            lambda root: shutil.copy(
                root / "Videos_LeftCamera/LeftVideoSN001_comp.avi", root / "Videos_LeftCamera/SN001.mp4"
            ),
            {},
            r"LeftVideoSN001_comp\.avi and SN001\.mp4 are both videos of SN001; remove one",
        ),
        (lambda root: (root / "ActionUnit_Labels/SN1").mkdir(), {}, r"SN001 and SN1 are both labels of SN001"),
        (
            lambda root: shutil.copy(
                *[root / "ActionUnit_Labels/SN001" / name for name in ("SN001_au1.txt", "SN001_AU01.txt")]
            ),
            {},
            r"are both AU 1",
        ),
        (
            lambda root: (root / "ActionUnit_Labels/SN001/SN001_au1.txt").rename(
                root / "ActionUnit_Labels/SN001/SN002_au1.txt"
            ),
            {},
            r"is not of SN001",
        ),
    ],
)
def test_layouts_that_cannot_be_read_are_named(
    change: object, config: dict, message: str, corpus: Path, tmp_path: Path
) -> None:
    root = videos().write(corpus, tmp_path / "disfa")
    change(root)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        read(root, **config)


def test_prepare_extracts_once_and_notices_a_new_video(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = videos().write(corpus, tmp_path / "disfa")
    config = DataConfig(
        name="disfa", root=str(tmp_path / "prepared"), disfa=DisfaConfig(root=str(root), neutral_share=1.0)
    )
    caplog.set_level(logging.INFO)
    table = prepare(config)
    assert table.frame["image"].iloc[0] == str(tmp_path / "prepared" / "frames" / "SN001" / "00000.jpg")
    assert prepare(config).fingerprint() == table.fingerprint() == disfa_samples(disfa_config(corpus), 0).fingerprint()
    assert "nothing changed" in caplog.text
    (tmp_path / "prepared" / "frames" / "SN002" / "00003.jpg").unlink()
    prepare(config)
    assert all(Path(path).is_file() for path in table.frame["image"])
    other = videos(more_images={"SN001": 1}).write(corpus, tmp_path / "other")
    name = "Videos_LeftCamera/LeftVideoSN001_comp.avi"
    shutil.copy(other / name, root / name)
    with pytest.raises(
        ValueError, match=r"LeftVideoSN001_comp.*which of its 13 frames belongs to which of 12 labels is not sure"
    ):
        prepare(config)


def test_faults_of_all_labels_and_lists_are_told_before_hours_of_extraction(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = videos().write(corpus, tmp_path / "disfa")
    monkeypatch.setattr(
        "fineface_train.data.disfa.reader.extract_videos",
        lambda *_: pytest.fail("extracted before the faults were told"),
    )
    config = DataConfig(
        name="both",
        root=str(tmp_path / "prepared"),
        disfa=DisfaConfig(root=str(root)),
        affectnet=affectnet_config(corpus),
    )
    label = next((root / "ActionUnit_Labels").glob("SN002/*12.txt"))
    whole = label.read_text()
    label.write_text(whole.replace("\n", "\n7,9\n", 1))
    with pytest.raises(ValueError, match=r"data\.disfa: 1 of 3 subjects .*line 2: '7,9'"):
        prepare(config)
    label.write_text(whole)
    shutil.copytree(corpus / "affectnet", tmp_path / "affectnet")
    metadata = tmp_path / "affectnet" / "affecnet_metadata.csv"
    metadata.write_text(metadata.read_text().replace("AU9_rec", "AU9"))
    config.affectnet = affectnet_config(tmp_path)
    with pytest.raises(ValueError, match=r"affecnet_metadata\.csv: columns missing: AU9_rec"):
        prepare(config)


def test_a_subject_without_a_video_is_told_as_such(corpus: Path, tmp_path: Path) -> None:
    root = videos().write(corpus, tmp_path / "disfa")
    next((root / "Videos_LeftCamera").glob("*SN002*")).unlink()
    with pytest.raises(
        ValueError,
        match=r"SN002: no video of it in .*Videos_LeftCamera, but labels of \d+ frames; mend the copy, or use what",
    ) as error:
        read(root)
    assert "image_pattern" not in str(error.value)


def test_prepare_notices_a_frame_that_is_put_back_into_a_deeper_folder(corpus: Path, tmp_path: Path) -> None:
    root = Copy(image_file="{subject}/aligned/{index:05d}.png").write(corpus, tmp_path / "disfa")
    chosen = DisfaConfig(
        root=str(root), image_pattern="{subject}/aligned/{index:05d}.png", neutral_share=1.0, mismatch=Mismatch.common
    )
    config = DataConfig(name="disfa", root=str(tmp_path / "prepared"), disfa=chosen)
    lost = root / "frames" / "SN002" / "aligned" / "00003.png"
    lost.rename(tmp_path / "aside.png")
    assert len(prepare(config)) == 34
    (tmp_path / "aside.png").rename(lost)
    assert len(prepare(config)) == 35


def test_input_files_are_those_that_are_read(corpus: Path, tmp_path: Path) -> None:
    root = videos().write(corpus, tmp_path / "disfa")
    copy = find_copy(DisfaConfig(root=str(root), subjects=["SN002"]))
    names = [path.relative_to(root).as_posix() for path in input_files(copy)]
    assert names[-2:] == ["disfa_captions.csv", "Videos_LeftCamera/LeftVideoSN002_comp.avi"]
    assert len(names) == 12 + 2


def test_the_folds_are_a_partition_of_the_27_subjects() -> None:
    assert SUBJECTS == DISFA_SUBJECTS
    assert [len(fold) for fold in FOLDS] == [9, 9, 9]


@pytest.mark.parametrize(
    ("name", "subject"),
    [("SN001", "SN001"), ("sn1", "SN001"), ("LeftVideoSN032_comp", "SN032"), ("SN001_SN002", None), ("x1", None)],
)
def test_subjects_are_found_in_names(name: str, subject: str | None) -> None:
    assert subject_of(name) == subject
