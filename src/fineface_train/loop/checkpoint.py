"""`state/`: what a run needs to go on. Written beside its place, sealed, and moved there whole; the last two are
kept."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fineface_train.files import damage, seal

logger = logging.getLogger(__name__)
PROGRESS = "progress.json"
KEPT = 2
"""Checkpoints that stay: should the newest turn out damaged, the one before it is there."""


@dataclasses.dataclass
class TrainingState:
    """All that training changes: what a checkpoint holds beside the number of finished steps."""

    trainable: dict[str, nn.Parameter]
    averages: dict[str, Tensor] | None
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    """fp16's loss scale."""
    seconds: float = 0.0
    """Spent training, over all attempts."""

    def average(self, decay: float) -> None:
        """Move the averages, if there are any, towards the trainables."""
        for name, average in (self.averages or {}).items():
            average.lerp_(self.trainable[name].detach(), 1 - decay)

    def save(self, folder: Path, step: int) -> None:
        """Write the state after `step` steps into `folder`/step_...; of the checkpoints there, all but the newest
        `KEPT` go.

        Raises OSError if it cannot be written; the checkpoint before it is then whole.
        """
        name = f"step_{step:08d}"
        partial = folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in self.trainable.items()},
                partial / "trainable.safetensors",
            )
            if self.averages is not None:
                save_file(
                    {key: value.cpu().contiguous() for key, value in self.averages.items()},
                    partial / "averages.safetensors",
                )
            torch.save(self.optimiser.state_dict(), partial / "optimiser.pt")
            progress = {"run": folder.parent.name, "step": step, "seconds": self.seconds} | (
                {"scaler": self.scaler.state_dict()} if self.scaler else {}
            )
            (partial / PROGRESS).write_text(json.dumps(progress) + "\n")
            seal(partial)
        except (
            OSError,
            SafetensorError,
            RuntimeError,
        ) as error:  # torch and safetensors have errors of their own for a full disk
            shutil.rmtree(partial, ignore_errors=True)
            free = shutil.disk_usage(folder.parent).free / 1e6
            raise OSError(
                f"{folder / name} could not be written ({error}); {free:.0f} MB are free there. The checkpoint before "
                f"it is whole: mend this and start again"
            ) from error
        shutil.rmtree(folder / name, ignore_errors=True)
        partial.rename(folder / name)
        for older in sorted(folder.glob("step_????????"))[:-KEPT]:
            shutil.rmtree(older)

    def load(self, checkpoint: Path) -> int:
        """Take on what `save` wrote, strictly; returns the number of finished steps."""
        progress: dict[str, Any] = json.loads((checkpoint / PROGRESS).read_text())
        _restore(
            load_file(checkpoint / "trainable.safetensors"),
            {key: value.data for key, value in self.trainable.items()},
            checkpoint,
        )
        if self.averages is not None:
            _restore(load_file(checkpoint / "averages.safetensors"), self.averages, checkpoint)
        # To the CPU first: the optimiser moves its moments, and keeps its step counts where asking for them waits for
        # no GPU.
        self.optimiser.load_state_dict(torch.load(checkpoint / "optimiser.pt", map_location="cpu", weights_only=True))
        if self.scaler and "scaler" in progress:
            self.scaler.load_state_dict(progress["scaler"])
        self.seconds = progress["seconds"]
        return int(progress["step"])


def latest_state(folder: Path) -> Path | None:
    """The newest checkpoint that is as it was written, or None; a damaged one is named, set aside as *.damaged, and the
    one before it taken."""
    for checkpoint in sorted(folder.glob("step_????????"), reverse=True):
        fault = damage(checkpoint) or _exchanged(checkpoint)
        if fault is None:
            return checkpoint
        logger.warning("%s: not used; going back to the checkpoint before it", fault)
        aside = checkpoint.with_name(checkpoint.name + ".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
    return None


def _exchanged(checkpoint: Path) -> str | None:
    """Whether a whole checkpoint is one of another run or step, in words."""
    progress = json.loads((checkpoint / PROGRESS).read_text())
    run, step = checkpoint.parents[1].name, int(checkpoint.name.removeprefix("step_"))
    if (progress["run"], progress["step"]) != (run, step):
        return f"{checkpoint} is step {progress['step']} of {progress['run']}"
    return None


def _restore(saved: dict[str, Tensor], target: dict[str, Tensor], checkpoint: Path) -> None:
    if set(saved) != set(target):
        raise ValueError(
            f"{checkpoint} holds other trainables than this run (first difference: "
            f"{sorted(set(saved) ^ set(target))[:1]}); use run.fresh=true"
        )
    for key, value in saved.items():
        target[key].copy_(value)
