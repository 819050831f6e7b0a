"""The kinds of charts beside values over steps: responses, intervals, a trade-off, a matrix, a histogram."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fineface_train.aus import MAX_INTENSITY
from fineface_train.reports.charts.axes import DASHED, ideal, line, scales, ticks
from fineface_train.reports.charts.drawing import COLOURS, TITLED, Chart, series_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def response_chart(curve: dict[str, Any], *, title: str) -> Chart:
    """One AU (of `metrics.response_curve`): measured over requested intensity, its interval; dashed: as requested."""
    known = [
        values
        for values in zip(curve["requested"], curve["measured_mean"], curve["low"], curve["high"], strict=True)
        if None not in values[:2]
    ]

    def draw(axes: "Axes") -> None:
        band = [(asked, low, high) for asked, _, low, high in known if low is not None and high is not None]
        ideal(axes)
        if band:
            asked, low, high = zip(*band, strict=True)
            axes.fill_between(asked, low, high, color=COLOURS["accent"], alpha=0.18, linewidth=0)
        line(axes, [(asked, read) for asked, read, _, _ in known], COLOURS["accent"], dots=True)
        numbers = [number for values in band for number in values[1:]]
        scales(axes, (0, MAX_INTENSITY), (min([0.0, *numbers]), max([MAX_INTENSITY, *numbers])))

    return Chart(title, (220, 160), draw)


def responses_chart(curves: Sequence[dict[str, Any]], *, title: str) -> Chart:
    """Measured over requested intensity of one AU, a line for each of `curves`; dashed: as requested."""
    lines = [_pairs(curve["requested"], curve["measured_mean"]) for curve in curves]

    def draw(axes: "Axes") -> None:
        ideal(axes)
        for place, points in enumerate(lines):
            line(axes, points, series_colour(place), dots=True)
        highest = max([MAX_INTENSITY, *(read for points in lines for _, read in points)])
        scales(axes, (0, MAX_INTENSITY), (0, highest))

    return Chart(title, (220, 160), draw)


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
            axes.plot([value] * 2, [-0.5, len(rows) - 0.5], gid=f"{TITLED}{name} {_told(value)}", **DASHED)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        for place, label in enumerate(axes.get_yticklabels()):
            label.set(color=series_colour(place), fontweight=600)
        axes.grid(axis="x", color=COLOURS["line"], linewidth=1)
        axes.set_axisbelow(True)
        axes.set(xlim=(low, high + 0.02 * ((high - low) or 1)), ylim=(len(rows) - 0.5, -0.5))
        ticks(axes.xaxis)

    return Chart(title, (380, 24 + 20 * len(rows)), draw, margins=(124, 12, 4, 20))


def scatter_chart(
    series: Sequence[tuple[str, Sequence[tuple[float, float, str]]]], *, title: str, labels: tuple[str, str]
) -> Chart:
    """(name, points (x, y, what it is)) joined in their order, a colour for each name; `labels` of the two axes."""

    def draw(axes: "Axes") -> None:
        for place, (name, points) in enumerate(series):
            line(axes, [(x, y) for x, y, _ in points], series_colour(place))
            for x, y, what in points:
                told = f"{TITLED}{name} {what}: {_told(x)}, {_told(y)}"
                axes.plot([x], [y], "o", color=series_colour(place), markersize=7, gid=told)
        axes.margins(0.05)
        axes.grid(color=COLOURS["line"], linewidth=1)
        axes.set_axisbelow(True)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        for axis in (axes.xaxis, axes.yaxis):
            ticks(axis)

    return Chart(title, (480, 320), draw, margins=(56, 10, 8, 42))


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
            axes.stairs([min(top, 100 * share) for share in before], edges, **DASHED)
        scales(axes, (0, MAX_INTENSITY), (0, top))

    return Chart(title, (220, 120), draw)


def _pairs(xs: Sequence[float], ys: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _short(value: float | None) -> str:
    """Two decimals without a leading zero, so that it fits a cell."""
    if value is None:
        return "–"
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}".replace("-0.00", "0.00")).replace("-", "−")
