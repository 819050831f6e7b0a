#!/usr/bin/env python
"""Kill a run again and again, at random moments, and see that its result is that of a run left alone.

    python scripts/chaos.py --kills 20 [--processes 2] [--seed 0] [--root FOLDER]

Prepares a small corpus, trains, evaluates and reports on the shipped ToyFACS base; every attempt is ended by SIGKILL after a
random time, mostly one process, sometimes the whole group, until the wanted kills are spent; then the last attempt may finish,
and the next round starts from nothing. After each round, compared with the run left alone: the bundle byte for byte, the
steps in metrics.jsonl, the rows of images.parquet; and no attempt repeated work from before its newest checkpoint.
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
from pathlib import Path

import pandas as pd
import psutil

REPOSITORY = Path(__file__).parents[1]
STEPS = 12
CHECKPOINT_EVERY = 3


def command(root: Path, processes: int) -> list[str]:
    module = (
        ["-m", "fineface_train"] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m", "fineface_train"]
    )
    return [
        *(sys.executable, *module, "train", f"data.root={root / 'data'}", f"run.root={root / 'runs'}"),
        *("data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"),
        *(f"trainer.steps={STEPS}", "trainer.batch_size=4", f"trainer.checkpoint_every={CHECKPOINT_EVERY}", "trainer.sample_every=0"),
        *("sampling.steps=2", "tracking.wandb=false", "tracking.log_every=1", "evaluation.batch_size=16"),
    ]


def start(root: Path, processes: int) -> subprocess.Popen:
    log = (root / "log.txt").open("a")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(root, processes), cwd=REPOSITORY, env=environment, stdout=log, stderr=log)


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


def run_folder(root: Path) -> Path | None:
    return next(iter(sorted((root / "runs").glob("*/config.yaml"))), Path("/nowhere/x")).parent if (root / "runs").is_dir() else None


def outcome(root: Path) -> dict:
    """What must not depend on kills."""
    run = run_folder(root)
    assert run is not None
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = pd.read_parquet(run / "images.parquet")
    return {
        "bundle": {path.name: path.read_bytes() for path in sorted((run / "bundle").iterdir())},
        "steps": [line["step"] for line in lines if "loss" in line],
        "losses": [line["loss"] for line in lines if "loss" in line],
        "rows": rows.to_csv(),
        "metrics": {key: value for key, value in json.loads((run / "metrics.json").read_text()).items() if key not in ("seconds", "bundle")},
    }


def newest_step(root: Path) -> int:
    run = run_folder(root)
    names = sorted(path.name for path in (run / "state").glob("step_????????")) if run else []
    return int(names[-1].removeprefix("step_")) if names else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--per-round", type=int, default=10, help="kills before a round may finish")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="default: a temporary folder, removed at the end")
    arguments = parser.parse_args()
    root = arguments.root or Path(tempfile.mkdtemp(prefix="chaos-"))
    chance = random.Random(arguments.seed)
    began = time.monotonic()

    calm = root / "calm"
    calm.mkdir(parents=True)
    if start(calm, arguments.processes).wait():
        raise SystemExit(f"the run left alone failed:\n{(calm / 'log.txt').read_text()[-2000:]}")
    expected, length = outcome(calm), time.monotonic() - began
    print(f"left alone: {length:.0f} s", flush=True)

    kills, faults, number = 0, 0, 0
    while kills < arguments.kills:
        number += 1
        stormy = root / f"round{number}"
        stormy.mkdir()
        spent = 0
        while True:
            before, process = newest_step(stormy), start(stormy, arguments.processes)
            if spent < arguments.per_round and kills < arguments.kills:
                # Mostly after the imports; a round gets somewhere since an attempt may outlive its last checkpoint.
                try:
                    process.wait(timeout=chance.uniform(0, 1.2 * length))
                except subprocess.TimeoutExpired:
                    what = kill(process, chance)
                    kills, spent = kills + 1, spent + 1
                    print(f"round {number}, kill {kills}: {what}; checkpoint {before} -> {newest_step(stormy)}", flush=True)
                    if newest_step(stormy) < before:
                        faults += 1
                        print("FAULT: a checkpoint was lost", flush=True)
                    continue
            if process.wait():
                faults += 1
                print(f"FAULT: an attempt that nobody killed failed:\n{(stormy / 'log.txt').read_text()[-2000:]}", flush=True)
            break
        found = outcome(stormy)
        different = [key for key in expected if found[key] != expected[key]]
        faults += bool(different)
        print(f"round {number}: {'as the run left alone' if not different else f'FAULT: differs in {different}'}", flush=True)
    print(f"{kills} kills in {number} rounds, {faults} faults, {(time.monotonic() - began) / 60:.1f} minutes")
    if arguments.root is None:
        shutil.rmtree(root)
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
