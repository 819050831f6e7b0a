"""Small things about files: values as JSON's own types, writing whole or not at all, knowing change and damage."""

import contextlib
import dataclasses
import enum
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

MAX_NAME = 200
"""Bytes of a name that is given; file systems take 255, and a hash, a number or an ending comes after it."""


def check_name(key: str, name: str) -> None:
    """Raises ValueError for what would not do as part of a folder's name."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(f"{key}={name!r}: use letters, digits, '-', '_' and '.' only")
    if len(name.encode()) > MAX_NAME:
        raise ValueError(
            f"{key}={name!r}: has {len(name.encode())} bytes, and a folder's name takes at most {MAX_NAME} (most "
            f"letters beyond a-z are 2 to 4)"
        )


def check_utf8(key: str, text: str) -> None:
    """Raises ValueError for text from a shell, the environment or a folder's name that is no UTF-8: it could be written
    into no file of a run."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{key}={ascii(os.fsencode(text))[2:-1]}: is not UTF-8; set a locale that is (such as LC_ALL=C.UTF-8) and "
            f"write it anew; "
            "a file or folder whose name is not: rename it, or make a link to it (ln -s)"
        ) from None


def check_seed(key: str, seed: int) -> None:
    """Raises ValueError for what no random generator takes; a run adds small numbers to its seed."""
    if not 0 <= seed < 2**62:
        raise ValueError(f"{key}={seed}: must lie in 0..2^62")


def plain(value: Any) -> Any:
    """Dataclasses, enums and tuples as the types that JSON and YAML know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def flat(value: dict[str, Any], separator: str = ".", prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dictionaries as ("a.b", value) pairs; lists stay as they are."""
    pairs: list[tuple[str, Any]] = []
    for key, item in value.items():
        pairs += (
            flat(item, separator, f"{prefix}{key}{separator}") if isinstance(item, dict) else [(f"{prefix}{key}", item)]
        )
    return pairs


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """A dictionary that has these `keys`. Raises ValueError that names the file where it holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in value] if isinstance(value, dict) else ["a dictionary"]
        if missing:
            raise ValueError(f"without {', '.join(missing)}")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); bring back a copy, or remove it") from error
    return value


def read_parquet(path: Path) -> "pd.DataFrame":
    """Raises ValueError that names the file where it is no Parquet."""
    import pandas as pd  # here, since it takes half a second, and what reads no table starts without it

    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:  # pyarrow raises either
        raise ValueError(f"{path} is damaged ({error}); bring back a copy, or remove it") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; what was written is synced and moves into its place whole, and goes if writing
    fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """`replacing`, with text."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


@contextlib.contextmanager
def new_folder(path: Path, *, sealed: bool = True) -> Iterator[Path]:
    """A new folder beside `path` to write into, which takes its place once it is whole: `sealed`, then renamed.

    A folder that lies at `path` already is moved aside for the rename and removed last. A process that is killed at any
    moment leaves a whole folder at `path` or beside it; the next call brings back the one that was moved aside, and
    removes what was not finished. An error within the context does both at once. The caller sees to it that one process
    writes at a time.
    """
    partial, replaced = (path.with_name(path.name + ending) for ending in (".partial", ".replaced.partial"))
    _clear_beside(path, partial, replaced)
    partial.mkdir(parents=True)
    try:
        yield partial
        if sealed:
            seal(partial)
        if path.exists():
            path.rename(replaced)
        partial.rename(path)
    finally:
        _clear_beside(path, partial, replaced)


def _clear_beside(path: Path, partial: Path, replaced: Path) -> None:
    """Bring back what was moved aside where nothing took its place, and remove what else lies beside `path`."""
    if replaced.exists() and not path.exists():
        replaced.rename(path)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)


SEAL = "checksums.json"


def seal(folder: Path) -> None:
    """Write down the SHA-256 of every file in `folder` and force all to disk, so that a rename that follows never
    exposes half-written ones.

    A README may be edited later, and is left out. All files get the mode that the umask gives a new one; safetensors'
    are private else.
    """
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name not in (SEAL, "README.md")}
    (folder / SEAL).write_text(json.dumps(digests, indent=2) + "\n")
    mode = (folder / SEAL).stat().st_mode
    for path in folder.iterdir():
        if path.stat().st_mode != mode:
            path.chmod(mode)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, in words that name the file; None if every sealed file is as it was
    written."""
    try:
        digests = json.loads((folder / SEAL).read_text())
        for name, digest in digests.items():
            if not (folder / name).is_file():
                return f"{folder / name} is missing"
            if sha256(folder / name) != digest:
                return f"{folder / name} is not what was written (truncated, changed or exchanged)"
    except FileNotFoundError:
        return f"{folder / SEAL} is missing"
    except (OSError, ValueError, AttributeError) as error:
        return f"{folder / SEAL} cannot be read ({error})"
    return None


class Stamp(NamedTuple):
    """What tells without reading a file that it is another than before."""

    size: int
    """In bytes."""
    changed: int
    """When its contents were last written, in nanoseconds; copying it with its dates keeps this."""
    inode_changed: int
    """When anything about it last changed; nothing keeps or sets this."""
    inode: int

    @staticmethod
    def of(path: Path | str) -> "Stamp":
        """Raises OSError where there is no file."""
        status = os.stat(path)
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @property
    def dated(self) -> list[int]:
        """Size and date alone: what stays when a data set is copied or moved as a whole."""
        return [self.size, self.changed]


def dated(path: Path | str) -> list[int] | None:
    """`Stamp.dated` of a file, None where there is none."""
    with contextlib.suppress(OSError):
        return Stamp.of(path).dated
    return None


def hash_of_files(paths: Iterable[Path | str], root: Path | None = None) -> str:
    """A hash over name (below `root`, where that is given), size and date of files, of which some may be missing."""
    lines = []
    for path in paths:
        name, stamp = path if root is None else Path(path).relative_to(root), dated(path)
        lines.append(f"{name}|{'|'.join(map(str, stamp)) if stamp else None}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(value: Any, digits: int = 16) -> str:
    """SHA-256 of plain values, whatever the order of their keys, cut to so many hex `digits`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]


def write_json(path: Path, value: Any) -> Path:
    """`write_text` of indented JSON; refuses not-a-number, which JSON has not."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
