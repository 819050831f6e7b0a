"""Videos become folders of frames: the right frame under each number, once, and what is odd about a recording is
told."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fineface_train.data.crew import Crew
from fineface_train.data.formats import video
from fineface_train.data.formats.frame_format import FrameFormat
from fineface_train.data.formats.video import Extracted, extract_videos, read_extracted
from tests.data.videos import cut, number_in, numbered_video, spoil_packet


def extract(path: Path, root: Path, frame_format: FrameFormat = FrameFormat.jpg, quality: int = 90) -> Extracted:
    return extract_videos({"SN001": path}, root, frame_format, quality, Crew(quiet=True))["SN001"]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.avi", {"codec": "mjpeg"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.avi", {"codec": "mpeg4", "between": 2}),
        ("a.mp4", {"codec": "mpeg4", "between": 2, "rate": 30}),
        ("a.mp4", {"codec": "mpeg4", "rate": 7}),
    ],
)
@pytest.mark.parametrize("frame_format", list(FrameFormat))
def test_every_frame_has_its_own_number(name: str, how: dict, frame_format: FrameFormat, tmp_path: Path) -> None:
    extracted = extract(numbered_video(tmp_path / name, 40, **how), tmp_path / "frames", frame_format)
    assert (extracted.decoded, extracted.remarks()) == (40, [])
    places = extracted.places(40)
    assert [places[place].name for place in range(40)] == [f"{place:05d}.{frame_format.value}" for place in range(40)]
    assert {place: number_in(path) for place, path in places.items()} == {place: place for place in range(40)}
    assert sorted(os.listdir(extracted.folder)) == [*(path.name for path in places.values()), "video.json"]


def test_nothing_is_extracted_twice_and_what_changed_is_extracted_again(tmp_path: Path) -> None:
    path, root = numbered_video(tmp_path / "a.avi", 12), tmp_path / "frames"

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (root / "SN001").iterdir()}

    first = extract(path, root)
    before = times()
    assert extract(path, root) == first == read_extracted(root / "SN001")
    assert times() == before
    first.file(7).unlink()
    assert extract(path, root).decoded == 12
    assert {name for name, moment in times().items() if before[name] != moment} == {"00007.jpg", "video.json"}
    before = times()
    assert extract(path, root, quality=50).decoded == 12
    assert all(moment > before[name] for name, moment in times().items())
    assert extract(path, root, FrameFormat.png).file(3).suffix == ".png"
    assert not list((root / "SN001").glob("*.jpg"))
    numbered_video(path, 5)
    assert extract(path, root, FrameFormat.png).decoded == 5
    assert len(list((root / "SN001").glob("*.png"))) == 5
    os.utime(path, (1, 1))
    before = times()
    extract(path, root, FrameFormat.png)
    assert times() != before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:40],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"changed"', '"time"'),
        lambda text: text.replace('"decoded"', '"frames"'),
        lambda text: text.replace('"found": {', '"found": [], "was": {'),
        lambda text: text.encode("utf-16"),
    ],
    ids=["cut_off", "empty", "list", "without_a_key", "other_keys", "found_a_list", "no_utf_8"],
)
def test_a_damaged_note_is_named_and_its_video_extracted_anew(
    damage: Callable[[str], str | bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = {name: numbered_video(tmp_path / f"{name}.avi", 6) for name in ("SN001", "SN002")}
    root = tmp_path / "frames"
    whole = extract_videos(videos, root, FrameFormat.jpg, 90, Crew(quiet=True))
    marker, untouched = root / "SN001" / "video.json", root / "SN002" / "00000.jpg"
    spoiled = damage(marker.read_text())
    marker.write_bytes(spoiled if isinstance(spoiled, bytes) else spoiled.encode())
    whole["SN001"].file(2).write_bytes(whole["SN001"].file(3).read_bytes())  # whose frames these are, nobody knows
    before = untouched.stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"SN001/video\.json is damaged"):
        read_extracted(root / "SN001")
    assert extract_videos(videos, root, FrameFormat.jpg, 90, Crew(quiet=True)) == whole
    assert [number_in(whole["SN001"].file(number)) for number in range(6)] == list(range(6))
    assert untouched.stat().st_mtime_ns == before
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{marker} is damaged" in told
    assert told.endswith("; extracting SN001.avi anew")


def test_a_note_that_tells_less_is_read_and_made_anew_without_its_frames(tmp_path: Path) -> None:
    """One from before the clock was looked at closely."""
    path, root = numbered_video(tmp_path / "a.avi", 12), tmp_path / "frames"
    whole = extract(path, root)
    marker = root / "SN001" / "video.json"
    told = json.loads(marker.read_text())
    told["found"] = {
        key: value
        for key, value in told["found"].items()
        if key in ("decoded", "promised", "damaged", "skipped", "uneven")
    }
    marker.write_text(json.dumps(told))
    assert (read_extracted(root / "SN001").decoded, read_extracted(root / "SN001").rate) == (12, 0)
    before = whole.file(3).stat().st_mtime_ns
    assert extract(path, root) == whole
    assert whole.rate == 20
    assert whole.file(3).stat().st_mtime_ns == before


def test_an_empty_frame_is_made_again(tmp_path: Path) -> None:
    path, root = numbered_video(tmp_path / "a.avi", 6), tmp_path / "frames"
    first = extract(path, root)
    first.file(4).write_bytes(b"")
    before = first.file(3).stat().st_mtime_ns
    assert extract(path, root) == first
    assert number_in(first.file(4)) == 4
    assert first.file(3).stat().st_mtime_ns == before


def test_a_killed_extraction_goes_on_with_whole_frames(tmp_path: Path) -> None:
    path, root = numbered_video(tmp_path / "a.avi", 500), tmp_path / "frames"
    code = (
        "import sys; from pathlib import Path; from fineface_train.data.formats.video import extract_videos, "
        "FrameFormat;"
        "extract_videos({'SN001': Path(sys.argv[1])}, Path(sys.argv[2]), FrameFormat.jpg, 90)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(root)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    deadline = time.monotonic() + 60
    while len(list(root.glob("SN001/*.jpg"))) < 20:
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = {path: path.stat().st_mtime_ns for path in root.glob("SN001/*.jpg")}
    assert 20 <= len(survived) < 500, "the kill came too late"
    assert read_extracted(root / "SN001").fault == "its extraction was not finished; run `fineface prepare` again"
    (root / "SN001" / f"{len(survived):05d}.partial").write_bytes(b"half a fr")
    extracted = extract(path, root)
    assert [number_in(extracted.file(number)) for number in range(500)] == list(range(500))
    assert all(path.stat().st_mtime_ns == moment for path, moment in survived.items())
    assert not list(root.glob("SN001/*.partial"))


def _spoiled(*numbers: int) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        for number in numbers:
            spoil_packet(path, number)

    return spoil


def _replaced(**how: object) -> Callable[[Path], object]:
    return lambda path: numbered_video(path, 10, **how)


DROPPED = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
"""Times of ten frames; one was dropped after the fourth."""


@pytest.mark.parametrize(
    ("spoil", "expected", "places", "remark"),
    [
        (lambda path: None, 10, list(range(10)), ""),
        (_replaced(times=DROPPED), 11, DROPPED, "the file promises 11 frames; its clock leaves out 1 before frame 4"),
        (
            _replaced(times=DROPPED),
            10,
            list(range(10)),
            "the file promises 11 frames; its clock leaves out 1 before frame 4",
        ),
        (
            _replaced(times=[0, 3, 6, 9, 12, 16, 18, 21, 24, 27]),
            10,
            list(range(10)),
            "the file promises 28 frames; its frame rate varies (2 uneven steps)",
        ),
        (
            _spoiled(6),
            10,
            [0, 1, 2, 3, 4, 5, 7, 8, 9],
            "the file promises 10 frames; its clock leaves out 1 before frame 6",
        ),
        (_spoiled(9), 10, list(range(9)), "the file promises 10 frames"),
        (_spoiled(8, 9), 10, list(range(8)), "the file promises 10 frames"),
        (_spoiled(0), 10, [], "cannot be read (its first frame is broken"),
        (lambda path: cut(path, 7), 10, list(range(7)), "the file promises 10 frames"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), 10, [], "cannot be read ("),
        (lambda path: path.write_bytes(b"no video at all"), 10, [], "cannot be read ("),
        (lambda path: path.write_bytes(b""), 10, [], "cannot be read ("),
    ],
)
def test_what_is_odd_about_a_recording_is_told(
    spoil: Callable[[Path], object], expected: int, places: list[int], remark: str, tmp_path: Path
) -> None:
    path = numbered_video(tmp_path / "a.avi", 10)
    spoil(path)
    extracted = extract(path, tmp_path / "frames")
    found = extracted.places(expected)
    assert "; ".join(extracted.remarks()).startswith(remark)
    assert bool(extracted.remarks()) == bool(remark)
    assert list(found) == places
    assert all(file.is_file() for file in found.values())
    if "promises 10" in remark:  # of the numbered frames, those that are left stand in their places
        assert all(number_in(file) == place for place, file in found.items())


def test_frames_that_hang_on_a_broken_one_are_left_out(tmp_path: Path) -> None:
    """Up to the next key frame (every 12th): what is predicted from a broken frame is not what was filmed."""
    path = numbered_video(tmp_path / "a.avi", 30, codec="mpeg4")
    spoil_packet(path, 5)
    extracted = extract(path, tmp_path / "frames")
    found = extracted.places(30)
    assert set(found) == {0, 1, 2, 3, 4, *range(12, 30)}
    assert all(number_in(file) == place for place, file in found.items())
    assert extracted.remarks()[1:] == ["6 frames are damaged, the first is 5", "its clock leaves out 1 before frame 5"]


def test_an_unreadable_video_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, root = numbered_video(tmp_path / "a.avi", 4), tmp_path / "frames"
    whole, stat = path.read_bytes(), path.stat()
    path.write_bytes(bytes(len(whole)))
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert extract(path, root).fault
    path.write_bytes(whole)
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert extract(path, root).decoded == 4
    monkeypatch.setattr(video, "_extract", lambda *_: pytest.fail("extracted again"))
    assert extract(path, root).decoded == 4


def test_processes_share_the_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = {f"SN{number:03d}": numbered_video(tmp_path / f"{number}.avi", 3 + number) for number in range(7)}
    barrier, results, made = threading.Barrier(3, timeout=20), {}, []
    real = video._extract
    monkeypatch.setattr(video, "_extract", lambda path, *rest: (made.append(path.stem), real(path, *rest)))

    def one(index: int) -> None:
        crew = Crew(index, 3, barrier.wait, quiet=True)
        results[index] = extract_videos(videos, tmp_path / "frames", FrameFormat.jpg, 90, crew)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == sorted(map(str, range(7)))
    assert results[0] == results[1] == results[2]
    assert {name: each.decoded for name, each in results[0].items()} == {
        f"SN{number:03d}": 3 + number for number in range(7)
    }


@pytest.mark.parametrize(("frame_format", "free"), [(FrameFormat.jpg, 20_000), (FrameFormat.png, 1_000)])
def test_too_little_room_is_said_before_the_first_frame(
    frame_format: FrameFormat,
    free: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = numbered_video(tmp_path / "a.avi", 40)
    extract(path, tmp_path / "enough", frame_format)
    assert "are free" not in caplog.text
    taken = sum(file.stat().st_size for file in (tmp_path / "enough").rglob(f"*.{frame_format.value}"))
    assert free < taken

    def usage(folder: Path) -> SimpleNamespace:
        assert not (folder / "SN001").exists()
        return SimpleNamespace(free=free)

    monkeypatch.setattr(video.shutil, "disk_usage", usage)
    assert extract(path, tmp_path / "little", frame_format).decoded == 40
    assert "40 frames take about 0.0 GB" in caplog.text
    assert "set data.root to another disk" in caplog.text


def test_a_folder_without_frames_of_a_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SN001: holds no frames of a video"):
        read_extracted(tmp_path / "SN001")
