"""What to ask of an adapter so that a judge measures what is wanted.

The adapter's answer to a request r is modelled as

    measured_j = baseline_j + sum_i mixing_ij * curve_i(r_i) / (1 + crowding * sum_{k != i} r_k)

with a monotone curve for each AU (its answer when it is asked for alone), a 12 x 12 mixing whose diagonal is 1 and whose other entries are its
leakage, and one number for how much less every AU answers the more is asked for beside it. Wanted intensities are put through the inverse.
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
CROWDINGS = np.linspace(0, 0.2, 201)
"""Tried; at 0.2 an AU at 3 answers less by 3/8 beside another at 3."""
ROUNDS = 50
"""Of looking at what is asked for beside an AU and asking for it anew; a few suffice."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A fitted answer, as lists for JSON."""

    levels: list[float]
    """(L,) requested intensities, 0 first."""
    curves: list[list[float]]
    """(12, L) answer of each AU above its baseline, rising from 0."""
    mixing: list[list[float]]
    """(12 asked, 12 measured)."""
    crowding: float
    """What a unit of intensity asked for beside an AU takes of its answer."""
    baseline: list[float]
    """(12,) what is measured when nothing is asked for."""

    def ask(self, wanted: Sequence[float]) -> tuple[float, ...]:
        """The 12 intensities to request for the 12 `wanted` ones; at least 0, at most `MOST_ASKED`. All 0 stays all 0: the neutral is the adapter's own."""
        if not any(wanted):
            return (0.0,) * AU_COUNT
        mixing, curves, asked = np.array(self.mixing), np.array(self.curves), np.array(wanted, float)
        answers = _not_negative(mixing.T, asked - np.array(self.baseline))
        answering = curves[:, -1] >= LEAST_ANSWER
        for _ in range(ROUNDS):
            alone = answers * (1 + self.crowding * _beside(asked))
            asked = np.array(
                [self._inverse(curve, answer) if moves else value for curve, answer, moves, value in zip(curves, alone, answering, wanted, strict=True)]
            ).clip(0, MOST_ASKED)
        return tuple(asked.tolist())

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
    """From requests (N, 12), of no AU, of one alone and of several, and what a judge read (N, 12).

    Curves and mixing come from AUs alone, crowding from several. Raises ValueError where an AU was not asked for alone at every level that another
    was, or where there are no requests of several.
    """
    asked_for = (requested != 0).sum(1)
    alone, together = asked_for == 1, asked_for > 1
    if not together.any():
        raise ValueError("several AUs at once were never asked for; how they answer beside each other cannot be told")
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
    several, read = requested[together], measured[together]
    answers = np.stack([np.interp(several[:, au], levels, curves[au]) for au in range(AU_COUNT)], axis=1)
    errors = [((baseline + (answers / (1 + crowding * _beside(several))) @ mixing - read) ** 2)[several > 0].sum() for crowding in CROWDINGS]
    return Calibration(levels.tolist(), curves.tolist(), mixing.tolist(), float(CROWDINGS[np.argmin(errors)]), baseline.tolist())


def _beside(requested: Array) -> Array:
    """(..., 12): for each AU the sum of what is asked for of the others."""
    return np.asarray(requested.sum(-1, keepdims=True) - requested)


def _rising(values: Array) -> Array:
    """The mean of the smallest rising curve above `values` and the largest below, from 0."""
    above = np.maximum.accumulate(values)
    below = np.minimum.accumulate(values[::-1])[::-1]
    return np.maximum((above + below) / 2, 0.0)
