"""How well a judge's readings agree with the labels of images: how far it can be believed before it judges a model.

Both rate the same images, so the figure is the intraclass correlation ICC(3,1) of Shrout and Fleiss (Psychological
Bulletin 86, 1979, case 3): raters are fixed, single ratings count. It is the consistency form, which a constant offset
between judge and labels does not lower; the mean absolute error (MAE), in units of intensity, shows one.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.metrics import INTERVAL, Array, bootstrap_weights, nulled, unit_codes


def icc_3_1(covariance: Array) -> Array:
    """ICC(3,1) (...) of the covariance (..., k, k) of k raters over targets; NaN where no rater varies.

    It is (BMS - EMS) / (BMS + (k - 1) EMS), with the mean squares between targets and of what remains beside targets
    and raters: BMS = sum(C) / k and EMS = (trace(C) - sum(C) / k) / (k - 1).
    """
    raters = covariance.shape[-1]
    between = covariance.sum((-2, -1)) / raters
    rest = (np.trace(covariance, axis1=-2, axis2=-1) - between) / (raters - 1)
    total = between + (raters - 1) * rest
    return np.where(total > 1e-12, (between - rest) / np.where(total > 1e-12, total, 1), np.nan)


@dataclasses.dataclass(frozen=True)
class Rated:
    """Images of one source with their labels and what one judge read: N images, 12 AUs."""

    labels: Array
    """(N, 12), in [0, 5]."""
    read: Array
    """(N, 12), in [0, 5]; NaN for what the judge cannot read."""
    subjects: np.ndarray
    """(N,) names."""

    def scores(self, weights: Array) -> dict[str, Array]:
        """ICC and MAE of each AU (D, 12), with subject p counting weights[d, p] times (see
        `metrics.bootstrap_weights`); NaN where an AU's label does not vary, so that there is nothing to agree on."""
        unit, (draws, units) = unit_codes(self.subjects.tolist()), weights.shape
        both = np.stack([self.labels, self.read], axis=-1)
        products = (both[..., :, None] * both[..., None, :]).reshape(len(both), -1)
        rows = np.concatenate(
            [both.reshape(len(both), -1), products, np.abs(self.labels - self.read), np.ones((len(both), 1))], axis=1
        )
        sums = np.zeros((units, rows.shape[1]))
        np.add.at(sums, unit, rows)
        means = weights @ sums
        means = means[:, :-1] / means[:, -1:]
        aus = len(AU_KEYS)
        first, second, errors = np.split(means, [2 * aus, 6 * aus], axis=1)
        centre = first.reshape(draws, aus, 2)
        covariance = second.reshape(draws, aus, 2, 2) - centre[..., :, None] * centre[..., None, :]
        varies = covariance[..., 0, 0] > 1e-9
        return {"icc": np.where(varies, icc_3_1(covariance), np.nan), "mae": errors}


def agreement(frame: pd.DataFrame, judges: list[str], seed: int = 0) -> dict[str, Any]:
    """By source and judge, how readings agree with labels: over all AUs, per AU, and per subject.

    Args:
        frame: a row for each image: `source`, `subject`, the labels AU1 to AU26, and for each judge NAME_AU1 to
            NAME_AU26 and whether it found a face, NAME_face. An image in which it found none counts with what it
            answered.
        seed: of the bootstrap over subjects, which gives the 95% intervals.
    """
    return {
        str(source): {
            "images": len(rows),
            "subjects": int(rows["subject"].nunique()),
            "labels_from": sorted(set(rows["aus_from"])),
            "judges": {judge: _agreement_of(rows, judge, seed) for judge in judges},
        }
        for source, rows in frame.groupby("source", sort=False)
    }


def _agreement_of(rows: pd.DataFrame, judge: str, seed: int) -> dict[str, Any]:
    labels = rows[list(AU_KEYS)].to_numpy(np.float64)
    rated = Rated(labels, rows[[f"{judge}_{key}" for key in AU_KEYS]].to_numpy(np.float64), rows["subject"].to_numpy())
    weights = bootstrap_weights(rows["subject"].nunique(), seed)
    found = rated.scores(weights)
    overall = {name: _cell(_mean(values)[:, None], 0) for name, values in found.items()}
    per_au = {
        key: {name: _cell(values, au) for name, values in found.items()} | {"shown": float((labels[:, au] > 0).mean())}
        for au, key in enumerate(AU_KEYS)
    }
    known = {"no_face_rate": float(1 - rows[f"{judge}_face"].mean())} | overall
    result: dict[str, Any] = nulled(known | {"per_au": per_au, "per_subject": _per_subject(rated)})
    return result


def _per_subject(rated: Rated) -> dict[str, dict[str, float]]:
    """ICC and MAE within each subject that has several images, as means over AUs; the worst ICC first."""
    names, counts = np.unique(rated.subjects, return_counts=True)
    cells = {}
    for name in names[counts > 1]:
        of = rated.subjects == name
        own = Rated(rated.labels[of], rated.read[of], rated.subjects[of]).scores(np.ones((1, 1)))
        cells[str(name)] = {"images": int(of.sum())} | {key: float(_mean(value)[0]) for key, value in own.items()}
    return dict(sorted(cells.items(), key=lambda cell: (np.isnan(cell[1]["icc"]), cell[1]["icc"])))


def _mean(values: Array) -> Array:
    """Means (D,) over the AUs (D, 12) that are defined; NaN where none is."""
    count = (~np.isnan(values)).sum(1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def _cell(values: Array, column: int) -> dict[str, float]:
    """Value and 95% interval of one column of draws (1 + D, ...); no interval of a single subject."""
    value, draws = float(values[0, column]), values[1:, column]
    defined = draws[~np.isnan(draws)]
    spread = len(defined) > 0 and bool((defined != value).any())
    low, high = np.percentile(defined, INTERVAL) if spread else (np.nan, np.nan)
    return {"value": value, "low": float(low), "high": float(high)}
