"""Real processes: torchrun with two, and the same run on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).parents[1]


def launch(processes: int, root: Path, base: Path, *overrides: str) -> Path:
    """Five steps in float64 on the tiny base; returns the run folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m", "fineface_train", "train"]
    if processes == 1:
        command = [sys.executable, "-m", "fineface_train", "train"]
    arguments = [
        *(f"base.path={base}", "base.resolution=16", f"data.root={root / 'data'}", f"run.root={root / f'runs{processes}'}"),
        *("data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"),
        *("trainer.steps=5", "trainer.batch_size=4", "trainer.learning_rate=1e-4", "trainer.precision=fp64", "sampling.steps=1"),
        *("evaluation.after_training=false", "tracking.wandb=false", "tracking.log_every=1", *overrides),
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command + arguments, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("run: ")]
    return Path(line.removeprefix("run: "))


def test_two_processes_train_what_one_does(tmp_path: Path, saved_base: Path) -> None:
    one, two = (launch(processes, tmp_path, saved_base) for processes in (1, 2))
    assert one.name == two.name
    for name in ("adapter.safetensors", "pytorch_lora_weights.safetensors"):
        first, second = load_file(one / "bundle" / name), load_file(two / "bundle" / name)
        assert set(first) == set(second)
        for key, value in first.items():
            torch.testing.assert_close(value, second[key], atol=1e-9, rtol=0)
    losses = [[json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)
