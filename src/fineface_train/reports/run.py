"""A run folder as one page: report.html, self-contained, and report.md with its tables.

The report reads files only (DESIGN's picture: images and numbers); a section appears where its file exists, and the
page says what is missing and which command makes it.
"""

import base64
import dataclasses
import io
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.earlier_keys import of_evaluation
from fineface_train.evaluation.evaluate import METRICS, PICTURES
from fineface_train.files import flat, read_json, read_parquet, write_text
from fineface_train.loop.runs import VALIDATION_FILE
from fineface_train.loop.tracking import METRICS_FILE
from fineface_train.reports.charts import compact, response_charts, training_charts

TEMPLATE = "report.html"
GRID_ROWS = 6
"""Prompts shown in the sample grid; a page with all of them would be too heavy to open."""
COMBINATIONS = 12
IMAGE_SIDE = 192
"""Pixels: larger images are shrunk to this side and stored as JPEG."""
LABEL_TOOLS = {"libreface": re.compile(r"libreface|^affectnet: .*\.csv", re.IGNORECASE)}
"""Judges that also write training labels, so that they may grade their own handwriting: what of a run's "source: who
read the AUs" tells that one did. FineFace's metadata of AffectNet (a CSV) is LibreFace's."""

METRIC_NAMES: dict[str, tuple[str, str]] = {
    "au_mse_active": ("AU error, commanded AUs", "squared error on the AUs that were asked for; lower is better"),
    "au_mse_mean": ("AU error, mean of 12 AUs", "squared error averaged over all AUs; lower is better"),
    "au_mse_sum": ("AU error, sum of 12 AUs", "squared error summed over all AUs; lower is better"),
    "clip_i": (
        "CLIP-I to neutral",
        "similarity to the neutral face; falls as the face moves, so read it with the AU error",
    ),
    "slope": ("Slope", "measured over requested intensity; 1 is ideal"),
    "rank_correlation": (
        "Rank correlation",
        "Spearman with ties; 1 is ideal, and says nothing about the size of the effect",
    ),
    "leakage": ("Leakage", "movement of AUs not asked for, relative to those that were; lower is better"),
    "attributes": ("Caption kept", "share of the caption's attributes that the face shows; higher is better"),
    "identity": (
        "Identity kept",
        "share of faces that show all of the identity (skin, hair, style, glasses, beard); higher is better",
    ),
}
PARTS: dict[str, str] = {
    METRICS: "headline numbers, response curves, leakage, per-AU table",
    "images.parquet": "generated faces",
    METRICS_FILE: "training curves",
    "samples": "pictures drawn during training",
    "audit.json": "parameter audit",
    "config.yaml": "configuration",
    "provenance.json": "provenance",
}
OF_EVALUATION = (METRICS, "images.parquet")
"""Those of `PARTS` that an evaluation makes; a training makes the others."""


def command(verb: str, *overrides: str) -> str:
    """A line to type into a shell."""
    return shlex.join(["fineface", verb, *overrides])


def write_report(run: Path, judge_it: str | None = None) -> Path:
    """Write report.html and report.md into the folder `run` from what it holds; returns the page's path.

    `judge_it`: the command that measures the bundle in `run`; where pictures were made without a judge they tell it
    themselves.
    """
    if not run.is_dir():
        raise ValueError(
            f"run={run} is not a folder; give the folder that `fineface train` or `fineface evaluate` wrote"
        )
    metrics, provenance = _read_json(run / METRICS), _read_json(run / "provenance.json")
    pictures = {} if metrics else of_evaluation(_read_json(run / PICTURES))
    config = run / "config.yaml"
    judge_it = (
        pictures.get("judge_it")
        or judge_it
        or command("evaluate", f"bundle={run.absolute() / 'bundle'}", f"out={run.absolute()}")
    )
    evaluation_alone = bool(metrics or pictures) and not any(
        (run / part).exists() for part in (*PARTS, "bundle") if part not in OF_EVALUATION
    )
    page = render(
        TEMPLATE,
        name=run.resolve().name,
        metrics=metrics,
        pictures=pictures,
        metric_names=METRIC_NAMES,
        aus=list(zip(AU_KEYS, AU_NAMES, strict=True)),
        faces=_faces(run, metrics),
        response=response_charts(metrics),
        curves=training_charts(run / METRICS_FILE),
        validated=(run / VALIDATION_FILE).is_file(),
        samples=_training_samples(run / "samples"),
        audit=_read_json(run / "audit.json"),
        provenance=list(flat(provenance)),
        disagreement=[
            (key, value) for key, value in (metrics.get("judge_disagreement") or {}).items() if isinstance(value, float)
        ],
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
        label_tool=judge_wrote_labels(str(metrics.get("first_judge", "")), provenance),
        judge_it=judge_it,
        missing=[
            (part, what, judge_it if part in OF_EVALUATION else "")
            for part, what in PARTS.items()
            if not (run / part).exists() and (part in OF_EVALUATION or not evaluation_alone)
        ],
    )
    told = (
        headline_table(metrics) if metrics else unjudged(pictures) if pictures else f"Not evaluated yet: `{judge_it}`\n"
    )
    write_text(run / "report.md", f"# {run.resolve().name}\n\n{told}")
    return write_text(run / "report.html", page)


def unjudged(pictures: dict[str, Any]) -> str:
    """What pictures.json holds, in words."""
    return (
        f"{pictures['images']} pictures of protocol {pictures['protocol']}, made with judge=none: nothing was "
        f"measured.\n"
        f"To measure them, without making them again:\n\n    {pictures.get('judge_it', '')}\n"
    )


def judge_wrote_labels(judge: str, provenance: dict[str, Any]) -> bool:
    """Whether the judge is the tool that wrote AUs of the data a run was trained on; where its provenance does not
    tell, it is taken to be."""
    labels = provenance.get("labels")
    written = [by for tool, by in LABEL_TOOLS.items() if tool in judge.lower()]
    return any(labels is None or any(by.search(who) for who in labels) for by in written)


def render(template: str, **values: Any) -> str:
    """One of the package's templates as a page."""
    loader = jinja2.PackageLoader("fineface_train.reports")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, compact=compact, interval=interval)
    return environment.get_template(template).render(**values)


def headline_table(metrics: dict[str, Any]) -> str:
    """The numbers of metrics.json (first judge) as two Markdown tables, aligned to be read as plain text."""
    kinds = [kind for kind in ("individual", "combination") if metrics.get(kind)]
    rows = [["", *(column for kind in kinds for column in (kind, "95% interval", "always zero"))]]
    for key, (label, _) in METRIC_NAMES.items():
        cells = [metrics[kind].get(key) or {} for kind in kinds]
        values = [
            text
            for cell in cells
            for text in (number(cell.get("value")), interval(cell), number(cell.get("always_zero")))
        ]
        rows.append([label, *values])
    per_au = [["AU", "", "slope", "rank correlation", "AU error", "reading of neutral"]]
    for key, name in zip(AU_KEYS, AU_NAMES, strict=True):
        values = metrics.get("per_au", {}).get(key, {})
        per_au.append(
            [
                key,
                name,
                *(
                    number(values.get(column))
                    for column in ("slope", "rank_correlation", "au_mse_active", "zero_reading")
                ),
            ]
        )
    who = "held-out identities" if metrics.get("subset") == "held_out" else "all prompts"
    judge, protocol = metrics.get("first_judge", "?"), metrics.get("protocol", "?")
    return f"Judge {judge}, protocol {protocol}, {who}.\n\n{markdown_table(rows)}\n{markdown_table(per_au)}"


def number(value: float | None, digits: int = 2) -> str:
    """A number for people: fixed decimals, an en dash for what is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def interval(cell: dict[str, float | None], digits: int = 2) -> str:
    """The 95% interval of a metric as "1.80 to 2.10"."""
    return (
        f"{number(cell.get('low'), digits)} to {number(cell.get('high'), digits)}"
        if cell.get("low") is not None
        else "–"
    )


# ---- faces ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Shown:
    """One face on the page: its data URI, its text, and what the first judge read of each commanded AU."""

    uri: str
    title: str
    readings: list[tuple[str, float, float | None]]
    """(AU, requested, measured) of each commanded AU."""


def _faces(run: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the picture sections need: `grid` rows, one prompt's `sweep`, `combinations` beside their neutral."""
    path = run / "images.parquet"
    if not path.is_file():
        return {}
    frame = read_parquet(path)
    judge = metrics.get("first_judge", "")
    neutral = {row["prompt_index"]: row for row in frame[frame["kind"] == "neutral"].to_dict("records")}
    single = frame[frame["kind"] == "individual"]
    order = sorted(neutral, key=lambda index: (not neutral[index]["prompt_held_out"], index))
    grid = [
        grid_row(run, judge, neutral[index], single[single["prompt_index"] == index]) for index in order[:GRID_ROWS]
    ]
    sweep = _sweep(run, judge, neutral[order[0]], single[single["prompt_index"] == order[0]]) if order else None
    return {
        "grid": grid,
        "prompts": len(order),
        "sweep": sweep,
        "combinations": _combinations(run, judge, neutral, frame[frame["kind"] == "combination"]),
    }


def grid_row(run: Path, judge: str, neutral: dict[str, Any], single: pd.DataFrame) -> dict[str, Any]:
    """One prompt's neutral and each AU at its strongest."""
    cells = [shown_face(run, judge, neutral, [])]
    for key in AU_KEYS:
        rows = single[single["commanded"] == key].sort_values(key)
        cells.append(shown_face(run, judge, rows.iloc[-1].to_dict(), [key]) if len(rows) else None)
    return {"prompt": neutral["prompt"], "held_out": bool(neutral["prompt_held_out"]), "cells": cells}


def _sweep(run: Path, judge: str, neutral: dict[str, Any], single: pd.DataFrame) -> dict[str, Any]:
    rows = []
    for key, name in zip(AU_KEYS, AU_NAMES, strict=True):
        steps = single[single["commanded"] == key].sort_values(key).to_dict("records")
        if steps:
            rows.append(
                {
                    "key": key,
                    "name": name,
                    "cells": [
                        shown_face(run, judge, neutral, [key]),
                        *(shown_face(run, judge, row, [key]) for row in steps),
                    ],
                }
            )
    return {"prompt": neutral["prompt"], "rows": rows}


def _combinations(
    run: Path, judge: str, neutral: dict[int, dict[str, Any]], frame: pd.DataFrame
) -> list[dict[str, Any]]:
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
        pair = (shown_face(run, judge, neutral[row["prompt_index"]], []), shown_face(run, judge, row, commanded))
        chosen.append(
            {"neutral": pair[0], "face": pair[1], "held_out": bool(row["set_held_out"]), "prompt": row["prompt"]}
        )
    return chosen


def shown_face(run: Path, judge: str, row: dict[str, Any], commanded: Sequence[str]) -> Shown | None:
    """The image of a row of images.parquet, with what the judge (if there is one) read of the commanded AUs; None where
    its file is gone."""
    path = run / row["path"]
    if not path.is_file():
        return None
    readings = [(key, float(row[key]), _finite(row.get(f"{judge}_{key}"))) for key in commanded]
    asked = (
        ", ".join(
            f"{key} asked {asked:g}" + (f", read {number(read)}" if judge else "") for key, asked, read in readings
        )
        or "neutral"
    )
    return Shown(image_uri(path), f"{row['prompt']} | {asked} | seed {row['seed']}", readings)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def image_uri(path: Path, side: int = IMAGE_SIDE) -> str:
    """An image file as a data URI; one larger than `side` pixels is shrunk and stored as JPEG, to keep the page
    light."""
    with Image.open(path) as image:
        if max(image.size) <= side:
            return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        return jpeg_uri(image.convert("RGB"), side)


def jpeg_uri(image: Image.Image, side: int) -> str:
    """An RGB image, shrunk to at most `side` pixels, as a data URI."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _training_samples(folder: Path) -> list[tuple[str, str]]:
    """The first, a middle and the last sample sheet as (step, data URI)."""
    paths = sorted(folder.glob("step_*.png"))
    picked = sorted({0, len(paths) // 2, len(paths) - 1}) if paths else []
    return [
        (paths[index].stem.removeprefix("step_").lstrip("0") or "0", image_uri(paths[index], side=1400))
        for index in picked
    ]


# ---- files ----------------------------------------------------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def markdown_table(rows: list[list[str]]) -> str:
    """Rows, the first being the header, as an aligned Markdown table; numbers to the right."""
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    names = [all(not row[column][:1].isdigit() for row in rows[1:]) for column in range(len(rows[0]))]
    cells = [
        [text.ljust(width) if left else text.rjust(width) for text, width, left in zip(row, widths, names, strict=True)]
        for row in rows
    ]
    rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, names, strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [cells[0], rule, *cells[1:]])
