"""AU error against CLIP-I. A CLIP that sees expression falls as control improves, so each is read with the other."""

import itertools
from typing import Any

import numpy as np

from fineface_train.reports.charts.drawing import Chart
from fineface_train.reports.charts.plots import scatter_chart
from fineface_train.reports.comparison.tables import KINDS, SUBSET_METRIC, short_name
from fineface_train.reports.words import METRIC_NAMES, markdown_table, number


def trade_off(found: dict[str, Any]) -> dict[str, Any]:
    """AU error against CLIP-I: of every arm as it was evaluated, and where other adapter scales or guidances were
    tried, over each of these."""
    arms = found["trade_off"]
    points = [point for points in arms.values() for point in points]
    charts = []
    for kind, title in KINDS.items():
        metric = SUBSET_METRIC[kind.value]
        own = {
            arm: [(cells["clip_i"]["value"], cells[metric]["value"], "")]
            for arm, cells in found["numbers"][kind.value].items()
        }
        charts.append(_chart(f"{title}, as evaluated", own, found["ceiling"][kind.value], metric))
        for what in ("scale", "guidance"):
            lines = {
                arm: [
                    (point[kind.value]["clip_i"], point[kind.value][metric], f"{what} {point[what]:g}")
                    for point in swept(tried, what)
                ]
                for arm, tried in arms.items()
            }
            if any(lines.values()):
                told = f"{title}, over {what} (quick protocol, first seed)"
                charts.append(_chart(told, lines, points[0]["drawn"][kind.value], metric))
    drawn = ["true drawings"] if found["ceiling"]["individual"]["clip_i"] is not None else []
    return {"charts": charts, "names": [*map(short_name, arms), *drawn], "tried": bool(points)}


def _chart(
    title: str, lines: dict[str, list[tuple[float, float, str]]], drawn: dict[str, Any], metric: str
) -> tuple[str, Chart]:
    """The title, and a chart of each arm's points (CLIP-I, error, what it is); `drawn`: the metrics of true drawings,
    if there are some."""
    series = [(short_name(arm), points) for arm, points in lines.items()]
    if drawn["clip_i"] is not None:
        series.append(("true drawings", [(drawn["clip_i"], drawn[metric], "")]))
    label = METRIC_NAMES[metric][0]
    return title, scatter_chart(series, title=f"{title}: {label} against CLIP-I", labels=("CLIP-I to neutral", label))


def equal_clip_i(found: dict[str, Any]) -> list[str]:
    """Tables of the least AU error that every arm reaches at a CLIP-I, over the adapter scales and guidances that were
    tried; none where none were."""
    arms = found["trade_off"]
    if not any(arms.values()):
        return []
    parts = [
        "## At equal CLIP-I\n",
        "The least AU error that an arm reaches with at least this CLIP-I, over the adapter scales and guidances that "
        "were tried (joined by lines;",
        "quick protocol, first seed); – where it never keeps so much.\n",
    ]
    for kind, title in KINDS.items():
        metric = SUBSET_METRIC[kind.value]
        curves = {
            arm: [
                [(point[kind.value]["clip_i"], point[kind.value][metric]) for point in swept(points, what)]
                for what in ("scale", "guidance")
            ]
            for arm, points in arms.items()
        }
        reached = [clip_i for lines in curves.values() for line in lines for clip_i, _ in line]
        levels = [level for level in np.arange(0.95, 0.0, -0.05) if min(reached) < level < max(reached)]
        rows = [[f"{title}: {METRIC_NAMES[metric][0]}", *(f"CLIP-I {level:.2f}" for level in levels)]]
        rows += [
            [f"`{arm}`", *(number(least_error(lines, level)) for level in levels)] for arm, lines in curves.items()
        ]
        parts.append(markdown_table(rows))
    return parts


def swept(points: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """The points of an arm's trade-off at which "scale" or "guidance" was varied, in its order."""
    chosen = [point for point in points if (point["scale"] is None) == (what == "guidance")]
    return sorted(chosen, key=lambda point: float(point[what]))


def least_error(lines: list[list[tuple[float, float]]], clip_i: float) -> float | None:
    """The least error on `lines` of (CLIP-I, error) points, joined in their order, where CLIP-I is at least `clip_i`;
    None where it never is."""
    found = []
    for line in lines:
        found += [error for kept, error in line if kept >= clip_i]
        for (kept, error), (next_kept, next_error) in itertools.pairwise(line):
            if (kept - clip_i) * (next_kept - clip_i) < 0:  # crosses the level between two points
                found.append(error + (next_error - error) * (clip_i - kept) / (next_kept - kept))
    return min(found, default=None)
