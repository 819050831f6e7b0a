"""The arms of a sweep as its records name them: what each run and its evaluation hold, read once for `comparison` and
`comparison_pictures`."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fineface_train.evaluation.media import METRICS, PICTURES
from fineface_train.files import flat, read_json, read_parquet
from fineface_train.loop.runs import FINISHED, VALIDATION_FILE
from fineface_train.loop.tracking import METRICS_FILE, VALIDATION, read_metrics
from fineface_train.reports.run import command
from fineface_train.reports.sweep_records import UNFINISHED

CURVES = {"loss": "Training loss", f"{VALIDATION}.loss": "Validation loss"}
"""What a comparison draws of metrics.jsonl, over the steps."""


@dataclasses.dataclass
class Run:
    """One arm with one seed."""

    folder: Path
    evaluation: Path
    metrics: dict[str, Any]
    """What metrics.json holds, or pictures.json where nothing was measured."""
    frame: pd.DataFrame
    provenance: dict[str, Any]
    took: dict[str, Any]
    """What finished.json holds: steps, training_seconds, training_petaflop."""
    trainable: int
    again: str
    """The command that makes it."""
    validation: dict[str, Any]
    """What validation.json holds; empty where no image was held out, or none was looked at."""
    curves: dict[str, list[tuple[float, float]]]
    """(step, value) for each of `CURVES`."""

    @property
    def judged(self) -> bool:
        return "individual" in self.metrics


Arms = dict[str, dict[int, Run]]
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
        run, evaluation = Path(record["folder"]), Path(record["evaluation"])
        found = next((path for path in (evaluation / METRICS, evaluation / PICTURES) if path.is_file()), None)
        if found is None or not (evaluation / "images.parquet").is_file():
            again = (
                "start the sweep again with evaluation.after_training=true"
                if (run / "bundle").is_dir()
                else f"its run {run} is not there"
            )
            missing.append((f"{name} seed={seed}", f"trained, not evaluated: {again}"))
            continue
        metrics = read_json(found, "individual", "combination") if found.name == METRICS else read_json(found)
        arms.setdefault(name, {})[seed] = _read_run(record, run, evaluation, metrics)
    return arms, missing


def _read_run(record: dict[str, Any], run: Path, evaluation: Path, metrics: dict[str, Any]) -> Run:
    def whole(name: str) -> dict[str, Any]:
        return read_json(run / name) if (run / name).is_file() else {}

    lines = [dict(flat(line)) for line in read_metrics(run / METRICS_FILE)] if (run / METRICS_FILE).is_file() else []
    return Run(
        run,
        evaluation,
        metrics,
        read_parquet(evaluation / "images.parquet"),
        whole("provenance.json"),
        whole(FINISHED),
        sum(part["trainable"] for part in whole("audit.json").get("parts", [])),
        command("train", "-m", *record["overrides"]),
        whole(VALIDATION_FILE),
        {
            key: [(line["step"], line[key]) for line in lines if isinstance(line.get(key), (int, float))]
            for key in CURVES
        },
    )


def check_alike(arms: Arms) -> None:
    """Raises ValueError unless all were evaluated with one protocol, one judge and one way of sampling."""
    runs = [(name, seed, run) for name, seeds in arms.items() for seed, run in seeds.items()]
    first = runs[0][2].metrics.get("settings")
    for name, seed, run in runs:
        if run.metrics.get("settings") != first:
            differ = [key for key in first or {} if (run.metrics.get("settings") or {}).get(key) != (first or {})[key]]
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


def mean_curves(arms: Arms, key: str) -> dict[str, list[tuple[float, float]]]:
    """One of `CURVES` for each arm that has it: the mean of its seeds at the steps that all of them logged."""
    curves = {}
    for arm, runs in arms.items():
        each = [dict(run.curves[key]) for run in runs.values()]
        steps = sorted(set.intersection(*map(set, each)))
        points = [(step, float(np.mean([values[step] for values in each]))) for step in steps]
        points = [(step, value) for step, value in points if math.isfinite(value)]
        if points:
            curves[arm] = points
    return curves


def compute(runs: dict[int, Run]) -> dict[str, Any]:
    """What an arm took."""
    some = next(iter(runs.values()))
    seconds = [run.took.get("training_seconds", 0.0) for run in runs.values()]
    evaluation = [run.metrics.get("seconds", 0.0) for run in runs.values()]
    taken = {
        "steps": some.took.get("steps"),
        "trainable": some.trainable,
        "petaflop": some.took.get("training_petaflop"),
        "again": some.again,
    }
    taken |= {"trainings": len({run.folder for run in runs.values()})}
    return taken | {"training_seconds": float(np.mean(seconds)), "evaluation_seconds": float(np.mean(evaluation))}


def made_with(arms: Arms) -> str:
    """Where runs were trained, in words: machines, versions, code."""
    known = [run.provenance for runs in arms.values() for run in runs.values() if run.provenance]
    where = {
        f"{one['processes']} x {one['device']}, {one['machine']['processor']} with {one['machine']['cores']} cores"
        for one in known
    }
    versions = {f"torch {one['versions']['torch']}, diffusers {one['versions']['diffusers']}" for one in known}
    return (
        "; ".join([*sorted(where), *sorted(versions), "code " + ", ".join(sorted({str(one["git"]) for one in known}))])
        if known
        else ""
    )
