"""What the kinds of charts share on their axes: lines, round ticks, the dashed line of what is ideal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fineface_train.aus import MAX_INTENSITY
from fineface_train.reports.charts.drawing import COLOURS
from fineface_train.reports.words import compact

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]
"""(x, y) pairs in the order in which a line joins them."""
DASHED: dict[str, Any] = {"color": COLOURS["muted"], "linewidth": 1.2, "linestyle": (0, (4, 4))}


def ideal(axes: "Axes") -> None:
    axes.plot([0, MAX_INTENSITY], [0, MAX_INTENSITY], **DASHED)


def line(
    axes: "Axes", points: Points, colour: str, *, dots: bool = False, width: float = 1.8, alpha: float | None = None
) -> None:
    """Points joined by a line; one alone is a dot."""
    marker = "o" if dots or len(points) == 1 else None
    if points:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, color=colour, linewidth=width, marker=marker, markersize=5, alpha=alpha)


def scales(axes: "Axes", x: tuple[float, float], y: tuple[float, float]) -> None:
    """Both axes' ranges with round ticks, and lines across at the vertical ones."""
    axes.set(xlim=x, ylim=y)
    axes.grid(axis="y", color=COLOURS["line"], linewidth=1)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        ticks(axis)


def ticks(axis: Any) -> None:
    """At most seven round numbers, written short."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
