"""Locks: who has one is named, one that nobody has is given up, and file systems that have none are told with what to
do."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from fineface_train import locks
from fineface_train.files import sha256
from fineface_train.locks import LOCKS, locked, writable
from tests.permissions import unprivileged

HOLD = """
import pathlib, sys
from fineface_train.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""
LEFT = """
import fcntl, sys
file = open(sys.argv[1] + "/.lock", "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""
"""What a process may leave behind: one that has its lock, and writes down no name."""


@pytest.fixture
def holder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `tmp_path` until its standard input ends."""
    command = [sys.executable, "-c", getattr(request, "param", HOLD), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def test_who_waits_says_for_whom(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert first_line(holder)
    assert holder.stdin
    threading.Timer(0.5, holder.stdin.close).start()
    with locked(tmp_path, wait=True):
        assert f"{tmp_path} is in use by process {holder.pid}" in caplog.text
    assert holder.wait() == 0
    assert not list(tmp_path.glob("*.json"))


def test_who_waits_long_says_so_again(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "REMIND", 0.4)
    assert first_line(holder)
    assert holder.stdin
    threading.Timer(1.5, holder.stdin.close).start()
    with locked(tmp_path, wait=True):
        assert len(caplog.messages) > 2
        assert "s so far)" in caplog.messages[1]


@pytest.mark.parametrize("holder", [LEFT], indirect=True)
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("wait", [True, False])
def test_a_lock_whose_holder_is_gone_is_given_up(
    tmp_path: Path, holder: subprocess.Popen[str], wait: bool, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "GIVE_UP", 1.0)
    assert first_line(holder)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    if named:
        (tmp_path / ".lock.json").write_text(json.dumps({"process": gone.pid, "host": socket.gethostname()}))
    name = f"process {gone.pid} on {socket.gethostname()}" if named else "the process that took it"
    with (
        pytest.raises(ValueError, match=rf"\.lock is locked, but {name} is not running here"),
        locked(tmp_path, wait=wait),
    ):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path, wait=wait):
        pass


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_told(
    tmp_path: Path, number: int, wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock._unix.fcntl, "flock", refuse)
    for left in (False, True):  # also where a lock file lies from before
        if left:
            (tmp_path / ".lock").touch()
        with (
            pytest.raises(
                ValueError, match=rf"/\.lock: its file system gives no lock \({os.strerror(number)}\).*{LOCKS}=off"
            ),
            locked(tmp_path, wait=wait),
        ):
            pass
    monkeypatch.setenv(LOCKS, "off")
    with locked(tmp_path / "new", wait=wait):
        assert (tmp_path / "new").is_dir()
    monkeypatch.setenv(LOCKS, "no")
    with pytest.raises(ValueError, match=rf"{LOCKS}=no: must be on"), locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\nfrom fineface_train.locks import locked, "
        "writable\nprint(writable(pathlib.Path(sys.argv[1])))\n"
    )
    code += "with locked(pathlib.Path(sys.argv[1])): pass"
    tmp_path.chmod(0o555)
    try:
        for folder in (tmp_path, tmp_path / "new" / "deeper"):
            result = subprocess.run(
                [*unprivileged(), sys.executable, "-c", code, folder], capture_output=True, text=True, check=False
            )
            assert result.stdout == "False\n"
            assert (
                "cannot be written (Permission denied), and something is to be written there; give a folder of your own"
                in result.stderr
            )
    finally:
        tmp_path.chmod(0o755)
    assert writable(tmp_path / "new" / "deeper")


def test_a_lock_of_somebody_else_keeps_a_shared_folder_from_being_written(tmp_path: Path) -> None:
    """Who only reads there, and would keep what it found out, is not stopped by it."""
    (tmp_path / "image.png").write_bytes(b"x")
    (tmp_path / ".lock_contents").touch()
    (tmp_path / ".lock_contents").chmod(0o444)
    code = "import pathlib, sys\nfrom fineface_train.data.contents import image_contents\n"
    code += (
        "print(*image_contents([sys.argv[1] + '/image.png'], pathlib.Path(sys.argv[1]) / 'contents.parquet', "
        "progress=False))"
    )
    result = subprocess.run(
        [*unprivileged(), sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False
    )
    assert result.stdout == f"{sha256(tmp_path / 'image.png')}\n", result.stderr
