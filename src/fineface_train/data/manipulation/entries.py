"""The entries of a pickled list of images with AUs, in whichever of its shapes: paths in one spelling, vectors as they
are.

[{"file_path": "imgs/1.jpg", "aus": vector}, ...]      "path" for "file_path" in some copies
{"imgs/1.jpg": vector, ...}                            or {"imgs/1.jpg": {"aus": vector}, ...}
{"path": ["imgs/1.jpg", ...], "aus": [vector, ...]}
"""

import logging
import posixpath
from pathlib import Path
from typing import Any

import numpy as np

from fineface_train.data.formats.pickles import read_plain_pickle

logger = logging.getLogger(__name__)
PATH_KEYS = ("file_path", "path")
SHOWN = 10
"""Repeated entries that are told."""


def read_entries(path: Path) -> tuple[list[str], list[np.ndarray], np.ndarray]:
    """The paths, each spelled in one way, the vectors as they are, and the number of each entry; every path is there
    once.

    Entries that repeat another are told and left out; raises ValueError where they tell other AUs.
    """
    names: list[str] = []
    vectors: list[np.ndarray] = []
    numbers: list[int] = []
    first: dict[str, int] = {}
    places: dict[str, int] = {}
    again: dict[str, list[int]] = {}
    for number, entry in enumerate(_entries(path), start=1):
        where = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise ValueError(
                f"{where}: is a {type(entry).__name__}; it must be a dictionary with 'file_path' (or 'path') and 'aus'"
            )
        given = {plain_name(_text(entry[key])) for key in PATH_KEYS if isinstance(entry.get(key), str | bytes)}
        if len(given) != 1 or "" in given or "aus" not in entry:
            keys = ", ".join(map(repr, list(entry)[:8]))
            raise ValueError(
                f"{where}: has {keys or 'no keys'}; it must have 'aus' and one path as text, 'file_path' or 'path'"
            )
        (name,), vector = given, _vector(entry["aus"], where)
        if name in first:
            if not np.array_equal(vector, vectors[places[name]], equal_nan=True):
                raise ValueError(
                    f"{where}: the image {name!r} is entry {first[name]} too, with other AUs; remove one of them"
                )
            again.setdefault(name, [first[name]]).append(number)
            continue
        first[name], places[name] = number, len(names)
        names.append(name)
        vectors.append(vector)
        numbers.append(number)
    if again:
        shown = "; ".join(
            f"{name!r} in entries {', '.join(map(str, found))}" for name, found in list(again.items())[:SHOWN]
        )
        more = f"; and {len(again) - SHOWN} more images" if len(again) > SHOWN else ""
        logger.warning(
            "%s: %d entries repeat another, and are left out: %s%s",
            path,
            sum(len(found) - 1 for found in again.values()),
            shown,
            more,
        )
    return names, vectors, np.array(numbers)


def _entries(path: Path) -> list[Any]:
    """The list's entries; a dictionary of {path: vector}, {path: entry} or {"path": paths, "aus": vectors} becomes such
    a list."""
    value = read_plain_pickle(path)
    if isinstance(value, dict) and value:
        columns = [key for key in PATH_KEYS if isinstance(value.get(key), list | tuple)]
        vectors = value.get("aus")
        rows = list(vectors) if isinstance(vectors, np.ndarray) and vectors.ndim == 2 else vectors
        if len(columns) == 1 and isinstance(rows, list | tuple):
            if len(value[columns[0]]) != len(rows):
                raise ValueError(
                    f"{path}: has {len(value[columns[0]])} paths in {columns[0]!r}, but {len(rows)} vectors in 'aus'; "
                    f"they must be as many"
                )
            return [{"path": name, "aus": vector} for name, vector in zip(value[columns[0]], rows, strict=True)]
        if all(isinstance(one, np.ndarray | list | tuple) for one in value.values()):
            return [{"path": name, "aus": vector} for name, vector in value.items()]
        if all(isinstance(one, dict) and "aus" in one for one in value.values()):
            return [{"path": name, "aus": one["aus"]} for name, one in value.items()]
    if not isinstance(value, list) or not value:
        what = f"an empty {type(value).__name__}" if value in ([], {}) else f"a {type(value).__name__}"
        raise ValueError(
            f"{path}: holds {what}; it must be a list of dictionaries with 'file_path' and 'aus', or a dictionary of "
            f"paths with their AUs"
        )
    return value


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", errors="surrogateescape")


def plain_name(name: str) -> str:
    """A path in the one spelling that it is known by: / for \\, without ./ and the like; "" stays."""
    return posixpath.normpath(name.replace("\\", "/")) if name else ""


def _vector(value: Any, where: str) -> np.ndarray:
    if isinstance(value, np.ndarray):
        vector = value
    elif isinstance(value, list | tuple) and all(isinstance(number, int | float) for number in value):
        try:
            vector = np.array(value, dtype=np.float64)
        except OverflowError:
            raise ValueError(f"{where}: aus holds a number that is too large") from None
    else:
        raise ValueError(f"{where}: aus is a {type(value).__name__}; it must be an array or a list of numbers")
    if vector.ndim != 1:
        raise ValueError(f"{where}: aus has the shape {vector.shape}; it must be one row of numbers")
    return vector.astype(np.float64)
