"""A training of `Gan` whose validation losses are given, for tests of what is kept of them."""

import contextlib
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import save_file
from torch.utils.data import default_collate

from fineface_train.files import new_folder
from fineface_train.loop.config import TrainerConfig
from fineface_train.loop.progress import Pause
from fineface_train.loop.trainer import Fitted, fit
from tests.loop.trainees import STEPS, Gan, Pictures, StoppedError, same

VALUES = {1: 3.0, 2: 2.0, 3: 2.5, 4: 1.0, 5: 0.9, 6: 0.5, 7: 0.8, 8: 0.7, 9: 0.6, 10: 0.6, 11: 0.4, 12: 0.7, 13: 0.6}
"""Validation loss by step; looked at every second step and at the end: 2.0, 1.0, 0.5, 0.7, 0.6, 0.7, 0.6."""


class BestRun:
    """One attempt at a run that keeps its best weights."""

    def __init__(
        self,
        folder: Path,
        *,
        patience: int | None = None,
        values: dict[int, float] = VALUES,
        best_by: str = "validation.loss",
        log_every: int = 1,
        **changes: Any,
    ) -> None:
        self.folder, self.values, self.log_every = folder, values, log_every
        self.trainee = Gan()
        known = {"steps": STEPS, "batch_size": 4, "checkpoint_every": 1, "best_by": best_by, "patience": patience}
        self.config = TrainerConfig(**(known | changes))
        self.config.validate("trainer")
        self.lines: list[dict[str, Any]] = []
        self.looked: list[tuple[str, int]] = []
        self.writes, self.kill_in_write = 0, (0, False)

    def save(self, place: Path, steps: int) -> None:
        self.writes += 1
        if self.kill_in_write == (self.writes, False):
            raise StoppedError
        with new_folder(place) as partial:
            state = {name: value.detach().clone() for name, value in self.trainee.state.items()}
            save_file(state, partial / "weights.safetensors")
        if self.kill_in_write == (self.writes, True):
            raise StoppedError

    def validate(self, step: int) -> dict[str, Any]:
        self.looked.append(("validation", step))
        return {"validation": {"loss": self.values[step]}, "glance": {"slope": self.values[step]}}

    def picture(self, step: int) -> None:
        self.looked.append(("picture", step))

    def fit(self, kill_after: int | None = None, kill_in_write: tuple[int, bool] = (0, False)) -> Fitted:
        """`kill_after`: as if killed once it has looked at that step, which is after its checkpoint. `kill_in_write`:
        in which write of a best bundle, and whether its folder is whole then."""
        batches, self.kill_in_write = 0, kill_in_write

        def stopping(batch: Any) -> Any:
            nonlocal batches
            batches += 1
            if kill_after is not None and batches > kill_after:
                raise StoppedError
            return same(batch)

        def resumed(step: int) -> None:
            nonlocal batches
            batches = step

        with contextlib.suppress(StoppedError):
            return fit(
                self.trainee,
                Pictures(),
                self.config,
                Accelerator(cpu=True),
                self.folder,
                collate=default_collate,
                to_device=stopping,
                log=lambda step, values: self.lines.append({"step": step, **values}),
                resumed=resumed,
                pauses=[Pause(100, self.picture), Pause(2, self.validate)],
                log_every=self.log_every,
                save_bundle=self.save,
            )
        return Fitted(0.0, 0)
