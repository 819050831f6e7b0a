#!/usr/bin/env python
"""Build every shipped ToyFACS weight from nothing: VAE, CLIP, judges, attribute classifier and the base pipeline.

    python scripts/build_toyfacs.py                    # all stages, resumed where they stopped
    python scripts/build_toyfacs.py --only base        # one stage

Each stage trains on endless drawings with known labels, passes a check, and is then written under data/toyfacs/ as
safetensors. Progress is saved every minute in outputs/build_toyfacs/; the same command goes on. On a CPU each stage
runs as one single-threaded process per core (faster than one many-threaded process); on a GPU as one process.
"""

import argparse
import os
import subprocess
import sys
import time

import torch

from fineface_train.evaluation.judges.models import PyramidJudge, ResidualJudge
from toyfacs_weights.autoencoder import build_autoencoder
from toyfacs_weights.base import BASE_BATCH, build_base
from toyfacs_weights.batches import DENSE, SPARSE
from toyfacs_weights.bundle import build_bundle
from toyfacs_weights.clip import build_clip
from toyfacs_weights.judges import build_attributes, build_judge
from toyfacs_weights.stage import built, forget

STAGES = {
    "autoencoder": build_autoencoder,
    "clip": build_clip,
    "judge_one": lambda: build_judge("judge_one", ResidualJudge(), 2e-3, DENSE + SPARSE),
    "judge_two": lambda: build_judge("judge_two", PyramidJudge(), 1e-3, DENSE),
    "attributes": build_attributes,
    "base": build_base,
}
LAST = "bundle"


def launch(stage: str, processes: int) -> None:
    """Run one stage in processes of its own: one per core without a GPU, one in all with a GPU."""
    environment = os.environ | {"OMP_NUM_THREADS": "1" if processes > 1 else os.environ.get("OMP_NUM_THREADS", "")}
    if not environment["OMP_NUM_THREADS"]:
        del environment["OMP_NUM_THREADS"]
    if not torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"
    if stage in (LAST, "base"):  # their batches are shared out
        processes = next(count for count in range(processes, 0, -1) if BASE_BATCH % count == 0)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    if stage == LAST:
        build_bundle(launcher, environment)
    else:
        subprocess.run([*launcher, __file__, "--inside", stage], check=True, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    only = (
        "these stages, from nothing if they were built; the bundle's run is taken up again (default: all that "
        "data/toyfacs/build.json does not hold)"
    )
    parser.add_argument("--only", choices=[*STAGES, LAST], nargs="+", default=None, help=only)
    parser.add_argument(
        "--processes", type=int, default=1 if torch.cuda.is_available() else os.cpu_count(), help="processes per stage"
    )
    parser.add_argument("--inside", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        torch.manual_seed(0)
        STAGES[arguments.inside]()
        return
    started = time.time()
    for stage in set(arguments.only or ()) & set(built()):
        forget(stage)
    stages = arguments.only or [stage for stage in (*STAGES, LAST) if stage not in built()]
    for stage in stages:
        launch(stage, arguments.processes)
    minutes = sum(stage["seconds"] for stage in built().values()) / 60
    print(
        f"built {', '.join(stages) or 'nothing'} in {(time.time() - started) / 60:.1f} minutes; all stages together: "
        f"{minutes:.1f} minutes of wall time"
    )


if __name__ == "__main__":
    main()
