"""CSV files that people send, read strictly: what is not as it should be is told with the file and the line."""

import codecs
import contextlib
import csv
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)
SEPARATORS = ",;\t|"
NOTHING = ("", "nan", "none", "null")
SHOWN = 10
"""Repeated names that are told with their lines."""
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
PACKED = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x1f\x8b": "packed by gzip",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
}
EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""What Excel takes for a separator when it stands alone in the first line."""


class Lines:
    """The cells of a file, line by line, behind its header."""

    def __init__(self, file: Any, first: int, separator: str, blanks: bool) -> None:
        self._reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=blanks)
        self._before, self.separator = first - 1, separator
        self.names = [name.strip() for name in next(self._reader, [])]

    @property
    def line(self) -> int:
        """The line of the file that the row given last ends on."""
        return int(self._reader.line_num) + self._before

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self._reader)


def header(path: Path) -> list[str]:
    """The names in the first line. Raises ValueError that names the file."""
    with opened_csv(path) as lines:
        return lines.names


def read_rows(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The `needed` columns, and those of `optional` that are there, as text without spaces around; the index is the
    line that a row ends on.

    Read are: UTF-8 and UTF-16, any line ending, any of the separators , ; tab | (also as Excel's `sep=;` in a line of
    its own tells it), and names of columns in another case. Left out are other columns, blank lines, empty cells beyond
    the header's, and lines of empty cells at the end. Raises ValueError that names file and line: missing columns, one
    that occurs twice and does not tell the same, rows with more or fewer cells than the header, text that is neither
    UTF-8 nor UTF-16, quotes that do not close, no rows.
    """
    with opened_csv(path) as lines:
        return _read(path, lines, needed, optional)


def read_whole_rows(path: Path, needed: Sequence[str], *, missing: str, cut: str) -> list[tuple[str, dict[str, str]]]:
    """What a program wrote: the cells of every row by their columns, as they are, and where the row ends ("FILE, line
    3"). Blank lines alone are left out.

    Raises ValueError that names file and line as `read_rows` does, and for a row with more or fewer cells than columns.

    Args:
        missing, cut: what to do where one of the `needed` columns is missing, and where a row is not whole.
    """
    with opened_csv(path) as lines:
        absent = [name for name in needed if name not in lines.names]
        if absent:
            raise ValueError(f"{path}: columns missing: {', '.join(absent)}; {missing}")
        rows = []
        for row in filter(None, lines):
            where = f"{path}, line {lines.line}"
            if len(row) != len(lines.names):
                raise ValueError(f"{where}: more or fewer cells than columns; {cut}")
            rows.append((where, dict(zip(lines.names, row, strict=True))))
        return rows


@contextlib.contextmanager
def opened_csv(path: Path) -> Iterator[Lines]:
    """The file's `Lines`. Raises ValueError that names file and line for what is no CSV, also while they are read."""
    lines = None
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        try:
            first, start = file.readline(), 1
            told = EXCEL.fullmatch(first)
            if told:
                first, start = file.readline(), 2
            file.seek(0)
            for _ in range(start - 1):
                file.readline()
            separator = told[1] if told else max(SEPARATORS, key=first.count)
            blanks = separator != " " and separator in first and not re.search(rf"{re.escape(separator)}[^ ]", first)
            lines = Lines(file, start, separator, blanks)
            yield lines
        except UnicodeDecodeError as error:
            raise ValueError(_no_text(path, encoding, error)) from error
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {lines.line if lines else 1}: cannot be read as CSV ({error}); look at the quotes up to "
                f"there"
            ) from error


def _encoding(path: Path) -> str:
    """The file's encoding, by its first bytes. Raises ValueError for an archive."""
    with path.open("rb") as file:
        start = file.read(64)
    for mark, what in PACKED.items():
        if start.startswith(mark):
            raise ValueError(
                f"{path}: is not UTF-8 text: it begins as {what} does; unpack it, or save the sheet as CSV, and give "
                f"the CSV file"
            )
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    odd, even = start[1::2], start[::2]
    if len(odd) > 3 and not any(odd) and all(even):
        return "utf-16-le"
    return "utf-16-be" if len(odd) > 3 and not any(even) and all(odd) else "utf-8"


def _no_text(path: Path, encoding: str, error: UnicodeDecodeError) -> str:
    if encoding.startswith("utf-16"):
        return (
            f"{path}: cannot be read as CSV: it begins as UTF-16 text does, and is none ({error}); bring back a "
            f"whole copy, or save it as UTF-8"
        )
    bad = [(number, line) for number, line in enumerate(path.read_bytes().splitlines(), start=1) if not _is_utf8(line)]
    number, line = bad[0]
    more = f" ({len(bad)} such lines)" if len(bad) > 1 else ""
    try:
        place = next(place for place, byte in enumerate(line) if byte > 127)
        guess = f"; as Windows (cp1252) writes it, it reads {line[max(0, place - 20) : place + 20].decode('cp1252')!r}"
    except UnicodeDecodeError:
        guess = ""
    remedy = (
        f"save it as UTF-8, such as by `iconv -f CP1252 -t UTF-8 '{path}' > utf8.csv`" if guess else "save it as UTF-8"
    )
    return f"{path}, line {number}: is not UTF-8 text{more}{guess}; {remedy}"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return True


def find_columns(names: Sequence[str], wanted: str) -> list[int]:
    """Where a column of this name is: those that are spelled so, or else those that are in another case."""
    exact = [place for place, name in enumerate(names) if name == wanted]
    return exact or [place for place, name in enumerate(names) if name.casefold() == wanted.casefold()]


def _read(path: Path, lines: Lines, needed: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    names = lines.names
    places = {name: find_columns(names, name) for name in (*needed, *optional)}
    missing = [name for name in needed if not places[name]]
    if missing:
        raise ValueError(
            f"{path}: columns missing: {', '.join(missing)}; it has {', '.join(filter(None, names)) or 'nothing'}"
        )
    chosen = {name: found for name, found in places.items() if found}
    least = max((place for found in chosen.values() for place in found), default=0) + 1
    named = max(least, len(names) - next((place for place, name in enumerate(reversed(names)) if name), 0))
    numbers, cells, uneven = [], [], []
    for row in filter(None, lines):
        if any(map(str.strip, row[len(names) :])) or len(row) < named:
            uneven.append((lines.line, len(row)))
        numbers.append(lines.line)
        cells.append(
            [row[place].strip() if place < len(row) else "" for found in chosen.values() for place in found]
            + [any(map(str.strip, row))]
        )
    while (
        cells and len(names) > 1 and not cells[-1][-1]
    ):  # lines of separators alone, as spreadsheets leave them below the rows
        cells.pop()
    uneven = [(line, count) for line, count in uneven if cells and line <= numbers[len(cells) - 1]]
    if uneven:
        line, count = uneven[0]
        more = f" ({len(uneven)} such rows)" if len(uneven) > 1 else ""
        raise ValueError(
            f"{path}, line {line}: {count} cells, but the header has {len(names)}; put text with commas in quotes{more}"
        )
    if not cells:
        raise ValueError(f"{path}: holds no rows")
    frame = pd.DataFrame(
        [row[:-1] for row in cells],
        columns=[name for name, found in chosen.items() for _ in found],
        index=numbers[: len(cells)],
        dtype=str,
    )
    return _each_once(path, frame)


def _each_once(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Without columns of a name that occurred before and tell the same. Raises ValueError where they tell something
    else."""
    for name in dict.fromkeys(frame.columns[frame.columns.duplicated()]):
        first, *others = (
            frame.loc[:, frame.columns == name].iloc[:, place] for place in range((frame.columns == name).sum())
        )
        for other in others:
            differ = (first != other).to_numpy()
            if differ.any():
                row = int(differ.argmax())
                told = (
                    f"line {frame.index[row]} has {first.iloc[row]!r} in the one and {other.iloc[row]!r} in the other"
                )
                raise ValueError(f"{path}, line 1: column {name} occurs twice, and {told}; remove or rename one")
    return frame.loc[:, ~frame.columns.duplicated()]


def refuse(path: Path, values: pd.Series, good: np.ndarray, rule: str) -> None:
    """Raises ValueError that names file, line, column and value of the first that is not `good`, and how many there
    are."""
    if not good.all():
        bad = values[~good]
        more = f" ({len(bad)} such rows)" if len(bad) > 1 else ""
        raise ValueError(f"{path}, line {bad.index[0]}: {values.name}={bad.iloc[0]!r}: {rule}{more}")


def numbers(path: Path, values: pd.Series, low: float, high: float) -> pd.Series:
    """A column of text as numbers in [low, high]. Raises ValueError as `refuse` does."""
    found = pd.to_numeric(values, errors="coerce")
    upper = "" if high == np.inf else f"{high:g}"
    good = (np.isfinite(found) & (found >= low) & (found <= high)).to_numpy()
    comma = "; write it with a point, not a comma" if values[~good].str.fullmatch(r"-?\d+,\d+").any() else ""
    refuse(path, values, good, f"must be a number in {low:g}..{upper}{comma}")
    return found


def said(texts: pd.Series) -> np.ndarray:
    """Which texts (N,) say something: not those that are empty, or what a program wrote for nothing."""
    return ~texts.fillna("").str.strip().str.lower().isin(NOTHING).to_numpy()


def without_repeats(path: Path, rows: pd.DataFrame, column: str, *, tell: bool = True) -> pd.DataFrame:
    """The rows without those that repeat an earlier one of the same name in `column`: all are told (`tell`) with their
    lines.

    Raises ValueError, with the lines, where two rows of one name differ in any column of `rows`.
    """
    again = rows[column].duplicated()
    if not again.any():
        return rows
    every = rows[rows[column].duplicated(keep=False)]
    lines = {name: [int(line) for line in group.index] for name, group in every.groupby(column, sort=False)}
    distinct = every.drop_duplicates()
    unlike = distinct[distinct[column].duplicated(keep=False)]
    if len(unlike):
        name = unlike[column].iloc[0]
        differ = [
            other for other in rows.columns if unlike.loc[unlike[column] == name, other].nunique(dropna=False) > 1
        ]
        of_name = unlike.index[unlike[column] == name]
        count = unlike[column].nunique()
        first = (
            f"{path}, line {of_name[1]}: {column}={name!r} occurs twice, first in line {of_name[0]}, with another "
            f"{', '.join(differ[:4])}"
        )
        told = _of_lines({name: lines[name] for name in dict.fromkeys(unlike[column])})
        raise ValueError(
            f"{first}; remove the rows that are wrong ({count} such name{'s' if count > 1 else ''}: {told})"
        )
    count = int(again.sum())
    told = (
        f"{count} row{'s repeat' if count > 1 else ' repeats'} another in all that is used, and "
        f"{'are' if count > 1 else 'is'} left out"
    )
    if tell:
        logger.warning("%s: %s: %s", path, told, _of_lines(lines))
    return rows[~again]


def _of_lines(lines: dict[str, list[int]]) -> str:
    shown = [f"{name!r} in lines {', '.join(map(str, found))}" for name, found in list(lines.items())[:SHOWN]]
    return "; ".join(shown) + (f"; and {len(lines) - SHOWN} more names" if len(lines) > SHOWN else "")
