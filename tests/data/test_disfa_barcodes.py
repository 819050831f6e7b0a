"""Whatever a recording lost, repeated or was turned into: each row has the picture of its label, or the copy is refused
with what to do."""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fineface_train.data.disfa.config import Camera, Mismatch
from tests.data.barcodes import COUNT, WHOLE, Tree, joined
from tests.data.videos import _packet, cut, spoil_packet

LAST = COUNT - 1
UNKNOWN = "whether the first, the last or one between is missing or too many, nothing tells"
DIFFER = r"which of its \d+ frames belongs to which of \d+ labels is not sure"
REPEATS = "repeat the one before: .* if a picture was put in and another lost"
AS_MANY = "as many, but the clock has 41 places: FIRST..LAST counts 40 in order, 41 by the clock"
ANOTHER_RATE = "encoded again at another rate"


def without(*numbers: int) -> list[int]:
    return [number for number in WHOLE if number not in numbers]


def at_rate(rate: float, count: int | None = None) -> list[int]:
    """The frame that each picture shows after a conversion from 20 frames a second to `rate`."""
    return [int(place * 20 / rate) for place in range(round(COUNT * rate / 20) if count is None else count)]


def spoiled(*numbers: int) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        for number in numbers:
            spoil_packet(path, number)

    return spoil


def overwritten(first: int, last: int) -> Callable[[Path], None]:
    """Chunks of an AVI with their headers, as by a bad sector."""

    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        start, end = _packet(bytes(data), first)[0] - 8, sum(_packet(bytes(data), last))
        data[start:end] = bytes(end - start)
        path.write_bytes(data)

    return spoil


def shown_from(frames: int, time: int) -> Callable[[Path], None]:
    """An MP4's edit list begins `frames` of `time` units later: it was cut without being encoded again."""

    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        place = data.index(b"elst") + 4 + 8 + 4
        struct.pack_into(">i", data, place, struct.unpack_from(">i", data, place)[0] + frames * time)
        path.write_bytes(data)

    return spoil


JITTER = [3 * index + (index in (4, 7)) for index in WHOLE]
ORDINARY = {
    "mjpeg": Tree(video=".avi"),
    "mpeg4": Tree(video=".avi", codec="mpeg4"),
    "predicted_from_both_sides": Tree(video=".avi", codec="mpeg4", between=2),
    "mp4": Tree(video=".mp4", codec="mpeg4", between=2),
    "h264": Tree(video=".mp4", codec="libx264", between=2),
    "h264_avi": Tree(video=".avi", codec="libx264", between=2),
    "mkv": Tree(video=".mkv", codec="mpeg4"),
    "mov": Tree(video=".mov"),
    "told_to_run_at_25": Tree(video=".avi", rate=25),
    "told_to_run_at_30": Tree(video=".mp4", codec="mpeg4", rate=30),
    "varying_rate": Tree(video=".avi", times=JITTER, rate=60),
    "clock_from_1": Tree(video=".mkv", codec="mpeg4", times=[index + 1 for index in WHOLE]),
    "images": Tree(),
    "labels_without_the_first_by_their_numbers": Tree(video=".avi", labels=range(1, COUNT)),
}
BRIDGED = {
    "one_left_out": (Tree(without(17), ".avi", times=without(17)), without(17)),
    "one_left_out_mpeg4": (Tree(without(17), ".avi", "mpeg4", times=without(17)), without(17)),
    "several_left_out": (Tree(without(3, 4, 20, 31), ".avi", times=without(3, 4, 20, 31)), without(3, 4, 20, 31)),
    "left_out_of_an_mp4": (Tree(without(17), ".mp4", "mpeg4", 2, times=without(17)), without(17)),
    "left_out_of_an_mkv": (Tree(without(17, 30), ".mkv", "mpeg4", times=without(17, 30)), without(17, 30)),
    "second_left_out": (Tree(without(1), ".avi", times=without(1)), without(0, 1)),
    "first_packets_empty": (Tree(without(0), ".avi", times=without(0)), without(0, 1)),
    "broken": (Tree(video=".avi", spoil=spoiled(6)), without(6)),
    "broken_at_the_end": (Tree(video=".avi", spoil=spoiled(LAST)), without(LAST)),
    "broken_twice": (Tree(video=".avi", spoil=spoiled(5, 6, LAST)), without(5, 6, LAST)),
    "download_cut_off": (Tree(video=".avi", spoil=lambda path: cut(path, 30)), range(30)),
    "image_lost": (Tree(without(9), numbers=without(9)), without(9)),
    "every_second_image": (Tree([0, *range(1, COUNT, 2)], numbers=[0, *range(1, COUNT, 2)]), [0, *range(1, COUNT, 2)]),
    "one_label_file_ends_early": (Tree(video=".avi", ends={4: 1}), without(LAST)),
    "a_label_left_out": (Tree(video=".avi", labels=without(20)), without(20)),
}
LEAVES_OUT = [index + (index > 17) for index in WHOLE]
REFUSED = {
    "clock_leaves_out_what_labels_do_not_count": (
        Tree(video=".avi", times=LEAVES_OUT),
        r"leaves out 1 before frame 18; .*fewer than the clock counts",
    ),
    "one_left_out_and_one_too_many": (
        Tree([*without(18), 40], ".mp4", "mpeg4", times=LEAVES_OUT),
        "fewer than the clock counts",
    ),
    "first_lost": (Tree(without(0), ".avi"), UNKNOWN),
    "last_lost": (Tree(without(LAST), ".avi"), UNKNOWN),
    "two_lost": (Tree(without(0, 1), ".mp4", "mpeg4"), UNKNOWN),
    "one_between_lost": (Tree(without(17), ".avi"), UNKNOWN),
    "one_put_in_front": (Tree([99, *WHOLE], ".avi"), UNKNOWN),
    "first_twice": (Tree([0, *WHOLE], ".avi"), UNKNOWN),
    "one_too_many_at_the_end": (Tree([*WHOLE, 99], ".avi"), UNKNOWN),
    "first_twice_and_last_lost": (Tree([0, *range(LAST)], ".avi"), REPEATS),
    "first_twice_and_one_left_out": (Tree([0, *without(17)[:-1]], ".avi", times=without(17)), REPEATS),
    "a_still_instead_of_a_frame": (Tree([*range(12), 11, *range(13, COUNT)], ".avi"), REPEATS),
    "one_put_in_between_and_last_lost": (Tree([*range(12), *range(11, LAST)], ".mkv", "mpeg4"), REPEATS),
    "one_put_in_between_and_last_lost_avi": (Tree([*range(20), *range(21, COUNT), LAST], ".avi", "mpeg4"), REPEATS),
    "one_left_out_and_one_too_many_avi": (Tree([*without(17), 99], ".avi", times=[*without(17), COUNT]), AS_MANY),
    "every_frame_twice": (Tree(np.repeat(range(20), 2).tolist(), ".avi"), REPEATS),
    "images_with_a_still": (Tree([*range(12), 11, *range(13, COUNT)]), REPEATS),
    "half_lost": (Tree(range(20), ".avi"), DIFFER),
    "at_25": (
        Tree(at_rate(25), ".avi", rate=25),
        rf"50 frames at 25 a second are 2\.00 s, 40 labels at DISFA's 20 a second are 2\.00 s.*{ANOTHER_RATE}",
    ),
    "at_25_mp4": (Tree(at_rate(25), ".mp4", "libx264", 2, rate=25), ANOTHER_RATE),
    "at_30": (Tree(at_rate(30), ".mp4", "mpeg4", rate=30), ANOTHER_RATE),
    "at_10": (Tree(at_rate(10), ".avi", rate=10), ANOTHER_RATE),
    "at_25_as_many_as_labels": (Tree(at_rate(25, COUNT), ".avi", rate=25), ANOTHER_RATE),
    "at_50_as_many_as_labels": (Tree(at_rate(50, COUNT), ".avi", rate=50), ANOTHER_RATE),
    "at_25_without_the_clock": (Tree(at_rate(25), ".avi"), DIFFER),
    "varying_rate_and_one_lost": (Tree(without(0), ".avi", times=JITTER[:-1], rate=60), DIFFER),
    "one_left_out_and_first_lost": (
        Tree(without(0, 17), ".avi", times=[index - 1 for index in without(0, 17)]),
        UNKNOWN,
    ),
    "one_left_out_and_last_lost": (Tree(without(17, LAST), ".mp4", "mpeg4", times=without(17, LAST)), UNKNOWN),
    "one_left_out_and_a_jump_that_is_none": (
        Tree(without(0), ".avi", times=[*range(0, 200, 20), 216, 232, 240, *range(260, 780, 20)], rate=400),
        DIFFER,
    ),
    "left_out_of_an_avi_stored_out_of_order": (Tree(without(12), ".avi", "libx264", 2, times=without(12)), DIFFER),
    "clock_from_1_and_first_lost": (Tree(without(0), ".mkv", "mpeg4", times=without(0)), UNKNOWN),
    "clock_from_1_and_last_lost": (Tree(without(LAST), ".mkv", "mpeg4", times=range(1, COUNT)), UNKNOWN),
    "chunks_overwritten": (
        Tree(video=".avi", spoil=overwritten(4, 5)),
        "promises 40 frames.*where 2 of the promised frames were is not told",
    ),
    "chunks_overwritten_and_labels_end_early": (
        Tree(video=".avi", spoil=overwritten(4, 5), labels=range(38)),
        "2 of the promised frames",
    ),
    "broken_and_one_more_than_labels": (Tree(video=".avi", spoil=spoiled(6), labels=range(LAST)), UNKNOWN),
    "broken_and_first_lost": (Tree(without(0), ".avi", spoil=spoiled(6)), UNKNOWN),
    "cut_off_and_first_lost": (Tree(without(0), ".avi", spoil=lambda path: cut(path, 30)), DIFFER),
    "hidden_in_front": (Tree(video=".mp4", spoil=shown_from(1, 512), codec="mpeg4"), "hides|promised frames"),
    "hidden_in_front_and_as_many": (
        Tree([*WHOLE, 40], ".mp4", spoil=shown_from(1, 512), codec="mpeg4"),
        "hides|promised frames",
    ),
    "hidden_in_front_mjpeg": (Tree(video=".mov", spoil=shown_from(1, 512)), "hides|promised frames"),
    "labels_end_early_and_one_left_out": (Tree(without(17), ".avi", times=without(17), labels=range(LAST)), DIFFER),
    "labels_end_early_and_varying_rate": (
        Tree(without(17), ".avi", times=[JITTER[i] for i in without(17)], rate=60, labels=range(LAST)),
        DIFFER,
    ),
    "labels_end_early": (Tree(video=".avi", labels=range(LAST)), UNKNOWN),
    "labels_begin_late_counted_from_1": (Tree(video=".avi", labels=range(1, COUNT), renumbered=True), UNKNOWN),
    "first_image_lost": (Tree(without(0)), UNKNOWN),
    "last_image_lost": (Tree(without(LAST)), UNKNOWN),
    "images_renumbered_after_a_loss": (Tree(without(20)), UNKNOWN),
    "first_image_lost_of_numbered": (Tree(without(0), numbers=without(0)), "numbered from 1, or image 0 is missing"),
    "first_images_lost_of_numbered": (Tree(without(0, 1), numbers=without(0, 1)), UNKNOWN),
    "images_from_1_with_the_ends_lost": (
        Tree(without(0, 5, LAST), numbers=[number + 1 for number in without(0, 5, LAST)]),
        UNKNOWN,
    ),
    "image_and_last_lost": (Tree(without(5, LAST), numbers=without(5, LAST)), UNKNOWN),
    "an_image_more": (Tree([*WHOLE, 99]), UNKNOWN),
    "an_image_in_front": (Tree([99, *WHOLE]), UNKNOWN),
    "images_at_25": (Tree(at_rate(25)), r"at 25 frames a second the labels' 2\.00 s have so many"),
    "images_at_10": (Tree(at_rate(10)), "at 10 frames a second"),
    "images_of_every_second": (Tree(range(0, COUNT, 2), numbers=range(0, COUNT, 2)), UNKNOWN),
    "first_image_twice_and_last_lost": (Tree([0, *range(LAST)]), r"repeat the one before: 1, the first is 00001\.png"),
    "image_numbers_in_milliseconds": (Tree(numbers=range(0, 50 * COUNT, 50)), "numbered 0 to 1950"),
    "labels_of_fewer_images": (Tree(labels=range(1, COUNT), renumbered=True), UNKNOWN),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_as_many_frames_as_labels_are_joined_in_order(name: str, tmp_path: Path) -> None:
    found = joined(ORDINARY[name].write(tmp_path / "disfa"), Mismatch.common if "labels" in name else Mismatch.error)
    assert found.to_dict() == {frame: frame for frame in ORDINARY[name].labels}


@pytest.mark.parametrize("name", BRIDGED)
def test_what_numbers_or_clock_show_to_be_missing_is_left_out(name: str, tmp_path: Path) -> None:
    tree, left = BRIDGED[name]
    root = tree.write(tmp_path / "disfa")
    with pytest.raises(ValueError, match=r"1 of 2 subjects.*data\.disfa\.mismatch=common"):
        joined(root, Mismatch.error)
    assert joined(root, Mismatch.common).to_dict() == {frame: frame for frame in left}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nothing_tells_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    tree, fault = REFUSED[name]
    root = tree.write(tmp_path / "disfa")
    for mismatch in Mismatch:
        with pytest.raises(
            ValueError, match=rf"1 of 2 subjects.*({fault}).*; (get|give) .*data\.disfa\.subjects"
        ) as error:
            joined(root, mismatch)
        assert "mismatch=common" not in str(error.value)
    assert set(joined(root, Mismatch.error, subjects=["SN002"])) == set()


@pytest.mark.parametrize(
    ("tree", "span"),
    [
        (Tree(without(0), ".avi"), [2, 40]),
        (Tree(without(LAST), ".avi"), [1, 39]),
        (Tree(without(0, 1), ".mp4", "mpeg4"), [3, 40]),
        (Tree([99, *WHOLE], ".avi"), [0, 40]),
        (Tree([0, *WHOLE], ".avi"), [0, 40]),
        (Tree([*WHOLE, 99], ".avi"), [1, 41]),
        (Tree([99, *range(LAST)], ".avi"), [0, 39]),
        (Tree(without(0, 17), ".avi", times=[index - 1 for index in without(0, 17)]), [2, 40]),
        (Tree(without(0)), [2, 40]),
        (Tree(without(0), numbers=without(0)), [2, 40]),
        (Tree(without(LAST)), [1, 39]),
        (Tree(without(0, 9, LAST), numbers=without(0, 9, LAST)), [2, 39]),
        (Tree([99, *WHOLE]), [0, 40]),
        (Tree(labels=range(1, COUNT), renumbered=True), [0, 39]),
        (Tree([*range(12), 11, *range(13, COUNT)], ".avi"), [1, 40]),
        (Tree([*without(18), 40], ".mp4", "mpeg4", times=LEAVES_OUT), [1, 41]),
        (Tree([*without(17), 99], ".avi", times=[*without(17), COUNT]), [1, 41]),
        (Tree(without(17), ".avi", times=without(17), labels=range(LAST)), [1, 40]),
        (Tree([*range(12), 11, *range(13, COUNT)]), [1, 40]),
    ],
)
def test_what_somebody_has_looked_at_is_joined_by_where_it_begins_and_ends(
    tree: Tree, span: list[int], tmp_path: Path
) -> None:
    root = tree.write(tmp_path / "disfa")
    with pytest.raises(ValueError, match=r"data\.disfa\.mismatch=common"):
        joined(root, Mismatch.error, spans=[f"SN001:{span[0]}..{span[1]}"])
    found = joined(root, Mismatch.common, spans=[f"SN001:{span[0]}..{span[1]}"])
    first = 1 if tree.renumbered else 0
    twice = tree.pictures[0] == tree.pictures[1]  # which of the two is not looked at
    assert found.to_dict() == {
        frame - first: frame for frame in tree.labels if frame in tree.pictures and not (twice and frame == 0)
    }


def test_labels_that_end_early_are_not_of_the_frames_in_order(tmp_path: Path) -> None:
    root = REFUSED["labels_end_early_and_one_left_out"][0].write(tmp_path / "disfa")
    with pytest.raises(ValueError, match=DIFFER):
        joined(root, Mismatch.common, spans=["SN001:1..39"])


def test_frames_that_the_clock_leaves_out_are_counted_as_somebody_saw(tmp_path: Path) -> None:
    root = Tree(video=".avi", times=[index + (index > 17) for index in WHOLE]).write(tmp_path / "disfa")
    assert joined(root, Mismatch.error, spans=["SN001:1..40"]).to_dict() == {frame: frame for frame in WHOLE}


def test_one_span_is_for_all_that_need_one(tmp_path: Path) -> None:
    """SN002 is whole, and stays as it is; a span of its own goes before."""
    root = Tree(without(0), ".avi").write(tmp_path / "disfa")
    expected = {frame: frame for frame in without(0)}
    assert joined(root, Mismatch.common, spans=["all:2..40"]).to_dict() == expected
    assert joined(root, Mismatch.common, spans=["all:1..39", "SN001:2..40"]).to_dict() == expected
    assert joined(root, Mismatch.common, spans=["all:2..40"], subjects=["SN002"]).empty
    with pytest.raises(ValueError, match="1 of 2 subjects"):
        joined(root, Mismatch.common, spans=["all:2..41"])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "at_25",
            "at_25_mp4",
            "images_at_25",
            "half_lost",
            "chunks_overwritten",
            "varying_rate_and_one_lost",
            "at_10",
            "one_between_lost",
        ),
        *("images_renumbered_after_a_loss", "labels_end_early_and_varying_rate"),
    ],
)
def test_what_is_not_whole_between_is_refused_wherever_it_is_said_to_begin(name: str, tmp_path: Path) -> None:
    """Its first and last pictures are those of the first and last label."""
    tree, _ = REFUSED[name]
    root = tree.write(tmp_path / "disfa")
    for span in ([1, tree.pictures[-1] + 1], [1, COUNT], [1, len(tree.labels)]):
        with pytest.raises(ValueError, match=r"1 of 2 subjects"):
            joined(root, Mismatch.common, spans=[f"SN001:{span[0]}..{span[1]}"])


@pytest.mark.parametrize("seed", range(30))
def test_chance_losses_never_shift_a_label(seed: int, tmp_path: Path) -> None:
    """Frames lost where the clock or the numbers show it, and elsewhere: whatever is joined is right."""
    chance = random.Random(seed)
    shown, silent = (set(chance.sample(WHOLE, chance.choice([0, 1, 2]))) for _ in range(2))
    kept = without(*shown, *silent)
    places = np.array(kept) - np.array([sum(lost < frame for lost in silent - shown) for frame in kept])
    video, codec, between = chance.choice(
        [
            (None, "", 0),
            (".avi", "mjpeg", 0),
            (".avi", "mpeg4", 0),
            (".mp4", "mpeg4", 2),
            (".mkv", "mpeg4", 2),
            (".avi", "libx264", 2),
        ]
    )
    times = [int(place) for place in places]
    root = Tree(kept, video, codec, between, times=times, numbers=times).write(tmp_path / "disfa")
    try:
        found = joined(root, Mismatch.common)
    except ValueError as error:
        assert shown or silent, error
        return
    assert all(frame == number for frame, number in found.items())
    assert not silent - shown or len(kept) == COUNT


def test_the_right_camera_is_checked_by_itself(tmp_path: Path) -> None:
    """Both cameras lie side by side; one lacks its first frame."""
    root = Tree(video=".avi").write(tmp_path / "disfa")
    Tree(without(0), ".avi").write(tmp_path / "other")
    for path in (tmp_path / "other" / "Videos_LeftCamera").iterdir():
        shutil.copy(path, root / "Videos_LeftCamera" / path.name.replace("Left", "Right"))
    assert joined(root, Mismatch.error).to_dict() == {frame: frame for frame in WHOLE}
    with pytest.raises(ValueError, match=UNKNOWN):
        joined(root, Mismatch.common, camera=Camera.right, videos="Videos_LeftCamera")


def test_videos_of_the_other_camera_alone_are_told(tmp_path: Path) -> None:
    root = Tree(video=".avi").write(tmp_path / "disfa")
    (root / "Videos_LeftCamera").rename(root / "Video_RightCamera")
    with pytest.raises(ValueError, match=r"Video_RightCamera holds the right camera's: set data\.disfa\.camera=right"):
        joined(root, Mismatch.error)


def test_a_header_may_have_a_number_in_a_name(tmp_path: Path) -> None:
    root = Tree().write(tmp_path / "disfa")
    for path in (root / "ActionUnit_Labels" / "SN001").iterdir():
        path.write_text("frame,AU 1\n" + path.read_text())
    assert joined(root, Mismatch.error).to_dict() == {frame: frame for frame in WHOLE}
