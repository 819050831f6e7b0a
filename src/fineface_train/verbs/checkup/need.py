"""One part of what a run takes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Need:
    """What one part of the run takes."""

    what: str
    seconds: float | None
    """None: not measured here."""
    bytes: float = 0.0
    """On the disk of `key`."""
    key: str = "run.root"
