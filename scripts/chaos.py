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
import json
import os
import random
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
    chance = random.Random(arguments.seed)
    began = time.monotonic()

    calm = root / "calm"
    calm.mkdir(parents=True)
    if start(calm, arguments.processes, sweep=arguments.sweep).wait():
        raise SystemExit(f"the run left alone failed:\n{(calm / 'log.txt').read_text()[-2000:]}")
    expected, length = outcome(calm), time.monotonic() - began
    print(f"left alone: {length:.0f} s", flush=True)

    kills, faults, number, hits = 0, 0, 0, Counter[str]()
    while kills < arguments.kills:
        number += 1
        stormy = root / f"round{number}"
        stormy.mkdir()
        spent = 0
        while True:
            before, halves, process = newest_steps(stormy), half_written(stormy), start(stormy, arguments.processes, sweep=arguments.sweep)
            if spent < arguments.per_round and kills < arguments.kills:
                try:
                    process.wait(timeout=chance.uniform(0, length))
                except subprocess.TimeoutExpired:
                    what = kill(process, chance)
                    kills, spent = kills + 1, spent + 1
                    after, hit = newest_steps(stormy), what_was_hit(stormy, halves)
                    hits[hit] += 1
                    print(f"round {number}, kill {kills}: {what} while {hit}; checkpoints {list(before.values())} -> {list(after.values())}", flush=True)
                    if any(after[run] < step for run, step in before.items()):
                        faults += 1
                        print("FAULT: a checkpoint was lost", flush=True)
                    continue
            if process.wait():
                faults += 1
                print(f"FAULT: an attempt that nobody killed failed:\n{(stormy / 'log.txt').read_text()[-2000:]}", flush=True)
            break
        found = outcome(stormy)
        different = [f"{run}: {key}" for run in expected for key in expected[run] if found.get(run, {}).get(key) != expected[run][key]]
        faults += bool(different)
        print(f"round {number}: {'as the run left alone' if not different else f'FAULT: differs in {different}'}", flush=True)
    print(f"{kills} kills in {number} rounds, {faults} faults; while {dict(hits)}; {(time.monotonic() - began) / 60:.1f} minutes")
    if arguments.root is None:
        shutil.rmtree(root)
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
