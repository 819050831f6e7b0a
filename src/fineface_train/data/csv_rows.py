"""CSV files that people send, read strictly: what is not as it should be is told with the file and the line."""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SEPARATORS = ",;\t|"
NOTHING = ("", "nan", "none", "null")


def header(path: Path) -> list[str]:
    """The names in the first line. Raises ValueError that names the file."""
    with _opened(path) as reader:
        return [name.strip() for name in next(reader, [])]


def read_rows(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The `needed` columns, and those of `optional` that are there, as text without spaces around; the index is the line that a row ends on.

    A byte order mark, either line ending and any of the separators , ; tab | are read; blank lines are skipped, other columns left out.
    Raises ValueError that names file and line: missing or repeated columns, rows with more or fewer cells than the header, text that is not
    UTF-8, quotes that do not close, no rows.
    """
    with _opened(path) as reader:
        return _read(path, reader, needed, optional)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A csv.reader with the separator that the first line has most of."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = None
        try:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(SEPARATORS, key=first.count), strict=True)
            yield reader
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from error
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num if reader else 1}: cannot be read as CSV ({error})") from error


def _read(path: Path, reader: Any, needed: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    names = [name.strip() for name in next(reader, [])]
    missing = [name for name in needed if name not in names]
    if missing:
        raise ValueError(f"{path}: columns missing: {', '.join(missing)}; it has {', '.join(names) or 'nothing'}")
    chosen = [name for name in (*needed, *optional) if name in names]
    twice = [name for name in chosen if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path}, line 1: column {twice[0]} occurs twice")
    places = [names.index(name) for name in chosen]
    lines, rows = [], []
    for row in filter(None, reader):
        if len(row) != len(names):
            raise ValueError(f"{path}, line {reader.line_num}: {len(row)} cells, but the header has {len(names)}; put text with commas in quotes")
        lines.append(reader.line_num)
        rows.append([row[place].strip() for place in places])
    if not rows:
        raise ValueError(f"{path}: holds no rows")
    return pd.DataFrame(rows, columns=chosen, index=lines, dtype=str)


def refuse(path: Path, values: pd.Series, good: np.ndarray, rule: str) -> None:
    """Raises ValueError that names file, line, column and value of the first that is not `good`, and how many there are."""
    if not good.all():
        bad = values[~good]
        more = f" ({len(bad)} such rows)" if len(bad) > 1 else ""
        raise ValueError(f"{path}, line {bad.index[0]}: {values.name}={bad.iloc[0]!r}: {rule}{more}")


def numbers(path: Path, values: pd.Series, low: float, high: float) -> pd.Series:
    """A column of text as numbers in [low, high]. Raises ValueError as `refuse` does."""
    found = pd.to_numeric(values, errors="coerce")
    upper = "" if high == np.inf else f"{high:g}"
    refuse(path, values, (np.isfinite(found) & (found >= low) & (found <= high)).to_numpy(), f"must be a number in {low:g}..{upper}")
    return found


def said(texts: pd.Series) -> np.ndarray:
    """Which texts (N,) say something: not those that are empty, or what a program wrote for nothing."""
    return ~texts.fillna("").str.strip().str.lower().isin(NOTHING).to_numpy()


def unique(path: Path, values: pd.Series) -> None:
    """Raises ValueError that names both lines of the first value that occurs twice."""
    twice = values[values.duplicated()]
    if len(twice):
        before = values.index[values == twice.iloc[0]][0]
        raise ValueError(f"{path}, line {twice.index[0]}: {values.name}={twice.iloc[0]!r} occurs twice, first in line {before}")
