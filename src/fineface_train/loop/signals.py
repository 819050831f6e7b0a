"""Signals that end a run: they leave a note, and the loop stops after the step they came in."""

import signal
import threading
from typing import Any, Self


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end; it has, after a checkpoint."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} after step {step}, which is saved; the same command goes on "
            f"from there"
        )
        self.number = number


class StopSignals:
    """Inside, Ctrl-C, SIGTERM and SIGUSR2 (clusters, submitit) only leave a note, so that a step is never cut.

    A second Ctrl-C ends the process as usual. Not so the others: a cluster and torchrun may both send theirs.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
            }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        self.received = number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
