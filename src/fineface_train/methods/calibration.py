"""What to ask of an adapter so that a judge measures what is wanted.

The adapter's answer to a request r is modelled as

    measured_j = baseline_j + sum_i mixing_ij * curve_i(r_i)

with a monotone curve for each AU (its answer when it is asked for alone) and a 12 x 12 mixing whose diagonal is 1 and
whose other entries are its leakage. Wanted intensities are put through the inverse; never more is asked for than was
measured. Beside each other AUs may answer in another way than alone, so the inverse is used for requests of one AU, and
for those of several, where measuring it showed that it helps.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fineface_train.aus import AU_COUNT

Array = NDArray[np.float64]
LEAST_ANSWER = 0.5
"""An AU whose answer never reaches this is left as it is: there is nothing to invert."""


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
    alone: bool = True
    """Whether requests of one AU are calibrated."""
    several: bool = True
    """Whether requests of several are."""

    def ask(self, wanted: Sequence[float]) -> tuple[float, ...]:
        """The 12 intensities to request for the 12 `wanted` ones: from 0 to the highest of `levels`, or `wanted` itself
        where calibrating does not help.

        All 0 stays all 0: the neutral is the adapter's own.
        """
        commanded = np.count_nonzero(wanted)
        if commanded == 0 or not (self.alone if commanded == 1 else self.several):
            return tuple(wanted)
        curves = np.array(self.curves) + 1e-6 * np.arange(len(self.levels))  # rising everywhere
        answering = curves[:, -1] >= LEAST_ANSWER
        answers = _least_squares(
            np.array(self.mixing).T,
            np.array(wanted, float) - np.array(self.baseline),
            np.where(answering, curves[:, -1], np.inf),
        )
        return tuple(
            float(np.interp(answer, curve, self.levels)) if moves else float(value)
            for curve, answer, moves, value in zip(curves, answers, answering, wanted, strict=True)
        )


def _least_squares(matrix: Array, target: Array, most: Array) -> Array:
    """Least squares of matrix @ x = target with 0 <= x <= most, by coordinate descent, which ends at the optimum as the
    problem is convex."""
    gram, right, x = matrix.T @ matrix, matrix.T @ target, np.zeros(matrix.shape[1])
    for _ in range(200):
        for place in range(len(x)):
            x[place] = np.clip(x[place] + (right[place] - gram[place] @ x) / gram[place, place], 0.0, most[place])
    return x


def fit_calibration(requested: Array, measured: Array) -> Calibration:
    """From requests (N, 12) and what a judge read (N, 12); requests of several AUs at once are not looked at.

    Raises ValueError where an AU was not asked for alone at every level that another was.
    """
    asked_for = (requested != 0).sum(1)
    alone = asked_for == 1
    levels = np.unique(np.append(requested[alone].max(1), 0.0))
    baseline = measured[asked_for == 0].mean(0)
    curves, mixing = np.zeros((AU_COUNT, len(levels))), np.eye(AU_COUNT)
    for au in range(AU_COUNT):
        rows = [(requested[:, au] == level) & alone for level in levels[1:]]
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
