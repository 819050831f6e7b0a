"""One process at a time in a folder: by a lock of the system, which lets go of it however the process ends."""

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fineface_train.files import read_json, write_json

logger = logging.getLogger(__name__)
LOCKS = "FINEFACE_LOCKS"
"""Environment variable: `off` goes without locks, for file systems that have none; whoever sets it sees to it that one
process writes at a time."""
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)
POLL, HANDOVER, GIVE_UP, REMIND = 0.1, 1.0, 10.0, 600.0
"""Seconds between two tries; that a holder may take to write down or take away its name; until a lock that nobody seems
to hold is given up; between two lines about a lock that somebody holds."""


@contextlib.contextmanager
def locked(folder: Path, *, part: str = "", wait: bool = False) -> Iterator[None]:
    """Hold `folder`, or one part of what is in it, for this process, which is about to write there; reading needs no
    lock.

    Raises:
        ValueError: another process has it (with `wait`: its holder is gone, and still nobody gets the lock), `folder`
            cannot be written,
            or its file system has no locks. The message names the holder or the path, and what to do.
    """
    if not _wanted():
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    path = folder / f".lock{part}"
    note = path.with_name(f"{path.name}.json")
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _acquire(lock, folder, path, note, wait)
            held.callback(lock.release)
            held.callback(note.unlink, missing_ok=True)
            write_json(note, {"process": os.getpid(), "host": socket.gethostname()})
        except OSError as error:
            if error.errno in FULL:
                raise
            raise ValueError(_refusal(folder, path, note, error)) from error
        yield


def writable(folder: Path) -> bool:
    """Whether this process may make files in `folder`, or make `folder` itself, and take the locks that others have
    left in it."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return os.access(nearest, os.W_OK | os.X_OK) and all(os.access(path, os.W_OK) for path in folder.glob(".lock*"))


def _wanted() -> bool:
    setting = os.environ.get(LOCKS, "on")
    if setting not in ("on", "off"):
        raise ValueError(f"{LOCKS}={setting}: must be on (the default) or off, for file systems that have no locks")
    return setting == "on"


def _acquire(lock: FileLock, folder: Path, path: Path, note: Path, wait: bool) -> None:
    """Take the lock, or wait for it, which is told with who has it. Raises ValueError as `locked` does."""
    began, alive, told = time.monotonic(), time.monotonic(), -REMIND
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            return
        now, holder = time.monotonic(), _holder(note)
        if _may_live(holder):
            alive = now
            if not wait:
                raise ValueError(
                    f"{folder} is in use by {_named(holder)}; wait for it, stop it, or use another folder (train: "
                    f"run.fresh=true)"
                )
            if now - told >= REMIND:
                so_far = f" (for {now - began:.0f} s so far)" if told > 0 else ""
                logger.warning("%s is in use by %s: waiting for it%s", folder, _named(holder), so_far)
                told = now
        elif now - alive > (GIVE_UP if wait else HANDOVER):
            raise ValueError(
                f"{path} is locked, but {_named(holder)} is not running here: a process that it left behind has the "
                f"lock "
                f"(`fuser {path}` names it), or the file system kept it. Stop that process or, if there is none, "
                f"remove {path}"
            )
        time.sleep(POLL)


def _holder(note: Path) -> dict[str, Any]:
    """What the process that holds the lock has written down, nothing where it has not (yet)."""
    try:
        return read_json(note, "process", "host")
    except (OSError, ValueError):  # let go of, or taken, a moment ago
        return {}


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder['process']} on {holder['host']}" if holder else "the process that took it"


def _may_live(holder: dict[str, Any]) -> bool:
    """Whether the holder may be running: not, if it left no note or is gone from this machine; of other machines we
    cannot tell."""
    if not holder or holder["host"] != socket.gethostname():
        return bool(holder)
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _refusal(folder: Path, path: Path, note: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in NOT_WRITABLE:
        holder = _holder(note)
        working = f"; {_named(holder)} is at work there: what it makes can be read once it is done" if holder else ""
        return (
            f"{error.filename or folder}: cannot be written ({reason}), and something is to be written there{working}; "
            "give a folder of your own (data.root, data.cache, run.root or out), or have its owner let you write"
        )
    return (
        f"{path}: its file system gives no lock ({reason}), which keeps two processes from writing in one folder; "
        f"give a folder on another disk (data.root, data.cache, run.root or out), or set {LOCKS}=off and see to it "
        f"that one process writes there at a time"
    )
