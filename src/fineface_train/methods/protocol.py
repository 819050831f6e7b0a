"""What the trainer, the evaluation and the report know of a method family: requests go in, images come out."""

import dataclasses
from typing import Protocol

from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Request:
    """One image to make."""

    prompt: str
    aus: tuple[float, ...]
    """12 intensities in the order of `aus.AUS`, within [0, 5] unless one extrapolates on purpose."""
    seed: int
    """Requests that share a seed share the starting noise."""
    source: str | None = None
    """Path of the picture to edit or to animate; None where a prompt alone is asked."""
    driving: str | None = None
    """Path of a picture or clip whose expression is taken; None where AUs are asked."""


class FaceGenerator(Protocol):
    """Anything that turns requests into images."""

    def generate(self, requests: list[Request]) -> Tensor:
        """(B, 3, H, W) floats in [0, 1] on the CPU; each image is a pure function of its own request."""
        ...
