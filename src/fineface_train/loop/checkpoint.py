"""`state/`: what a run needs to go on. Written beside its place, sealed, and moved there whole; the last two are
kept."""

import dataclasses
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fineface_train.files import damage, new_folder
from fineface_train.loop.best import Best
from fineface_train.loop.trainee import Trainee, forgotten_buffers

logger = logging.getLogger(__name__)
STATE, AVERAGES, OPTIMISERS = "state.safetensors", "averages.safetensors", "optimisers.pt"
BEST_STATE = "best.safetensors"
"""The state at the best look so far, where trainer.best_by keeps one."""
PROGRESS = "progress.json"
FORMAT = 2
"""Format of a checkpoint. Format 1 had the parameters of one player, and no number in progress.json."""
KEPT = 2
"""Checkpoints that stay: should the newest turn out damaged, the one before it is there."""


@dataclasses.dataclass
class TrainingState:
    """All that training changes: what a checkpoint holds beside the number of finished steps."""

    trainee: Trainee
    averages: dict[str, Tensor]
    """By names in the trainee's state; empty where none are kept."""
    optimisers: Mapping[str, torch.optim.Optimizer]
    """By player."""
    scaler: torch.amp.GradScaler | None = None
    """fp16's loss scale."""
    seconds: float = 0.0
    """Spent training, over all attempts."""
    unlogged: dict[str, float] = dataclasses.field(default_factory=dict)
    """Values of turns since the last line of metrics.jsonl."""
    best: Best | None = None
    """On the main process, where trainer.best_by keeps one."""

    def __post_init__(self) -> None:
        self._constants = {name: value.clone() for name, value in forgotten_buffers(self.trainee).items()}

    def save(self, folder: Path, step: int) -> None:
        """Write the state after `step` steps into `folder`/step_...; older checkpoints there are removed, but for the
        newest `KEPT`.

        Raises OSError if it cannot be written; the checkpoint before it is then whole. Raises AssertionError where
        training changed a buffer that the trainee's `state` does not hold.
        """
        now = forgotten_buffers(self.trainee)
        changed = [name for name, value in self._constants.items() if not torch.equal(now.get(name, value), value)]
        assert not changed, f"training changes {changed}, and the trainee's state does not hold it: it would be lost"
        name = f"step_{step:08d}"
        progress = {
            "format": FORMAT,
            "run": folder.parent.name,
            "step": step,
            "seconds": self.seconds,
            "unlogged": self.unlogged,
        }
        progress |= {"scaler": self.scaler.state_dict()} if self.scaler else {}
        progress |= {"best": self.best.record()} if self.best is not None else {}
        try:
            with new_folder(folder / name) as partial:
                save_file(_on_cpu(self.trainee.state), partial / STATE)
                if self.averages:
                    save_file(_on_cpu(self.averages), partial / AVERAGES)
                if self.best is not None and self.best.weights:
                    save_file(self.best.weights, partial / BEST_STATE)
                torch.save({player: one.state_dict() for player, one in self.optimisers.items()}, partial / OPTIMISERS)
                (partial / PROGRESS).write_text(json.dumps(progress) + "\n")
        except (
            OSError,
            SafetensorError,
            RuntimeError,
        ) as error:  # torch and safetensors have their own for a full disk
            free = shutil.disk_usage(folder.parent).free / 1e6
            raise OSError(
                f"{folder / name} could not be written ({error}); {free:.0f} MB are free there. The checkpoint before "
                f"it is whole: mend this and start again"
            ) from error
        for older in sorted(folder.glob("step_????????"))[:-KEPT]:
            shutil.rmtree(older)

    def load(self, checkpoint: Path) -> int:
        """Take on what `save` wrote, strictly; returns the number of finished steps."""
        progress: dict[str, Any] = json.loads((checkpoint / PROGRESS).read_text())
        _restore(load_file(checkpoint / STATE), self.trainee.state, checkpoint)
        if self.averages:
            _restore(load_file(checkpoint / AVERAGES), self.averages, checkpoint)
        # To the CPU first: the optimiser moves its moments, and keeps its step counts where asking for them waits for
        # no GPU.
        saved = torch.load(checkpoint / OPTIMISERS, map_location="cpu", weights_only=True)
        _check_same(saved, self.optimisers, "players", checkpoint)
        for player, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved[player])
        if self.scaler and "scaler" in progress:
            self.scaler.load_state_dict(progress["scaler"])
        self.seconds, self.unlogged = progress["seconds"], progress["unlogged"]
        if self.best is not None:
            self._load_best(checkpoint, progress.get("best"))
        return int(progress["step"])

    def _load_best(self, checkpoint: Path, record: dict[str, Any] | None) -> None:
        """Take on the best look; told where the run kept none, or one by another value, until then."""
        assert self.best is not None
        if record is None or record["by"] != self.best.by:
            logger.warning(
                "trainer.best_by=%s: %s holds no best weights by it; the best is sought from here on",
                self.best.by,
                checkpoint,
            )
            return
        mapped = load_file(checkpoint / BEST_STATE) if (checkpoint / BEST_STATE).is_file() else {}
        # Copies, as this checkpoint is removed while they are still wanted.
        self.best.resume(record, {name: value.clone() for name, value in mapped.items()})


def resumable_state(folder: Path) -> Path | None:
    """The checkpoint under `folder` that the run can resume from, or None. Raises ValueError where the newest has
    another format."""
    newest = latest_state(folder)
    fault = newest and other_format(newest)
    if fault:
        raise ValueError(
            f"{fault}. Finish the run with the version that began it, or start over in a new folder with run.fresh=true"
        )
    return newest


def other_format(checkpoint: Path) -> str | None:
    """Why this version cannot resume from a whole checkpoint, in words; None where it can."""
    found = json.loads((checkpoint / PROGRESS).read_text()).get("format", 1)
    if found == FORMAT:
        return None
    age = "an earlier" if found < FORMAT else "a later"
    return (
        f"{checkpoint} was written by {age} version (checkpoint format {found}; this version resumes from format "
        f"{FORMAT} only)"
    )


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


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


@torch.no_grad()
def _restore(saved: dict[str, Tensor], target: Mapping[str, Tensor], checkpoint: Path) -> None:
    _check_same(saved, target, "tensors", checkpoint)
    for key, value in saved.items():
        if value.shape != target[key].shape:
            raise ValueError(
                f"{checkpoint}: {key} has shape {tuple(value.shape)}, in this run {tuple(target[key].shape)}; use "
                f"run.fresh=true"
            )
        target[key].copy_(value)


def _check_same(saved: Mapping[str, Any], target: Mapping[str, Any], what: str, checkpoint: Path) -> None:
    if set(saved) != set(target):
        raise ValueError(
            f"{checkpoint} holds other {what} than this run (first difference: "
            f"{sorted(set(saved) ^ set(target))[:1]}); use run.fresh=true"
        )
