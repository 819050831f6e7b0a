"""DISFA's captions CSV: which caption is which frame's, by subject and frame, or by the place where nothing contradicts
it."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.data.disfa.clues import subject_of
from fineface_train.data.formats.csv_rows import header, read_rows, refuse, said

logger = logging.getLogger(__name__)
NUMBERED = r"^(?:(?:.*\D)?(\d+)\.[A-Za-z]\w*|(?:[^\s.:]*\D)?(\d+))$"
"""Names that end in a number: SN001/00019.png, SN001_00019."""
UNNAMED = "(no name)"
REMEDY = "add columns subject and frame, or leave caption alone, in the labels' order"


@dataclasses.dataclass(frozen=True, eq=False)
class DisfaFrames:
    """The frames to use, before they have captions."""

    frame: pd.DataFrame
    """Columns `subject`, `frame` (from 1), `image` (absolute path), `split`, and one per AU number."""
    labelled: pd.DataFrame
    """Columns `subject` and `frame` of each frame with labels of any AU, used or not, in order."""
    chosen: bool
    """Whether `data.disfa.subjects` leaves out other subjects."""
    everyone: pd.DataFrame | None
    """As `labelled`, of all subjects, where some are left out and captions in row order may be of all; else None."""
    counts: dict[str, int]
    peaks: pd.DataFrame
    """Frames at which an AU peaks, with those around, of each subject (`find_peaks`)."""


def read_captions(path: Path, frames: DisfaFrames) -> list[str]:
    """The CSV's caption of each frame, joined by (subject, frame), or by the place among all labelled frames where it
    has no such columns.

    Rows of frames without labels are counted in a warning. Where the place decides, another column that tells subjects
    must tell those of the labels, and one that numbers each subject's rows (a frame, a file's name, an index) must rise
    with its frames. Raises ValueError that names the file, and the line or frame.
    """
    columns = caption_columns(path)
    if in_row_order(path):
        return _by_place(path, columns, frames)
    captions = read_rows(path, list(columns.values())).set_axis(list(columns), axis=1)
    keys = pd.DataFrame(
        {"subject": captions["subject"].map(subject_of), "frame": pd.to_numeric(captions["frame"], errors="coerce")}
    )
    refuse(path, captions["subject"], keys["subject"].notna().to_numpy(), "must read like SN001")
    remedy = "; add 1 to every frame if the first is 0" if (keys["frame"] == 0).any() else ""
    refuse(
        path,
        captions["frame"],
        (keys["frame"] >= 1).to_numpy(),
        f"must be a number, counted from 1 as the labels' are{remedy}",
    )
    if (twice := keys.duplicated()).any():
        first = keys[twice].iloc[0]
        raise ValueError(
            f"{path}, line {keys.index[twice][0]}: subject {first['subject']}, frame {first['frame']:g} occurs twice"
        )
    _warn_of_strangers(path, keys, frames)
    joined = frames.frame[["subject", "frame"]].merge(
        keys.assign(caption=captions["caption"]), on=["subject", "frame"], how="left"
    )
    return _filled(path, joined["caption"], frames)


def _warn_of_strangers(path: Path, keys: pd.DataFrame, frames: DisfaFrames) -> None:
    """Tell how many rows are of frames without labels; subjects that were left out on purpose are none."""
    strange = ~pd.MultiIndex.from_frame(keys).isin(pd.MultiIndex.from_frame(frames.labelled))
    if frames.chosen:
        strange &= keys["subject"].isin(frames.labelled["subject"]).to_numpy()
    if strange.any():
        line, first = keys.index[strange][0], keys[strange].iloc[0]
        where = f"line {line}: {first['subject']}, frame {first['frame']:g}"
        logger.warning(
            "%s: %d of %d captions are of frames without labels, and not used; the first is in %s",
            path,
            strange.sum(),
            len(keys),
            where,
        )


def caption_columns(path: Path) -> dict[str, str]:
    """The file's names of the columns `caption` and, if it has both, `subject` and `frame`, whatever their case. Raises
    ValueError."""
    names = {name.lower(): name for name in header(path)}
    if "caption" not in names:
        raise ValueError(f"{path}: columns missing: caption; it has {', '.join(names.values()) or 'nothing'}")
    if "frame" in names and "subject" not in names:
        raise ValueError(
            f"{path}: has a column {names['frame']} but none that is called subject; add it, or leave caption alone, "
            f"in the labels' order"
        )
    return {name: names[name] for name in (("caption", "subject", "frame") if "frame" in names else ("caption",))}


def in_row_order(path: Path) -> bool:
    """Whether a caption's place tells its frame. Raises ValueError as `caption_columns` does."""
    return "frame" not in caption_columns(path)


def _by_place(path: Path, columns: dict[str, str], frames: DisfaFrames) -> list[str]:
    """Captions in the order of all labelled frames. Raises ValueError where another column says that this is not the
    file's order."""
    others = [name for name in header(path) if name != columns["caption"]]
    if others.count("") > 1:
        raise ValueError(
            f"{path}, line 1: {others.count('')} columns have no name, so that what they tell of the captions' order "
            f"is not known; {REMEDY}"
        )
    captions = read_rows(path, [columns["caption"]], others)
    orders = [frames.labelled] if frames.everyone is None else [frames.labelled, frames.everyone]
    labelled = next((order for order in orders if len(order) == len(captions)), None)
    if labelled is None:
        counts = " (all subjects') or ".join(str(len(order)) for order in reversed(orders))
        raise ValueError(
            f"{path}: {len(captions)} captions in row order, but the labels have {counts} frames; add columns subject "
            f"and frame"
        )
    for name in others:
        values = captions[name].rename(name or UNNAMED)
        told = values.map(subject_of)
        if told.notna().all():
            right = told.to_numpy() == labelled["subject"].to_numpy()
            refuse(
                path,
                values,
                right,
                "the labels' frame at this place is of another subject; add columns subject and frame",
            )
        if (number := _numbers(values)) is not None:
            refuse(
                path,
                values,
                _in_order(number, labelled),
                f"does not follow the labels' frames, which rise within each subject; {REMEDY}",
            )
    if others:
        logger.info(
            "%s: captions are taken in row order; %s not used", path, ", ".join(name or UNNAMED for name in others)
        )
    place = frames.frame[["subject", "frame"]].merge(
        labelled.assign(place=np.arange(len(labelled))), how="left", on=["subject", "frame"]
    )["place"]
    return _filled(path, captions[columns["caption"]].iloc[place], frames)


def _numbers(values: pd.Series) -> np.ndarray | None:
    """The number that each value is, or ends in before its suffix as a name of an image does; None if not every one is
    a whole number."""
    found = pd.to_numeric(values, errors="coerce")
    if found.isna().all():
        found = pd.to_numeric(values.str.extract(NUMBERED).bfill(axis=1)[0], errors="coerce")
    return found.to_numpy(dtype=float) if (found % 1 == 0).all() else None


def _in_order(number: np.ndarray, labelled: pd.DataFrame) -> np.ndarray:
    """Which rows (N,) of a column are where their number belongs, if it numbers frames: all rows do if it seems to
    number nothing.

    It does if its numbers are all together those of the labels' frames, from whatever base, or if none occurs twice
    within a subject's labels.
    """
    frame = labelled["frame"].to_numpy()
    from_base, wanted = number - number.min(), frame - frame.min()
    if np.array_equal(np.sort(from_base), np.sort(wanted)):
        return from_base == wanted
    places = pd.DataFrame({"subject": labelled["subject"], "number": number})
    if places.duplicated().any():
        return np.ones(len(number), dtype=bool)
    return ~(places.groupby("subject")["number"].diff() < 0).to_numpy()


def _filled(path: Path, captions: pd.Series, frames: DisfaFrames) -> list[str]:
    """Raises ValueError for frames without a caption."""
    without = captions.isna().to_numpy() | ~said(captions)
    if without.any():
        row = frames.frame.iloc[int(without.argmax())]
        raise ValueError(
            f"{path}: {without.sum()} of {len(captions)} frames have no caption, the first is {row['subject']}, frame "
            f"{row['frame']}"
        )
    return captions.tolist()
