"""What is done to AU labels before they condition the model: distribution smoothing and random rounding
(FineFace, arXiv 2407.20175, Table 3)."""

import dataclasses
import enum

import numpy as np

from fineface_train.aus import MAX_INTENSITY


class Scope(enum.Enum):
    """Who shares a draw of the rounding: `sample`, each example has its own; `batch`, one per batch (published
    code)."""

    sample = "sample"
    batch = "batch"


@dataclasses.dataclass
class LabelsConfig:
    """Distribution smoothing. The paper's variance of 0.2 is a standard deviation of 0.447; its code uses 0.2."""

    std: float = 0.447
    """Standard deviation of the Gaussian noise on all 12 AUs, on the 0-5 scale; 0 for none."""
    rounding_probability: float = 0.2
    """Share of examples whose noisy AUs are rounded to integers."""
    scope: Scope = Scope.sample
    """Who shares a draw of the rounding."""

    def validate(self, key: str) -> None:
        if not 0 <= self.std <= MAX_INTENSITY:
            raise ValueError(f"{key}.std={self.std}: must lie in 0..{MAX_INTENSITY:g}, the scale of the AUs")
        if not 0 <= self.rounding_probability <= 1:
            raise ValueError(
                f"{key}.rounding_probability={self.rounding_probability}: must be a probability, from 0 to 1"
            )


def smooth(aus: np.ndarray, noise: np.ndarray, round_draw: float, config: LabelsConfig) -> np.ndarray:
    """Add noise to all AUs, clip to [0, 5], and round to integers if `round_draw` says so.

    A pure function: `aus` (12,) in [0, 5], `noise` (12,) standard normal and `round_draw`, uniform in [0, 1), are drawn
    by the caller. AUs that are 0 get noise too, as in the paper. Returns (12,) float32.
    """
    smoothed = np.clip(aus + config.std * noise, 0, MAX_INTENSITY)
    if round_draw < config.rounding_probability:
        smoothed = np.rint(smoothed)
    return smoothed.astype(np.float32)
