"""The report's charts: small SVGs whose colours come from the page's style, so that they follow light and dark."""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fineface_train.aus import AU_KEYS, AU_NAMES, MAX_INTENSITY
from fineface_train.files import flat
from fineface_train.loop.tracking import GLANCE, VALIDATION, read_metrics

SERIES = 8
"""Colours of the style sheet."""


@dataclasses.dataclass
class Line:
    """Points joined by a line; `style` is a class of the page's style sheet."""

    points: Sequence[tuple[float, float]]
    style: str
    dots: bool = False


def line_chart(
    lines: list[Line],
    *,
    title: str,
    x: tuple[float, float],
    y: tuple[float, float],
    band: Sequence[tuple[float, float]] = (),
    size: tuple[int, int],
) -> Markup:
    """An SVG of `lines` over a shaded `band` (a closed outline), in data units `x` and `y`; `size` is in SVG units."""
    width, height = size
    left, right, top, bottom = 34, width - 8, 8, height - 20

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - x[0]) / ((x[1] - x[0]) or 1)
        up = (point[1] - y[0]) / ((y[1] - y[0]) or 1)
        return round(left + across * (right - left), 1), round(bottom - up * (bottom - top), 1)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join("{},{}".format(*place(point)) for point in points)

    parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, title)]
    for tick in ticks(*y):
        level = place((x[0], tick))[1]
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(left, right, level, level, left - 5, level + 3, compact(tick))
        )
    for tick in ticks(*x):
        across = place((tick, y[0]))[0]
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(across, height - 6, compact(tick))
        )
    if band:
        parts.append(Markup('<path class="band" d="{}Z"/>').format(path(band)))
    for line in lines:
        if len(line.points) > 1:
            parts.append(Markup('<path class="{}" d="{}"/>').format(line.style, path(line.points)))
        if line.dots or len(line.points) == 1:
            parts += [
                Markup('<circle class="{}" cx="{}" cy="{}" r="2.6"/>').format(line.style, *place(point))
                for point in line.points
            ]
    return Markup("").join([*parts, Markup("</svg>")])


def compact(value: float) -> str:
    """A short axis label or count: 1200 as 1.2k, 0.0003 as 3e-4."""
    size = abs(value)
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):.3g}{suffix}"
    if 0 < size < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}"


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers within [low, high]."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)
    return [
        round(index * step, 12) for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def response_charts(metrics: dict[str, Any]) -> list[tuple[str, str, float | None, Markup]]:
    """(AU, name, slope, chart) of each AU: measured over requested intensity with its interval and the ideal
    diagonal."""
    charts = []
    for key, name in zip(AU_KEYS, AU_NAMES, strict=True):
        curve = metrics.get("response_curve", {}).get(key)
        if not curve:
            continue
        points = _pairs(curve["requested"], curve["measured_mean"])
        band = _pairs(curve["requested"], curve["low"]) + _pairs(curve["requested"], curve["high"])[::-1]
        ideal = Line([(0, 0), (MAX_INTENSITY, MAX_INTENSITY)], "ideal")
        bottom = min([0.0, *(value for _, value in band)])
        top = max([MAX_INTENSITY, *(value for _, value in band)])
        chart = line_chart(
            [ideal, Line(points, "measured", dots=True)],
            title=f"{key}: measured over requested",
            x=(0, MAX_INTENSITY),
            y=(bottom, top),
            band=band,
            size=(220, 160),
        )
        charts.append((key, name, metrics.get("per_au", {}).get(key, {}).get("slope"), chart))
    return charts


def training_charts(path: Path) -> list[tuple[str, Markup]]:
    """(title, chart) of loss, learning rate, gradient norm and speed over steps."""
    if not path.is_file():
        return []
    lines = read_metrics(path)
    titles = {
        "loss": "Loss",
        f"{VALIDATION}.loss": "Validation loss",
        "learning_rate": "Learning rate",
        "gradient_norm": "Gradient norm",
        "examples_per_second": "Examples per second",
    }
    titles |= {
        f"{GLANCE}.au_mse_active": "AU error (a glance)",
        f"{GLANCE}.slope": "Slope (a glance)",
        f"{GLANCE}.clip_i": "CLIP-I (a glance)",
    }
    lines = [dict(flat(line)) for line in lines]
    return [
        (title, _curve(title, _series(lines, key), smooth=key in ("loss", "gradient_norm")))
        for key, title in titles.items()
        if _series(lines, key)
    ]


def _curve(title: str, points: list[tuple[float, float]], *, smooth: bool) -> Markup:
    values = [value for _, value in points]
    spread = sorted(values)
    # One spike must not flatten the rest of a noisy curve: its axis ends a little above the 99th percentile.
    high = spread[int(0.99 * (len(spread) - 1))] * 1.1 if smooth and len(values) > 20 else max(values) * 1.05
    low = min(0.0, *values) if min(values) < 0.5 * max(values) else min(values) * 0.95
    shown = [(step, min(value, high)) for step, value in points]
    lines = (
        [Line(shown, "raw"), Line(_smoothed(shown), "measured")]
        if smooth and len(values) > 20
        else [Line(shown, "measured")]
    )
    return line_chart(
        lines, title=title, x=(points[0][0], points[-1][0]), y=(low, high if high > low else low + 1), size=(420, 200)
    )


def _smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Exponential moving average over about a twentieth of the curve, corrected for its start."""
    keep = 1 - 1 / max(5.0, len(points) / 20)
    average, weight, smoothed = 0.0, 0.0, []
    for step, value in points:
        average, weight = keep * average + (1 - keep) * value, keep * weight + 1 - keep
        smoothed.append((step, average / weight))
    return smoothed


def _series(lines: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(line["step"], line[key]) for line in lines if isinstance(line.get(key), (int, float))]


def _pairs(xs: Sequence[float], ys: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]


def interval_chart(
    rows: Sequence[tuple[str, float | None, float | None, float | None]],
    *,
    title: str,
    marks: Sequence[tuple[str, float]] = (),
) -> Markup:
    """An SVG with a row per (name, value, low, high): a dot on its interval. `marks`: named dashed lines, such as true
    drawings."""
    width, left, row_height, top = 380, 120, 20, 6
    bottom = top + row_height * len(rows)
    numbers = [value for row in rows for value in row[1:] if value is not None] + [value for _, value in marks]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    low = (
        low - 0.2 * (high - low) if 0 < high < 2 * low else min(0.0, low)
    )  # from 0, unless that would push all to one end

    def across(value: float) -> float:
        return round(left + (value - low) / ((high - low) or 1) * (width - left - 12), 1)

    parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, bottom + 18, title)]
    for tick in ticks(low, high):
        parts.append(
            Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(across(tick), top, bottom)
        )
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                across(tick), bottom + 13, compact(tick)
            )
        )
    for name, value in marks:
        parts.append(
            Markup('<line class="ideal" x1="{0}" x2="{0}" y1="{1}" y2="{2}"><title>{3}</title></line>').format(
                across(value), top, bottom, name
            )
        )
    for place, (name, middle, start, end) in enumerate(rows):
        height = top + row_height * (place + 0.5)
        parts.append(
            Markup('<g class="s{}"><text x="{}" y="{}" text-anchor="end">{}</text>').format(
                place % SERIES, left - 8, height + 3, name
            )
        )
        if start is not None and end is not None:
            parts.append(
                Markup('<line class="series" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    across(start), across(end), height, height
                )
            )
        if middle is not None:
            parts.append(Markup('<circle class="series" cx="{}" cy="{}" r="4"/>').format(across(middle), height))
        parts.append(Markup("</g>"))
    return Markup("").join([*parts, Markup("</svg>")])


def scatter_chart(
    series: Sequence[tuple[str, Sequence[tuple[float, float, str]]]],
    *,
    title: str,
    labels: tuple[str, str],
    size: tuple[int, int] = (620, 380),
) -> Markup:
    """An SVG of (name, points (x, y, what it is)) joined in their order, a colour each; `labels` of the axes."""
    points = [point for _, those in series for point in those]
    if not points:
        return Markup("")
    (left, right), (top, bottom) = (48, size[0] - 10), (8, size[1] - 40)
    spans = []
    for axis in (0, 1):
        values = [float(point[axis]) for point in points]
        margin = 0.05 * ((max(values) - min(values)) or 1)
        spans.append((min(values) - margin, max(values) + margin))
    (x_low, x_high), (y_low, y_high) = spans

    def place(x: float, y: float) -> tuple[float, float]:
        return round(left + (x - x_low) / (x_high - x_low) * (right - left), 1), round(
            bottom - (y - y_low) / (y_high - y_low) * (bottom - top), 1
        )

    parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(*size, title)]
    for tick in ticks(y_low, y_high):
        level = place(x_low, tick)[1]
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(left, right, level, level))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(left - 5, level + 3, compact(tick))
        )
    for tick in ticks(x_low, x_high):
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                place(tick, y_low)[0], bottom + 14, compact(tick)
            )
        )
    parts.append(
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format((left + right) / 2, bottom + 30, labels[0])
    )
    parts.append(
        Markup('<text transform="translate(10 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            (top + bottom) / 2, labels[1]
        )
    )
    for number, (name, those) in enumerate(series):
        places = [place(x, y) for x, y, _ in those]
        parts.append(Markup('<g class="s{}">').format(number % SERIES))
        if len(places) > 1:
            parts.append(Markup('<path class="series" d="M{}"/>').format("L".join(f"{x},{y}" for x, y in places)))
        for (x, y), (_, _, what) in zip(places, those, strict=True):
            parts.append(
                Markup('<circle class="series" cx="{}" cy="{}" r="3.6"><title>{} {}</title></circle>').format(
                    x, y, name, what
                )
            )
        parts.append(Markup("</g>"))
    return Markup("").join([*parts, Markup("</svg>")])


def heat_chart(matrix: Sequence[Sequence[float | None]], names: Sequence[str], *, title: str) -> Markup:
    """An SVG of a square matrix, its numbers on cells whose colour is full at 1 and -1; `names` of rows and columns."""
    left, top, side = 36, 16, 24
    width, height = left + side * len(names), top + side * len(names)
    parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, title)]
    for place, name in enumerate(names):
        middle = side * (place + 0.5)
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                left + middle, top - 5, name.removeprefix("AU")
            )
        )
        parts.append(Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(left - 6, top + middle + 3, name))
    for row, values in enumerate(matrix):
        for column, value in enumerate(values):
            x, y, shade = left + side * column, top + side * row, round(min(abs(value or 0), 1) * 0.8, 3)
            below = " below" if (value or 0) < 0 else ""
            parts.append(
                Markup('<rect class="cell{}" x="{}" y="{}" width="{}" height="{}" opacity="{}"/>').format(
                    below, x, y, side - 1, side - 1, shade
                )
            )
            text = (
                "–"
                if value is None
                else re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}".replace("-0.00", "0.00")).replace("-", "−")
            )
            parts.append(
                Markup('<text class="value" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                    x + side / 2, y + side / 2 + 3, text
                )
            )
    return Markup("").join([*parts, Markup("</svg>")])


def responses_chart(curves: Sequence[dict[str, Any]], *, title: str) -> Markup:
    """An SVG of measured over requested intensity, a line in its own colour for each of `curves` (one AU of
    `metrics.response_curve`)."""
    lines = [Line([(0, 0), (MAX_INTENSITY, MAX_INTENSITY)], "ideal")]
    lines += [
        Line(_pairs(curve["requested"], curve["measured_mean"]), f"series s{place % SERIES}", dots=True)
        for place, curve in enumerate(curves)
    ]
    highest = max(y for line in lines for _, y in line.points)
    return line_chart(lines, title=title, x=(0, MAX_INTENSITY), y=(0, highest), size=(220, 160))


def curves_chart(curves: Sequence[Sequence[tuple[float, float]]], *, title: str, smooth: bool) -> Markup:
    """An SVG of values over steps, a line in its own colour for each of `curves`; `smooth`: their moving averages."""
    shown = [_smoothed(list(points)) if smooth else list(points) for points in curves]
    values = sorted(value for points in shown for _, value in points)
    steps = [step for points in shown for step, _ in points]
    # The first steps of a loss must not flatten what the arms differ in.
    high = values[int(0.98 * (len(values) - 1))] if smooth and len(values) > 50 else values[-1]
    margin = 0.05 * ((high - values[0]) or 1)
    lines = [
        Line(
            [(step, min(value, high + margin)) for step, value in points], f"series s{place % SERIES}", dots=not smooth
        )
        for place, points in enumerate(shown)
    ]
    return line_chart(
        lines, title=title, x=(min(steps), max(steps)), y=(values[0] - margin, high + margin), size=(420, 220)
    )


def chart_sheet(charts: Sequence[tuple[str, Markup]], *, columns: int, legend: Sequence[str] = ()) -> str:
    """Titled charts as one SVG file with its own style; `legend`: names in the order of the colours."""
    gap, title = 24, 20
    sizes = [tuple(map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', chart)[0])) for _, chart in charts]
    width, height = max(size[0] for size in sizes), max(size[1] for size in sizes)
    rows = math.ceil(len(charts) / columns)
    places = _legend_places(legend, gap, columns * (width + gap))
    foot = max((down for _, down in places), default=0) + (8 if legend else 0)
    full = (gap + columns * (width + gap), foot + gap + rows * (height + title + gap))
    style = jinja2.PackageLoader("fineface_train").get_source(jinja2.Environment(), "charts.css")[0]
    parts = [
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}" '
            'font-family="sans-serif">'
        ).format(*full)
    ]
    parts += [
        Markup("<style>{}</style>").format(Markup(style)),
        Markup('<rect class="paper" width="{}" height="{}"/>').format(*full),
    ]
    for place, (name, (across, down)) in enumerate(zip(legend, places, strict=True)):
        parts.append(
            Markup('<g class="s{0}"><circle class="series" cx="{1}" cy="{2}" r="4"/></g>').format(
                place % SERIES, across, down
            )
        )
        parts.append(Markup('<text class="title" x="{}" y="{}">{}</text>').format(across + 9, down + 4, name))
    for place, ((name, chart), size) in enumerate(zip(charts, sizes, strict=True)):
        left, top = gap + place % columns * (width + gap), foot + gap + place // columns * (height + title + gap)
        parts.append(Markup('<text class="title" x="{}" y="{}">{}</text>').format(left, top, name))
        placed = str(chart).replace(
            "<svg ", f'<svg x="{left}" y="{top + title // 2}" width="{size[0]}" height="{size[1]}" ', 1
        )
        parts.append(Markup(placed))
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def _legend_places(names: Sequence[str], left: int, right: int) -> list[tuple[int, int]]:
    """Where each name's mark goes: beside each other, and in a new line where one would pass `right`."""
    places, across, down = [], left, 18
    for name in names:
        width = 28 + 7 * len(name)
        if across > left and across + width > right:
            across, down = left, down + 18
        places.append((across, down))
        across += width
    return places
