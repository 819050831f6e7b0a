"""A sweep's arms beside each other: comparison.json, report.md with its figures, report.html and rows.parquet (every image of every arm) in the sweep's folder.

Reads files only: the records of the sweep, and the evaluations that they name.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.comparison_figures import leakage_charts, response_charts, trade_off, value_charts, write_figures
from fineface_train.comparison_markdown import FIGURES, KINDS, SHOWN, SUBSET_METRIC, comparison_markdown, kind_name, short_name
from fineface_train.evaluation.compare import by_subset, compare, is_significant, pool, read_kind, smallest_p
from fineface_train.evaluation.metrics import nulled, per_au, response_curve, response_matrix
from fineface_train.evaluation.protocol import Kind
from fineface_train.files import read_json, read_parquet, replacing, write_json, write_text
from fineface_train.paper import PAPER
from fineface_train.pictures import face_sheet
from fineface_train.report import METRIC_NAMES, grid_row, judge_wrote_labels, render
from fineface_train.sweep_records import UNFINISHED, read_records

TEMPLATE = "comparison.html"
LOWER_IS_BETTER = ("au_mse_active", "au_mse_mean", "leakage")


@dataclasses.dataclass
class Run:
    """One arm with one seed."""

    folder: Path
    evaluation: Path
    metrics: dict[str, Any]
    frame: pd.DataFrame
    provenance: dict[str, Any]
    took: dict[str, Any]
    """Of finished.json: steps, training_seconds, training_petaflop."""
    trainable: int
    again: str
    """The command that makes it."""


def write_comparison(folder: Path, reference: str | None = None) -> Path:
    """Compare the arms of the sweep in `folder` and write comparison.json, rows.parquet, report.md, figures/ and report.html there; returns the page's path.

    Raises ValueError where no arm is evaluated, where `reference` (default: the sweep's own, else its first arm) is none of them, and where
    arms were not evaluated alike.
    """
    records = read_records(folder)
    arms, missing = _runs(records)
    if not arms:
        why = "; ".join(f"{arm}: {why}" for arm, why in missing[:3])
        raise ValueError(f"{folder}: no arm of this sweep is evaluated yet ({why}); a comparison wants a judge (judge=...) and evaluation.after_training=true")
    table = next((record["table"] for record in records if record.get("table")), None)
    wanted = reference or next((record["reference"] for record in records if record.get("reference")), None) or next(iter(arms))
    if wanted not in arms:
        raise ValueError(f"comparison.reference={wanted}: no evaluated arm of {folder}; there are {', '.join(arms)}")
    _check_alike(arms)
    found = _compared(arms, wanted, table)
    write_json(folder / "comparison.json", nulled(found))
    rows = [run.frame.assign(arm=arm, seed_of_training=seed) for arm, runs in arms.items() for seed, run in runs.items()]
    with replacing(folder / "rows.parquet") as partial:
        pd.concat(rows).to_parquet(partial, index=False, compression="zstd")
    write_figures(folder / FIGURES, found)
    with replacing(folder / FIGURES / "faces.png") as partial:
        _face_sheet(arms).save(partial, format="PNG", optimize=True)
    write_text(folder / "report.md", comparison_markdown(folder.name, found, missing))
    page = render(
        TEMPLATE,
        name=folder.name,
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
    )
    return write_text(folder / "report.html", page)


def comparison_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """What `write_comparison` found, for dashboards: every arm's numbers and differences, and its faces as pictures."""
    found = read_json(folder / "comparison.json", "numbers")
    rows = [
        {"arm": arm, "kind": kind, "metric": name} | {part: cell.get(part) for part in ("value", "low", "high", "difference", "p_holm", "same_sign")}
        for kind, arms in found["numbers"].items()
        for arm, cells in arms.items()
        for name, cell in cells.items()
    ]
    arms, _ = _runs(read_records(folder))
    faces = [{"arm": arm} | _strongest(next(iter(runs.values()))) for arm, runs in arms.items()]
    return {"comparison": pd.DataFrame(rows), "faces": pd.DataFrame(faces)}


def _strongest(run: Run) -> dict[str, Image.Image]:
    """One prompt's neutral, and each AU at its strongest."""
    shown = run.frame[run.frame["prompt_index"] == _shown_prompt(run.frame)["prompt_index"]]
    strongest = shown[(shown["kind"] == Kind.individual.value) & (shown[list(AU_KEYS)].max(axis=1) == shown[list(AU_KEYS)].to_numpy().max())]
    faces = {"neutral": Image.open(run.evaluation / shown[shown["kind"] == Kind.neutral.value]["path"].iloc[0])}
    return faces | {one["commanded"]: Image.open(run.evaluation / one["path"]) for one in strongest.to_dict("records")}


def _face_sheet(arms: dict[str, dict[int, Run]]) -> Image.Image:
    """A row for each arm: the same prompt and noise, neutral and each AU at its strongest."""
    columns = ["neutral", *AU_KEYS]
    faces = {arm: _strongest(next(iter(runs.values()))) for arm, runs in arms.items()}
    return face_sheet([(short_name(arm), [found.get(name) for name in columns]) for arm, found in faces.items()], columns, side=64)


def _shown_prompt(frame: pd.DataFrame) -> dict[str, Any]:
    """The neutral of the first held-out prompt, or of the first."""
    neutrals = frame[frame["kind"] == Kind.neutral.value]
    held_out = neutrals[neutrals["prompt_held_out"]]
    first: dict[str, Any] = (held_out if len(held_out) else neutrals).iloc[0].to_dict()
    return first


def _runs(records: list[dict[str, Any]]) -> tuple[dict[str, dict[int, Run]], list[tuple[str, str]]]:
    """The evaluated runs by arm and seed, in the order of the records, and (arm, why) of the others."""
    arms: dict[str, dict[int, Run]] = {}
    missing = []
    for record in records:
        name, seed = record["arm"], record["seed"]
        if "error" in record:
            why = record["error"].splitlines()[0]
            missing.append((f"{name} seed={seed}", why if why == UNFINISHED else f"failed: {why}"))
            continue
        run, evaluation = Path(record["folder"]), Path(record["evaluation"])
        if not (evaluation / "metrics.json").is_file() or not (evaluation / "images.parquet").is_file():
            missing.append((f"{name} seed={seed}", "trained, not evaluated: start the sweep again with evaluation.after_training=true and a judge"))
            continue
        audit = read_json(run / "audit.json")["parts"] if (run / "audit.json").is_file() else []
        trainable = sum(part["trainable"] for part in audit)
        rows, metrics = read_parquet(evaluation / "images.parquet"), read_json(evaluation / "metrics.json", "individual", "combination")
        provenance = read_json(run / "provenance.json") if (run / "provenance.json").is_file() else {}
        again = f"fineface train -m {' '.join(record['overrides'])}"
        arms.setdefault(name, {})[seed] = Run(run, evaluation, metrics, rows, provenance, read_json(run / "finished.json"), trainable, again)
    return arms, missing


def _check_alike(arms: dict[str, dict[int, Run]]) -> None:
    """Raises ValueError unless all were evaluated with one protocol, one judge and one way of sampling."""
    runs = [(name, seed, run) for name, seeds in arms.items() for seed, run in seeds.items()]
    first = runs[0][2].metrics.get("settings")
    for name, seed, run in runs:
        if run.metrics.get("settings") != first:
            differ = [key for key in first or {} if (run.metrics.get("settings") or {}).get(key) != (first or {})[key]]
            raise ValueError(f"{name} seed={seed} was evaluated otherwise than {runs[0][0]} ({', '.join(differ)}); evaluate it again with the same values")


def _compared(arms: dict[str, dict[int, Run]], reference: str, table: str | None) -> dict[str, Any]:
    """All that the pages show."""
    some = next(iter(next(iter(arms.values())).values())).metrics
    judges = list(some["judges"])
    frames = {arm: {seed: run.frame for seed, run in runs.items()} for arm, runs in arms.items()}
    numbers = compare(frames, reference, judges[0])
    singles = {arm: pool([read_kind(frame, judges[0], Kind.individual) for frame in seeds.values()]) for arm, seeds in frames.items()}
    result = {
        "table": table,
        "reference": reference,
        "judges": judges,
        "protocol": some["protocol"],
        "subset": some["subset"],
        "prompts": (prompts := next(iter(singles.values())).prompts),
        "smallest_p": smallest_p(prompts),
        "settings": some.get("settings"),
        "seeds": {arm: sorted(runs) for arm, runs in arms.items()},
        "numbers": numbers,
        "second_judge": {arm: _second_judge(runs, judges) for arm, runs in arms.items()},
        "always_zero": {kind.value: {name: numbers[kind.value][reference][name]["always_zero"] for name in SHOWN} for kind in KINDS},
        "ceiling": {kind.value: {name: (some.get("ceiling", {}).get(kind.value, {}).get(name) or {}).get("value") for name in SHOWN} for kind in KINDS},
        "paper": {arm: dataclasses.asdict(row) for arm, row in PAPER.get(table or "", {}).items()},
        "subsets": by_subset(frames, judges[0]),
        "per_au": {arm: per_au(r, 0) for arm, r in singles.items()},
        "response_curve": {arm: response_curve(r, 0) for arm, r in singles.items()},
        "leakage_matrix": {arm: response_matrix(r, np.ones((1, r.prompts)))[0].tolist() for arm, r in singles.items()},
        "compute": {arm: _compute(runs) for arm, runs in arms.items()},
        "judge_wrote_labels": any(judge_wrote_labels(judges[0], run.provenance) for runs in arms.values() for run in runs.values()),
        "made_with": _made_with([run for runs in arms.values() for run in runs.values()]),
        "folders": {arm: {seed: str(run.folder) for seed, run in runs.items()} for arm, runs in arms.items()},
        "trade_off": {arm: _scales(next(iter(runs.values()))) for arm, runs in arms.items()},
    }
    result["claims"] = _claims(result)
    return result


def _second_judge(runs: dict[int, Run], judges: list[str]) -> dict[str, Any]:
    """kind -> metric -> the second judge's number, the mean of the seeds; nothing with one judge."""
    if len(judges) < 2:
        return {}
    values = {kind: {name: [run.metrics["judges"][judges[1]][kind.value][name]["value"] for run in runs.values()] for name in SHOWN} for kind in KINDS}
    return {kind.value: {name: float(np.mean(found)) if None not in found else None for name, found in cells.items()} for kind, cells in values.items()}


def _compute(runs: dict[int, Run]) -> dict[str, Any]:
    some = next(iter(runs.values()))
    seconds = [run.took.get("training_seconds", 0.0) for run in runs.values()]
    evaluation = [run.metrics.get("seconds", 0.0) for run in runs.values()]
    taken = {"steps": some.took.get("steps"), "trainable": some.trainable, "petaflop": some.took.get("training_petaflop"), "again": some.again}
    taken |= {"trainings": len({run.folder for run in runs.values()})}
    return taken | {"training_seconds": float(np.mean(seconds)), "evaluation_seconds": float(np.mean(evaluation))}


def _made_with(runs: list[Run]) -> str:
    """Where runs were trained, in words: machines, versions, code."""
    known = [run.provenance for run in runs if run.provenance]
    where = {f"{one['processes']} x {one['device']}, {one['machine']['processor']} with {one['machine']['cores']} cores" for one in known}
    versions = {f"torch {one['versions']['torch']}, diffusers {one['versions']['diffusers']}" for one in known}
    return "; ".join([*sorted(where), *sorted(versions), "code " + ", ".join(sorted({str(one["git"]) for one in known}))]) if known else ""


def _scales(run: Run) -> list[dict[str, Any]]:
    """The run's evaluations at other adapter scales and guidances (scripts/pareto.py): what was reached, by kind, and "drawn", what true drawings reach."""
    points = []
    for path in sorted(run.folder.glob("evaluation-*/metrics.json")):
        metrics = read_json(path, "individual", "combination")
        settings = metrics.get("settings")
        if settings and "pareto" in path.parent.name:
            reached, drawn = _trade_off_values(metrics), _trade_off_values(metrics.get("ceiling") or {})
            points.append(reached | {"scale": settings["scale"], "guidance": settings["sampling"]["guidance"], "drawn": drawn})
    return points


def _trade_off_values(metrics: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """kind -> the metrics that are traded against each other."""
    return {
        kind.value: {name: ((metrics.get(kind.value) or {}).get(name) or {}).get("value") for name in (SUBSET_METRIC[kind.value], "clip_i", "attributes")}
        for kind in KINDS
    }


def _claims(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The paper's orderings of every arm against the reference, and what they are here: "holds", "does not" (the opposite is significant) or "not shown"."""
    paper, reference = found["paper"], found["reference"]
    claims = []
    columns = (
        ("individual", "au_mse_active", "au_error"),
        ("individual", "clip_i", "clip_i"),
        ("combination", "au_mse_mean", "combination_au_error"),
        ("combination", "clip_i", "combination_clip_i"),
    )
    for arm in [arm for arm in paper if arm != reference and arm in found["numbers"]["individual"] and reference in paper]:
        for kind, metric, column in columns:
            cell, theirs = found["numbers"][kind][arm][metric], paper[arm][column] - paper[reference][column]
            if theirs == 0:
                continue
            same = np.sign(cell["difference"]) == np.sign(theirs)
            outcome = ("holds" if same else "does not") if is_significant(cell) else "not shown"
            claims.append(
                {"arm": arm, "kind": kind, "metric": metric, "paper": theirs, "outcome": outcome} | {"difference": cell["difference"], "p_holm": cell["p_holm"]}
            )
    return claims


def verdict(name: str, cell: dict[str, Any]) -> str:
    """ "better" or "worse" than the reference where the difference is significant, else ""; CLIP-I is neither, as it falls when faces move."""
    if name == "clip_i" or not is_significant(cell):
        return ""
    down = cell["difference"] < 0
    if name == "slope":  # 1 is ideal: of two slopes on its two sides, what was tested is not which is nearer
        if (cell["value"] - 1) * (cell["value"] - cell["difference"] - 1) < 0:
            return ""
        return "better" if abs(cell["value"] - 1) < abs(cell["value"] - cell["difference"] - 1) else "worse"
    return "better" if down == (name in LOWER_IS_BETTER) else "worse"


def _faces(arms: dict[str, dict[int, Run]], judge: str) -> dict[str, Any]:
    """The same prompt and noise in every arm (its first seed): neutral, then each AU at its strongest."""
    rows, prompt = [], ""
    for arm, runs in arms.items():
        run = next(iter(runs.values()))
        neutral = _shown_prompt(run.frame)
        single = run.frame[(run.frame["kind"] == Kind.individual.value) & (run.frame["prompt_index"] == neutral["prompt_index"])]
        rows.append((short_name(arm), grid_row(run.evaluation, judge, neutral, single)["cells"]))
        prompt = neutral["prompt"]
    return {"prompt": prompt, "rows": rows}
