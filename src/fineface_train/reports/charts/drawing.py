"""From axes to SVG: matplotlib draws, and every colour becomes a variable of the page's style sheet.

A chart is drawn in placeholder colours (`COLOURS`), which `_themed` replaces by `var(--name)`. templates/charts.css
defines the variables for light and for dark; the page holds it for the charts within, an SVG file (`sheet`) holds it
itself. Text stays text in the page's own font. The same chart gives the same bytes.
"""

import contextlib
import dataclasses
import io
import itertools
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:  # matplotlib takes a second to import: only drawing pays for it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = 8
"""Colours for lines beside each other; the ninth has the first's again."""
NAMES = ("ink", "muted", "line", "accent", "warm", "panel", *(f"s{number}" for number in range(SERIES)))
COLOURS: dict[str, str] = {name: f"#0000{number:02x}" for number, name in enumerate(NAMES, start=1)}
"""The colour that stands in for each variable of the style sheet while matplotlib draws."""
SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
TITLED = "title:"
"""Begins the id of what gets a title, which a browser shows where one points at it."""
GAP, TITLE, LEGEND_ROW = 24, 22, 18
"""Pixels of a sheet: around a chart, above it for its title, and a row of the legend."""


@dataclasses.dataclass(frozen=True)
class Chart:
    """One chart: what it shows in words, its size in pixels, and how it is drawn on empty axes."""

    title: str
    size: tuple[int, int]
    draw: Callable[["Axes"], None]
    margins: tuple[int, int, int, int] = (34, 8, 8, 20)
    """Pixels left, right, above and below the axes."""


def series_colour(place: int) -> str:
    """The placeholder colour of the line at this place among others."""
    return COLOURS[f"s{place % SERIES}"]


def inline(chart: Chart) -> Markup:
    """A chart as an <svg> within a page, as wide as its place allows; the page holds the style sheet."""
    with _drawing(chart.size, chart.title) as (figure, drawn):
        _axes(figure, chart, (0, 0)).set_gid(None)
    root = _themed(drawn.getvalue())
    root.attrib |= {"role": "img", "aria-label": chart.title}
    return Markup(_written(root))


def sheet(charts: Sequence[tuple[str, Chart]], *, columns: int, legend: Sequence[str] = ()) -> str:
    """Titled charts as one SVG file with its own style sheet; `legend`: names in the order of the colours."""
    width, height = (max(chart.size[side] for _, chart in charts) for side in (0, 1))
    rows = -(-len(charts) // columns)
    across = GAP + columns * (width + GAP)
    beside = max(1, (across - GAP) // (34 + 7 * max(map(len, legend), default=1)))
    head = -(-len(legend) // beside) * LEGEND_ROW + (GAP // 2 if legend else 0)
    size = (across, head + GAP // 2 + rows * (TITLE + height + GAP))
    with _drawing(size, "; ".join(title for title, _ in charts)) as (figure, drawn):
        figure.patch.set(visible=True, facecolor=COLOURS["panel"])
        for place, (title, chart) in enumerate(charts):
            row, column = divmod(place, columns)
            left = GAP + column * (width + GAP)
            top = head + GAP // 2 + TITLE + row * (TITLE + height + GAP)
            _axes(figure, chart, (left, top)).set_gid(TITLED + chart.title)
            figure.text(left / size[0], 1 - (top - 8) / size[1], title, fontsize=12, fontweight=600)
        if legend:
            _legend(figure, legend, beside)
    root = _themed(drawn.getvalue())
    root.attrib |= {"width": str(size[0]), "height": str(size[1]), "font-family": "system-ui, sans-serif"}
    style = ElementTree.Element("style")
    style.text = files("fineface_train.reports").joinpath("templates", "charts.css").read_text(encoding="utf-8")
    root.insert(0, style)
    return _written(root) + "\n"


@contextlib.contextmanager
def _drawing(size: tuple[int, int], salt: str) -> Iterator[tuple["Figure", io.StringIO]]:
    """An empty figure of `size` pixels, and the text that holds its SVG when the block ends; `salt` decides its ids."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of fonts, and of a home it cannot write to
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ours: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.size": 10,
        "text.parse_math": False,
        "text.color": COLOURS["ink"],
        "xtick.labelcolor": COLOURS["muted"],
        "ytick.labelcolor": COLOURS["muted"],
        "axes.labelcolor": COLOURS["muted"],
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a reader's font draws the text, not matplotlib's
        matplotlib.rcdefaults()  # what a matplotlibrc says is another program's wish
        matplotlib.rcParams.update(ours)
        figure, drawn = Figure(figsize=(size[0] / 72, size[1] / 72)), io.StringIO()
        figure.patch.set_visible(False)
        yield figure, drawn
        FigureCanvasSVG(figure).print_svg(drawn, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))


def _axes(figure: "Figure", chart: Chart, corner: tuple[int, int]) -> "Axes":
    """The chart, drawn with its upper left corner at so many pixels from the figure's."""
    whole = figure.get_size_inches() * 72
    left, right, top, bottom = chart.margins
    width, height = chart.size[0] - left - right, chart.size[1] - top - bottom
    axes = figure.add_axes(
        (
            (corner[0] + left) / whole[0],
            1 - (corner[1] + top + height) / whole[1],
            width / whole[0],
            height / whole[1],
        )
    )
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False, bottom=False, pad=5)
    chart.draw(axes)
    return axes


def _legend(figure: "Figure", names: Sequence[str], columns: int) -> None:
    """Names beside dots in the colours of their lines, at the top; `columns` of them in a row."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches() * 72
    for place, name in enumerate(names):
        row, column = divmod(place, columns)
        left = (GAP + column * (width - GAP) / columns) / width
        middle = 1 - (GAP // 2 + 4 + row * LEGEND_ROW) / height
        dot = Line2D([left + 4 / width], [middle], marker="o", markersize=8, color=series_colour(place))
        figure.add_artist(dot)
        figure.text(left + 14 / width, middle, name, fontsize=12, fontweight=600, verticalalignment="center_baseline")


def _themed(text: str) -> ElementTree.Element:
    """What matplotlib wrote, in the style sheet's colours and the reader's font, without what a page has no use for."""
    root = ElementTree.fromstring(text)
    root.attrib = {"viewBox": root.attrib["viewBox"], "stroke-linejoin": "round"}
    used = {element.attrib[f"{{{LINK}}}href"][1:] for element in root.iter(f"{{{SVG}}}use")}
    root[:] = _gathered([kept for child in root for kept in _kept(child, used)])
    return root


def _kept(element: ElementTree.Element, used: set[str]) -> list[ElementTree.Element]:
    """The element as it goes on the page: none of its clip paths, styles and groups without a meaning."""
    kind = element.tag.rpartition("}")[2]
    if kind in ("style", "clipPath", "metadata"):
        return []
    children = [kept for child in element for kept in _kept(child, used)]
    name = element.attrib.pop("id", "")
    if kind in ("g", "defs") and (not children or (kind == "g" and not name.startswith(TITLED))):
        return children
    element[:] = _gathered(children)
    element.tag, element.tail = kind, None
    element.text = element.text if kind == "text" else None
    if name in used:
        element.set("id", name)
    if name.startswith(TITLED):
        title = ElementTree.Element("title")
        title.text = name.removeprefix(TITLED)
        element.insert(0, title)
    element.attrib.pop("clip-path", None)
    if f"{{{LINK}}}href" in element.attrib:
        element.set("href", element.attrib.pop(f"{{{LINK}}}href"))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for place in {"d", "x", "y"} & set(element.attrib):
        numbers = re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.2f}", element.attrib[place])
        element.set(place, " ".join(numbers.split()))
    if "style" in element.attrib:
        element.set("style", _in_theme(element.attrib["style"]))
    return [element]


def _gathered(elements: list[ElementTree.Element]) -> list[ElementTree.Element]:
    """The same elements; neighbours of one style get it from a group, which says it once."""
    found = []
    for style, run in itertools.groupby(elements, lambda element: element.get("style", "")):
        those = list(run)
        if style and "opacity" not in style and len(those) > 2:
            group = ElementTree.Element("g", style=style)
            for element in those:
                del element.attrib["style"]
            group.extend(those)
            those = [group]
        found += those
    return found


def _in_theme(style: str) -> str:
    """CSS with the placeholder colours as variables, and without a font's name."""
    for name, colour in COLOURS.items():
        style = style.replace(colour, f"var(--{name})")
    style = re.sub(r"font-family: [^;]*;? ?", "", style)
    return style.replace("; ", ";").replace(": ", ":").removesuffix(";")


def _written(root: ElementTree.Element) -> str:
    root.tag = "svg"
    root.set("xmlns", SVG)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
