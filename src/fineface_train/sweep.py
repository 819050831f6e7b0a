"""`fineface train -m key=a,b other=c,d`: an arm per combination, each in its own run folder. Hydra expands and launches them.

    <run.root>/sweeps/<name>/arm_*.json     one per arm and seed: what was changed, and the run's folder or why it failed

A sweep that is started again with the same line goes on: finished arms are found finished, stopped ones resume. A failed
arm is named at the end and does not keep the others from running. The same sweep with other seeds or with some of its arms adds to
the same folder.
"""

import hashlib
import sys
import traceback
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from omegaconf import DictConfig

from fineface_train.config import Config, combinations, key_of, load_config, multirun, sweep_parameters, typed
from fineface_train.files import read_json, write_json
from fineface_train.measure import evaluation_folder
from fineface_train.runs import is_main_process
from fineface_train.training import train

COLUMNS = ("slope", "rank_correlation", "au_mse_active", "au_mse_mean", "leakage", "clip_i")
"""Of metrics.json, under "individual": what the table of arms shows."""
UNNAMED = ("sweep", "seed", "run", "tracking", "comparison")
"""Parts of the config that do not make a sweep another one."""


def sweep(overrides: list[str]) -> int:
    """Run all arms, print one table of them; returns the number of arms that failed.

    Raises ValueError for a wrong key, choice or value of any arm, before the first starts.
    """
    parameters = sweep_parameters(overrides)
    said = {key_of(override) for override in overrides}
    # Hydra's sweeper would take both what the sweep and what the command line says, and leave it to the order which one counts.
    overrides = [*overrides, *(f"{key}={value}" for key, value in parameters.items() if key not in said)]
    arms = combinations(overrides)
    configs = [load_config(arm) for arm in arms]
    varied = [key for key in (key_of(one) for one in overrides) if key in parameters or len({_value(arm, key) for arm in arms}) > 1]
    folder = sweep_folder(configs[0], [one for one in overrides if key_of(one) not in varied])
    records = [folder / f"arm_{_short_hash(sorted(arm))}.json" for arm in arms]
    if is_main_process():
        for record in records:
            record.unlink(missing_ok=True)

    def run(number: int, changes: list[str], node: DictConfig) -> None:
        _arm(records[number], f"arm {number + 1} of {len(arms)}", _record(changes, [key for key in varied if key != "seed"], parameters), folder.name, node)

    multirun(overrides, folder, run)
    done = [read_json(record) for record in records if record.is_file()]
    if is_main_process():
        print(arms_table(done))
    if is_main_process() and any((Path(arm.get("evaluation", "")) / "metrics.json").is_file() for arm in done):
        print(f"compare them: fineface report {f'sweep={folder.name}' if folder.name == configs[0].comparison.name else f'out={folder}'}")
    PartialState().destroy_process_group()
    return sum("error" in arm for arm in done)


def sweep_folder(config: Config, fixed: list[str]) -> Path:
    """Where a sweep's records lie: by its name, and a hash of what is `fixed` for all arms but not by the named sweep itself."""
    other = sorted(one for one in fixed if key_of(one).split(".")[0] not in UNNAMED)
    name = config.comparison.name or "sweep"
    return Path(config.run.root) / "sweeps" / (f"{name}-{_short_hash(other)}" if other or not config.comparison.name else name)


def _record(changes: list[str], keys: list[str], parameters: dict[str, str]) -> dict[str, Any]:
    """An arm's name, and its place among the values that the sweep names."""
    values = {key: str(_value(changes, key)) for key in keys}
    places = [str(parameters.get(key, "")).split(",") for key in keys]
    known = [listed.index(value) if value in listed else len(listed) for listed, value in zip(places, values.values(), strict=True)]
    return {"arm": " ".join(f"{key}={value}" for key, value in values.items()), "place": known}


def _short_hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _value(arm: list[str], key: str) -> str | None:
    return next((one.partition("=")[2] for one in arm if key_of(one) == key), None)


def _arm(path: Path, title: str, record: dict[str, Any], group: str, node: DictConfig) -> None:
    """Train one arm and note how it ended, in a file, as a launcher may run it in another process."""
    try:
        config = typed(node)
        record |= {"seed": config.seed, "table": config.comparison.name, "reference": config.comparison.reference}
        if is_main_process():
            print(f"\n{title}: {record['arm']} seed={config.seed}", flush=True)
        config.tracking.group = config.tracking.group or group
        config.tracking.arm = record["arm"]
        config.tracking.tags = [*config.tracking.tags, *filter(None, (config.comparison.name, record["arm"][:64])), f"seed={config.seed}"]
        folder_of_run = train(config)
        record |= {"folder": str(folder_of_run), "evaluation": str(evaluation_folder(config, folder_of_run / "bundle"))}
    except Exception as error:
        if not isinstance(error, (ValueError, FloatingPointError, OSError)):
            traceback.print_exc()
        print(f"{title} failed: {error}", file=sys.stderr)
        record["error"] = f"{type(error).__name__}: {error}"
    finally:
        AcceleratorState._reset_state()  # the next arm may want another precision
    if is_main_process():
        write_json(path, record)
    if "error" in record and PartialState().num_processes > 1:
        raise SystemExit(1)  # the other processes may still be in this arm; their launcher ends them


def arms_table(arms: list[dict[str, Any]]) -> str:
    """One line per arm: what was changed, then its numbers or why there are none."""
    seeds = {arm.get("seed") for arm in arms}
    names = [" ".join(filter(None, (arm["arm"], f"seed={arm.get('seed')}" if len(seeds) > 1 or not arm["arm"] else ""))) for arm in arms]
    width = max(map(len, names), default=0)
    lines = [f"{'arm':<{width}}" + "".join(f"{column:>18}" for column in COLUMNS)]
    for name, arm in zip(names, arms, strict=True):
        metrics = Path(arm.get("evaluation", "")) / "metrics.json"
        if "error" in arm:
            cells = f"  failed: {arm['error'].splitlines()[0]}"
        elif metrics.is_file():
            values = read_json(metrics, "individual")["individual"]
            cells = "".join(f"{'-' if values[column]['value'] is None else format(values[column]['value'], '.3f'):>18}" for column in COLUMNS)
        else:
            cells = f"  trained, not evaluated: {arm['folder']}"
        lines.append(f"{name:<{width}}{cells}")
    return "\n".join(lines)
