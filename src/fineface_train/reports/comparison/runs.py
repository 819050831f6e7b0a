"""The arms of a sweep as its records name them, each run read once."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fineface_train.reports.run_folder import IMAGES, Curve, RunFolder, read_run
from fineface_train.reports.sweep_records import UNFINISHED
from fineface_train.reports.words import command

Arms = dict[str, dict[int, RunFolder]]
"""By name and seed, in the order of the records."""


def read_runs(records: list[dict[str, Any]]) -> tuple[Arms, list[tuple[str, str]]]:
    """The runs that have at least pictures, and (arm, why) of the others."""
    arms: Arms = {}
    missing = []
    for record in records:
        name, seed = record["arm"], record["seed"]
        if "error" in record:
            why = record["error"].splitlines()[0]
            missing.append((f"{name} seed={seed}", why if why == UNFINISHED else f"failed: {why}"))
            continue
        folder, evaluation = Path(record["folder"]), Path(record["evaluation"])
        run = read_run(folder, evaluation) if folder.is_dir() else None
        if run is not None and run.evaluated and (evaluation / IMAGES).is_file():
            arms.setdefault(name, {})[seed] = run
            continue
        trained = run is not None and (folder / "bundle").is_dir()
        again = (
            "start the sweep again with evaluation.after_training=true" if trained else f"its run {folder} is not there"
        )
        missing.append((f"{name} seed={seed}", f"trained, not evaluated: {again}"))
    return arms, missing


def rows_of(run: RunFolder) -> pd.DataFrame:
    """The rows of a run's images, which each run of `read_runs` has."""
    assert run.frame is not None
    return run.frame


def firsts(arms: Arms) -> dict[str, RunFolder]:
    """The first seed's run of each arm."""
    return {arm: next(iter(runs.values())) for arm, runs in arms.items()}


def check_alike(arms: Arms) -> None:
    """Raises ValueError unless all were evaluated with one protocol, one judge and one way of sampling."""
    runs = [(name, seed, run.evaluated.get("settings")) for name, seeds in arms.items() for seed, run in seeds.items()]
    first = runs[0][2]
    for name, seed, settings in runs:
        if settings != first:
            differ = [key for key in first or {} if (settings or {}).get(key) != (first or {})[key]]
            raise ValueError(
                f"{name} seed={seed} was evaluated otherwise than {runs[0][0]} ({', '.join(differ)}); evaluate it "
                f"again with the same values"
            )


def chosen_reference(arms: Arms, reference: str | None, records: list[dict[str, Any]], folder: Path) -> str:
    """The arm that all are compared with: `reference`, else the sweep's own, else its first. Raises ValueError where
    that is none of the arms."""
    wanted = (
        reference
        or next((record["reference"] for record in records if record.get("reference")), None)
        or next(iter(arms))
    )
    if wanted not in arms:
        choose = command("report", f"out={folder}", f'comparison.reference="{next(iter(arms))}"')
        raise ValueError(
            f"comparison.reference={wanted}: no evaluated arm of {folder}; there are {', '.join(arms)}; choose one: "
            f"{choose}"
        )
    return wanted


def mean_curves(arms: Arms, name: str) -> dict[str, Curve]:
    """One value of metrics.jsonl over steps, for each arm that has it in every seed: the mean of the seeds at the steps
    that all of them logged."""
    curves = {}
    for arm, runs in arms.items():
        each = [dict(run.curves.get(name, [])) for run in runs.values()]
        steps = sorted(set.intersection(*map(set, each)))
        points = [(step, float(np.mean([values[step] for values in each]))) for step in steps]
        points = [(step, value) for step, value in points if math.isfinite(value)]
        if points:
            curves[arm] = points
    return curves


def common(arms: Arms, records: list[dict[str, Any]]) -> dict[str, Any]:
    """What comparison.json says of the arms with and without a judge: their seeds, folders and compute."""
    first = {record["arm"]: record for record in reversed(records)}
    again = {arm: command("train", "-m", *first[arm]["overrides"]) for arm in arms}
    return {
        "seeds": {arm: sorted(runs) for arm, runs in arms.items()},
        "compute": {arm: _compute(runs, again[arm]) for arm, runs in arms.items()},
        "made_with": _made_with(arms),
        "folders": {arm: {seed: str(run.folder) for seed, run in runs.items()} for arm, runs in arms.items()},
    }


def _compute(runs: dict[int, RunFolder], again: str) -> dict[str, Any]:
    """What an arm took, and `again`, the command that makes it."""
    some = next(iter(runs.values()))
    return {
        "steps": some.finished.get("steps"),
        "trainable": sum(part["trainable"] for part in some.audit.get("parts", [])),
        "petaflop": some.finished.get("training_petaflop"),
        "again": again,
        "trainings": len({run.folder for run in runs.values()}),
        "training_seconds": float(np.mean([run.finished.get("training_seconds", 0.0) for run in runs.values()])),
        "evaluation_seconds": float(np.mean([run.evaluated.get("seconds", 0.0) for run in runs.values()])),
    }


def _made_with(arms: Arms) -> str:
    """Where runs were trained, in words: machines, versions, code."""
    known = [run.provenance for runs in arms.values() for run in runs.values() if run.provenance]
    if not known:
        return ""
    where = {
        f"{one['processes']} x {one['device']}, {one['machine']['processor']} with {one['machine']['cores']} cores"
        for one in known
    }
    versions = {f"torch {one['versions']['torch']}, diffusers {one['versions']['diffusers']}" for one in known}
    code = "code " + ", ".join(sorted({str(one["git"]) for one in known}))
    return "; ".join([*sorted(where), *sorted(versions), code])
