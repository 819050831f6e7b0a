"""The headline: what was asked and read, the floor and the ceiling beside it, and the table of all metrics."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.evaluation.metrics import headline_frames, readings, scores
from fineface_train.evaluation.plan import Kind
from fineface_train.reports.run_folder import RunFolder
from fineface_train.reports.verdict import ASKED, asked_and_read, miss, verdict
from fineface_train.reports.words import METRIC_NAMES, MISS, interval, markdown_table, number

KINDS = {"individual": "One AU at a time", "combination": "Combinations of AUs"}
NOTHING, ZERO, DRAWN = "nothing done", "always zero", "true drawings"
"""The rows beside a model's: its own neutral face as the answer to every request (what the base draws without AUs), a
judge that always says 0, and the requests drawn exactly."""
UNMOVED = ("au_mse_active", "au_mse_mean", "au_mse_sum", "clip_i", "attributes", "identity")
"""Metrics that a face which never moves has; slopes and correlations of it are not defined."""


@dataclasses.dataclass(frozen=True)
class Floor:
    """What doing nothing reaches: the neutral face of the same prompt and noise as the answer to every request."""

    numbers: dict[str, dict[str, float]]
    """kind -> metric -> value."""
    reading: float
    """Mean reading of the commanded AU, whatever was asked of it."""


def floor(run: RunFolder) -> Floor | None:
    """What doing nothing reaches, from the rows of the images; None where they are not there, or not judged."""
    frame, judge = run.frame, run.judge
    columns = {"kind", "prompt_index", "prompt_held_out", "set_held_out", "clip_i", *AU_KEYS}
    columns |= {f"{judge}_{key}" for key in AU_KEYS}
    if frame is None or not judge or not columns <= set(frame.columns):
        return None
    frames = headline_frames(frame)
    found = {kind: _unmoved(frames[kind], judge, kind) for kind in (Kind.individual, Kind.combination)}
    single = frames[Kind.individual]
    neutral = single[single["kind"] == Kind.neutral.value]
    read = neutral[[f"{judge}_{key}" for key in AU_KEYS]].to_numpy(float)
    return Floor({kind.value: numbers for kind, numbers in found.items()}, float(read.mean())) if len(read) else None


def _unmoved(frame: pd.DataFrame, judge: str, kind: Kind) -> dict[str, float]:
    """The numbers of neutral faces for the requests of one kind; {} where a unit has no neutral face."""
    r = readings(frame, judge, kind)
    if not len(r.unit):  # nothing of this kind was asked
        return {}
    units = np.arange(r.units)
    if set(r.unit[r.neutral]) != set(units) or r.neutral.all():
        return {}

    def of_neutral(values: np.ndarray) -> np.ndarray:
        means = np.array([values[r.neutral & (r.unit == unit)].mean(0) for unit in units])
        return means[r.unit]

    still = dataclasses.replace(
        r,
        measured=of_neutral(r.measured),
        attributes=of_neutral(r.attributes),
        identity=of_neutral(r.identity),
        clip_i=np.ones_like(r.clip_i),  # a face is as like to itself as can be
    )
    found = scores(still, np.ones((1, r.units)))
    return {name: float(found[name][0]) for name in UNMOVED}


@dataclasses.dataclass(frozen=True)
class Compared:
    """A row of the table "asked and read": the mean reading at each of `ASKED`, and the typical miss."""

    name: str
    readings: list[tuple[float | None, str]]
    """(reading, the AU it is of where it is of one)."""
    miss: float | None


def compared(run: RunFolder, nothing: Floor | None) -> list[Compared]:
    """What was read where 1, 3 and 5 were asked of one AU: the model's mean, lowest and highest AU, the floor rows, and
    the ceiling; none where metrics.json (an older one) has no response curves."""
    own = {one.intensity: one for one in asked_and_read(run.metrics)}
    if not own:
        return []
    single = run.metrics.get("individual") or {}
    levels = [own.get(intensity) for intensity in ASKED]
    rows = [
        Compared(
            f"read, mean of {len(run.metrics['response_curve'])} AUs",
            [(level.mean if level else None, "") for level in levels],
            miss(single).get("value"),
        ),
        Compared("lowest AU", [(level.lowest[1], level.lowest[0]) if level else (None, "") for level in levels], None),
        Compared(
            "highest AU", [(level.highest[1], level.highest[0]) if level else (None, "") for level in levels], None
        ),
    ]
    if nothing is not None:
        errors = nothing.numbers["individual"].get("au_mse_active")
        rows.append(Compared(NOTHING, [(nothing.reading, "")] * len(ASKED), None if errors is None else errors**0.5))
    rows.append(Compared(ZERO, [(0.0, "")] * len(ASKED), miss(single).get("always_zero")))
    drawn = miss((run.metrics.get("ceiling") or {}).get("individual")).get("value")
    theirs = {one.intensity: one.mean for one in asked_and_read(run.ceiling)}
    if drawn is not None or theirs:
        rows.append(Compared(DRAWN, [(theirs.get(level), "") for level in ASKED], drawn))
    return rows


def headline_table(run: RunFolder) -> str:
    """The verdict in words, and the first judge's numbers as Markdown tables, aligned to be read as plain text."""
    metrics = run.metrics
    everybody = "all units" if run.of_pictures else "all prompts"
    who = "held-out identities" if metrics.get("subset") == "held_out" else everybody
    parts = [f"Judge {metrics.get('first_judge', '?')}, protocol {metrics.get('protocol', '?')}, {who}.\n"]
    sentences = verdict(metrics)
    if sentences:
        parts.append("\n".join(sentences) + "\n")
    rows = compared(run, floor(run))
    if rows:
        parts.append(markdown_table(_compared_cells(rows)))
    return "\n".join([*parts, markdown_table(_metric_cells(metrics)), markdown_table(_au_cells(metrics))])


def _compared_cells(rows: list[Compared]) -> list[list[str]]:
    cells = [["asked of one AU", *(f"{level:g}" for level in ASKED), "typical miss"]]
    for row in rows:
        read = [number(value) + (f" {of}" if of else "") for value, of in row.readings]
        cells.append([row.name, *read, number(row.miss) if row.miss is not None else ""])
    return cells


def headline_rows(metrics: dict[str, Any]) -> dict[str, tuple[str, str, dict[str, dict[str, Any]]]]:
    """metric -> (name, meaning, kind -> its cell) of the headline table, the typical miss first."""
    kinds = [kind for kind in KINDS if metrics.get(kind)]
    rows = {"miss": (*MISS, {kind: miss(metrics[kind]) for kind in kinds})}
    for key, (name, meaning) in METRIC_NAMES.items():
        rows[key] = (name, meaning, {kind: metrics[kind].get(key) or {} for kind in kinds})
    return rows


def _metric_cells(metrics: dict[str, Any]) -> list[list[str]]:
    kinds = [kind for kind in KINDS if metrics.get(kind)]
    rows = [["", *(column for kind in kinds for column in (kind, "95% interval", ZERO))]]
    for name, _, cells in headline_rows(metrics).values():
        row = [name]
        for kind in kinds:
            value, zero = cells[kind].get("value"), cells[kind].get("always_zero")
            row += [number(value), interval(cells[kind]), number(zero)]
        rows.append(row)
    return rows


def unmoved(nothing: Floor, kind: str, metric: str) -> float | None:
    """One number of doing nothing; None where it is not defined."""
    numbers = nothing.numbers[kind]
    if metric == "miss":
        return numbers["au_mse_active"] ** 0.5 if "au_mse_active" in numbers else None
    return numbers.get(metric)


def _au_cells(metrics: dict[str, Any]) -> list[list[str]]:
    columns = {
        "slope": "slope",
        "rank_correlation": "rank correlation",
        "au_mse_active": "AU error",
        "zero_reading": "reading of neutral",
    }
    rows = [["AU", "", *columns.values()]]
    for key, name in zip(AU_KEYS, AU_NAMES, strict=True):
        values = metrics.get("per_au", {}).get(key, {})
        rows.append([key, name, *(number(values.get(column)) for column in columns)])
    return rows
