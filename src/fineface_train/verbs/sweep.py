"""`fineface train -m key=a,b other=c,d`: an arm per combination, each in its own run folder. Hydra expands and launches
them.

    <run.root>/sweeps/<name>/arm_*.json     one per arm and seed: what was changed, and the run's folder or why it
    failed

A sweep that is started again with the same line goes on: finished arms are found finished, stopped ones resume. A
failed arm is named at the end and does not keep the others from running. The same sweep with other seeds or with some
of its arms adds to the same folder.
"""

import hashlib
import sys
import traceback
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState

from fineface_train.compose import load_config, read_given
from fineface_train.config import Config
from fineface_train.earlier_keys import as_before
from fineface_train.evaluation.media import METRICS, PICTURES
from fineface_train.files import read_json, write_json
from fineface_train.hydra_calls import multirun
from fineface_train.loop.launch import is_main_process
from fineface_train.loop.runs import VALIDATION_FILE
from fineface_train.overrides import key_of
from fineface_train.quiet import quieten_libraries
from fineface_train.reports.comparison.page import write_comparison
from fineface_train.reports.sweep_records import UNFINISHED, named_folder
from fineface_train.reports.words import command
from fineface_train.verbs.evaluation_folder import evaluation_folder, measured_folder
from fineface_train.verbs.sweep_arms import Arms
from fineface_train.verbs.train import train

COLUMNS = ("slope", "rank_correlation", "au_mse_active", "au_mse_mean", "leakage", "clip_i")
"""Metrics of single AUs that the table of arms shows."""
UNNAMED = ("sweep", "seed", "run", "tracking", "comparison")
"""Parts of the config that do not make a sweep another one."""


def sweep(arms: Arms) -> int:
    """Run all arms, print one table of them; returns the number of arms that failed or did not come to their end."""
    overrides, parameters, configs = arms.overrides, arms.parameters, arms.configs
    varied = [
        key
        for key in (key_of(one) for one in overrides)
        if key in parameters or len({_value(arm, key) for arm in arms.each}) > 1
    ]
    folder = sweep_folder(configs[0], [one for one in overrides if key_of(one) not in parameters])
    keys = [key for key in varied if key != "seed"]
    # Of what a named sweep varies its own order, so that seed by seed and arm by arm it is the same; else that of the
    # command line.
    order = {
        key: str(parameters[key]).split(",")
        if key in parameters
        else list(dict.fromkeys(str(_value(arm, key)) for arm in arms.each))
        for key in keys
    }
    records = [_record(arm, config, keys, order) for arm, config in zip(arms.each, configs, strict=True)]
    paths = [folder / f"arm_{_short_hash([as_before(record['arm']), str(record['seed'])])}.json" for record in records]
    if is_main_process():
        for path, record in zip(paths, records, strict=True):
            if not path.is_file() or "error" in read_json(path):
                write_json(path, record | {"error": UNFINISHED})

    def run(number: int) -> None:
        title = f"arm {number + 1} of {len(records)}"
        _arm(paths[number], title, records[number], folder.name, arms.each[number])

    multirun(read_given(overrides), len(records), folder, run)
    done = []
    if is_main_process():  # the others may be here before the last is written
        done = [read_json(path) for path in paths]
        print(arms_table(done))
        if any((Path(arm.get("evaluation", "")) / name).is_file() for arm in done for name in (METRICS, PICTURES)):
            _compare(folder)
    PartialState().destroy_process_group()
    return sum("error" in arm for arm in done)


def _compare(folder: Path) -> None:
    """Write the comparison of what was evaluated, and say how to write it again (comparison.reference=ARM chooses
    another)."""
    try:
        print(f"comparison: {write_comparison(folder)}")
    except ValueError as error:
        print(f"no comparison: {error}", file=sys.stderr)
    print(f"compare them: {command('report', f'out={folder}')}")


def sweep_folder(config: Config, overrides: list[str]) -> Path:
    """Where a sweep's records lie: by its name, and a hash of the `overrides` that are not the named sweep's own and
    can make its arms others."""
    other = sorted(
        as_before(one)
        for one in overrides
        if key_of(one).split(".")[0] not in UNNAMED and not key_of(one).startswith("hydra")
    )
    name = config.comparison.name or "sweep"
    return named_folder(
        config.run.root, f"{name}-{_short_hash(other)}" if other or not config.comparison.name else name
    )


def _record(arm: list[str], config: Config, keys: list[str], order: dict[str, list[str]]) -> dict[str, Any]:
    """What is known of an arm before it runs: its name, its seed, its place in the `order` of each key's values, and
    how to run it again."""
    values = {key: str(_value(arm, key)) for key in keys}
    known = [order[key].index(value) if value in order[key] else len(order[key]) for key, value in values.items()]
    again = [
        one
        for one in arm
        if key_of(one) != "seed" and key_of(one).split(".")[0] != "tracking" and key_of(one) != "run.fresh"
    ]
    name = " ".join(f"{key}={value}" for key, value in values.items())
    described = {"arm": name, "place": known, "seed": config.seed, "overrides": again}
    return described | {"table": config.comparison.name, "reference": config.comparison.reference}


def _short_hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _value(arm: list[str], key: str) -> str | None:
    return next((one.partition("=")[2] for one in arm if key_of(one) == key), None)


def _arm(path: Path, title: str, record: dict[str, Any], group: str, overrides: list[str]) -> None:
    """Train one arm and note how it ended, in a file, as a launcher may run it in another process."""
    try:
        quieten_libraries()  # a launcher's process of its own has not passed through the command line
        config = load_config(overrides)
        if is_main_process():
            print(f"\n{title}: {record['arm']} seed={config.seed}", flush=True)
        config.tracking.group = config.tracking.group or group
        config.tracking.arm = record["arm"]
        config.tracking.tags = [
            *config.tracking.tags,
            *filter(None, (config.comparison.name, record["arm"][:64])),
            f"seed={config.seed}",
        ]
        folder_of_run = train(config, wait=True)  # for an arm that another sweep has too
        images = evaluation_folder(config, folder_of_run / "bundle")
        record = record | {
            "folder": str(folder_of_run),
            "evaluation": str(measured_folder(config, images) or images),
        }
    except Exception as error:
        if not isinstance(error, (ValueError, FloatingPointError, OSError)):
            traceback.print_exc()
        print(f"{title} failed: {error}", file=sys.stderr)
        record = record | {"error": f"{type(error).__name__}: {error}"}
    finally:
        AcceleratorState._reset_state()  # the next arm may want another precision
    if is_main_process():
        write_json(path, record)
    if "error" in record and PartialState().num_processes > 1:
        raise SystemExit(1)  # the other processes may still be in this arm; their launcher ends them


def arms_table(arms: list[dict[str, Any]]) -> str:
    """One line per arm: what was changed, then its numbers or why there are none."""
    seeds = {arm.get("seed") for arm in arms}
    names = [
        " ".join(filter(None, (arm["arm"], f"seed={arm.get('seed')}" if len(seeds) > 1 or not arm["arm"] else "")))
        for arm in arms
    ]
    width = max(map(len, names), default=0)
    losses = [_validation_loss(arm) for arm in arms]
    validated = any(losses)
    columns = (*COLUMNS, "validation_loss") if validated else COLUMNS
    lines = [f"{'arm':<{width}}" + "".join(f"{column:>18}" for column in columns)]
    for name, arm, loss in zip(names, arms, losses, strict=True):
        metrics, pictures = (Path(arm.get("evaluation", "")) / name for name in (METRICS, PICTURES))
        if "error" in arm:
            cells = f"  failed: {arm['error'].splitlines()[0]}"
        elif metrics.is_file():
            values = read_json(metrics, "individual")["individual"]
            cells = "".join(
                f"{'-' if values[column]['value'] is None else format(values[column]['value'], '.3f'):>18}"
                for column in COLUMNS
            ) + (f"{loss or '-':>18}" if validated else "")
        else:
            cells = (
                f"  trained, {'pictures made, not judged' if pictures.is_file() else 'not evaluated'}: {arm['folder']}"
                + (f"; validation loss {loss}" if loss else "")
            )
        lines.append(f"{name:<{width}}{cells}")
    return "\n".join(lines)


def _validation_loss(arm: dict[str, Any]) -> str | None:
    """The loss on held-out images at the end of an arm's run; None where there was no validation."""
    path = Path(arm.get("folder", "")) / VALIDATION_FILE
    loss = read_json(path, "loss")["loss"] if path.is_file() else None
    return None if loss is None else f"{loss:.5f}"
