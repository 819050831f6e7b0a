"""The page of how well judges agree with labels: report.html, and report.md with the same tables."""

from pathlib import Path
from typing import Any

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.files import write_text
from fineface_train.reports.pages import render
from fineface_train.reports.words import interval, markdown_table, number

TEMPLATE = "agreement.html"
SUBJECTS = 60
"""Shown of a source, those with the lowest ICC; agreement.json has all."""
MEANING = (
    "ICC(3,1) of label and reading over images (Shrout & Fleiss 1979): 1 is the same up to a constant, 0 is chance; in "
    "brackets 95% intervals, resampled over subjects. MAE is the mean absolute difference, in units of intensity (0 to "
    "5). An AU whose label never varies has no ICC."
)


def write_agreement_report(folder: Path, found: dict[str, Any]) -> Path:
    """Write report.html and report.md into `folder` from what agreement.json holds; returns the page's path."""
    title = f"How well judges read {found['data']}, split {found['split']}"
    sections = [
        (source, f"{source}, images: {of['images']}, subjects: {of['subjects']}", _remarks(source, of), _tables(of))
        for source, of in found["sources"].items()
    ]
    lines = [f"# {title}\n", MEANING + "\n"]
    for _, name, remarks, tables in sections:
        lines += [f"## {name}\n", *(f"{remark}\n" for remark in remarks), *(markdown_table(rows) for rows in tables)]
    write_text(folder / "report.md", "\n".join(lines) + "\n")
    return write_text(
        folder / "report.html",
        render(TEMPLATE, name=folder.resolve().name, title=title, meaning=MEANING, sections=sections),
    )


def _remarks(source: str, of: dict[str, Any]) -> list[str]:
    """What to know before the numbers are believed."""
    said = [f"Labels from: {', '.join(of['labels_from'])}."]
    for judge, part in of["judges"].items():
        if part["wrote_labels"]:
            said.append(
                f"{judge} wrote the labels of {source} itself: its agreement with them says nothing of how good it is."
            )
        if part["no_face_rate"]:
            said.append(f"{judge} found no face in {100 * part['no_face_rate']:.1f}% of the images, which count too.")
    if of["subjects"] < 2:
        said.append("One subject alone: there are no intervals.")
    return said


def _tables(of: dict[str, Any]) -> list[list[list[str]]]:
    """Per AU, and per subject where subjects have several images; the first row is the header."""
    judges = list(of["judges"].items())
    header = [column for judge, _ in judges for column in (f"{judge}: ICC(3,1)", "MAE")]
    per_au = [["AU", "", "shown in", *header]]
    per_au += [["all", "mean of the AUs", "", *(text for _, part in judges for text in _cells(part))]]
    for key, name in zip(AU_KEYS, AU_NAMES, strict=True):
        shown = judges[0][1]["per_au"][key]["shown"]
        per_au.append(
            [key, name, f"{100 * shown:.1f}%", *(t for _, part in judges for t in _cells(part["per_au"][key]))]
        )
    first = judges[0][1]["per_subject"]
    if not first:
        return [per_au]
    per_subject = [["subject", "images", *header]]
    for subject, cell in list(first.items())[:SUBJECTS]:
        each = [part["per_subject"][subject] for _, part in judges]
        values = [text for one in each for text in (number(one["icc"]), number(one["mae"]))]
        per_subject.append([f"`{subject}`", str(cell["images"]), *values])
    if len(first) > SUBJECTS:
        per_subject.append([f"and {len(first) - SUBJECTS} more", "", *("" for _ in header)])
    return [per_au, per_subject]


def _cells(part: dict[str, Any]) -> tuple[str, str]:
    """ICC and MAE with their intervals."""
    icc, mae = ((number(part[name]["value"]), interval(part[name])) for name in ("icc", "mae"))
    return f"{icc[0]} ({icc[1]})", f"{mae[0]} ({mae[1]})"
