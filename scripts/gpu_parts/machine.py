"""Commands in processes of their own, each with a limit of time."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
FINEFACE = [sys.executable, "-m", "fineface_train"]


class NotHereError(Exception):
    """This machine cannot do it, and need not."""


class PartError(Exception):
    """A command ended with an error, or what it left is not what it should be."""

    def __init__(self, what: str, output: str = "") -> None:
        super().__init__(what)
        self.output = output[-3000:]


@dataclasses.dataclass(frozen=True)
class Part:
    """Something to run: given seconds at most, it returns what it found, or raises `NotHereError`, `PartError` or
    subprocess.TimeoutExpired."""

    name: str
    limit: float
    """Seconds that it may take."""
    least: float
    """Seconds without which it is not begun."""
    run: Callable[[float], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where to work, how much, and on what."""

    folder: Path
    tiny: bool
    gpu: bool

    @property
    def at_once(self) -> int:
        """Checks that run beside each other."""
        return 6 if self.gpu and (os.cpu_count() or 1) >= 12 else 1

    @property
    def steps(self) -> int:
        return 8 if self.tiny else 100

    def toyfacs(self, name: str, *more: str) -> list[str]:
        """A short training on ToyFACS in a run folder of its own."""
        return [
            "train",
            *("data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"),
            *(f"data.root={self.folder / 'data'}", f"run.root={self.folder / name}"),
            *(f"trainer.steps={self.steps}", f"trainer.batch_size={4 if self.tiny else 32}"),
            *("trainer.warmup_steps=2", "trainer.sample_every=0", "tracking.log_every=1", "tracking.wandb=false"),
            *("evaluation.after_training=false", f"trainer.checkpoint_every={self.steps // 4}", *more),
        ]

    def true_shape(self, batch: int) -> list[str]:
        """Values of the config for Stable Diffusion 2.1's shape; when tiny, ToyFACS stands for it."""
        base = ["base=toyfacs"] if self.tiny else ["base=sd21_random", "method.base.resolution=512", "judge=none"]
        return [
            *base,
            *("data.toyfacs.disfa_subjects=1", "data.toyfacs.disfa_frames=4", "data.toyfacs.affectnet_images=50"),
            *("data.affectnet=null", f"data.root={self.folder / 'sd_data'}", f"trainer.batch_size={batch}"),
            *("trainer.precision=fp32", "trainer.channels_last=false", "tracking.wandb=false"),
        ]


def inside(changes: str, arguments: list[str]) -> int:
    """The command line in this process, after `changes`: deterministic kernels, or a GPU shared by all processes."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    if changes == "deterministic":
        torch.use_deterministic_algorithms(True, warn_only=True)  # which kernels are not is told, and the bits decide
    if changes == "shared":  # NCCL refuses two processes on one GPU
        os.environ["LOCAL_RANK"] = "0"
        torch.distributed.init_process_group("gloo")
    from fineface_train.cli import main

    return main(arguments)


def run(command: list[str], limit: float, **environment: str) -> str:
    """What a command prints; it and all that it started are killed at the limit."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=REPOSITORY,
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=max(limit, 0.1))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise PartError(f"{' '.join(command[1:4])} ... ended with status {process.returncode}", output)
    return output


def inner(changes: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "scripts" / "gpu_check.py"), "--inside", changes]
