"""Pictures that any program made, and a CSV file that says what they are meant to show, as media that judges read.

docs/judging.md has the columns. What is wrong is told with file, line and value before a judge looks at anything.
"""

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from fineface_train.aus import AU_KEYS, MAX_INTENSITY
from fineface_train.data.formats.csv_rows import NOTHING, find_columns, header, numbers, read_rows, refuse
from fineface_train.data.formats.images import read_image
from fineface_train.evaluation.media import Media
from fineface_train.evaluation.metrics import unit_codes
from fineface_train.evaluation.plan import Kind
from fineface_train.files import hash_of

logger = logging.getLogger(__name__)
NEEDED = ("file", "unit")
OPTIONAL = ("prompt", "kind", "neutral", "source", "held_out", "set_held_out")
FILES = ("path", "neutral", "source")
"""Columns of `Media.frame` that name files."""
YES, NO = ("1", "true", "yes"), ("0", "false", "no", *NOTHING)


def given_media(images: Path, requests: Path) -> Media:
    """The pictures in `images` that the rows of `requests` name, in their order; see `Media.frame`.

    Raises ValueError, with file, line and value, for whatever is wrong in the table or with a picture.
    """
    if not images.is_dir():
        raise ValueError(f"images={images}: is no folder; give the one that the files of the table lie in")
    if not requests.is_file():
        raise ValueError(
            f"requests={requests}: is no file; give a CSV file with a row for each picture (docs/judging.md says which "
            f"columns)"
        )
    rows = _read(requests)
    aus = _asked(requests, rows)
    path = _files(requests, images, rows, "file", needed=True)
    frame = pd.DataFrame({"id": path})
    frame["kind"] = _kinds(requests, rows, aus)
    frame["prompt"] = _texts(rows, "prompt").where(_texts(rows, "prompt") != "", rows["unit"])
    frame["unit"] = rows["unit"]
    frame["prompt_index"] = unit_codes(rows["unit"].tolist())
    frame["prompt_held_out"] = _held_out_units(requests, rows)
    frame["set_index"] = _sets(frame["kind"], aus)
    frame["set_held_out"] = _flags(requests, rows, "set_held_out")
    frame["commanded"] = ["+".join(key for key, value in zip(AU_KEYS, asked, strict=True) if value) for asked in aus]
    frame["path"] = path
    frame["neutral"] = _neutrals(requests, images, rows, frame)
    if "source" in rows:
        frame["source"] = [path or None for path in _files(requests, images, rows, "source")]
    frame = pd.concat([frame, pd.DataFrame(aus, columns=list(AU_KEYS), index=rows.index)], axis=1)
    contents = _look(requests, images, frame)
    frame = frame.reset_index(drop=True)
    told = frame.assign(**{column: frame[column].map(contents.get) for column in FILES if column in frame})
    return Media(images, frame, hash_of([list(told.columns), told.to_numpy(object).tolist()], 64))


def _read(requests: Path) -> pd.DataFrame:
    """The table as text; its index are the lines."""
    names = header(requests)
    unknown = [
        name for name in names if re.fullmatch(r"AU\d+", name, re.IGNORECASE) and not find_columns(AU_KEYS, name)
    ]
    if unknown:
        raise ValueError(
            f"{requests}, line 1: column {unknown[0]}: is none of the AUs that are judged ({', '.join(AU_KEYS)}); "
            f"leave it out or rename it"
        )
    rows = read_rows(requests, NEEDED, (*OPTIONAL, *AU_KEYS))
    if not set(AU_KEYS) & set(rows):
        raise ValueError(
            f"{requests}: has no column of an AU; name those that were asked for, of {', '.join(AU_KEYS)}, with "
            f"intensities in 0..{MAX_INTENSITY:g}"
        )
    known = {name.casefold() for name in (*NEEDED, *OPTIONAL, *AU_KEYS)}
    unread = [name for name in names if name and name.casefold() not in known]
    if unread:
        logger.info("%s: columns that are not read: %s", requests, ", ".join(unread))
    for column in NEEDED:
        refuse(requests, rows[column], (rows[column] != "").to_numpy(), "must not be empty")
    return rows


def _asked(requests: Path, rows: pd.DataFrame) -> np.ndarray:
    """(N, 12) intensities; an AU whose column or cell is not there is asked to be 0."""
    aus = np.zeros((len(rows), len(AU_KEYS)))
    for place, key in enumerate(AU_KEYS):
        if key in rows:
            cells = rows[key].where(~rows[key].str.lower().isin(NOTHING), "0")
            aus[:, place] = numbers(requests, cells, 0, MAX_INTENSITY)
    return aus + 0.0  # -0 is 0


def _kinds(requests: Path, rows: pd.DataFrame, aus: np.ndarray) -> list[str]:
    """What each picture is for: as the table says, or by the number of AUs asked for."""
    count = (aus != 0).sum(1)
    by_count = np.where(count == 0, Kind.neutral, np.where(count == 1, Kind.individual, Kind.combination))
    told = _texts(rows, "kind").str.lower()
    kinds = [kind.value for kind in Kind]
    refuse(requests, told, told.isin(["", *kinds]).to_numpy(), f"must be one of {', '.join(kinds)}, or empty")
    fits = (told == "") | (told == by_count) | ((told == Kind.combination.value) & (count > 0))
    rule = "does not fit the AUs of its row: neutral asks for none, individual for one, combination for one or more"
    refuse(requests, told, fits.to_numpy(), rule)
    return [str(by) if kind == "" else kind for kind, by in zip(told, by_count, strict=True)]


def _sets(kinds: pd.Series, aus: np.ndarray) -> list[int]:
    """For each combination which one it is, counted in the order in which they come; else -1."""
    numbers_of: dict[tuple[float, ...], int] = {}
    return [
        numbers_of.setdefault(tuple(asked), len(numbers_of)) if kind == Kind.combination.value else -1
        for kind, asked in zip(kinds, aus.tolist(), strict=True)
    ]


def _texts(rows: pd.DataFrame, column: str) -> pd.Series:
    return rows[column] if column in rows else pd.Series("", index=rows.index, name=column)


def _flags(requests: Path, rows: pd.DataFrame, column: str) -> np.ndarray:
    told = _texts(rows, column).str.lower()
    refuse(requests, told, told.isin([*YES, *NO]).to_numpy(), "must be true or false")
    return told.isin(YES).to_numpy()


def _held_out_units(requests: Path, rows: pd.DataFrame) -> np.ndarray:
    held_out = _flags(requests, rows, "held_out")
    lines: dict[str, dict[bool, int]] = {}
    for line, unit, flag in zip(rows.index, rows["unit"], held_out.tolist(), strict=True):
        lines.setdefault(unit, {}).setdefault(flag, line)
    for unit, of_flag in lines.items():
        if len(of_flag) > 1:
            raise ValueError(
                f"{requests}, line {of_flag[True]}: held_out of unit={unit!r} is true, and false in line "
                f"{of_flag[False]}; a unit is held out in all its rows or in none"
            )
    return held_out


def _files(requests: Path, images: Path, rows: pd.DataFrame, column: str, *, needed: bool = False) -> pd.Series:
    """Paths of a column as normal ones from `images`, "" for none; `needed`: each names another file."""
    told = _texts(rows, column)
    there = [not name or (images / name).exists() for name in told]
    refuse(requests, told, np.array(there), f"there is no such file in {images}")
    paths = told.map(lambda name: os.path.normpath(name) if name else "")
    again = paths.duplicated() & needed
    if again.any():
        line = again.idxmax()
        first = paths.index[paths == paths[line]][0]
        raise ValueError(
            f"{requests}, line {line}: {column}={told[line]!r}: is named in line {first} already; give each picture "
            f"one row ({int(again.sum())} such row{'s' if again.sum() > 1 else ''})"
        )
    return paths


def _neutrals(requests: Path, images: Path, rows: pd.DataFrame, frame: pd.DataFrame) -> list[str | None]:
    """What each picture is compared with: what its row names, else the neutral of its unit, if there is one."""
    named = _files(requests, images, rows, "neutral")
    neutral = frame[frame["kind"] == Kind.neutral.value]
    of_unit = dict(iter(neutral.groupby("unit")["path"]))
    found: list[str | None] = []
    for line, unit, path, kind, name in zip(
        rows.index, frame["unit"], frame["path"], frame["kind"], named, strict=True
    ):
        group = of_unit.get(unit)
        if name or kind == Kind.neutral.value:
            found.append(name or path)
        elif group is not None and len(group) > 1:
            raise ValueError(
                f"{requests}, line {line}: unit={unit!r} has {len(group)} neutral pictures (lines "
                f"{', '.join(map(str, group.index[:5]))}); name the one to compare with in the column neutral"
            )
        else:
            found.append(None if group is None else group.iloc[0])
    without = sorted({unit for unit, path in zip(frame["unit"], found, strict=True) if path is None})
    if without:
        logger.warning(
            "%s: %d of %d units have no neutral picture (%s%s): CLIP-I is null; a row without AUs, or the column "
            "neutral, gives one",
            requests,
            len(without),
            frame["unit"].nunique(),
            ", ".join(without[:5]),
            ", ..." if len(without) > 5 else "",
        )
    return found


def _look(requests: Path, images: Path, frame: pd.DataFrame) -> dict[str, str]:
    """The SHA-256 of every file that the table names, each decoded once. Raises ValueError for what is no picture."""
    contents: dict[str, str] = {}
    columns = [column for column in FILES if column in frame]
    bar = tqdm(frame[columns].to_dict("index").items(), desc="looking at pictures", unit="row", mininterval=1)
    for line, row in bar:
        for column, path in row.items():
            if isinstance(path, str) and path not in contents:
                name = {"path": "file"}.get(str(column), column)
                try:
                    read_image(images / path)
                except ValueError as error:
                    raise ValueError(f"{requests}, line {line}: {name}={path!r}: {error}") from error
                contents[path] = hashlib.sha256((images / path).read_bytes()).hexdigest()
    return contents


def about(images: Path, requests: Path) -> dict[str, Any]:
    """What metrics.json says of where pictures and requests are from."""
    return {"protocol": requests.name, "pictures": str(images.absolute()), "requests": str(requests.absolute())}
