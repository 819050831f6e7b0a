"""The loss on images held out of training, while it goes on: the same examples, noise and timesteps each time."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from fineface_train.files import write_json
from fineface_train.loop.runs import VALIDATION_FILE
from fineface_train.loop.tracking import VALIDATION, finite


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Examples that are the same at every validation, and by what their errors are told apart."""

    examples: Dataset[Any]
    """Example i for i below N."""
    subjects: Sequence[str]
    """(N,) whose image it is: what statistics resample."""
    groups: dict[str, list[str]]
    """For each kind of group (source, band of timesteps), the group of each of the N examples."""


@dataclasses.dataclass(frozen=True)
class Validation:
    """A look (see `looks.Look`) at held-out examples."""

    held_out: HeldOut
    errors: Callable[[Any], Tensor]
    """The error (B,) of each example of a batch, without gradients."""
    collate: Callable[[list[Any]], Any]
    to_device: Callable[[Any], Any]
    batch_size: int
    accelerator: Accelerator
    folder: Path
    """The run's."""

    def __call__(self, step: int) -> dict[str, Any]:
        """Write validation.json; return the mean error, over all and by group, under "validation"."""
        count, found = len(self.held_out.subjects), []
        with self.accelerator.autocast():
            for start in range(0, count, self.batch_size):
                part = range(start, min(start + self.batch_size, count))
                batch = self.collate([self.held_out.examples[index] for index in part])
                found += self.errors(self.to_device(batch)).tolist()
        errors = np.array(found)
        means: dict[str, Any] = {"loss": float(errors.mean())}
        for kind, names in self.held_out.groups.items():
            of = np.array(names)
            means[kind] = {name: float(errors[of == name].mean()) for name in sorted(set(names))}
        known = {"errors": found, "subjects": list(self.held_out.subjects), "groups": self.held_out.groups}
        write_json(self.folder / VALIDATION_FILE, finite({"step": step} | means | known))
        return {VALIDATION: means}
