"""Who does a long work: one process, or all of a launch."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Crew:
    """The processes that do a long work together: each takes its share of the batches."""

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None
    """Returns when all of them have called it."""
    agree: Callable[[Any], Any] = lambda value: value
    """What the first process says, for all of them."""
    quiet: bool = False

    @property
    def silent(self) -> bool:
        """Whether this process shows no bar: told so, or not the first."""
        return self.quiet or self.index > 0

    def first(self, function: Callable[[], T]) -> T:
        """What `function` returns on the first process, which alone calls it, for all of them. Its ValueError is raised
        on all."""
        value: Any = None
        refused: str | None = None
        if self.index == 0:
            try:
                value = function()
            except ValueError as error:
                self.agree((None, str(error)))
                raise
        value, refused = self.agree((value, refused))
        if refused is not None:
            raise ValueError(refused)
        return value  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def entered(self, context: AbstractContextManager[T]) -> Iterator[T]:
        """`context`, such as a lock, entered by the first process for all of them, which get what it gives, or its
        ValueError.

        The first one leaves it as soon as it comes to the end: what the others must have done by then, they `wait` for.
        """
        with contextlib.ExitStack() as stack:
            yield self.first(lambda: stack.enter_context(context))


ALONE = Crew()
"""One process by itself."""
