"""Small things about files: values as JSON's own types, writing whole or not at all, and knowing damage."""

import contextlib
import dataclasses
import enum
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def sha256(path: Path) -> str:
    """Of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(value: Any, digits: int = 16) -> str:
    """SHA-256 of plain values, whatever the order of their keys, cut to so many hex `digits`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]


def write_json(path: Path, value: Any) -> Path:
    """`write_text` of indented JSON; refuses not-a-number, which JSON has not."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
