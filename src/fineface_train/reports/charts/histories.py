"""Values over steps as charts, with their moving averages where they are noisy."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fineface_train.reports.charts.axes import Points, line, scales
from fineface_train.reports.charts.drawing import COLOURS, Chart, series_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOISY = 3.0
"""A curve is noisy where its ups and downs add up to this many times its range; its moving average is drawn too."""
MANY = 20
"""Values from which on a moving average says something."""


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
            line(axes, shown, COLOURS["accent"], width=1, alpha=0.4)
        line(axes, smoothed(shown) if noisy else shown, COLOURS["accent"], dots=len(shown) < MANY)
        bottom = low if low == 0 else low - margin
        scales(axes, (points[0][0], max(points[-1][0], points[0][0] + 1)), (bottom, high + margin))

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
            line(axes, clipped, series_colour(place), dots=not noisy)
        scales(axes, (min(steps), max(max(steps), min(steps) + 1)), (values[0] - margin, high + margin))

    return Chart(title, (420, 220), draw)


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
