"""A sweep's arms beside each other: comparison.json, report.md with its figures, report.html and rows.parquet (every
image of every arm) in the sweep's folder.

Reads files only: the records of the sweep, and the evaluations that they name.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.evaluation.compare import by_subset, compare, is_significant, pool, read_kind, smallest_p
from fineface_train.evaluation.metrics import nulled, per_au, response_curve, response_matrix
from fineface_train.evaluation.plan import Kind
from fineface_train.files import read_json, replacing, write_json, write_text
from fineface_train.pictures import save_webp
from fineface_train.reports.comparison.figures import (
    leakage_charts,
    response_charts,
    trade_off,
    value_charts,
    write_figures,
)
from fineface_train.reports.comparison.markdown import (
    FIGURES,
    KINDS,
    SHOWN,
    SUBSET_METRIC,
    comparison_markdown,
    kind_name,
    short_name,
)
from fineface_train.reports.comparison.pictures import (
    LOSSES,
    arms_sheet,
    loss_charts,
    pictures_tables,
    shown_prompt,
    strongest,
    validated,
    write_pictures_comparison,
)
from fineface_train.reports.comparison.runs import (
    Arms,
    Run,
    check_alike,
    chosen_reference,
    compute,
    made_with,
    read_runs,
)
from fineface_train.reports.paper import PAPER
from fineface_train.reports.run import METRIC_NAMES, grid_row, judge_wrote_labels, render
from fineface_train.reports.sweep_records import read_records

TEMPLATE = "comparison.html"
LOWER_IS_BETTER = ("au_mse_active", "au_mse_mean", "leakage")


def write_comparison(folder: Path, reference: str | None = None) -> Path:
    """Compare the arms of the sweep in `folder` and write comparison.json, rows.parquet, report.md, figures/ and
    report.html there; returns the page's path.

    Where no arm was judged, their losses and pictures are compared (`comparison_pictures`). Raises ValueError where no
    arm is evaluated, where `reference` (default: the sweep's own, else its first arm) is none of them, and where arms
    were not evaluated alike.
    """
    records = read_records(folder)
    all_arms, missing = read_runs(records)
    if not all_arms:
        why = "; ".join(f"{arm}: {why}" for arm, why in missing[:3])
        raise ValueError(f"{folder}: no arm of this sweep is evaluated yet ({why})")
    arms = {
        arm: judged
        for arm, runs in all_arms.items()
        if (judged := {seed: run for seed, run in runs.items() if run.judged})
    }
    reference = chosen_reference(arms or all_arms, reference, records, folder)
    check_alike(arms or all_arms)
    if not arms:
        return write_pictures_comparison(folder, all_arms, reference, missing)
    unjudged = [
        (f"{arm} seed={seed}", run) for arm, runs in all_arms.items() for seed, run in runs.items() if not run.judged
    ]
    missing += [(arm, f"pictures, not judged: {run.metrics.get('judge_it', '')}") for arm, run in unjudged]
    found = _compared(arms, reference, next((record["table"] for record in records if record.get("table")), None))
    write_json(folder / "comparison.json", nulled(found))
    rows = [
        run.frame.assign(arm=arm, seed_of_training=seed) for arm, runs in arms.items() for seed, run in runs.items()
    ]
    with replacing(folder / "rows.parquet") as partial:
        pd.concat(rows).to_parquet(partial, index=False, compression="zstd")
    write_figures(folder / FIGURES, found)
    (folder / FIGURES / LOSSES).unlink(missing_ok=True)  # of a comparison before these were judged
    save_webp(arms_sheet(arms), folder / FIGURES / "faces.webp")
    write_text(folder / "report.md", comparison_markdown(folder.resolve().name, found, missing))
    page = render(
        TEMPLATE,
        name=folder.resolve().name,
        found=found,
        kinds={kind.value: title for kind, title in KINDS.items()},
        metric_names={name: METRIC_NAMES[name] for name in SHOWN},
        aus=list(zip(AU_KEYS, AU_NAMES, strict=True)),
        missing=missing,
        subset_metric=SUBSET_METRIC,
        verdict=verdict,
        significant=is_significant,
        kind_name=kind_name,
        dots={kind.value: value_charts(found, kind.value) for kind in KINDS},
        trade_off=trade_off(found),
        responses=response_charts(found),
        leakage=leakage_charts(found),
        faces=_faces(arms, found["judges"][0]),
        losses=loss_charts(arms),
        loss_arms=[short_name(arm) for arm in arms],
        validation=validated(arms, reference),
    )
    return write_text(folder / "report.html", page)


def comparison_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """What `write_comparison` found, for dashboards: every arm's numbers and differences, and its faces as pictures."""
    found = read_json(folder / "comparison.json")
    if "numbers" not in found:
        return pictures_tables(found, read_runs(read_records(folder))[0])
    rows = [
        {"arm": arm, "kind": kind, "metric": name}
        | {part: cell.get(part) for part in ("value", "low", "high", "difference", "p_holm", "same_sign")}
        for kind, arms in found["numbers"].items()
        for arm, cells in arms.items()
        for name, cell in cells.items()
    ]
    arms = {arm: runs for arm, runs in read_runs(read_records(folder))[0].items() if arm in found["seeds"]}
    faces = [{"arm": arm} | strongest(next(iter(runs.values()))) for arm, runs in arms.items()]
    return {"comparison": pd.DataFrame(rows), "faces": pd.DataFrame(faces)}


def _compared(arms: Arms, reference: str, table: str | None) -> dict[str, Any]:
    """All that the pages show."""
    some = next(iter(next(iter(arms.values())).values())).metrics
    judges = list(some["judges"])
    frames = {arm: {seed: run.frame for seed, run in runs.items()} for arm, runs in arms.items()}
    numbers = compare(frames, reference, judges[0])
    singles = {
        arm: pool([read_kind(frame, judges[0], Kind.individual) for frame in seeds.values()])
        for arm, seeds in frames.items()
    }
    result = {
        "table": table,
        "reference": reference,
        "judges": judges,
        "protocol": some["protocol"],
        "subset": some["subset"],
        "prompts": (prompts := next(iter(singles.values())).units),
        "smallest_p": smallest_p(prompts),
        "settings": some.get("settings"),
        "seeds": {arm: sorted(runs) for arm, runs in arms.items()},
        "numbers": numbers,
        "second_judge": {arm: _second_judge(runs, judges) for arm, runs in arms.items()},
        "always_zero": {
            kind.value: {name: numbers[kind.value][reference][name]["always_zero"] for name in SHOWN} for kind in KINDS
        },
        "ceiling": {
            kind.value: {
                name: (some.get("ceiling", {}).get(kind.value, {}).get(name) or {}).get("value") for name in SHOWN
            }
            for kind in KINDS
        },
        "paper": {arm: dataclasses.asdict(row) for arm, row in PAPER.get(table or "", {}).items()},
        "subsets": by_subset(frames, judges[0]),
        "per_au": {arm: per_au(r, 0) for arm, r in singles.items()},
        "response_curve": {arm: response_curve(r, 0) for arm, r in singles.items()},
        "leakage_matrix": {arm: response_matrix(r, np.ones((1, r.units)))[0].tolist() for arm, r in singles.items()},
        "compute": {arm: compute(runs) for arm, runs in arms.items()},
        "judge_wrote_labels": any(
            judge_wrote_labels(judges[0], run.provenance) for runs in arms.values() for run in runs.values()
        ),
        "made_with": made_with(arms),
        "folders": {arm: {seed: str(run.folder) for seed, run in runs.items()} for arm, runs in arms.items()},
        "trade_off": {arm: _scales(next(iter(runs.values()))) for arm, runs in arms.items()},
    }
    result["claims"] = _claims(result)
    return result


def _second_judge(runs: dict[int, Run], judges: list[str]) -> dict[str, Any]:
    """kind -> metric -> the second judge's number, the mean of the seeds; nothing with one judge."""
    if len(judges) < 2:
        return {}
    values = {
        kind: {
            name: [run.metrics["judges"][judges[1]][kind.value][name]["value"] for run in runs.values()]
            for name in SHOWN
        }
        for kind in KINDS
    }
    return {
        kind.value: {name: float(np.mean(found)) if None not in found else None for name, found in cells.items()}
        for kind, cells in values.items()
    }


def _scales(run: Run) -> list[dict[str, Any]]:
    """The run's evaluations at other adapter scales and guidances (scripts/pareto.py): what was reached, by kind, and
    "drawn", what true drawings reach."""
    points = []
    for path in sorted(run.folder.glob("evaluation-*/metrics.json")):
        metrics = read_json(path, "individual", "combination")
        settings = metrics.get("settings")
        if settings and "pareto" in path.parent.name:
            reached, drawn = _trade_off_values(metrics), _trade_off_values(metrics.get("ceiling") or {})
            points.append(
                reached | {"scale": settings["scale"], "guidance": settings["sampling"]["guidance"], "drawn": drawn}
            )
    return points


def _trade_off_values(metrics: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """kind -> the metrics that are traded against each other."""
    return {
        kind.value: {
            name: ((metrics.get(kind.value) or {}).get(name) or {}).get("value")
            for name in (SUBSET_METRIC[kind.value], "clip_i", "attributes")
        }
        for kind in KINDS
    }


def _claims(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The paper's orderings of every arm against the reference, and what they are here: "holds", "does not" (the
    opposite is significant) or "not shown"."""
    paper, reference = found["paper"], found["reference"]
    claims = []
    columns = (
        ("individual", "au_mse_active", "au_error"),
        ("individual", "clip_i", "clip_i"),
        ("combination", "au_mse_mean", "combination_au_error"),
        ("combination", "clip_i", "combination_clip_i"),
    )
    for arm in [
        arm for arm in paper if arm != reference and arm in found["numbers"]["individual"] and reference in paper
    ]:
        for kind, metric, column in columns:
            cell, theirs = found["numbers"][kind][arm][metric], paper[arm][column] - paper[reference][column]
            if theirs == 0:
                continue
            same = np.sign(cell["difference"]) == np.sign(theirs)
            outcome = ("holds" if same else "does not") if is_significant(cell) else "not shown"
            claims.append(
                {"arm": arm, "kind": kind, "metric": metric, "paper": theirs, "outcome": outcome}
                | {"difference": cell["difference"], "p_holm": cell["p_holm"]}
            )
    return claims


def verdict(name: str, cell: dict[str, Any]) -> str:
    """ "better" or "worse" than the reference where the difference is significant, else ""; CLIP-I is neither, as it
    falls when faces move."""
    if name == "clip_i" or not is_significant(cell):
        return ""
    down = cell["difference"] < 0
    if name == "slope":  # 1 is ideal: of two slopes on its two sides, what was tested is not which is nearer
        if (cell["value"] - 1) * (cell["value"] - cell["difference"] - 1) < 0:
            return ""
        return "better" if abs(cell["value"] - 1) < abs(cell["value"] - cell["difference"] - 1) else "worse"
    return "better" if down == (name in LOWER_IS_BETTER) else "worse"


def _faces(arms: Arms, judge: str) -> dict[str, Any]:
    """The same prompt and noise in every arm (its first seed): neutral, then each AU at its strongest."""
    rows, prompt = [], ""
    for arm, runs in arms.items():
        run = next(iter(runs.values()))
        neutral = shown_prompt(run.frame)
        single = run.frame[
            (run.frame["kind"] == Kind.individual.value) & (run.frame["prompt_index"] == neutral["prompt_index"])
        ]
        rows.append((short_name(arm), grid_row(run.evaluation, judge, neutral, single)["cells"]))
        prompt = neutral["prompt"]
    return {"prompt": prompt, "rows": rows}
