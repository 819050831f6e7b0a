"""`fineface train -m key=a,b other=c,d`: an arm per combination, each in its own run folder. Hydra expands and launches them.

A sweep that is started again with the same line goes on: finished arms are found finished, stopped ones resume. A failed
arm is named at the end and does not keep the others from running.
"""

import hashlib
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from omegaconf import DictConfig

from fineface_train.config import combinations, load_config, multirun, typed
from fineface_train.files import read_json, write_json
from fineface_train.measure import evaluation_folder
from fineface_train.runs import is_main_process
from fineface_train.training import train

COLUMNS = ("slope", "rank_correlation", "au_mse_active", "au_mse_mean", "leakage", "clip_i")
"""Of metrics.json, under "individual": what the table of arms shows."""


def sweep(overrides: list[str]) -> int:
    """Run all arms, print one table of them; returns the number of arms that failed.

    Raises ValueError for a wrong key, choice or value of any arm, before the first starts.
    """
    configs = [load_config(arm) for arm in combinations(overrides)]
    folder = Path(configs[0].run.root) / "sweeps" / hashlib.sha256("\n".join(sorted(overrides)).encode()).hexdigest()[:8]
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
    multirun(overrides, folder, lambda number, changes, node: _arm(folder, number, " ".join(changes), node))
    arms = [read_json(path) for path in sorted(folder.glob("arm_*.json"))]
    if is_main_process():
        print(arms_table(arms))
    PartialState().destroy_process_group()
    return sum("error" in arm for arm in arms)


def _arm(folder: Path, number: int, changes: str, node: DictConfig) -> None:
    """Train one arm and note how it ended, in a file, as a launcher may run it in another process."""
    record: dict[str, Any] = {"arm": changes}
    if is_main_process():
        print(f"\narm {number + 1}: {changes}", flush=True)
    try:
        config = typed(node)
        folder_of_run = train(config)
        record |= {"folder": str(folder_of_run), "evaluation": str(evaluation_folder(config, folder_of_run / "bundle"))}
    except Exception as error:
        if not isinstance(error, (ValueError, FloatingPointError, OSError)):
            traceback.print_exc()
        print(f"arm {number + 1} failed: {error}", file=sys.stderr)
        record["error"] = f"{type(error).__name__}: {error}"
    finally:
        AcceleratorState._reset_state()  # the next arm may want another precision
    if is_main_process():
        write_json(folder / f"arm_{number:03d}.json", record)
    if "error" in record and PartialState().num_processes > 1:
        raise SystemExit(1)  # the other processes may still be in this arm; their launcher ends them


def arms_table(arms: list[dict[str, Any]]) -> str:
    """One line per arm: what was changed, then its numbers or why there are none."""
    shared = set.intersection(*(set(arm["arm"].split()) for arm in arms)) if len(arms) > 1 else set()
    names = [" ".join(change for change in arm["arm"].split() if change not in shared) or arm["arm"] for arm in arms]
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
