"""Who does a long work: one process, or all of a launch."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Crew:
    """The processes that do a long work together: each takes its share of the batches."""

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None
    """Returns when all of them have called it."""
    agree: Callable[[bool], bool] = lambda value: value
    """What the first process says, for all of them."""
    quiet: bool = False

    @property
    def silent(self) -> bool:
        """Whether this process shows no bar: told so, or not the first."""
        return self.quiet or self.index > 0


ALONE = Crew()
"""One process by itself."""
