"""A run folder as one page: report.html, self-contained, and report.md with its tables.

A section appears where its file exists; the page says what is missing, and which command makes it.
"""

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.evaluation.media import METRICS
from fineface_train.files import flat, write_text
from fineface_train.loop.tracking import METRICS_FILE
from fineface_train.reports.charts.drawing import inline
from fineface_train.reports.charts.plots import response_chart
from fineface_train.reports.faces import faces
from fineface_train.reports.headline import KINDS, compared, floor, headline_rows, headline_table, unmoved
from fineface_train.reports.numbers import numbers_csv
from fineface_train.reports.pages import csv_uri, render
from fineface_train.reports.run_folder import AUDIT, CONFIG, IMAGES, PROVENANCE, SAMPLES, RunFolder
from fineface_train.reports.training import sample_sheets, training_curves
from fineface_train.reports.verdict import ASKED, leaks, miss, thresholds, verdict
from fineface_train.reports.words import command

TEMPLATE = "report.html"
LABEL_TOOLS = {"libreface": re.compile(r"libreface|^affectnet: .*\.csv", re.IGNORECASE)}
"""Judges that also write training labels, and then grade their own handwriting: for each, what of a run's
"source: who read the AUs" says that it did. FineFace's metadata of AffectNet (a CSV) is LibreFace's."""
PARTS: dict[str, str] = {
    METRICS: "headline numbers, response curves, leakage, per-AU table",
    IMAGES: "generated faces",
    METRICS_FILE: "training curves",
    SAMPLES: "pictures drawn during training",
    AUDIT: "parameter audit",
    CONFIG: "configuration",
    PROVENANCE: "provenance",
}
"""Files of a run folder, and what the page shows of each."""
OF_EVALUATION = (METRICS, IMAGES)
"""Those of `PARTS` that an evaluation makes; a training makes the others."""


def write_report(run: RunFolder, judge_it: str | None = None) -> Path:
    """Write report.html and report.md into the run's folder; returns the page's path.

    `judge_it`: the command that measures the run's bundle. Pictures that were made without a judge name it themselves.
    """
    judge_it = (
        run.pictures.get("judge_it")
        or judge_it
        or command("evaluate", f"bundle={run.folder.absolute() / 'bundle'}", f"out={run.folder.absolute()}")
    )
    nothing = floor(run)
    page = render(
        TEMPLATE,
        name=run.name,
        run=run,
        metrics=run.metrics,
        pictures=run.pictures,
        kinds={kind: title for kind, title in KINDS.items() if run.metrics.get(kind)},
        verdict=verdict(run.metrics),
        thresholds=thresholds(),
        asked=ASKED,
        compared=compared(run, nothing),
        headline=headline_rows(run.metrics),
        nothing=nothing,
        unmoved=unmoved,
        miss=miss,
        worst=next(iter(leaks(run.metrics)), None),
        csv=csv_uri(numbers_csv(run)) if run.metrics else "",
        aus=list(zip(AU_KEYS, AU_NAMES, strict=True)),
        faces=faces(run),
        response=_response_charts(run.metrics),
        curves=training_curves(run.curves),
        samples=sample_sheets(run),
        provenance=list(flat(run.provenance)),
        disagreement=_disagreement(run.metrics),
        label_tool=judge_wrote_labels(run.judge, run.provenance),
        judge_it=judge_it,
        missing=missing(run, judge_it),
    )
    write_text(run.folder / "report.md", f"# {run.name}\n\n{_told(run, judge_it)}")
    return write_text(run.folder / "report.html", page)


def missing(run: RunFolder, judge_it: str) -> list[tuple[str, str, str]]:
    """(file, what it would show, the command that makes it; "" for the training's own) of each part that is not there;
    an evaluation away from its run lacks none of a training's."""
    return [
        (part, what, judge_it if part in OF_EVALUATION else "")
        for part, what in PARTS.items()
        if not (run.folder / part).exists() and (part in OF_EVALUATION or not run.evaluation_alone)
    ]


def _told(run: RunFolder, judge_it: str) -> str:
    """The text of report.md."""
    if run.metrics:
        return headline_table(run)
    return unjudged(run.pictures) if run.pictures else f"Not evaluated yet: `{judge_it}`\n"


def unjudged(pictures: dict[str, Any]) -> str:
    """What pictures.json holds, in words."""
    return (
        f"{pictures['images']} pictures of protocol {pictures['protocol']}, made with judge=none: nothing was "
        f"measured.\n"
        f"To measure them, without making them again:\n\n    {pictures.get('judge_it', '')}\n"
    )


def judge_wrote_labels(judge: str, provenance: dict[str, Any]) -> bool:
    """Whether the judge is the tool that wrote AUs of the data a run was trained on; where its provenance does not say
    who wrote them, it is taken to be."""
    labels = provenance.get("labels")
    written = [by for tool, by in LABEL_TOOLS.items() if tool in judge.lower()]
    return any(labels is None or any(by.search(who) for who in labels) for by in written)


def _response_charts(metrics: dict[str, Any]) -> list[tuple[str, str, float | None, Markup]]:
    """(AU, name, slope, chart) of each AU: measured over requested intensity with its interval."""
    curves, per_au = metrics.get("response_curve") or {}, metrics.get("per_au") or {}
    return [
        (
            key,
            name,
            (per_au.get(key) or {}).get("slope"),
            inline(response_chart(curves[key], title=f"{key}: measured over requested")),
        )
        for key, name in zip(AU_KEYS, AU_NAMES, strict=True)
        if key in curves
    ]


def _disagreement(metrics: dict[str, Any]) -> list[tuple[str, float]]:
    """How far the two judges differ: (what, number)."""
    found = metrics.get("judge_disagreement") or {}
    return [(key, value) for key, value in found.items() if isinstance(value, float)]
