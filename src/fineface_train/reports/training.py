"""The training part of a run's page: every value that was logged as a curve, in groups, and sample sheets."""

from markupsafe import Markup

from fineface_train.loop.dashboards import GLANCE
from fineface_train.loop.tracking import VALIDATION
from fineface_train.reports.charts.drawing import inline
from fineface_train.reports.charts.histories import history_chart
from fineface_train.reports.faces import image_uri
from fineface_train.reports.run_folder import Curve, RunFolder
from fineface_train.reports.words import METRIC_NAMES

CLOCKS = ("examples", "seconds")
"""Names of metrics.jsonl that only count on."""
EVALUATION = "evaluation."
"""Begins the names of what the evaluation after training found; the page's tables show it."""
TRAINING = "Training"
GROUPS = {VALIDATION: "Validation: images held out of training", GLANCE: "A glance: a few images, judged on the way"}
"""Titles of groups that are known by the first part of their names; another group is a player's."""
SHEET_SIDE = 1800
"""Pixels: larger sample sheets are shrunk to this side, at which the names on them can still be read."""


def training_curves(curves: dict[str, Curve]) -> list[tuple[str, list[tuple[str, Markup]]]]:
    """(group, [(name, chart)]) of all values over steps: what belongs to no player first, then each player's
    ("critic/loss"), then what was seen on images held out and at a glance."""
    groups: dict[str, list[tuple[str, Markup]]] = {}
    for name, points in curves.items():
        if name in CLOCKS or name.startswith(EVALUATION):
            continue
        group, rest = grouped(name)
        chart = history_chart(points, title=f"{group}: {name} over steps")
        groups.setdefault(group, []).append((in_words(rest), inline(chart)))
    last = list(GROUPS.values())
    order = sorted(groups, key=lambda group: (group != TRAINING, last.index(group) if group in last else -1))
    return [(group, groups[group]) for group in order]


def grouped(name: str) -> tuple[str, str]:
    """(group, name within it) of a name of metrics.jsonl: "critic/loss" is the critic's loss, "validation.loss" is of
    the validation, and a plain name is the training's."""
    head, dot, rest = name.partition(".")
    if dot and head in GROUPS:
        return GROUPS[head], rest
    player, slash, value = name.partition("/")
    return (f"Player: {player}", value) if slash else (TRAINING, name)


def in_words(name: str) -> str:
    """A name of metrics.jsonl as a title: "gradient_norm" as "Gradient norm"."""
    if name in METRIC_NAMES:
        return METRIC_NAMES[name][0]
    words = name.replace("_gb", " (GB)").replace("_", " ")
    return words[:1].upper() + words[1:]


def sample_sheets(run: RunFolder) -> list[tuple[str, str]]:
    """The first, a middle and the last sample sheet as (step, data URI)."""
    paths = run.samples
    picked = sorted({0, len(paths) // 2, len(paths) - 1}) if paths else []
    return [
        (paths[place].stem.removeprefix("step_").lstrip("0") or "0", image_uri(paths[place], side=SHEET_SIDE))
        for place in picked
    ]
