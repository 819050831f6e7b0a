"""What to ask of an adapter so that a judge measures what is wanted.

The adapter's answer to a request r is modelled as  measured_j = baseline_j + sum_i mixing_ij * curve_i(r_i),  with a monotone curve for each AU
(its own answer when it is asked for alone) and a 12 x 12 mixing whose diagonal is 1 and whose other entries are its leakage. Wanted
intensities are put through the inverse.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fineface_train.aus import AU_COUNT, MAX_INTENSITY

Array = NDArray[np.float64]
LEAST_ANSWER = 0.5
"""An AU whose answer never reaches this is left as it is: there is nothing to invert."""
LEAST_SLOPE = 0.2
"""Of a curve, where it is followed beyond the highest intensity that was asked for."""
MOST_ASKED = 2 * MAX_INTENSITY


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A fitted answer, as lists for JSON."""

    levels: list[float]
    """(L,) requested intensities, 0 first."""
    curves: list[list[float]]
    """(12, L) answer of each AU above its baseline, rising from 0."""
    mixing: list[list[float]]
    """(12 asked, 12 measured)."""
    baseline: list[float]
    """(12,) what is measured when nothing is asked for."""

    def ask(self, wanted: Sequence[float]) -> tuple[float, ...]:
        """The 12 intensities to request for the 12 `wanted` ones; at least 0, at most `MOST_ASKED`. All 0 stays all 0: the neutral is the adapter's own."""
        if not any(wanted):
            return (0.0,) * AU_COUNT
        mixing, curves = np.array(self.mixing), np.array(self.curves)
        answers = _not_negative(mixing.T, np.array(wanted) - np.array(self.baseline))
        asked = [self._inverse(curve, answer) if curve[-1] >= LEAST_ANSWER else value for curve, answer, value in zip(curves, answers, wanted, strict=True)]
        return tuple(float(np.clip(value, 0, MOST_ASKED)) for value in asked)

    def _inverse(self, curve: Array, answer: float) -> float:
        """The request that a curve answers so; beyond its end along the slope of its upper half."""
        rising = curve + 1e-6 * np.arange(len(curve))
        if answer <= rising[-1]:
            return float(np.interp(answer, rising, self.levels))
        half = len(curve) // 2
        slope = max((curve[-1] - curve[half]) / (self.levels[-1] - self.levels[half]), LEAST_SLOPE)
        return self.levels[-1] + (answer - float(rising[-1])) / slope


def _not_negative(matrix: Array, target: Array) -> Array:
    """Least squares of matrix @ x = target with x >= 0, by coordinate descent, which ends at the optimum as the problem is convex."""
    gram, right, x = matrix.T @ matrix, matrix.T @ target, np.zeros(matrix.shape[1])
    for _ in range(200):
        for place in range(len(x)):
            x[place] = max(0.0, x[place] + (right[place] - gram[place] @ x) / gram[place, place])
    return x


def fit_calibration(requested: Array, measured: Array) -> Calibration:
    """From requests (N, 12), each of no AU or of one alone, and what a judge read (N, 12).

    Raises ValueError where an AU was not asked for at every level that another was.
    """
    neutral = (requested == 0).all(1)
    levels = np.unique(requested.max(1))
    baseline = measured[neutral].mean(0)
    curves, mixing = np.zeros((AU_COUNT, len(levels))), np.eye(AU_COUNT)
    for au in range(AU_COUNT):
        rows = [(requested[:, au] == level) & ~neutral for level in levels[1:]]
        if not all(here.any() for here in rows):
            raise ValueError(f"AU number {au} was not asked for at all of the levels {levels.tolist()}")
        answers = np.stack([np.zeros(AU_COUNT), *(measured[here].mean(0) - baseline for here in rows)])
        curves[au] = _rising(answers[:, au])
        power = float(curves[au] @ curves[au])
        if curves[au, -1] >= LEAST_ANSWER:
            leaked = curves[au] @ answers / power
            mixing[au] = np.where(np.arange(AU_COUNT) == au, 1.0, leaked)
    return Calibration(levels.tolist(), curves.tolist(), mixing.tolist(), baseline.tolist())


def _rising(values: Array) -> Array:
    """The mean of the smallest rising curve above `values` and the largest below, from 0."""
    above = np.maximum.accumulate(values)
    below = np.minimum.accumulate(values[::-1])[::-1]
    return np.maximum((above + below) / 2, 0.0)
