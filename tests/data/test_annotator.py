"""Lists go to a program and rows come back, or what went wrong; nothing of the program stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from fineface_train.data.annotators.program import Annotator

STAND_IN = Path(__file__).parents[1] / "annotator_stand_in.py"


def command(folder: Path, wrong: str = "nothing") -> list[str]:
    return [sys.executable, str(STAND_IN), wrong, str(folder / "log")]


def stand_in(folder: Path, wrong: str = "nothing") -> Annotator:
    return Annotator("stand-in 1", command(folder, wrong), start_seconds=20, image_seconds=20)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """A face, two faces, none, and a broken file, of which one has a name that CSV must quote."""
    paths = [tmp_path / name for name in ("a.png", 'b, "b".png', "c.png", "d.png")]
    for path, colour in zip(paths, ((51, 255, 0), (102, 0, 1), (0, 0, 0)), strict=False):
        Image.new("RGB", (4, 4), colour).save(path)
    paths[3].write_bytes(b"no image")
    return [str(path) for path in paths]


def alive(folder: Path) -> bool:
    """Whether the stand-in still runs (a zombie does not)."""
    stat = Path("/proc") / (folder / "log.pid").read_text() / "stat"
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def ended(folder: Path) -> bool:
    """Whether the stand-in ends within seconds; the system takes a moment for a child of the program."""
    deadline = time.monotonic() + 10
    while alive(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(folder)


def test_one_program_answers_all_lists(tmp_path: Path, images: list[str]) -> None:
    with stand_in(tmp_path) as read:
        first, second = read(images), read(images[:1])
        pid = (tmp_path / "log.pid").read_text()
        assert alive(tmp_path)
    assert ended(tmp_path)
    assert [row["status"] for row in first] == ["ok", "several_faces", "no_face", "unreadable"]
    assert [(row["AU1"], row["AU2"], row["AU26"]) for row in first] == [
        (1.0, 0.0, 5.0),
        (2.0, 0.0, 0.0),
        (None, None, None),
        (None, None, None),
    ]
    assert second == first[:1]
    assert (tmp_path / "log").read_text() == "4\n1\n"
    assert read(images) == first, "a closed annotator starts again"
    assert (tmp_path / "log.pid").read_text() != pid
    read.close()


WRONG = {
    "dies at once": r"ended \(status 1\).*last words:\nno weights here",
    "is another": "said ready='another tool' where 'stand-in 1' was awaited",
    "chatters": "answered 'Using device: cpu for inference...\\\\n' where 'ready' was awaited",
    "dies": r"ended \(status 9\).*last words:\nout of memory",
    "answers another": "said done='another list'",
    "writes nothing": "rows that cannot be used: .*No such file",
    "loses a row": "1 rows for 2 images",
    "swaps rows": r"list.txt.csv, line 2: is about '.*b, .*', not about '.*a.png'",
    "forgets a column": "columns missing: AU1; it must write path, status, AU1",
    "invents a status": "line 2: status 'maybe'.*it is one of ok, several_faces with AUs, no_face, unreadable without",
    "reads a face where there is none": "line 2: status 'no_face' with AUs",
    "reads nothing in a face": "line 2: AU1='' is no number in 0..5",
    "reads 7": "line 2: AU1='7.0' is no number in 0..5",
    "reads nan": "line 2: AU1='nan' is no number",
    "reads a word": "line 2: AU1='much' is no number",
    "writes short rows": "line 2: more or fewer cells than columns; it must write",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_program_that_fails_is_ended_and_told(wrong: str, tmp_path: Path, images: list[str]) -> None:
    read = stand_in(tmp_path, wrong)
    with pytest.raises(ChildProcessError, match=f"(?s)^stand-in 1 .*{WRONG[wrong]}"):
        read(images[:2])
    assert ended(tmp_path)


@pytest.mark.parametrize("wrong", ["hangs at once", "hangs"])
def test_a_program_that_hangs_is_ended_with_its_children(wrong: str, tmp_path: Path, images: list[str]) -> None:
    """As uv is, the program is a child of what was started."""
    shell = ["sh", "-c", '"$@"; exit', "sh", *command(tmp_path, wrong)]
    read = Annotator("stand-in 1", shell, start_seconds=2 if wrong == "hangs at once" else 20, image_seconds=1)
    with pytest.raises(ChildProcessError, match=f"gave no answer for {2 if wrong == 'hangs at once' else 1} s"):
        read(images[:1])
    assert ended(tmp_path)


def test_the_program_ends_when_we_are_killed(tmp_path: Path, images: list[str]) -> None:
    code = (
        f"read = Annotator('stand-in 1', {command(tmp_path)!r}); read([{images[0]!r}]); print('read', flush=True); "
        f"input()"
    )
    code = f"from fineface_train.data.annotators.program import Annotator; {code}"
    us = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert us.stdout is not None
    assert us.stdout.readline() == "read\n"
    assert alive(tmp_path)
    us.send_signal(signal.SIGKILL)
    us.wait()
    assert ended(tmp_path)


def test_the_program_ends_with_the_annotator_that_nobody_holds(tmp_path: Path, images: list[str]) -> None:
    read = stand_in(tmp_path)
    read(images)
    del read
    assert ended(tmp_path)


def test_the_program_does_not_get_our_packages(
    tmp_path: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "csv.py").write_text("raise SystemExit('our module')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "ours"))
    with stand_in(tmp_path) as read:
        assert read(images)[0]["status"] == "ok"


def test_paths_that_no_list_can_hold_are_named(tmp_path: Path, images: list[str]) -> None:
    with stand_in(tmp_path) as read, pytest.raises(ValueError, match=r"two\\nlines.*line break"):
        read([images[0], "two\nlines.png"])


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-program"):
        Annotator("x", [str(tmp_path / "no-such-program")])([os.devnull])
