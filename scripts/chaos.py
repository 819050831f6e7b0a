#!/usr/bin/env python
"""Kill the verbs again and again, in the middle of what they do, and see that their results are those of verbs left
alone.

    python scripts/chaos.py --kills 100 [--jobs prepare train train2 sweep evaluate] [--seed 0] [--root FOLDER]

Each job is first left alone, then goes through rounds, the jobs taking turns. A round starts from nothing; attempts are
ended by SIGKILL, mostly one process, sometimes all, each aimed at a moment: while the corpus is drawn, a cache is
built, a step is taken, a checkpoint is written, images are evaluated, or at any time. The last attempt may finish. Then
every file it leaves is compared with the job left alone, byte for byte (times of day and durations, locks and
checkpoints apart), and no finished work may have been lost or done again. The end counts the kills by moment, and those
that left something half-written.
"""

import argparse
import contextlib
import dataclasses
import hashlib
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
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a kill falls: some time after a file of this kind was written by the attempt; at any time if no kind is
    given."""

    name: str
    sign: str | None
    """A pattern under the job's folder."""
    spread: float
    """Seconds; a share of what the job takes if there is no sign."""


ANY_TIME = Moment("any time", None, 1.0)
DRAWING = Moment("drawing the corpus", "data/corpus.partial", 1.0)
CACHING = Moment("building a cache", "data/cache/*.partial", 0.4)
TRAINING = Moment("training", "runs/*/metrics.jsonl", 3.0)
SAVING = Moment("writing a checkpoint", "runs/*/state/*.partial", 0.02)
MAKING = Moment("making images", "runs/*/images/*.png", 4.0)
EVALUATING = Moment("judging", "runs/*/rows/*.parquet", 1.0)


@dataclasses.dataclass(frozen=True)
class Job:
    """A command, and the moments to kill it at in one round, in the order of its life."""

    arguments: tuple[str, ...]
    storm: tuple[Moment, ...]
    processes: int = 1

    def start(self, root: Path) -> subprocess.Popen:
        launcher = (
            ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.processes}"]
            if self.processes > 1
            else []
        )
        command = [
            sys.executable,
            *launcher,
            "-m",
            "fineface_train",
            *self.arguments,
            f"data.root={root / 'data'}",
            f"run.root={root / 'runs'}",
        ]
        environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        with (root / "log.txt").open("a") as log:
            return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)


CORPUS = ("data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60")
EVALUATION = ("method.sampling.steps=1", "evaluation.batch_size=16")
TRAIN = (
    *(
        "train",
        *CORPUS,
        *EVALUATION,
        "trainer.steps=60",
        "trainer.batch_size=4",
        "trainer.checkpoint_every=5",
        "trainer.sample_every=30",
    ),
    *("tracking.wandb=false", "tracking.log_every=1"),
)
TRAIN_STORM = (
    DRAWING,
    CACHING,
    CACHING,
    TRAINING,
    SAVING,
    TRAINING,
    SAVING,
    SAVING,
    ANY_TIME,
    MAKING,
    EVALUATING,
    ANY_TIME,
)
JOBS = {
    "prepare": Job(("prepare", *CORPUS), (ANY_TIME, DRAWING, DRAWING, ANY_TIME)),
    "train": Job(TRAIN, TRAIN_STORM),
    "train2": Job(TRAIN, TRAIN_STORM, processes=2),
    "sweep": Job((*TRAIN, "-m", "encoder=per_au_tokens,res_mlp64"), (*TRAIN_STORM, TRAINING, SAVING, EVALUATING)),
    "evaluate": Job(("evaluate", "bundle=data/toyfacs/bundle", *EVALUATION), (ANY_TIME, MAKING, MAKING, EVALUATING)),
}

VARIES = {"seconds", "training_seconds", "examples_per_second", "peak_memory_gb", "config_hash", "inputs"}
"""JSON's keys that hold durations or times of files."""


def leavings(root: Path) -> dict[str, str]:
    """What every file under `root` says that must not depend on kills, hashed."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".lock")]
    apart = {
        "log.txt",
        "contents.parquet",
        "report.html",
    }  # holds times; holds times; is drawn from metrics, with durations
    kept = [path for path in files if path.name not in apart and path.parent.parent.name != "state"]
    return {str(path.relative_to(root)): hashlib.sha256(_constant(path)).hexdigest() for path in kept}


def _constant(path: Path) -> bytes:
    if path.suffix == ".json":
        return json.dumps(_less_varying(json.loads(path.read_text()))).encode()
    if path.suffix == ".jsonl":
        return json.dumps([_less_varying(json.loads(line)) for line in path.read_text().splitlines()]).encode()
    return path.read_bytes()


def _less_varying(value: Any) -> Any:
    return (
        {key: _less_varying(item) for key, item in value.items() if key not in VARIES}
        if isinstance(value, dict)
        else value
    )


def newest_steps(root: Path) -> dict[Path, int]:
    """By run folder that is not trained yet, the step of its newest checkpoint, if it has one."""
    steps = {
        run: max((int(path.name[5:]) for path in run.glob("state/step_????????")), default=0)
        for run in root.glob("runs/*")
    }
    return {run: step for run, step in steps.items() if step and not (run / "finished.json").exists()}


def batches_evaluated(root: Path) -> dict[Path, int]:
    """By run folder that is not evaluated yet, how many batches are."""
    return {
        rows.parent: len(list(rows.glob("*.parquet")))
        for rows in root.glob("runs/*/rows")
        if not (rows.parent / "metrics.json").exists()
    }


def half_written(root: Path) -> set[Path]:
    return {path for path in root.rglob("*.partial*") if path.suffix.startswith(".partial")}


def wait_for(
    storm: list[Moment], root: Path, process: subprocess.Popen, started: float, length: float, chance: random.Random
) -> Moment | None:
    """Wait for the first moment of `storm`, or for a later one should it not come again; returns None if the process
    ended before."""
    moment = storm[0] if storm[0].sign is None else None
    while moment is None and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            moment = next(
                (
                    one
                    for one in storm
                    if one.sign and any(path.stat().st_mtime > started for path in root.glob(one.sign))
                ),
                None,
            )
        time.sleep(0.002)
    if moment is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(0, moment.spread * (1 if moment.sign else length)))
    return moment if process.poll() is None else None


def kill(process: subprocess.Popen, chance: random.Random) -> str:
    """SIGKILL to one process of the run, or to all at once; then wait until none is left."""
    parent = psutil.Process(process.pid)
    everyone = [parent, *parent.children(recursive=True)]  # torchrun's workers have sessions of their own
    chosen = everyone if chance.random() < 0.3 else [chance.choice(everyone)]
    for one in chosen:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    # A launcher ends the others when a worker dies; workers whose launcher was killed would go on, alone.
    if parent in chosen:
        for one in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
    psutil.wait_procs(everyone, timeout=60)
    return f"{len(chosen)} of {len(everyone)} processes"


@dataclasses.dataclass
class Tally:
    wanted: int
    kills: Counter[str] = dataclasses.field(default_factory=Counter)
    halves: int = 0
    faults: int = 0

    @property
    def full(self) -> bool:
        return self.kills.total() >= self.wanted

    def fault(self, text: str) -> None:
        self.faults += 1
        print(f"FAULT: {text}", flush=True)


def attempt(job: Job, root: Path, storm: list[Moment], tally: Tally, chance: random.Random, length: float) -> bool:
    """Start the job and kill it at the first moment of `storm`, if there is one and it comes; returns whether it ended
    by itself."""
    log = root / "log.txt"
    written = log.stat().st_size if log.exists() else 0
    steps, batches, halves, started = newest_steps(root), batches_evaluated(root), half_written(root), time.time()
    process = job.start(root)
    moment = wait_for(storm, root, process, started, length, chance) if storm else None
    if moment is None and process.wait():
        tally.fault(f"an attempt that nobody killed failed:\n{log.read_text()[-2000:]}")
    if moment is not None:
        what = kill(process, chance)
        tally.kills[moment.name] += 1
        tally.halves += bool(half_written(root) - halves)
        print(
            f"kill {tally.kills.total()}: {what}, {moment.name}; checkpoints {list(steps.values())} -> "
            f"{list(newest_steps(root).values())}",
            flush=True,
        )
        if any(newest_steps(root).get(run, step) < step for run, step in steps.items()):
            tally.fault(f"a checkpoint was lost: {steps} -> {newest_steps(root)}")
        if any(batches_evaluated(root).get(run, count) < count for run, count in batches.items()):
            tally.fault(f"evaluated batches were lost: {batches} -> {batches_evaluated(root)}")
    said = log.read_bytes()[written:].decode(errors="replace")
    resumed = {int(step) for step in re.findall(r"going on after step (\d+)", said)}
    if "training:" in said and resumed != set(steps.values()):
        tally.fault(f"went on after {resumed}, with checkpoints at {steps}")
    return moment is None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="train2: on two processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="default: a temporary folder, removed at the end")
    arguments = parser.parse_args()
    root = arguments.root or Path(tempfile.mkdtemp(prefix="chaos-"))
    chance, tally, began = random.Random(arguments.seed), Tally(arguments.kills), time.monotonic()
    folder = root / "job"  # the same for all rounds: tables hold paths

    expected: dict[str, dict[str, str]] = {}
    lengths: dict[str, float] = {}
    for name in arguments.jobs:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started = time.monotonic()
        attempt(JOBS[name], folder, [], tally, chance, 0)
        lengths[name], expected[name] = time.monotonic() - started, leavings(folder)
        print(f"{name}, left alone: {lengths[name]:.0f} s, {len(expected[name])} files", flush=True)

    rounds = 0
    while not tally.full:
        name = arguments.jobs[rounds % len(arguments.jobs)]
        rounds += 1
        shutil.rmtree(folder)
        folder.mkdir()
        storm = list(JOBS[name].storm)
        while not attempt(JOBS[name], folder, [] if tally.full else storm, tally, chance, lengths[name]):
            del storm[:1]
        found = leavings(folder)
        different = sorted(path for path in {*expected[name], *found} if found.get(path) != expected[name].get(path))
        if different:
            tally.fault(f"round {rounds} left other files: {different[:10]}")
        print(f"round {rounds}, {name}: {'not ' if different else ''}as left alone", flush=True)
    print(
        f"{tally.kills.total()} kills in {rounds} rounds, {tally.faults} faults; {tally.halves} left something "
        f"half-written; {dict(tally.kills)}"
    )
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    if arguments.root is None:
        shutil.rmtree(root)
    if tally.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
