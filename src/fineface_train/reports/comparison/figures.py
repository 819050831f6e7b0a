"""The charts of a comparison: on its page, and as files beside its report.md."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.files import write_text
from fineface_train.reports.charts import chart_sheet, heat_chart, interval_chart, responses_chart, scatter_chart
from fineface_train.reports.comparison.markdown import KINDS, SHOWN, SUBSET_METRIC, short_name, swept
from fineface_train.reports.run import METRIC_NAMES


def write_figures(folder: Path, found: dict[str, Any]) -> None:
    """The charts of what was `found` as folder/<name>.svg, of `comparison_markdown.FIGURES`."""
    arms = [short_name(arm) for arm in found["numbers"]["individual"]]
    folder.mkdir(exist_ok=True)
    values = [
        (f"{title}: {label}", chart)
        for kind, title in KINDS.items()
        for label, _, chart in value_charts(found, kind.value)
    ]
    write_text(folder / "values.svg", chart_sheet(values, columns=2))
    tried = trade_off(found)
    write_text(folder / "trade_off.svg", chart_sheet(tried["charts"], columns=1, legend=tried["names"]))
    responses = [(f"{key} {name}", chart) for key, name, chart in response_charts(found)]
    write_text(folder / "responses.svg", chart_sheet(responses, columns=4, legend=arms))
    write_text(
        folder / "leakage.svg",
        chart_sheet([(short_name(arm), chart) for arm, chart in leakage_charts(found)], columns=3),
    )


def response_charts(found: dict[str, Any]) -> list[tuple[str, str, Markup]]:
    """(AU, its name, chart) of each AU: what was measured over what was asked for, a line for each arm."""
    charts = []
    for key, name in zip(AU_KEYS, AU_NAMES, strict=True):
        curves = [curve[key] for curve in found["response_curve"].values() if key in curve]
        if curves:
            charts.append((key, name, responses_chart(curves, title=f"{key}: measured over requested, by arm")))
    return charts


def leakage_charts(found: dict[str, Any]) -> list[tuple[str, Markup]]:
    """(arm, chart) of each arm's leakage matrix."""
    return [
        (arm, heat_chart(matrix, AU_KEYS, title=f"{arm}: measured AU (column) over requested AU (row)"))
        for arm, matrix in found["leakage_matrix"].items()
    ]


def value_charts(found: dict[str, Any], kind: str) -> list[tuple[str, str, Any]]:
    """(label, meaning, chart) of each metric: every arm's value and interval; dashed: true drawings."""
    charts = []
    for name in SHOWN:
        of_arm = [(short_name(arm), cells[name]) for arm, cells in found["numbers"][kind].items()]
        rows = [(arm, _finite(cell["value"]), _finite(cell["low"]), _finite(cell["high"])) for arm, cell in of_arm]
        drawn = found["ceiling"][kind][name]
        chart = interval_chart(
            rows, title=METRIC_NAMES[name][0], marks=[("true drawings", drawn)] if drawn is not None else []
        )
        charts.append((*METRIC_NAMES[name], chart))
    return charts


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


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
        charts.append((f"{title}, as evaluated", _trade_off_chart(own, found["ceiling"][kind.value], metric)))
        for what in ("scale", "guidance"):
            lines = {
                arm: [
                    (point[kind.value]["clip_i"], point[kind.value][metric], f"{what} {point[what]:g}")
                    for point in swept(tried, what)
                ]
                for arm, tried in arms.items()
            }
            if any(lines.values()):
                charts.append(
                    (
                        f"{title}, over {what} (quick protocol, first seed)",
                        _trade_off_chart(lines, points[0]["drawn"][kind.value], metric),
                    )
                )
    drawn = ["true drawings"] if found["ceiling"]["individual"]["clip_i"] is not None else []
    return {"charts": charts, "names": [*map(short_name, arms), *drawn], "tried": bool(points)}


def _trade_off_chart(lines: dict[str, list[tuple[float, float, str]]], drawn: dict[str, Any], metric: str) -> Markup:
    """(CLIP-I, error, what it is) of each arm's points; `drawn`: the metrics of true drawings, if there are some."""
    series = [(short_name(arm), points) for arm, points in lines.items()]
    if drawn["clip_i"] is not None:
        series.append(("true drawings", [(drawn["clip_i"], drawn[metric], "")]))
    label = METRIC_NAMES[metric][0]
    return scatter_chart(series, title=f"{label} against CLIP-I", labels=("CLIP-I to neutral", label))
