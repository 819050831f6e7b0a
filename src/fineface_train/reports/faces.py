"""The faces of an evaluation as a page shows them: a grid, one prompt's sweep over intensity, combinations."""

import base64
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.reports.run_folder import RunFolder
from fineface_train.reports.words import number

GRID_ROWS = 6
"""Prompts shown in the sample grid; a page with all of them would be too heavy to open."""
COMBINATIONS = 12
IMAGE_SIDE = 320
"""Pixels: larger images are shrunk to this side, so that a page of 180 photographs stays under 5 MB."""
QUALITY = 80
"""WebP's quality of shrunk images."""


@dataclasses.dataclass
class Shown:
    """One face on the page: its data URI, its text, and what the first judge read of each commanded AU."""

    uri: str
    title: str
    readings: list[tuple[str, float, float | None]]
    """(AU, requested, measured) of each commanded AU."""


@dataclasses.dataclass(frozen=True)
class Faces:
    """What the picture sections of a page show."""

    grid: list[dict[str, Any]]
    prompts: int
    """How many there are; the grid shows `GRID_ROWS` of them."""
    sweep: dict[str, Any]
    combinations: list[dict[str, Any]]


def faces(run: RunFolder) -> Faces | None:
    """The faces of a run's evaluation; None where it has none, or no neutral one."""
    frame = run.frame
    if frame is None or not len(frame):
        return None
    neutral = _neutrals(frame)
    single = dict(iter(frame[frame["kind"] == "individual"].groupby("prompt_index")))
    order = sorted(neutral, key=lambda index: (index not in single, not neutral[index]["prompt_held_out"], index))
    if not order:  # no neutral face, so nothing to show the others beside
        return None
    empty = frame.iloc[:0]
    return Faces(
        [grid_row(run, neutral[index], single.get(index, empty)) for index in order[:GRID_ROWS]],
        len(order),
        _sweep(run, neutral[order[0]], single.get(order[0], empty)),
        _combinations(run, neutral, frame[frame["kind"] == "combination"]),
    )


def _neutrals(frame: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """For each unit the row of its neutral picture; for pictures of other programs it may lie elsewhere, or be missing:
    then its path is None."""
    told = frame.drop_duplicates("prompt_index") if "neutral" in frame else frame[:0]
    told = told.assign(path=told["neutral"]) if len(told) else told
    parts = (told, frame[frame["kind"] == "neutral"])
    return {row["prompt_index"]: row for part in parts for row in part.to_dict("records")}


def grid_row(run: RunFolder, neutral: dict[str, Any], single: pd.DataFrame) -> dict[str, Any]:
    """One prompt's neutral and each AU at its strongest."""
    cells = [shown_face(run, neutral, [])]
    for key in AU_KEYS:
        rows = single[single["commanded"] == key].sort_values(key)
        cells.append(shown_face(run, rows.iloc[-1].to_dict(), [key]) if len(rows) else None)
    return {"prompt": neutral["prompt"], "held_out": bool(neutral["prompt_held_out"]), "cells": cells}


def _sweep(run: RunFolder, neutral: dict[str, Any], single: pd.DataFrame) -> dict[str, Any]:
    """One prompt's faces with each AU from 0 to its strongest."""
    rows = []
    for key, name in zip(AU_KEYS, AU_NAMES, strict=True):
        steps = single[single["commanded"] == key].sort_values(key).to_dict("records")
        if steps:
            cells = [shown_face(run, row, [key]) for row in (neutral, *steps)]
            rows.append({"key": key, "name": name, "cells": cells})
    return {"prompt": neutral["prompt"], "rows": rows}


def _combinations(run: RunFolder, neutral: dict[int, dict[str, Any]], frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Up to `COMBINATIONS` different AU sets, held-out ones first, each on another prompt where it can be."""
    chosen: list[dict[str, Any]] = []
    ranked = frame.sort_values(
        ["set_held_out", "prompt_held_out", "set_index", "prompt_index"], ascending=[False, False, True, True]
    )
    for position, (_, rows) in enumerate(ranked.groupby("set_index", sort=False)):
        if len(chosen) == COMBINATIONS:
            break
        held_out = rows[rows["prompt_held_out"] == rows["prompt_held_out"].iloc[0]]
        row = held_out.iloc[position % len(held_out)].to_dict()
        if row["prompt_index"] not in neutral:
            continue
        commanded = [key for key in AU_KEYS if row[key] != 0]
        pair = (shown_face(run, neutral[row["prompt_index"]], []), shown_face(run, row, commanded))
        chosen.append(
            {"neutral": pair[0], "face": pair[1], "held_out": bool(row["set_held_out"]), "prompt": row["prompt"]}
        )
    return chosen


def shown_face(run: RunFolder, row: dict[str, Any], commanded: Sequence[str]) -> Shown | None:
    """The image of a row of images.parquet, with what the judge (if there is one) read of the commanded AUs; None where
    there is no file."""
    if not isinstance(row["path"], str) or not (path := run.evaluation / row["path"]).is_file():
        return None
    readings = [(key, float(row[key]), _finite(row.get(f"{run.judge}_{key}"))) for key in commanded]
    told = [f"{key} asked {asked:g}" + (f", read {number(read)}" if run.judge else "") for key, asked, read in readings]
    title = [row["prompt"], ", ".join(told) or "neutral", *([f"seed {row['seed']}"] if "seed" in row else [])]
    return Shown(image_uri(path), " | ".join(title), readings)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def image_uri(path: Path, side: int = IMAGE_SIDE) -> str:
    """An image file as a data URI; one larger than `side` pixels is shrunk and stored as WebP, to keep the page light.

    Raises ValueError that names a file which is no image.
    """
    try:
        with Image.open(path) as image:
            if max(image.size) > side:
                return picture_uri(image.convert("RGB"), side)
            kind = Image.MIME.get(image.format or "", "image/png")
    except OSError as error:
        raise ValueError(f"{path} is damaged ({error}); bring back a copy, or remove it") from error
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def picture_uri(image: Image.Image, side: int) -> str:
    """An RGB image, shrunk to at most `side` pixels, as a data URI."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
