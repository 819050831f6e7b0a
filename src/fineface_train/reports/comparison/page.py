"""A sweep's arms beside each other: comparison.json, report.md with its figures, report.html and rows.parquet (every
image of every arm) in the sweep's folder.

Reads files only: the records of the sweep, and the runs and evaluations that they name.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.evaluation.compare import is_significant
from fineface_train.evaluation.metrics import nulled
from fineface_train.files import read_json, replacing, write_json, write_text
from fineface_train.pictures import save_webp
from fineface_train.reports.charts.drawing import inline
from fineface_train.reports.comparison.faces import arms_sheet, face_blocks, face_tables
from fineface_train.reports.comparison.figures import leakage_charts, response_charts, value_charts, write_figures
from fineface_train.reports.comparison.found import compared, standing
from fineface_train.reports.comparison.losses import LOSSES, loss_charts, validated
from fineface_train.reports.comparison.markdown import comparison_markdown
from fineface_train.reports.comparison.pictures import pictures_tables, write_pictures_comparison
from fineface_train.reports.comparison.runs import Arms, check_alike, chosen_reference, read_runs, rows_of
from fineface_train.reports.comparison.tables import FIGURES, KINDS, SHOWN, SUBSET_METRIC, kind_name, short_name
from fineface_train.reports.comparison.trade_off import trade_off
from fineface_train.reports.comparison.words import control_rows
from fineface_train.reports.pages import csv_uri, render
from fineface_train.reports.sweep_records import read_records
from fineface_train.reports.verdict import thresholds
from fineface_train.reports.words import METRIC_NAMES

TEMPLATE = "comparison.html"


def write_comparison(folder: Path, reference: str | None = None) -> Path:
    """Compare the arms of the sweep in `folder` and write comparison.json, rows.parquet, report.md, figures/ and
    report.html there; returns the page's path.

    Where no arm was judged, their losses and pictures are compared (`comparison.pictures`). Raises ValueError where no
    arm is evaluated, where `reference` (default: the sweep's own, else its first arm) is none of them, and where arms
    were not evaluated alike.
    """
    records = read_records(folder)
    all_arms, missing = read_runs(records)
    if not all_arms:
        why = "; ".join(f"{arm}: {why}" for arm, why in missing[:3])
        raise ValueError(f"{folder}: no arm of this sweep is evaluated yet ({why})")
    arms = _judged(all_arms)
    reference = chosen_reference(arms or all_arms, reference, records, folder)
    check_alike(arms or all_arms)
    if not arms:
        return write_pictures_comparison(folder, all_arms, reference, records, missing)
    for arm, runs in all_arms.items():
        for seed, run in runs.items():
            if not run.metrics:
                missing.append((f"{arm} seed={seed}", f"pictures, not judged: {run.pictures.get('judge_it', '')}"))
    found = compared(arms, reference, records)
    write_json(folder / "comparison.json", nulled(found))
    rows = [
        rows_of(run).assign(arm=arm, seed_of_training=seed) for arm, runs in arms.items() for seed, run in runs.items()
    ]
    with replacing(folder / "rows.parquet") as partial:
        pd.concat(rows).to_parquet(partial, index=False, compression="zstd")
    write_figures(folder / FIGURES, found)
    (folder / FIGURES / LOSSES).unlink(missing_ok=True)  # left by a comparison before these were judged
    save_webp(arms_sheet(arms), folder / FIGURES / "faces.webp")
    write_text(folder / "report.md", comparison_markdown(folder.resolve().name, found, missing))
    return write_text(folder / "report.html", _page(folder.resolve().name, arms, found, missing))


def _judged(arms: Arms) -> Arms:
    """The runs that a judge has measured."""
    judged = {arm: {seed: run for seed, run in runs.items() if run.metrics} for arm, runs in arms.items()}
    return {arm: runs for arm, runs in judged.items() if runs}


def _page(name: str, arms: Arms, found: dict[str, Any], missing: list[tuple[str, str]]) -> str:
    """report.html of judged arms."""
    tried = trade_off(found)
    return render(
        TEMPLATE,
        name=name,
        found=found,
        kinds={kind.value: title for kind, title in KINDS.items()},
        metric_names={metric: METRIC_NAMES[metric] for metric in SHOWN},
        aus=list(zip(AU_KEYS, AU_NAMES, strict=True)),
        missing=missing,
        subset_metric=SUBSET_METRIC,
        standing=standing,
        significant=is_significant,
        kind_name=kind_name,
        control=control_rows(found),
        thresholds=thresholds(),
        csv=csv_uri(_numbers(found).to_csv(index=False)),
        dots={
            kind.value: [(label, meaning, inline(chart)) for label, meaning, chart in value_charts(found, kind.value)]
            for kind in KINDS
        },
        trade_off=tried | {"charts": [(what, inline(chart)) for what, chart in tried["charts"]]},
        responses=[(key, au_name, inline(chart)) for key, au_name, chart in response_charts(found)],
        leakage=[(arm, inline(chart)) for arm, chart in leakage_charts(found)],
        faces=face_blocks(arms, 1)[0],
        losses=[(title, inline(chart)) for title, chart in loss_charts(arms)],
        loss_arms=[short_name(arm) for arm in arms],
        validation=validated(arms, found["reference"]),
    )


def comparison_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """What `write_comparison` found, for dashboards: every arm's numbers and differences, and its faces as pictures."""
    found = read_json(folder / "comparison.json")
    arms = read_runs(read_records(folder))[0]
    if "numbers" not in found:
        return pictures_tables(found, arms)
    faces = face_tables({arm: runs for arm, runs in arms.items() if arm in found["seeds"]})
    return {"comparison": _numbers(found), "faces": faces}


def _numbers(found: dict[str, Any]) -> pd.DataFrame:
    """Every arm's numbers and differences, a metric a row."""
    parts = ("value", "low", "high", "difference", "p_holm", "same_sign")
    return pd.DataFrame(
        [
            {"arm": arm, "kind": kind, "metric": name} | {part: cell.get(part) for part in parts}
            for kind, arms in found["numbers"].items()
            for arm, cells in arms.items()
            for name, cell in cells.items()
        ]
    )
