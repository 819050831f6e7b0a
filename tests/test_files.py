"""Folders that are whole or not there, whenever a process is killed; and how a file is known without reading it."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fineface_train.files import Stamp, damage, dated, hash_of_files, new_folder

WRITE = """
import os, pathlib, shutil, signal, sys
from fineface_train.files import new_folder
folder, moment = pathlib.Path(sys.argv[1]), sys.argv[2]

def killed_at(name, real):
    def call(*arguments, **options):
        if calls.append(name) or calls.count(name) == int(moment[-1]) and moment.startswith(name):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call

calls = []
pathlib.Path.rename, shutil.rmtree = killed_at("rename", pathlib.Path.rename), killed_at("rmtree", shutil.rmtree)
with new_folder(folder) as partial:
    (partial / "text").write_text("new")
    if moment == "write0":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def write(folder: Path, text: str, *, sealed: bool = True) -> None:
    with new_folder(folder, sealed=sealed) as partial:
        (partial / "text").write_text(text)


def test_a_folder_is_written_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write(tmp_path / "a" / "folder", text)
        assert (tmp_path / "a" / "folder" / "text").read_text() == text
        assert damage(tmp_path / "a" / "folder") is None
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["folder"]
    write(tmp_path / "plain", "x", sealed=False)
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["text"]


def test_an_error_leaves_the_older_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "folder", "old")
    with pytest.raises(IsADirectoryError), new_folder(tmp_path / "folder") as partial:
        (partial / "text").mkdir()  # which cannot be sealed
    assert (tmp_path / "folder" / "text").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("moment", ["rmtree1", "rmtree2", "write0", "rename1", "rename2", "rmtree3", "rmtree4"])
def test_a_kill_at_any_moment_loses_no_whole_folder(moment: str, older: bool, tmp_path: Path) -> None:
    """What lay there is there still, or comes back by the next attempt, even if that writes nothing."""
    folder = tmp_path / "folder"
    if older:
        write(folder, "old")
    killed = subprocess.run(
        [sys.executable, "-c", WRITE, str(folder), moment], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if not (moment == "rename2" and not older):  # nothing is moved aside
        assert killed.returncode == -signal.SIGKILL
    assert not folder.exists() or damage(folder) is None
    with pytest.raises(IsADirectoryError), new_folder(folder) as partial:
        (partial / "text").mkdir()
    finished = (folder / "text").exists() and (folder / "text").read_text() == "new"
    assert finished or (folder.exists() == older and (not older or (folder / "text").read_text() == "old"))
    assert {path.name for path in tmp_path.iterdir()} <= {"folder"}
    write(folder, "newest")
    assert (folder / "text").read_text() == "newest"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_stamp_tells_another_file_and_copies_keep_its_date(tmp_path: Path) -> None:
    one, copy = tmp_path / "one", tmp_path / "copy"
    one.write_text("abc")
    copy.write_text("abc")
    os.utime(copy, ns=(one.stat().st_atime_ns, one.stat().st_mtime_ns))
    assert Stamp.of(one) == Stamp.of(one)
    assert Stamp.of(one) != Stamp.of(copy)
    assert dated(one) == dated(copy) == [3, one.stat().st_mtime_ns]
    assert dated(tmp_path / "none") is None
    with pytest.raises(FileNotFoundError):
        Stamp.of(tmp_path / "none")


def test_hashes_of_files_are_those_that_were_written_before(tmp_path: Path) -> None:
    """By them prepared data and OpenFace's files are known that an earlier version wrote down."""
    (tmp_path / "one").write_text("abc")
    os.utime(tmp_path / "one", ns=(0, 123456789))
    lines = f"{tmp_path / 'one'}|3|123456789\n{tmp_path / 'none'}|None"
    assert hash_of_files([tmp_path / "one", str(tmp_path / "none")]) == hashlib.sha256(lines.encode()).hexdigest()[:16]
    assert hash_of_files([tmp_path / "one"], tmp_path) == hashlib.sha256(b"one|3|123456789").hexdigest()[:16]
