"""AffectNet's two CSV files: its own, which knows of faces and emotions, and FineFace's, which knows all that training
wants."""

import logging
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS, MAX_INTENSITY
from fineface_train.data.affectnet.edition_2021 import NO_FACE
from fineface_train.data.affectnet.layout import FINEFACE_NAME, KEY, OFFICIAL_NAME
from fineface_train.data.formats.csv_rows import find_columns, numbers, opened_csv, read_rows, refuse, without_repeats
from fineface_train.data.formats.image_names import SUFFIXES, is_absolute
from fineface_train.data.intensities import rounded_off, scale_doubt

logger = logging.getLogger(__name__)
FLAGS: tuple[str, ...] = ("HasFace", "IsPhoto", "IsReal")
TRUTH = dict.fromkeys(("true", "t", "1", "1.0", "yes"), True) | dict.fromkeys(("false", "f", "0", "0.0", "no"), False)
SIZES: tuple[str, ...] = ("ImageResolutionX", "ImageResolutionY")
OFFICIAL_COLUMNS = (
    OFFICIAL_NAME,
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
FINEFACE_COLUMNS = (FINEFACE_NAME, *FLAGS, *SIZES, *(f"{key}_rec" for key in AU_KEYS), "TextDescription")
"""In their owners' order."""
MOST_SHOWN = 200
"""Letters of a line that an error shows."""


def read_metadata(path: Path, wanted: Sequence[str] = FLAGS, scale: float = 1.0, *, tell: bool = True) -> pd.DataFrame:
    """A row per image; the index is the line of the file.

    Columns: `name`, `HasFace`; of FineFace's file also `IsPhoto`, `IsReal`, `width`, `height`, the 12 AUs on the 0-1
    scale and `caption`. Which of the two it is, its header tells. Sizes and AUs of rows without one of the `wanted`
    flags, which are dropped, need not be there, and read 0. Rows that repeat another are told and left out. Raises
    ValueError that names file and line.

    Args:
        scale: the number in FineFace's file that is intensity 5.
        tell: what is left out or doubtful.
    """
    return _official(path, tell) if is_official(path) else _fineface(path, wanted, scale, tell)


def is_official(path: Path) -> bool:
    """Whether it is AffectNet's own file, and not FineFace's. Raises ValueError where it is neither."""
    with opened_csv(path) as lines:
        names, separator = lines.names, lines.separator
    if find_columns(names, FINEFACE_NAME) or find_columns(names, OFFICIAL_NAME):
        return not find_columns(names, FINEFACE_NAME)
    found = ", ".join(names)
    found = f"{found[:MOST_SHOWN]} and so on" if len(found) > MOST_SHOWN else found
    raise ValueError(
        f"{path}, line 1: names neither FineFace's metadata (column {FINEFACE_NAME}) nor AffectNet's own "
        f"({OFFICIAL_NAME}), it reads {found}; "
        f"if it is a row of the list already, {_put_back(path, names, separator)}"
    )


def _put_back(path: Path, cells: list[str], separator: str) -> str:
    """What to do about a list that begins with a row, by its cells: the line to add where they tell whose list it
    is."""
    columns = {len(official): official for official in (OFFICIAL_COLUMNS, FINEFACE_COLUMNS)}.get(len(cells))
    remedy = "put back the line of columns that its owners' copy begins with"
    if columns is None or not cells[0].lower().endswith(SUFFIXES):
        return remedy
    line = separator.join(columns)
    return f"{remedy}: {line} (such as by `sed -i '1i {line}' '{path}'`)" + (
        ", if its columns are in this order" if columns is FINEFACE_COLUMNS else ""
    )


def _fineface(path: Path, wanted: Sequence[str], scale: float, tell: bool) -> pd.DataFrame:
    levels = {f"{key}_rec": key for key in AU_KEYS}
    rows = read_rows(path, [FINEFACE_NAME, *FLAGS, *SIZES, *levels, "TextDescription"])
    rows[FINEFACE_NAME] = _names(path, rows[FINEFACE_NAME])
    # An annotator that found no face has no more to tell: what else belongs to rows that are dropped anyway may be
    # empty.
    for flag in FLAGS:
        truth = rows[flag].str.lower().map(TRUTH)
        told = truth.notna() | (~rows[FLAGS[0]].eq(True) & rows[flag].eq("") if flag != FLAGS[0] else False)
        refuse(path, rows[flag], told.to_numpy(), "must be True or False")
        rows[flag] = truth.eq(True)
    used = rows[list(wanted)].all(axis=1)
    for column in SIZES:
        rows[column] = numbers(path, rows.loc[used, column], 0, np.inf).reindex(rows.index, fill_value=0.0)
    rows[list(levels)] = _levels(path, rows.loc[used, list(levels)], scale, tell).reindex(rows.index, fill_value=0.0)
    rows = rows.rename(
        columns=levels | {FINEFACE_NAME: "name", SIZES[0]: "width", SIZES[1]: "height", "TextDescription": "caption"}
    )
    return without_repeats(path, rows.rename(columns={"name": FINEFACE_NAME}), FINEFACE_NAME, tell=tell).rename(
        columns={FINEFACE_NAME: "name"}
    )


def _levels(path: Path, texts: pd.DataFrame, scale: float, tell: bool) -> pd.DataFrame:
    """AUs as text to numbers on the 0-1 scale. Raises ValueError, with the scale that they seem to have, for what lies
    beyond `scale`."""
    found = texts.apply(pd.to_numeric, errors="coerce").astype(float)
    levels, beyond = rounded_off(found.to_numpy(), scale)
    highest = np.nanmax(levels, initial=0.0)
    other = next((guess for guess in (1, MAX_INTENSITY, 100) if highest <= guess), None)
    rule = f"must be a number in 0..{scale:g}"
    if highest > scale and other is not None and (levels[np.isfinite(levels)] >= 0).all():
        rule += f"; the AUs go up to {highest:g}: if they count from 0 to {other:g}, set {KEY}.scale={other:g}"
    for place, column in enumerate(texts):
        values = levels[:, place]
        good = np.isfinite(values) & (values >= 0) & (values <= scale)
        comma = "; write it with a point, not a comma" if texts.loc[~good, column].str.contains(",").any() else ""
        refuse(path, texts[column], good, rule + comma)
    if beyond and tell:
        logger.warning("%s: %d AUs lie beyond 0..%g by rounding, and are taken for its ends", path, beyond, scale)
    doubt = scale_doubt(levels, scale)
    if doubt and tell:
        logger.warning(
            "%s: %s; if they are on another scale, set %s.scale to the number that is intensity 5", path, doubt, KEY
        )
    return pd.DataFrame(levels / scale if scale != 1 else levels, index=texts.index, columns=texts.columns)


def _official(path: Path, tell: bool) -> pd.DataFrame:
    rows = read_rows(path, [OFFICIAL_NAME, "expression"])
    rows[OFFICIAL_NAME] = _names(path, rows[OFFICIAL_NAME])
    rows["face"] = numbers(path, rows["expression"], 0, NO_FACE) != NO_FACE
    rows = without_repeats(path, rows[[OFFICIAL_NAME, "face"]], OFFICIAL_NAME, tell=tell)
    return rows.rename(columns={OFFICIAL_NAME: "name", "face": "HasFace"})


def _names(path: Path, values: pd.Series) -> pd.Series:
    """Names of images, each spelled in one way: / for \\, no ./ at the start; below their folder or, all of them, from
    a machine's root on."""
    names = values.str.replace("\\", "/").map(posixpath.normpath)
    refuse(path, values, (values.str.strip() != "").to_numpy(), "must name an image")
    absolute = names.map(is_absolute)
    inside = ~(absolute & (not absolute.all())) & ~(names.str.startswith("../") | names.isin(["..", "."]))
    refuse(path, values, inside.to_numpy(), "must lie below the images' folder")
    return names
