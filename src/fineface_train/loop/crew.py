"""The processes of a launch as the crew of a long work, and a folder that they have together."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

from accelerate import Accelerator

from fineface_train.data.crew import Crew
from fineface_train.locks import locked
from fineface_train.loop.processes import as_first

T = TypeVar("T")


def make_crew(accelerator: Accelerator) -> Crew:
    """All processes of this launch."""
    return Crew(
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.wait_for_everyone,
        lambda value: as_first(accelerator, value),
    )


@contextlib.contextmanager
def alone(accelerator: Accelerator, folder: Path, *, wait: bool = False) -> Iterator[None]:
    """The first process locks `folder` for all; raises ValueError on all of them where another run has it."""
    with contextlib.ExitStack() as stack:
        refused = None
        if accelerator.is_main_process:
            try:
                stack.enter_context(locked(folder, wait=wait))
            except ValueError as error:
                refused = str(error)
        if refused := as_first(accelerator, refused):
            raise ValueError(refused)
        yield


def from_first(accelerator: Accelerator, find: Callable[[], T]) -> T:
    """What the first process finds, on all of them; a ValueError of it is raised on all."""
    found: T | None = None
    refused = None
    if accelerator.is_main_process:
        try:
            found = find()
        except ValueError as error:
            refused = str(error)
    found, refused = as_first(accelerator, (found, refused))
    if refused:
        raise ValueError(refused)
    return cast(T, found)
