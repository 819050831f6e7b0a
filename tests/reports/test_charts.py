"""Charts as SVG: they follow the page's colours, and the same chart gives the same bytes."""

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from fineface_train.reports.charts.drawing import COLOURS, Chart, inline, sheet
from fineface_train.reports.charts.histories import histories_chart, history_chart, is_noisy, smoothed
from fineface_train.reports.charts.plots import (
    histogram_chart,
    intervals_chart,
    matrix_chart,
    response_chart,
    responses_chart,
    scatter_chart,
)

CURVE = {"requested": [0.0, 1.0, 5.0], "measured_mean": [0.1, None, 4.5]}
CURVE |= {"low": [0.0, None, 4.0], "high": [0.3, None, 5.2]}
STEPS = [(10.0 * step, 1 / step) for step in range(1, 30)]
CHARTS: dict[str, Chart] = {
    "response": response_chart(CURVE, title="one AU"),
    "unknown response": response_chart(CURVE | {"measured_mean": [None] * 3}, title="no reading"),
    "responses": responses_chart([CURVE, CURVE], title="arms"),
    "history": history_chart(STEPS, title="a loss"),
    "one value": history_chart([(5.0, 0.3)], title="one value"),
    "constant": history_chart([(1.0, 2.0), (2.0, 2.0)], title="a constant"),
    "negative": history_chart([(1.0, -2.0), (2.0, -3.0)], title="a critic"),
    "histories": histories_chart([STEPS, [], STEPS[:1]], title="losses"),
    "intervals": intervals_chart([("a", 1, 0.5, 2), ("b", None, None, None)], title="values", marks=[("drawn", 0.1)]),
    "no interval": intervals_chart([("a", None, None, None)], title="no value"),
    "scatter": scatter_chart([("a", [(0.9, 3, "one"), (0.8, 2, "two")]), ("b", [])], title="x", labels=("x", "y")),
    "matrix": matrix_chart([[1, None], [-0.5, 0]], ["AU1", "AU2"], title="a matrix"),
    "histogram": histogram_chart([0.5, 0.2, 0], [0.9, 0.1, 0.1], title="shares"),
    "empty histogram": histogram_chart([0, 0], [], title="nothing"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_takes_its_colours_and_font_from_the_page(name: str) -> None:
    text = str(inline(CHARTS[name]))
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == CHARTS[name].title
    assert root.get("viewBox") == "0 0 {} {}".format(*CHARTS[name].size)
    assert not re.search(r"#[0-9a-f]{3,6}\b", re.sub(r'(href|id)="[^"]*"', "", text))
    assert not {"font-family", "url(", "<style", "clip-path", "xlink", "<script"} & set(re.findall(r"[<\w-]+\(?", text))
    known = set(re.findall(r"(--[\w-]+):", _style()))
    assert set(re.findall(r"var\((--[\w-]+)\)", text)) <= known
    assert root.findall(".//{*}text")
    assert all(element.text for element in root.findall(".//{*}text"))
    assert str(inline(CHARTS[name])) == text


def _style() -> str:
    return files("fineface_train.reports").joinpath("templates", "charts.css").read_text()


def test_the_style_sheet_has_every_colour_for_light_and_for_dark() -> None:
    light, dark = _style().split("@media (prefers-color-scheme: dark)")
    for part in (light, dark):
        values = dict(re.findall(r"--([\w-]+): ([^;]+);", part))
        assert set(COLOURS) <= set(values)
        page, panel = values["page"], values["panel"]
        assert all(_contrast(values[name], values["panel"]) > 3 for name in COLOURS if name not in ("line", "panel"))
        assert _contrast(values["muted"], panel) > 4.5
        assert page != panel


def _contrast(one: str, other: str) -> float:
    """WCAG 2 contrast of two colours written as #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_of_people_stays_text() -> None:
    odd = 'a<b> & "c" $x_1$ 表情'
    text = inline(intervals_chart([(odd, 1, 0.5, 2)], title=odd))
    root = ElementTree.fromstring(str(text))
    assert odd in [element.text for element in root.findall(".//{*}text")]
    assert root.get("aria-label") == odd
    assert any((element.text or "").startswith(odd) for element in root.findall(".//{*}title"))


def test_a_sheet_stands_alone_with_titles_legend_and_both_schemes() -> None:
    charts = [("First", CHARTS["responses"]), ("Second", CHARTS["response"]), ("Third", CHARTS["responses"])]
    text = sheet(charts, columns=2, legend=["fineface", "another arm"])
    root = ElementTree.fromstring(text)
    assert "prefers-color-scheme: dark" in text
    words = [element.text for element in root.findall(".//{*}text")]
    assert {"First", "Second", "Third", "fineface", "another arm"} <= set(words)
    assert [title.text for title in root.findall("{*}g/{*}title")] == ["arms", "one AU", "arms"]
    assert text == sheet(charts, columns=2, legend=["fineface", "another arm"])
    assert "date" not in text


def test_settings_of_the_user_change_nothing() -> None:
    before = inline(CHARTS["history"])
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path"}):
        assert inline(CHARTS["history"]) == before
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_charts_of_one_page_share_no_id() -> None:
    ids = [re.findall(r'id="([^"]+)"', str(inline(response_chart(CURVE, title=title)))) for title in ("AU1", "AU2")]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])


def test_matplotlib_is_loaded_where_a_chart_is_drawn_only() -> None:
    code = (
        "import sys, fineface_train.reports.run, fineface_train.reports.comparison.page, fineface_train.reports.data; "
        "assert 'matplotlib' not in sys.modules; "
        "from fineface_train.reports.charts.drawing import inline; "
        "from fineface_train.reports.charts.histories import history_chart; "
        "inline(history_chart([(1, 2)], title='x')); assert 'matplotlib' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_noise_is_known_by_its_ups_and_downs() -> None:
    rng = np.random.default_rng(0)
    falling = [float(value) for value in np.exp(-np.arange(100) / 20)]
    warm_up = [*np.linspace(0, 1, 20), *np.linspace(1, 0, 80)]
    noisy = [value + rng.normal(0, 0.1) for value in falling]
    assert [is_noisy(values) for values in (falling, warm_up, noisy, noisy[:10])] == [False, False, True, False]
    averaged = [value for _, value in smoothed(list(enumerate(noisy)))]
    assert np.abs(np.diff(averaged)).mean() < 0.5 * np.abs(np.diff(noisy)).mean()


def test_published_figures_are_whole() -> None:
    for path in sorted(Path("docs/results").glob("*/figures/*.svg")):
        root = ElementTree.parse(path).getroot()
        assert root.findall("{*}style"), path
        assert "prefers-color-scheme: dark" in path.read_text(), path
