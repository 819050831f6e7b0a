"""The numbers of a comparison: what comparison.json holds."""

import dataclasses
from typing import Any

import numpy as np

from fineface_train.evaluation.compare import by_subset, compare, is_significant, pool, read_kind, smallest_p
from fineface_train.evaluation.metrics import per_au, response_curve, response_matrix
from fineface_train.evaluation.plan import Kind
from fineface_train.files import read_json
from fineface_train.reports.comparison.runs import Arms, common, firsts, rows_of
from fineface_train.reports.comparison.tables import KINDS, SHOWN, SUBSET_METRIC
from fineface_train.reports.headline import floor
from fineface_train.reports.paper import PAPER
from fineface_train.reports.run import judge_wrote_labels
from fineface_train.reports.run_folder import RunFolder

LOWER_IS_BETTER = ("au_mse_active", "au_mse_mean", "leakage")


def compared(arms: Arms, reference: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole of comparison.json: the numbers of the judged arms, with their differences to `reference`."""
    table = next((record["table"] for record in records if record.get("table")), None)
    some = next(iter(next(iter(arms.values())).values())).metrics
    judges = list(some["judges"])
    frames = {arm: {seed: rows_of(run) for seed, run in runs.items()} for arm, runs in arms.items()}
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
        "numbers": numbers,
        "second_judge": {arm: _second_judge(runs, judges) for arm, runs in arms.items()},
        "always_zero": {
            kind.value: {name: numbers[kind.value][reference][name]["always_zero"] for name in SHOWN} for kind in KINDS
        },
        "nothing_done": nothing.numbers if (nothing := floor(firsts(arms)[reference])) else None,
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
        **common(arms, records),
        "judge_wrote_labels": any(
            judge_wrote_labels(judges[0], run.provenance) for runs in arms.values() for run in runs.values()
        ),
        "trade_off": {arm: _scales(run) for arm, run in firsts(arms).items()},
    }
    result["claims"] = _claims(result)
    return result


def _second_judge(runs: dict[int, RunFolder], judges: list[str]) -> dict[str, Any]:
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


def _scales(run: RunFolder) -> list[dict[str, Any]]:
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


def standing(name: str, cell: dict[str, Any]) -> str:
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
