"""From an annotator's AUs to intensities: power transforms and min-max, fitted once and kept, so that new images get
the same numbers (FineFace, arXiv 2407.20175, on AffectNet's labels)."""

import dataclasses
import enum
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fineface_train.aus import AU_KEYS, MAX_INTENSITY
from fineface_train.files import plain, read_json, write_json

POWERS: dict[str, float] = dict.fromkeys(AU_KEYS, 1.0) | {"AU1": 1.8, "AU4": 1.8, "AU15": 0.8, "AU17": 0.8, "AU20": 0.8}
"""The paper's: above 1 of AUs that the annotator overrates, below 1 of those that it underrates."""


ROUNDING = 0.01
"""Share of a scale's length by which numbers may lie beyond its ends and still be taken for them: programs round when
they write."""


class Transform(enum.Enum):
    """How the annotator's AUs are corrected: as the paper says, as its published code does, or not at all."""

    paper = "paper"
    published = "published"
    none = "none"


@dataclasses.dataclass(frozen=True)
class Curve:
    """x on the 0-1 scale becomes (x^power - low) / (high - low) * height; 0 where high is low."""

    power: float = 1.0
    low: float = 0.0
    high: float = 1.0
    height: float = 1.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.high == self.low:
            return np.zeros_like(x)
        return (x**self.power - self.low) / (self.high - self.low) * self.height


@dataclasses.dataclass(frozen=True)
class Correction:
    """A curve for each AU, then 0 for what is below `low_cut` on the 0-5 scale."""

    curves: dict[str, Curve]
    low_cut: float

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """(N, 12) on the 0-1 scale to intensities (N, 12) in [0, 5]; what new images have beyond the fitted range is
        clipped."""
        corrected = np.stack([self.curves[key](raw[:, place]) for place, key in enumerate(AU_KEYS)], axis=1)
        aus = np.clip(corrected * MAX_INTENSITY, 0, MAX_INTENSITY)
        return np.where(aus < self.low_cut, 0, aus)

    def write(self, path: Path) -> None:
        """As JSON."""
        write_json(path, plain(self))

    @staticmethod
    def read(path: Path) -> "Correction":
        """What `write` wrote. Raises ValueError that names the file where it is none."""
        found = read_json(path, "curves", "low_cut")
        try:
            correction = Correction({key: Curve(**found["curves"][key]) for key in AU_KEYS}, found["low_cut"])
            correction.validate()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no correction of AUs ({error}); give one that `fineface prepare` wrote"
            ) from error
        return correction

    def validate(self) -> None:
        """Raises ValueError for what is no number, or no power above 0."""
        values = {
            f"{key}.{name}": value for key, curve in self.curves.items() for name, value in plain(curve).items()
        } | {"low_cut": self.low_cut}
        for name, value in values.items():
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not math.isfinite(value)
                or (name.endswith(".power") and value <= 0)
            ):
                raise ValueError(f"{name}={value!r} must be a number" + (" above 0" if name.endswith(".power") else ""))


def fit_correction(
    raw: np.ndarray, transform: Transform, low_cut: float, powers: Mapping[str, float] = POWERS
) -> Correction:
    """The curves for AUs (N, 12) on the 0-1 scale: those with a power but 1 are raised to it and stretched from minimum
    to maximum.

    `published`: min-max to the column's own maximum instead of 5, which is AU17's for AU15, and 1.8 times as much for
    AUs with a power below 1; what lies beyond 5 then is clipped, as training would do after its noise.
    """
    largest = dict(zip(AU_KEYS, raw.max(axis=0).tolist(), strict=True))
    curves = {}
    for place, key in enumerate(AU_KEYS):
        if transform is Transform.none or powers[key] == 1:
            curves[key] = Curve()
            continue
        raised = raw[:, place] ** powers[key]
        height = (
            largest["AU17" if key == "AU15" else key] * (1.8 if powers[key] < 1 else 1.0)
            if transform is Transform.published
            else 1.0
        )
        curves[key] = Curve(powers[key], float(raised.min()), float(raised.max()), height)
    return Correction(curves, low_cut)


def rounded_off(values: np.ndarray, scale: float) -> tuple[np.ndarray, int]:
    """`values` with those that lie beyond 0..`scale` by no more than `ROUNDING` of it at its ends, and how many these
    are; others stay as they are."""
    ends = np.clip(values, 0, scale)
    close = (values != ends) & (np.abs(values - ends) <= ROUNDING * scale * (1 + 1e-9))
    return np.where(close, ends, values), int(close.sum())


def scale_doubt(values: np.ndarray, scale: float) -> str:
    """In words why AUs (N, 12), read as intensities from 0 to `scale`, may be something else; "" for no reason."""
    if not values.size or not (highest := float(values.max())):
        return ""
    if np.isin(values, (0, 1)).all():
        return f"the AUs of all {len(values)} images are 0 or 1, as if they told which are shown and not how strongly"
    if highest <= 1 < scale:
        return f"the AUs of all {len(values)} images lie in 0..1 (the highest is {highest:.3g})"
    return ""
