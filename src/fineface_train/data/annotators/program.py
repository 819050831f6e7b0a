"""AUs of images from a program outside our environment, which keeps running and answers lists of images with files of
rows (docs/annotation.md)."""

import contextlib
import json
import logging
import math
import os
import queue
import signal
import subprocess
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO, Self

from fineface_train.aus import AU_KEYS, MAX_INTENSITY
from fineface_train.data.formats.csv_rows import read_whole_rows
from fineface_train.data.per_image import Row

logger = logging.getLogger(__name__)
START_SECONDS, IMAGE_SECONDS = 3600.0, 60.0
"""How long a program may take to start (uv may have 4.5 GB to fetch) and for each image of a list, before it counts as
hanging."""
WITH_FACE, WITHOUT_FACE = ("ok", "several_faces"), ("no_face", "unreadable")
"""What the status of an image can be; of several faces the largest is read."""
LAST_WORDS = 2000
"""Bytes of its stderr that are told of a program that failed."""
OUR_ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Variables that would give the program our packages."""


class Annotator:
    """A program that is started by the first list and answers lists until it is closed, or nobody holds it any more.

    It writes a line of JSON with `ready` to stdout, which must be `name`, and after each list that it is given on stdin
    one with `done`.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        start_seconds: float = START_SECONDS,
        image_seconds: float = IMAGE_SECONDS,
    ) -> None:
        self.name, self.command = name, command
        self.start_seconds, self.image_seconds = start_seconds, image_seconds
        self._running: _Running | None = None

    def __call__(self, paths: list[str]) -> list[Row]:
        """A row for each image: status, and AU1 .. AU26 in [0, 5] or None where there is no face.

        Raises ChildProcessError, with the program's last words, where it ends, hangs or answers anything else, and
        ValueError for a path with a line break.
        """
        if self._running is None:
            logger.info("starting %s; where its environment is not there yet, it is made first", self.name)
            self._running = _Running(self.command)
            self._answer("ready", self.name, self.start_seconds)
        broken = [path for path in paths if len(path.splitlines()) != 1]
        if broken:
            raise ValueError(f"{broken[0]!r}: a path with a line break cannot stand in a list; rename the file")
        with tempfile.TemporaryDirectory(prefix="annotate-") as folder:
            request = Path(folder) / "list.txt"
            request.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
            self._running.ask(str(request))
            self._answer("done", str(request), self.image_seconds * len(paths))
            try:
                return read_rows(Path(f"{request}.csv"), paths)
            except (OSError, ValueError) as error:
                raise self._fault(f"gave rows that cannot be used: {error}") from error

    def close(self) -> None:
        """End the program; the next list starts it again."""
        if self._running is not None:
            self._running.end()
            self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, key: str, wanted: str, seconds: float) -> None:
        assert self._running is not None
        try:
            line = self._running.lines.get(timeout=seconds)
        except queue.Empty:
            raise self._fault(f"gave no answer for {seconds:g} s") from None
        if line is None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # its output may end a moment before it does
                self._running.process.wait(10)
            raise self._fault(f"ended (status {self._running.process.returncode})")
        try:
            found = json.loads(line)[key]
        except (ValueError, KeyError, TypeError):
            raise self._fault(f"answered {line[:200]!r} where {key!r} was awaited") from None
        if found != wanted:
            raise self._fault(f"said {key}={found!r} where {wanted!r} was awaited")

    def _fault(self, what: str) -> ChildProcessError:
        assert self._running is not None
        words = self._running.last_words()
        self.close()
        return ChildProcessError(
            f"{self.name} (`{' '.join(self.command)}`) {what}" + (f"; its last words:\n{words}" if words else "")
        )


class _Running:
    """The process, its stderr in a file, and its stdout line by line in a queue, where None marks the end."""

    def __init__(self, command: list[str]) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  (its life is the process's)
        # A session of its own, so that all of it can be ended: uv runs Python as a child. Should we be killed, its
        # stdin ends, and so does it.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
            errors="replace",
            env={key: value for key, value in os.environ.items() if key not in OUR_ENVIRONMENT},
            start_new_session=True,
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pump, args=(self.process.stdout, self.lines), daemon=True).start()
        self.end = weakref.finalize(self, _end, self.process)

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which the answer tells
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def last_words(self) -> str:
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - LAST_WORDS))
        return self.errors.read().decode(errors="replace").strip()


def _pump(stdout: IO[str], lines: "queue.Queue[str | None]") -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def _end(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_rows(path: Path, paths: list[str]) -> list[Row]:
    """What a program wrote for a list. Raises ValueError, naming file and line, unless it has a good row for each of
    `paths`, in their order."""
    columns = ("path", "status", *AU_KEYS)
    must = f"it must write {', '.join(columns)}"
    rows = read_whole_rows(path, columns, missing=must, cut=must)
    if len(rows) != len(paths):
        raise ValueError(f"{path}: {len(rows)} rows for {len(paths)} images")
    return [_row(where, row, image) for (where, row), image in zip(rows, paths, strict=True)]


def _row(where: str, row: dict[str, str], image: str) -> Row:
    if row["path"] != image:
        raise ValueError(f"{where}: is about {row['path']!r}, not about {image!r}")
    status, cells = row["status"], [row[key] for key in AU_KEYS]
    if status in WITHOUT_FACE and not any(cells):
        return {"status": status} | dict.fromkeys(AU_KEYS)
    if status not in WITH_FACE:
        raise ValueError(
            f"{where}: status {status!r} with AUs {cells}; it is one of {', '.join(WITH_FACE)} with AUs, "
            f"{', '.join(WITHOUT_FACE)} without"
        )
    return {"status": status} | {key: intensity(where, key, cell) for key, cell in zip(AU_KEYS, cells, strict=True)}


def intensity(where: str, key: str, cell: str | None) -> float:
    """A cell as an intensity. Raises ValueError unless it is a number in [0, 5]."""
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_INTENSITY:
        raise ValueError(f"{where}: {key}={cell!r} is no number in 0..{MAX_INTENSITY:g}")
    return value
