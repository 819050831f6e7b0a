"""The best weights so far: kept beside the last ones as the bundle `best`, and when to stop looking for better.

    run/best/       the bundle of the best weights, averaged where averages are kept
    run/best.json   the step they are of, by what they are best, its value, and the bundle's checksum

A checkpoint holds the same weights, so that a run resumed from it knows the best of its own steps, whatever the attempt
that was killed found after it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fineface_train.files import SEAL, damage, flat, read_json, sha256, write_json
from fineface_train.loop.averages import in_place
from fineface_train.loop.config import CRITERIA
from fineface_train.loop.trainee import Trainee

BEST, BEST_NOTE = "best", "best.json"
SaveBundle = Callable[[Path, int], None]
"""Writes the weights that are in place now, those after so many steps, as a bundle into a folder."""


@dataclasses.dataclass
class Best:
    """The best look so far, by one value of those that looks return; kept by the main process only."""

    by: str
    """One of `config.CRITERIA`."""
    patience: int | None
    """Looks in a row without improvement after which the run ends; None: it never does."""
    folder: Path
    """The run's."""
    save_bundle: SaveBundle
    step: int = 0
    """Finished steps at the best look; 0: none so far."""
    value: float = math.nan
    last: int = 0
    """Finished steps at the last look."""
    waited: int = 0
    """Looks since the best one."""
    weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """The trainee's state at the best look, on the CPU."""

    def note(self, step: int, seen: Mapping[str, Any], trainee: Trainee) -> None:
        """Take account of what a look after `step` steps has `seen`; where it is the best, keep the weights in place.

        A look that was noted before is not counted again: a resumed run repeats those of the step it resumes from.
        """
        value = dict(flat(dict(seen))).get(self.by)
        if value is None or step <= self.last:
            return
        self.last, self.waited = step, self.waited + 1
        better = CRITERIA[self.by].distance
        if better(value) < better(self.value):
            self.step, self.value, self.waited = step, float(value), 0
            self.weights = {name: part.detach().cpu().clone() for name, part in trainee.state.items()}
            self._write()

    def why_stop(self) -> str | None:
        """Why the run ends here, in words; None where it goes on."""
        if self.patience is None or self.waited < self.patience:
            return None
        times = f"{self.waited} time{'s' if self.waited > 1 else ''} in a row"
        since = f"since step {self.step} ({self.value:.6g})" if self.step else "and never was a number"
        return f"{self.by} got no better {times} {since}; trainer.patience={self.patience}"

    def record(self) -> dict[str, Any]:
        """What a checkpoint holds beside the weights."""
        value = None if math.isnan(self.value) else self.value
        return {"by": self.by, "step": self.step, "value": value, "last": self.last, "waited": self.waited}

    def resume(self, record: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
        """Take on what `record` returned, and the weights of then."""
        self.step, self.last, self.waited = (int(record[name]) for name in ("step", "last", "waited"))
        self.value = math.nan if record["value"] is None else float(record["value"])
        self.weights = weights

    def mend(self, trainee: Trainee) -> None:
        """Write the bundle again where it is not the one of this best look: the attempt that was killed found a better
        one later, or it is damaged."""
        if self.step and not self._is_written():
            with torch.no_grad(), in_place(trainee, self.weights):
                self._write()

    def _write(self) -> None:
        (self.folder / BEST_NOTE).unlink(missing_ok=True)
        self.save_bundle(self.folder / BEST, self.step)
        write_json(self.folder / BEST_NOTE, self.told())

    def told(self) -> dict[str, Any]:
        """What best.json and finished.json say of the bundle that is written."""
        seal = sha256(self.folder / BEST / SEAL)
        return {"by": self.by, "step": self.step, "value": self.value, "bundle": seal}

    def _is_written(self) -> bool:
        note = self.folder / BEST_NOTE
        return note.is_file() and damage(self.folder / BEST) is None and read_json(note) == self.told()
