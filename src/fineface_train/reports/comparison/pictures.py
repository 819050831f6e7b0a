"""A sweep without a judge: its losses, the error on held-out images, and its pictures; the page says how to get
numbers."""

from pathlib import Path
from typing import Any

import pandas as pd

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.evaluation.compare import is_significant
from fineface_train.evaluation.metrics import nulled
from fineface_train.files import write_json, write_text
from fineface_train.pictures import save_webp
from fineface_train.reports.charts.drawing import inline, sheet
from fineface_train.reports.comparison.faces import PROMPTS, arms_sheet, combinations, face_blocks, face_tables
from fineface_train.reports.comparison.losses import LOSSES, loss_charts, validated, validation_markdown
from fineface_train.reports.comparison.runs import Arms, common, firsts
from fineface_train.reports.comparison.tables import FIGURES, compute_rows, short_name
from fineface_train.reports.pages import render
from fineface_train.reports.words import command, markdown_table

TEMPLATE = "comparison_pictures.html"
SIDE = 96
"""Pixels of a face in faces.webp."""


def write_pictures_comparison(
    folder: Path, arms: Arms, reference: str, records: list[dict[str, Any]], missing: list[tuple[str, str]]
) -> Path:
    """Write comparison.json, report.md, figures/ and report.html of arms that were evaluated alike, and not judged;
    returns the page's path."""
    some = next(iter(firsts(arms).values())).pictures
    commands = [run.pictures.get("judge_it") for runs in arms.values() for run in runs.values()]
    found = {
        "reference": reference,
        "judges": [],
        "protocol": some["protocol"],
        "settings": some.get("settings"),
        "validation": validated(arms, reference),
        "judge_it": [line for line in commands if line],
        **common(arms, records),
    }
    write_json(folder / "comparison.json", nulled(found))
    losses, names = loss_charts(arms), [short_name(arm) for arm in arms]
    (folder / FIGURES).mkdir(exist_ok=True)
    if losses:
        write_text(folder / FIGURES / LOSSES, sheet(losses, columns=2, legend=names))
    save_webp(arms_sheet(arms, side=SIDE), folder / FIGURES / "faces.webp")
    again = command("report", f"out={folder.absolute()}")
    write_text(folder / "report.md", _markdown(folder.resolve().name, found, missing, again, with_losses=bool(losses)))
    page = render(
        TEMPLATE,
        name=folder.resolve().name,
        found=found,
        aus=list(zip(AU_KEYS, AU_NAMES, strict=True)),
        losses=[(title, inline(chart)) for title, chart in losses],
        loss_arms=names,
        validation=found["validation"],
        reference=reference,
        significant=is_significant,
        faces=face_blocks(arms, PROMPTS),
        combinations=combinations(arms),
        again=again,
        missing=missing,
    )
    return write_text(folder / "report.html", page)


def pictures_tables(found: dict[str, Any], arms: Arms) -> dict[str, pd.DataFrame]:
    """For dashboards: every arm's error on held-out images, and its faces as pictures."""
    parts = ("value", "low", "high", "difference", "p_holm", "same_sign")
    cells = (found["validation"] or {}).get("arms", {})
    rows = [{"arm": arm} | {part: cell.get(part) for part in parts} for arm, cell in cells.items()]
    return {"validation": pd.DataFrame(rows), "faces": face_tables(arms)}


def _markdown(
    name: str, found: dict[str, Any], missing: list[tuple[str, str]], again: str, *, with_losses: bool
) -> str:
    """report.md; `again` is the command that writes it anew."""
    parts = [
        f"# {name}\n",
        f"Protocol {found['protocol']}, not judged (judge=none): no AU was measured. Below: losses, the error on "
        f"held-out images, and pictures.\n",
        *validation_markdown(found["validation"]),
        "## Pictures\n",
    ]
    if with_losses:
        parts.append(f"Over optimiser steps, the mean of each arm's seeds.\n\n![losses]({FIGURES}/{LOSSES})\n")
    parts += [
        "One prompt, one starting noise, the first seed of every arm: neutral, and each AU at its "
        "strongest.\n\n![faces](figures/faces.webp)\n",
        "## Compute\n",
        markdown_table(compute_rows(found)),
    ]
    parts += [f"Trained on {found['made_with']}.\n"] if found["made_with"] else []
    parts += [
        "## Numbers\n",
        "These commands read the pictures that are there, and make none again; the last writes this comparison anew.\n",
    ]
    parts += [f"    {line}" for line in (*found["judge_it"], again)]
    return "\n".join([*parts, *(f"- {arm}: {why}\n" for arm, why in missing)]) + "\n"
