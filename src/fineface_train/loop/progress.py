"""How far a training is: its pauses (checkpoints, pictures, looks at held-out images), its bar, its lines of
metrics.jsonl. The speed that bar and lines tell leaves the pauses out."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from fineface_train.loop.checkpoint import TrainingState
from fineface_train.loop.config import TrainerConfig
from fineface_train.loop.trainee import Turn
from fineface_train.loop.turns import TurnTaken


def times_due(every: int, steps: int, done: int = 0) -> int:
    """Number of times that something is due after step `done`, if it is every so many steps (0: never) and at the end
    of the run."""
    if not every or done >= steps:
        return 0
    return steps // every - done // every + (steps % every > 0)


@dataclasses.dataclass
class Pause:
    """Something done every so many steps and at the end of the run, and the time it has taken so far."""

    every: int
    """0: never."""
    action: Callable[[int], Any]
    """Called with the number of finished steps."""
    expected: float = 0.0
    """Seconds that one is thought to take until one has been timed."""
    seconds: float = 0.0
    times: int = 0

    def is_due(self, done: int, steps: int) -> bool:
        return bool(self.every) and (done == steps or done % self.every == 0)

    def take(self, done: int) -> None:
        started = time.perf_counter()
        self.action(done)
        self.seconds += time.perf_counter() - started
        self.times += 1

    def seconds_to_come(self, done: int, steps: int) -> float:
        """Between `done` and the end of the run, at the mean of what it took so far, or as expected."""
        each = self.seconds / self.times if self.times else self.expected
        return times_due(self.every, steps, done) * each


class Bar(tqdm):
    """A progress bar over steps whose speed leaves pauses out, and whose time left counts those to come."""

    def __init__(
        self, steps: range, total: int, pauses: Sequence[Pause], *, disable: bool, afterwards: float = 0.0
    ) -> None:
        """`afterwards`: seconds that the evaluation behind the last step is thought to take; the bar tells them beside
        the time left."""
        self.pauses, self.paused, self.afterwards = pauses, 0.0, afterwards
        super().__init__(
            steps,
            initial=steps.start,
            total=total,
            desc="training",
            unit="step",
            mininterval=1,
            disable=disable,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{left}{then}, {rate_fmt}{postfix}]",
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar shows; `left` and `then` are our own."""
        shown = super().format_dict
        pauses = sum(pause.seconds_to_come(self.n, self.total) for pause in self.pauses)
        rate = shown["rate"] or (self.n - self.initial) / (shown["elapsed"] or 1.0)
        left = self.format_interval((self.total - self.n) / rate + pauses) if rate else "?"
        then = f" and {self.format_interval(self.afterwards)} of evaluation" if self.afterwards >= 1 else ""
        return shown | {"left": left, "then": then}

    def update(self, n: float | None = 1) -> bool | None:
        """Count finished steps; the pauses since the last update are no part of their time."""
        paused = sum(pause.seconds for pause in self.pauses)
        self.last_print_t += paused - self.paused
        self.paused = paused
        return super().update(n)


class Lines:
    """What goes into metrics.jsonl: with each line the last turn of each kind since the line before, and how fast
    training goes without its pauses.

    Values are named "loss", "gradient_norm", ... where one player has one kind of turn, else "critic/loss" or
    "critic.penalty/loss".
    """

    def __init__(
        self, config: TrainerConfig, state: TrainingState, pauses: Sequence[Pause], done: int, every: int
    ) -> None:
        self.config, self.state, self.pauses, self.every = config, state, pauses, every
        self.done, self.at, self.skipped = done, self._working(), 0

    def prefix(self, turn: Turn) -> str:
        """What stands before the names of this turn's values."""
        return f"{turn.title}/" if turn.name or len(self.state.trainee.players) > 1 else ""

    def note(self, turn: Turn, rate: float, taken: TurnTaken) -> None:
        """Take on a turn's values; `rate` is the learning rate it had."""
        values = taken.values | {"learning_rate": rate, "gradient_norm": taken.norm}
        self.state.unlogged |= {self.prefix(turn) + name: value for name, value in values.items()}
        self.skipped += not math.isfinite(taken.norm)

    def is_due(self, done: int) -> bool:
        return done == self.config.steps or done % self.every == 0

    def take(self, done: int) -> dict[str, float]:
        """The line after `done` steps."""
        now, size = self._working(), self.config.batch_size
        line = self.state.unlogged | {
            "examples_per_second": (done - self.done) * size / (now - self.at),
            "examples": done * size,
            "seconds": self.state.seconds,
        }
        self.done, self.at, self.state.unlogged = done, now, {}
        return line | ({"skipped_steps": self.skipped} if self.skipped else {})

    def _working(self) -> float:
        """A clock that stands still in pauses."""
        return time.perf_counter() - sum(pause.seconds for pause in self.pauses)
