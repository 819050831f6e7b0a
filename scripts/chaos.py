#!/usr/bin/env python
"""Kill a run again and again, at random moments, and see that its result is that of a run left alone.

    python scripts/chaos.py --kills 100 [--processes 2] [--sweep] [--seed 0] [--root FOLDER]

Prepares a small corpus, trains, evaluates and reports on the shipped ToyFACS base (with --sweep: two arms of it). Attempts are
ended by SIGKILL after a random time, mostly one process, sometimes the whole group; after some kills an attempt may finish, and
the next round starts from nothing. After each round, compared with the run left alone: the bundle byte for byte, the steps and
losses in metrics.jsonl, the rows of images.parquet; and no attempt lost a checkpoint. The end counts the kills by what they hit.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil

REPOSITORY = Path(__file__).parents[1]
ARMS = "encoder=per_au_tokens,res_mlp64"


def command(root: Path, processes: int, *, sweep: bool) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return [
        *(sys.executable, *launcher, "-m", "fineface_train", "train", *(["-m", ARMS] if sweep else [])),
        *(f"data.root={root / 'data'}", f"run.root={root / 'runs'}"),
        *("data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"),
        *("trainer.steps=60", "trainer.batch_size=4", "trainer.checkpoint_every=5", "trainer.sample_every=30"),
        *("sampling.steps=2", "tracking.wandb=false", "tracking.log_every=1", "evaluation.batch_size=16"),
    ]


def start(root: Path, processes: int, *, sweep: bool) -> subprocess.Popen:
    log = (root / "log.txt").open("a")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(root, processes, sweep=sweep), cwd=REPOSITORY, env=environment, stdout=log, stderr=log)


def kill(process: subprocess.Popen, chance: random.Random) -> str:
    """SIGKILL to one process of the run, or to all at once; then wait until none is left."""
    parent = psutil.Process(process.pid)
    everyone = [parent, *parent.children(recursive=True)]  # torchrun's workers have sessions of their own
    chosen = everyone if chance.random() < 0.3 else [chance.choice(everyone)]
    for one in chosen:
        one.kill()
    # A launcher ends the others when a worker dies; workers whose launcher was killed would go on, alone.
    if parent in chosen:
        for one in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
    psutil.wait_procs(everyone, timeout=60)
    return f"killed {len(chosen)} of {len(everyone)} processes"


def run_folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "runs").glob("*/config.yaml"))


def outcome(root: Path) -> dict[str, dict]:
    """By run folder, what must not depend on kills."""
    return {run.name: _outcome(run) for run in run_folders(root)}


def _outcome(run: Path) -> dict:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        "bundle": {path.name: path.read_bytes() for path in sorted((run / "bundle").iterdir())},
        "steps": [line["step"] for line in lines if "loss" in line],
        "losses": [line["loss"] for line in lines if "loss" in line],
        "rows": pd.read_parquet(run / "images.parquet").to_csv(),
        "metrics": {key: value for key, value in metrics.items() if key not in ("seconds", "bundle")},
    }


def newest_steps(root: Path) -> dict[str, int]:
    """The newest checkpoint of each run folder."""
    names = {run.name: max((path.name for path in (run / "state").glob("step_????????")), default="step_0") for run in run_folders(root)}
    return {run: int(name.removeprefix("step_")) for run, name in names.items()}


def half_written(root: Path) -> set[Path]:
    return set(root.rglob("*.partial*"))


def what_was_hit(root: Path, half_written_before: set[Path]) -> str:
    """What the killed attempt had begun last."""
    runs = run_folders(root)
    if half_written(root) - half_written_before:
        return "writing"
    if not runs:
        return "preparing" if (root / "data").exists() else "starting"
    if not all((run / "metrics.jsonl").exists() for run in runs):
        return "building caches"
    return "evaluating" if all((run / "bundle").exists() for run in runs) else "training"


def repeated_work(log: str, before: dict[str, int]) -> bool:
    """Whether the attempt that wrote `log` trained a run from elsewhere than its newest checkpoint."""
    resumed = [int(step) for step in re.findall(r"going on after step (\d+)", log)]
    begun_anew = "training:" in log and len(before) == 1 and max(before.values()) > 0 and not resumed
    return begun_anew or not set(resumed) <= set(before.values())


@dataclasses.dataclass
class Tally:
    kills: int = 0
    faults: int = 0
    hits: Counter[str] = dataclasses.field(default_factory=Counter)

    def fault(self, text: str) -> None:
        self.faults += 1
        print(f"FAULT: {text}", flush=True)


def attempt(root: Path, arguments: argparse.Namespace, tally: Tally, chance: random.Random, patience: float | None) -> bool:
    """Start the run and kill it after `patience` seconds, unless that is None or the run is faster; returns whether it ended by itself."""
    log = root / "log.txt"
    written = len(log.read_text()) if log.exists() else 0
    before, halves = newest_steps(root), half_written(root)
    process = start(root, arguments.processes, sweep=arguments.sweep)
    try:
        if process.wait(timeout=patience):
            tally.fault(f"an attempt that nobody killed failed:\n{log.read_text()[-2000:]}")
        return True
    except subprocess.TimeoutExpired:
        what = kill(process, chance)
    after, hit = newest_steps(root), what_was_hit(root, halves)
    tally.kills += 1
    tally.hits[hit] += 1
    print(f"kill {tally.kills}: {what} while {hit}; checkpoints {list(before.values())} -> {list(after.values())}", flush=True)
    if any(after[run] < step for run, step in before.items()):
        tally.fault("a checkpoint was lost")
    if repeated_work(log.read_text()[written:], before):
        tally.fault("work from before the newest checkpoint was done again")
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--per-round", type=int, default=10, help="kills before a round may finish")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--sweep", action="store_true", help="a sweep over two encoders instead of one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="default: a temporary folder, removed at the end")
    arguments = parser.parse_args()
    root = arguments.root or Path(tempfile.mkdtemp(prefix="chaos-"))
    chance, tally, began = random.Random(arguments.seed), Tally(), time.monotonic()

    calm = root / "calm"
    calm.mkdir(parents=True)
    attempt(calm, arguments, tally, chance, None)
    expected, length = outcome(calm), time.monotonic() - began
    print(f"left alone: {length:.0f} s", flush=True)

    rounds = 0
    while tally.kills < arguments.kills:
        rounds += 1
        stormy, wanted = root / f"round{rounds}", min(arguments.kills, tally.kills + arguments.per_round)
        stormy.mkdir()
        while not attempt(stormy, arguments, tally, chance, chance.uniform(0, length) if tally.kills < wanted else None):
            pass
        found = outcome(stormy)
        different = [f"{run}: {key}" for run in expected for key in expected[run] if found.get(run, {}).get(key) != expected[run][key]]
        if different:
            tally.fault(f"round {rounds} differs in {different}")
        print(f"round {rounds}: {'not ' if different else ''}as the run left alone", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"{tally.kills} kills in {rounds} rounds, {tally.faults} faults; hit {dict(tally.hits)}; {minutes:.1f} minutes")
    if arguments.root is None:
        shutil.rmtree(root)
    if tally.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
