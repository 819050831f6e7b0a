"""The charts of a comparison: on its page, and as files beside its report.md."""

from pathlib import Path
from typing import Any

import numpy as np

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.files import write_text
from fineface_train.reports.charts.drawing import Chart, sheet
from fineface_train.reports.charts.plots import intervals_chart, matrix_chart, responses_chart
from fineface_train.reports.comparison.tables import KINDS, SHOWN, short_name
from fineface_train.reports.comparison.trade_off import trade_off
from fineface_train.reports.words import METRIC_NAMES


def write_figures(folder: Path, found: dict[str, Any]) -> None:
    """The charts of what was `found` (comparison.json) as SVG files in `folder`: values, trade_off, responses,
    leakage."""
    arms = [short_name(arm) for arm in found["numbers"]["individual"]]
    folder.mkdir(exist_ok=True)
    values = [
        (f"{title}: {label}", chart)
        for kind, title in KINDS.items()
        for label, _, chart in value_charts(found, kind.value)
    ]
    tried = trade_off(found)
    responses = [(f"{key} {name}", chart) for key, name, chart in response_charts(found)]
    leakage = [(short_name(arm), chart) for arm, chart in leakage_charts(found)]
    write_text(folder / "values.svg", sheet(values, columns=2))
    write_text(folder / "trade_off.svg", sheet(tried["charts"], columns=1, legend=tried["names"]))
    write_text(folder / "responses.svg", sheet(responses, columns=4, legend=arms))
    write_text(folder / "leakage.svg", sheet(leakage, columns=min(3, len(leakage))))


def response_charts(found: dict[str, Any]) -> list[tuple[str, str, Chart]]:
    """(AU, its name, chart) of each AU: what was measured over what was asked for, a line for each arm."""
    charts = []
    for key, name in zip(AU_KEYS, AU_NAMES, strict=True):
        curves = [curve[key] for curve in found["response_curve"].values() if key in curve]
        if curves:
            charts.append((key, name, responses_chart(curves, title=f"{key}: measured over requested, by arm")))
    return charts


def leakage_charts(found: dict[str, Any]) -> list[tuple[str, Chart]]:
    """(arm, chart) of each arm's leakage matrix."""
    return [
        (arm, matrix_chart(matrix, AU_KEYS, title=f"{arm}: measured AU (column) over requested AU (row)"))
        for arm, matrix in found["leakage_matrix"].items()
    ]


def value_charts(found: dict[str, Any], kind: str) -> list[tuple[str, str, Chart]]:
    """(label, meaning, chart) of each metric: every arm's value and interval; dashed: true drawings."""
    charts = []
    for name in SHOWN:
        of_arm = [(short_name(arm), cells[name]) for arm, cells in found["numbers"][kind].items()]
        rows = [(arm, _finite(cell["value"]), _finite(cell["low"]), _finite(cell["high"])) for arm, cell in of_arm]
        drawn = found["ceiling"][kind][name]
        label, meaning = METRIC_NAMES[name]
        marks = [("true drawings", drawn)] if drawn is not None else []
        charts.append((label, meaning, intervals_chart(rows, title=f"{label}, by arm ({kind})", marks=marks)))
    return charts


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
