"""The kinds of charts: responses, values over steps, intervals, a trade-off, a matrix, a histogram."""

import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fineface_train.aus import MAX_INTENSITY
from fineface_train.reports.charts.drawing import COLOURS, TITLED, Chart, series_colour
from fineface_train.reports.words import compact

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]
"""(x, y) pairs in the order in which a line joins them."""
NOISY = 3.0
"""A curve is noisy where its ups and downs add up to this many times its range; its moving average is drawn too."""
MANY = 20
"""Values from which on a moving average says something."""


def response_chart(curve: dict[str, Any], *, title: str) -> Chart:
    """One AU (of `metrics.response_curve`): measured over requested intensity, its interval; dashed: as requested."""
    known = [
        values
        for values in zip(curve["requested"], curve["measured_mean"], curve["low"], curve["high"], strict=True)
        if None not in values[:2]
    ]

    def draw(axes: "Axes") -> None:
        band = [(asked, low, high) for asked, _, low, high in known if low is not None and high is not None]
        _ideal(axes)
        if band:
            asked, low, high = zip(*band, strict=True)
            axes.fill_between(asked, low, high, color=COLOURS["accent"], alpha=0.18, linewidth=0)
        _line(axes, [(asked, read) for asked, read, _, _ in known], COLOURS["accent"], dots=True)
        numbers = [number for values in band for number in values[1:]]
        _scales(axes, (0, MAX_INTENSITY), (min([0.0, *numbers]), max([MAX_INTENSITY, *numbers])))

    return Chart(title, (220, 160), draw)


def responses_chart(curves: Sequence[dict[str, Any]], *, title: str) -> Chart:
    """Measured over requested intensity of one AU, a line for each of `curves`; dashed: as requested."""
    lines = [_pairs(curve["requested"], curve["measured_mean"]) for curve in curves]

    def draw(axes: "Axes") -> None:
        _ideal(axes)
        for place, points in enumerate(lines):
            _line(axes, points, series_colour(place), dots=True)
        highest = max([MAX_INTENSITY, *(read for points in lines for _, read in points)])
        _scales(axes, (0, MAX_INTENSITY), (0, highest))

    return Chart(title, (220, 160), draw)


def history_chart(points: Points, *, title: str) -> Chart:
    """One value over steps; where it is noisy, pale and with its moving average."""
    values = [value for _, value in points]
    noisy = is_noisy(values)
    # A spike must not flatten the rest of a noisy curve: its axis ends a little above the 99th percentile.
    high = sorted(values)[int(0.99 * (len(values) - 1))] * 1.1 if noisy and min(values) >= 0 else max(values)
    low = min(0.0, *values) if min(values) < 0.5 * max(values) else min(values)
    margin = 0.05 * ((high - low) or abs(high) or 1)

    def draw(axes: "Axes") -> None:
        shown = [(step, min(value, high + margin)) for step, value in points]
        if noisy:
            _line(axes, shown, COLOURS["accent"], width=1, alpha=0.4)
        _line(axes, smoothed(shown) if noisy else shown, COLOURS["accent"], dots=len(shown) < MANY)
        bottom = low if low == 0 else low - margin
        _scales(axes, (points[0][0], max(points[-1][0], points[0][0] + 1)), (bottom, high + margin))

    return Chart(title, (320, 150), draw)


def histories_chart(curves: Sequence[Points], *, title: str) -> Chart:
    """One value over steps, a line for each of `curves`, which may be empty; moving averages where one is noisy."""
    noisy = any(is_noisy([value for _, value in points]) for points in curves)
    shown = [smoothed(points) if noisy else list(points) for points in curves]
    values = sorted(value for points in shown for _, value in points)
    steps = [step for points in shown for step, _ in points]
    # The first steps must not flatten what the curves differ in.
    high = values[int(0.98 * (len(values) - 1))] if noisy else values[-1]
    margin = 0.05 * ((high - values[0]) or 1)

    def draw(axes: "Axes") -> None:
        for place, points in enumerate(shown):
            clipped = [(step, min(value, high + margin)) for step, value in points]
            _line(axes, clipped, series_colour(place), dots=not noisy)
        _scales(axes, (min(steps), max(max(steps), min(steps) + 1)), (values[0] - margin, high + margin))

    return Chart(title, (420, 220), draw)


def intervals_chart(
    rows: Sequence[tuple[str, float | None, float | None, float | None]],
    *,
    title: str,
    marks: Sequence[tuple[str, float]] = (),
) -> Chart:
    """A row for each (name, value, low, high): a dot on its interval. `marks`: named dashed lines."""
    numbers = [number for row in rows for number in row[1:] if number is not None] + [value for _, value in marks]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    # The axis begins at 0, unless that would push everything to its end.
    low = low - 0.2 * (high - low) if 0 < low < high < 2 * low else min(0.0, low)

    def draw(axes: "Axes") -> None:
        for place, (name, middle, start, end) in enumerate(rows):
            colour, told = series_colour(place), f"{TITLED}{name} {_told(middle)} ({_told(start)} to {_told(end)})"
            if start is not None and end is not None:
                axes.plot([start, end], [place, place], color=colour, linewidth=1.8, solid_capstyle="round")
            if middle is not None:
                axes.plot([middle], [place], "o", color=colour, markersize=8, gid=told)
        for name, value in marks:
            axes.plot([value] * 2, [-0.5, len(rows) - 0.5], gid=f"{TITLED}{name} {_told(value)}", **_DASHED)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        for place, label in enumerate(axes.get_yticklabels()):
            label.set(color=series_colour(place), fontweight=600)
        axes.grid(axis="x", color=COLOURS["line"], linewidth=1)
        axes.set_axisbelow(True)
        axes.set(xlim=(low, high + 0.02 * ((high - low) or 1)), ylim=(len(rows) - 0.5, -0.5))
        _ticks(axes.xaxis)

    return Chart(title, (380, 24 + 20 * len(rows)), draw, margins=(124, 12, 4, 20))


def scatter_chart(
    series: Sequence[tuple[str, Sequence[tuple[float, float, str]]]], *, title: str, labels: tuple[str, str]
) -> Chart:
    """(name, points (x, y, what it is)) joined in their order, a colour for each name; `labels` of the two axes."""

    def draw(axes: "Axes") -> None:
        for place, (name, points) in enumerate(series):
            _line(axes, [(x, y) for x, y, _ in points], series_colour(place))
            for x, y, what in points:
                told = f"{TITLED}{name} {what}: {_told(x)}, {_told(y)}"
                axes.plot([x], [y], "o", color=series_colour(place), markersize=7, gid=told)
        axes.margins(0.05)
        axes.grid(color=COLOURS["line"], linewidth=1)
        axes.set_axisbelow(True)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        for axis in (axes.xaxis, axes.yaxis):
            _ticks(axis)

    return Chart(title, (620, 380), draw, margins=(56, 10, 8, 42))


def matrix_chart(matrix: Sequence[Sequence[float | None]], names: Sequence[str], *, title: str) -> Chart:
    """Square cells with their numbers; colours are full at 1 and, in the other colour, at -1. `names`: of rows and
    columns."""
    side, left, top = 24, 38, 20

    def draw(axes: "Axes") -> None:
        from matplotlib.patches import Rectangle

        for row, values in enumerate(matrix):
            for column, value in enumerate(values):
                colour = COLOURS["accent" if (value or 0) >= 0 else "warm"]
                shade = round(min(abs(value or 0), 1) * 0.8, 2)
                if shade:
                    axes.add_patch(Rectangle((column, row), 0.96, 0.96, color=colour, alpha=shade, linewidth=0))
                axes.text(
                    column + 0.48,
                    row + 0.52,
                    _short(value),
                    fontsize=7.5,
                    horizontalalignment="center",
                    verticalalignment="center_baseline",
                )
        middles = [place + 0.48 for place in range(len(names))]
        axes.set_xticks(middles, [name.removeprefix("AU") for name in names])
        axes.set_yticks(middles, names)
        axes.tick_params(labeltop=True, labelbottom=False)
        axes.set(xlim=(0, len(names)), ylim=(len(names), 0))

    size = side * len(names)
    return Chart(title, (left + size, top + size), draw, margins=(left, 0, top, 0))


def histogram_chart(shares: Sequence[float], before: Sequence[float], *, title: str) -> Chart:
    """Percent of rows in equal bins over [0, 5]; dashed: `before`, where there is one, cut off at the chart's top (an
    annotator's near-zeros tower)."""
    top = 105 * max(*shares, *before[1:]) or 1.0

    def draw(axes: "Axes") -> None:
        edges = [MAX_INTENSITY * place / len(shares) for place in range(len(shares) + 1)]
        heights = [100 * share for share in shares]
        axes.stairs(heights, edges, fill=True, facecolor=COLOURS["accent"], alpha=0.18, edgecolor="none")
        axes.stairs(heights, edges, color=COLOURS["accent"], linewidth=1.6)
        if len(before):
            axes.stairs([min(top, 100 * share) for share in before], edges, **_DASHED)
        _scales(axes, (0, MAX_INTENSITY), (0, top))

    return Chart(title, (220, 120), draw)


_DASHED: dict[str, Any] = {"color": COLOURS["muted"], "linewidth": 1.2, "linestyle": (0, (4, 4))}


def is_noisy(values: Sequence[float]) -> bool:
    """Whether the ups and downs of at least `MANY` values add up to more than `NOISY` times their range."""
    walked = math.fsum(abs(after - value) for value, after in itertools.pairwise(values))
    return len(values) > MANY and walked > NOISY * (max(values) - min(values))


def smoothed(points: Points) -> list[tuple[float, float]]:
    """Exponential moving average over about a twentieth of the curve, corrected for its start."""
    keep = 1 - 1 / max(5.0, len(points) / 20)
    average, weight, found = 0.0, 0.0, []
    for step, value in points:
        average, weight = keep * average + (1 - keep) * value, keep * weight + 1 - keep
        found.append((step, average / weight))
    return found


def _ideal(axes: "Axes") -> None:
    axes.plot([0, MAX_INTENSITY], [0, MAX_INTENSITY], **_DASHED)


def _line(
    axes: "Axes", points: Points, colour: str, *, dots: bool = False, width: float = 1.8, alpha: float | None = None
) -> None:
    """Points joined by a line; one alone is a dot."""
    marker = "o" if dots or len(points) == 1 else None
    if points:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, color=colour, linewidth=width, marker=marker, markersize=5, alpha=alpha)


def _scales(axes: "Axes", x: tuple[float, float], y: tuple[float, float]) -> None:
    """Both axes' ranges with round ticks, and lines across at the vertical ones."""
    axes.set(xlim=x, ylim=y)
    axes.grid(axis="y", color=COLOURS["line"], linewidth=1)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        _ticks(axis)


def _ticks(axis: Any) -> None:
    """At most seven round numbers, written short."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def _pairs(xs: Sequence[float], ys: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _short(value: float | None) -> str:
    """Two decimals without a leading zero, so that it fits a cell."""
    if value is None:
        return "–"
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}".replace("-0.00", "0.00")).replace("-", "−")
