"""Augmentation of training images: mirrored, and with other brightness, contrast and saturation; all of it is off by
default.

The form in which an image is shown is a `View`. Colours are a pure function of (seed, the image's contents, the view's
variant), so that a view of an image is the same picture in every run, and its posterior can be cached.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MOST_COLOUR, MOST_VARIANTS = 0.5, 16
TELLS_A_SIDE = re.compile(r"\b(left|right)", re.IGNORECASE)
"""In a caption: words such as "left", "leftmost" and "right-hand", which are wrong beside a mirrored image."""


@dataclasses.dataclass(frozen=True)
class View:
    """A form of an image."""

    mirrored: bool = False
    """Left and right change places."""
    variant: int = 0
    """Number of its colours: 0 leaves them as they are, others draw from `seed`."""
    colour: float = 0.0
    """Largest change of a factor, see `factors`."""
    seed: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other views in a cache's name; nothing for the image as it is."""
        mirrored = ("mirrored",) if self.mirrored else ()
        return mirrored + ((f"colour {self.colour}, seed {self.seed}, {self.variant}",) if self.variant else ())

    def factors(self, contents: str) -> np.ndarray:
        """Factors (3,) of brightness, contrast and saturation, each uniform in 1 - `colour` .. 1 + `colour`.

        Args:
            contents: SHA-256 of the image's file, in hex.
        """
        rng = np.random.default_rng([self.seed, self.variant, int(contents, 16)])
        return rng.uniform(1 - self.colour, 1 + self.colour, size=3)

    def of(self, image: Image.Image, contents: str | None) -> Image.Image:
        """This view of an RGB image, of the same size. `contents` (see `factors`) are needed for other colours only."""
        if self.mirrored:
            image = ImageOps.mirror(image)
        if self.variant:
            assert contents is not None, "colours are a function of what the image holds"
            brightness, contrast, saturation = self.factors(contents)
            image = ImageEnhance.Brightness(image).enhance(brightness)
            image = ImageEnhance.Contrast(image).enhance(contrast)
            image = ImageEnhance.Color(image).enhance(saturation)
        return image


AS_IT_IS = View()


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Which views of its images a training takes, and how often."""

    flip: float = 0.0
    """Share of the examples that are mirrored, of those whose caption tells no side."""
    colour: float = 0.0
    variants: int = 1
    """Number of an image's colours, those of its file among them; all are equally frequent."""
    seed: int = 0
    """Decides the colours."""

    @property
    def views(self) -> list[View]:
        """All views beside the image as it is."""
        sides = (False, True) if self.flip else (False,)
        colours = [View(), *(View(False, number, self.colour, self.seed) for number in range(1, self.variants))]
        every = [dataclasses.replace(view, mirrored=mirrored) for mirrored in sides for view in colours]
        return every[1:]

    def choose(self, rng: np.random.Generator, *, mirrorable: bool) -> View:
        """The view of one example, from two draws of `rng`."""
        mirrored, variant = rng.uniform() < self.flip, int(rng.integers(self.variants))
        colour, seed = (self.colour, self.seed) if variant else (0.0, 0)
        return View(bool(mirrored) and mirrorable, variant, colour, seed)

    def identity(self) -> dict[str, float]:
        """What of it decides a training's result; nothing where it is off."""
        flip = {"flip": self.flip} if self.flip else {}
        return flip | ({"colour": self.colour, "variants": self.variants, "seed": self.seed} if self.colour else {})


def mirrorable(captions: Sequence[str]) -> np.ndarray:
    """For each caption whether its image may be mirrored (N,): it tells no side."""
    return np.array([TELLS_A_SIDE.search(caption) is None for caption in captions], dtype=bool)
