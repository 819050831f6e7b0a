"""What interrupts a training to look at it: sample pictures, a glance of the judges, the loss on held-out images."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from fineface_train.loop.averages import in_place
from fineface_train.loop.best import Best
from fineface_train.loop.config import TrainerConfig
from fineface_train.loop.processes import as_first
from fineface_train.loop.progress import Pause
from fineface_train.loop.trainee import Trainee

Look = Callable[[int], dict[str, Any] | None]
"""Called with the number of finished steps; returns what it has seen, to be logged (see `Tracker.log`)."""


class Looks:
    """All looks of a run: taken by the main process, with the averaged weights in place."""

    def __init__(
        self,
        looks: Sequence[Pause],
        trainee: Trainee,
        averages: Mapping[str, Tensor],
        best: Best | None,
        log: Callable[[int, dict[str, Any]], None],
        config: TrainerConfig,
        accelerator: Accelerator,
    ) -> None:
        """`looks`: pauses whose action is a `Look`."""
        self.trainee, self.averages, self.best, self.log = trainee, averages, best, log
        self.config, self.accelerator = config, accelerator
        self.pauses = [dataclasses.replace(look, action=self._logged(look.action)) for look in looks]

    def take_due(self, done: int) -> str | None:
        """Look where it is time, after `done` steps. Returns why the run ends here, before its last step: the same on
        all processes; the looks of its end are then taken too."""
        due = [pause for pause in self.pauses if pause.is_due(done, self.config.steps)]
        self._take(due, done)
        if self.config.patience is None or not due or done == self.config.steps:
            return None
        why: str | None = as_first(self.accelerator, self.best.why_stop() if self.best is not None else None)
        if why is not None:
            self._take([pause for pause in self.pauses if pause.every and pause not in due], done)
        return why

    def _take(self, pauses: Sequence[Pause], done: int) -> None:
        if not pauses or not self.accelerator.is_main_process:
            return
        with in_place(self.trainee, self.averages):
            self.trainee.train(False)
            for pause in pauses:
                pause.take(done)
            self.trainee.train()

    def _logged(self, look: Look) -> Callable[[int], None]:
        def take(done: int) -> None:
            seen = look(done)
            if seen:
                self.log(done, seen)
            if seen and self.best is not None:
                self.best.note(done, seen, self.trainee)

        return take
