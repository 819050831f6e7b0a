"""AffectNet's two CSV files: its own, which knows of faces and emotions, and FineFace's, which knows all that training wants (SPEC section 6)."""

import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS
from fineface_train.data.csv_rows import header, numbers, read_rows, refuse, unique

FLAGS: tuple[str, ...] = ("HasFace", "IsPhoto", "IsReal")
TRUTH = dict.fromkeys(("true", "t", "1", "1.0", "yes"), True) | dict.fromkeys(("false", "f", "0", "0.0", "no"), False)
SIZES: tuple[str, ...] = ("ImageResolutionX", "ImageResolutionY")
FINEFACE_NAME, OFFICIAL_NAME = "ImageName", "subDirectory_filePath"
MOST_SHOWN = 200
"""Letters of a line that an error shows."""
NO_FACE = 10
"""The expression that AffectNet's annotators gave to images without a face."""


def read_metadata(path: Path, wanted: Sequence[str] = FLAGS) -> pd.DataFrame:
    """A row per image; the index is the line of the file.

    Columns: `name`, `HasFace`; of FineFace's file also `IsPhoto`, `IsReal`, `width`, `height`, the 12 AUs on the 0-1 scale and `caption`. Which
    of the two it is, its header tells. Sizes and AUs of rows without one of the `wanted` flags, which are dropped, need not be there, and read 0.
    Raises ValueError that names file and line.
    """
    return _official(path) if is_official(path) else _fineface(path, wanted)


def is_official(path: Path) -> bool:
    """Whether it is AffectNet's own file, and not FineFace's. Raises ValueError where it is neither."""
    names = header(path)
    if FINEFACE_NAME in names or OFFICIAL_NAME in names:
        return FINEFACE_NAME not in names
    found = ", ".join(names)
    found = f"{found[:MOST_SHOWN]} and so on" if len(found) > MOST_SHOWN else found
    raise ValueError(
        f"{path}, line 1: names neither FineFace's metadata (column {FINEFACE_NAME}) nor AffectNet's own ({OFFICIAL_NAME}), it reads {found}; "
        "if it is a row of the list already, put back the line of columns that its owners' copy begins with"
    )


def _fineface(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    levels = {f"{key}_rec": key for key in AU_KEYS}
    rows = read_rows(path, [FINEFACE_NAME, *FLAGS, *SIZES, *levels, "TextDescription"])
    rows[FINEFACE_NAME] = _names(path, rows[FINEFACE_NAME])
    # An annotator that found no face has no more to tell: what else belongs to rows that are dropped anyway may be empty.
    for flag in FLAGS:
        truth = rows[flag].str.lower().map(TRUTH)
        told = truth.notna() | (~rows[FLAGS[0]].eq(True) & rows[flag].eq("") if flag != FLAGS[0] else False)
        refuse(path, rows[flag], told.to_numpy(), "must be True or False")
        rows[flag] = truth.eq(True)
    used = rows[list(wanted)].all(axis=1)
    for column in (*SIZES, *levels):
        rows[column] = numbers(path, rows.loc[used, column], 0, 1 if column in levels else np.inf).reindex(rows.index, fill_value=0.0)
    return rows.rename(columns=levels | {FINEFACE_NAME: "name", SIZES[0]: "width", SIZES[1]: "height", "TextDescription": "caption"})


def _official(path: Path) -> pd.DataFrame:
    rows = read_rows(path, [OFFICIAL_NAME, "expression"])
    rows[OFFICIAL_NAME] = _names(path, rows[OFFICIAL_NAME])
    expression = numbers(path, rows["expression"], 0, NO_FACE)
    return pd.DataFrame({"name": rows[OFFICIAL_NAME], "HasFace": expression != NO_FACE})


def _names(path: Path, values: pd.Series) -> pd.Series:
    """Names of images below their folder, each spelled in one way: / for \\, no ./ at the start; each once."""
    names = values.str.replace("\\", "/").map(posixpath.normpath)
    refuse(path, values, (values.str.strip() != "").to_numpy(), "must name an image")
    inside = ~(names.str.startswith(("/", "../")) | names.isin(["..", "."]) | names.str.match("[A-Za-z]:"))
    refuse(path, values, inside.to_numpy(), "must lie below the images' folder")
    unique(path, names)
    return names
