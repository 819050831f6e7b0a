#!/usr/bin/env python
"""How much faster several processes train the same run than one: real runs, taking turns.

    python scripts/bench_processes.py [--processes 1 2] [--repeats 3] [--steps 60] [KEY=VALUE ...]

Each run is `fineface train` without pictures and evaluation, under torchrun where it has several processes: one GPU
each where there are GPUs, else one CPU thread each. The table gives the median of the speeds that the runs logged, the
first interval left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

LOG_EVERY = 5


def speeds(processes: int, steps: int, root: Path, overrides: list[str]) -> list[float]:
    """Examples per second, an entry per logged interval."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [
        *(
            sys.executable,
            *launcher,
            "-m",
            "fineface_train",
            "train",
            f"run.root={root}",
            f"trainer.steps={steps}",
            "trainer.sample_every=0",
        ),
        *(
            f"trainer.checkpoint_every={steps}",
            "evaluation.after_training=false",
            "tracking.wandb=false",
            f"tracking.log_every={LOG_EVERY}",
            *overrides,
        ),
    ]
    environment = os.environ | (
        {} if torch.cuda.is_available() else {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    )
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    (log,) = root.glob("*/metrics.jsonl")
    return [json.loads(line)["examples_per_second"] for line in log.read_text().splitlines()][1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_intermixed_args()
    if arguments.steps < 2 * LOG_EVERY:
        parser.error(f"--steps {arguments.steps}: must be at least {2 * LOG_EVERY}")
    found: dict[int, list[float]] = {count: [] for count in arguments.processes}
    for repeat in range(arguments.repeats):
        for count in arguments.processes:
            with tempfile.TemporaryDirectory() as root:
                found[count].append(statistics.median(speeds(count, arguments.steps, Path(root), arguments.overrides)))
            print(
                f"round {repeat + 1}, {count} process{'es' if count > 1 else ''}: {found[count][-1]:.1f} examples/s",
                flush=True,
            )
    reference = statistics.median(found[arguments.processes[0]])
    print(f"{'processes':>9}{'examples/s':>12}{'against ' + str(arguments.processes[0]):>12}{'by round':>22}")
    for count, values in found.items():
        each = ", ".join(f"{value / one:.2f}" for value, one in zip(values, found[arguments.processes[0]], strict=True))
        print(f"{count:>9}{statistics.median(values):>12.1f}{statistics.median(values) / reference:>11.2f}x{each:>22}")


if __name__ == "__main__":
    main()
