"""Arms of an ablation against a reference arm: paired, as all see the same prompts, starting noise and AUs.

The unit is the prompt (or a source picture, or a pair), with all its images, averaged over the training seeds. Every
statistic of `metrics.scores` is a function of how often each unit counts, so that one function gives the difference,
its bootstrap interval and its permutation test, also for what is no mean (slopes, leakage): of each seed, both arms'
images are put together as twice as many units, and the weights say whose count.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fineface_train.evaluation.metrics import (
    INTERVAL,
    Array,
    Readings,
    bootstrap_weights,
    headline_frames,
    mean_scores,
    readings,
    subset_frames,
    summarise,
    unit_names,
)
from fineface_train.evaluation.plan import Kind

PERMUTATIONS = 4096
"""Up to 2^12 exchanges of arms within units are all tried; of more, as many are drawn."""
SIGNIFICANT = 0.05


def compare(
    arms: Mapping[str, Mapping[int, pd.DataFrame]], reference: str, judge: str, *, seed: int = 0
) -> dict[str, Any]:
    """Every arm's headline numbers and its paired differences to the `reference`.

    Args:
        arms: by name and training seed, the rows of an evaluation (images.parquet).
        judge: whose readings count, a prefix of their columns.
    Returns:
        kind -> arm -> metric -> value, low, high, always_zero, seeds (its value for each seed) and, but for the
        reference, difference,
        difference_low, difference_high, p (two-sided, of exchanging the arms within units), p_holm (corrected over
        arms), common_seeds (that
        both arms have: differences are over these alone) and same_sign (whether the difference has one sign in every
        one of them, which
        takes two). NaN where undefined.
    Raises:
        ValueError: two arms that were not evaluated on the same images.
    """
    result: dict[str, Any] = {}
    for kind in (Kind.individual, Kind.combination):
        of_seed = {
            arm: {number: read_kind(frame, judge, kind) for number, frame in sorted(frames.items())}
            for arm, frames in arms.items()
        }
        some = next(iter(of_seed[reference].items()))
        for arm, parts in of_seed.items():
            for number, images in parts.items():
                same_units = _units(arms[arm][number], kind) == _units(arms[reference][some[0]], kind)
                _check_paired(arm, images, reference, some[1], same_units=same_units)
        values = {arm: {number: _values(part) for number, part in parts.items()} for arm, parts in of_seed.items()}
        result[kind.value] = {arm: _arm(arm, of_seed, values, reference, seed) for arm in of_seed}
        _correct(result[kind.value])
    return result


def _arm(
    arm: str,
    of_seed: dict[str, dict[int, Readings]],
    values: dict[str, dict[int, dict[str, float]]],
    reference: str,
    seed: int,
) -> dict[str, Any]:
    """One arm's cells, without the correction over arms; `values` are the scores of every arm and seed."""
    parts, theirs, seeds = of_seed[arm], of_seed[reference], values[arm]
    cells: dict[str, Any] = {}
    for name, cell in summarise(list(parts.values()), seed).items():
        cells[name] = cell | {"seeds": {number: found[name] for number, found in seeds.items()}}
    if arm == reference:
        return cells
    common = [number for number in parts if number in theirs]
    found = difference([parts[number] for number in common], [theirs[number] for number in common], seed)
    for name, cell in cells.items():
        signs = {float(np.sign(seeds[number][name] - values[reference][number][name])) for number in common}
        unknown = dict.fromkeys(("difference", "difference_low", "difference_high", "p"), np.nan)
        cell |= found.get(name, unknown) | {
            "p_holm": np.nan,
            "common_seeds": common,
            "same_sign": len(common) > 1 and signs in ({1.0}, {-1.0}),
        }
    return cells


def by_subset(arms: Mapping[str, Mapping[int, pd.DataFrame]], judge: str, *, seed: int = 0) -> dict[str, Any]:
    """Seen against held out: kind -> subset (of identities and sets) -> arm -> metric -> value, low, high, over all
    seeds."""
    result: dict[str, Any] = {}
    for arm, frames in arms.items():
        parts = [subset_frames(frame) for frame in frames.values()]
        for kind, subsets in parts[0].items():
            for name in subsets:
                found = summarise([readings(part[kind][name], judge, Kind(kind)) for part in parts], seed)
                result.setdefault(kind, {}).setdefault(name, {})[arm] = found
    return result


def read_kind(frame: pd.DataFrame, judge: str, kind: Kind) -> Readings:
    """What a judge read in the images that the headlines of this kind are over."""
    return readings(headline_frames(frame)[kind], judge, kind)


def _values(r: Readings) -> dict[str, float]:
    return {name: float(values[0]) for name, values in mean_scores([r], np.ones((1, r.units))).items()}


def pool(parts: Sequence[Readings]) -> Readings:
    """Several seeds' images of the same units as more images of each unit; for what is linear in the readings."""
    return _concatenated(parts, [0] * len(parts))


def _concatenated(parts: Sequence[Readings], offsets: Sequence[int]) -> Readings:
    arrays: dict[str, Any] = {}
    for field in dataclasses.fields(Readings):
        if field.name != "kind":
            values = [getattr(part, field.name) for part in parts]
            arrays[field.name] = np.concatenate(
                [value + offset for value, offset in zip(values, offsets, strict=True)]
                if field.name == "unit"
                else values
            )
    return Readings(kind=parts[0].kind, **arrays)


def _units(frame: pd.DataFrame, kind: Kind) -> set[str]:
    return set(unit_names(headline_frames(frame)[kind]))


def _check_paired(arm: str, images: Readings, reference: str, other: Readings, *, same_units: bool) -> None:
    asked = [
        {(unit, *aus) for unit, aus in zip(r.unit.tolist(), r.requested.tolist(), strict=True)} for r in (images, other)
    ]
    if asked[0] != asked[1] or not same_units:
        raise ValueError(
            f"{arm} and {reference} were not evaluated on the same images; evaluate both with one protocol"
        )


def difference(arm: Sequence[Readings], reference: Sequence[Readings], seed: int) -> dict[str, dict[str, float]]:
    """Arm less reference for each metric, averaged over seeds (given in one order), its 95% interval (units
    resampled) and p (arms exchanged within units); nothing without a seed.
    """
    if not arm:
        return {}
    units = reference[0].units
    both = [_concatenated(pair, [0, units]) for pair in zip(reference, arm, strict=True)]

    def differences(one: tuple[Array, Array], other: tuple[Array, Array]) -> dict[str, Array]:
        """Between two choices of images, each as how often the reference's and the arm's units count."""
        first, second = (mean_scores(both, np.hstack(weights)) for weights in (one, other))
        return {name: first[name] - second[name] for name in first}

    counts, swapped = bootstrap_weights(units, seed), exchanges(units, seed)
    drawn = differences((np.zeros_like(counts), counts), (counts, np.zeros_like(counts)))
    null = differences((swapped, 1 - swapped), (1 - swapped, swapped))
    found = {}
    for name, values in drawn.items():
        observed, with_chance = values[0], null[name][np.isfinite(null[name])]
        low, high = np.nanpercentile(values[1:], INTERVAL) if np.isfinite(values[1:]).any() else (np.nan, np.nan)
        # Rounding must not make an exchange that changes nothing less than what was observed.
        as_large = np.abs(with_chance) >= abs(observed) - 1e-12 * max(1.0, abs(observed))
        p = float(as_large.mean()) if np.isfinite(observed) and len(with_chance) else np.nan
        found[name] = {
            "difference": float(observed),
            "difference_low": float(low),
            "difference_high": float(high),
            "p": p,
        }
    return found


def compare_errors(
    arms: Mapping[str, Mapping[int, Sequence[float]]], subjects: Sequence[str], reference: str, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Every arm's mean error on held-out images, and its paired differences to the `reference`.

    Args:
        arms: by name and training seed, the errors of the same examples, with the same noise.
        subjects: of each example who it shows. The unit is the subject, as the prompt is elsewhere: frames of one face
            are alike.
    Returns:
        arm -> as of one metric of `compare`.
    """
    names, place = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    examples = np.bincount(place, minlength=len(names)).astype(float)
    sums = {
        arm: {number: np.bincount(place, np.asarray(errors, float), len(names)) for number, errors in seeds.items()}
        for arm, seeds in arms.items()
    }
    drawn = bootstrap_weights(len(names), seed)
    signs = 1 - 2 * exchanges(len(names), seed)

    def bounds(of_subject: Array) -> tuple[float, float, float]:
        values = (drawn @ of_subject) / (drawn @ examples)
        low, high = np.percentile(values[1:], INTERVAL)
        return float(values[0]), float(low), float(high)

    cells: dict[str, dict[str, Any]] = {}
    for arm, seeds in sums.items():
        value, low, high = bounds(np.mean(list(seeds.values()), axis=0))
        cells[arm] = {
            "value": value,
            "low": low,
            "high": high,
            "seeds": {number: float(of.sum() / examples.sum()) for number, of in seeds.items()},
        }
        common = [number for number in seeds if number in sums[reference]]
        if arm == reference or not common:
            continue
        each = np.array([seeds[number] - sums[reference][number] for number in common])
        difference, low, high = bounds(each.mean(0))
        by_chance = np.abs(signs @ each.mean(0)) / examples.sum()
        p = float((by_chance >= abs(difference) - 1e-12 * max(1.0, abs(difference))).mean())
        same = len(common) > 1 and len(set(np.sign(each.sum(1)))) == 1 and bool(each.sum(1).all())
        cells[arm] |= {
            "difference": difference,
            "difference_low": low,
            "difference_high": high,
            "p": p,
            "common_seeds": common,
            "same_sign": same,
        }
    _correct({arm: {"error": cell} for arm, cell in cells.items()})
    return cells


def exchanges(units: int, seed: int) -> Array:
    """(E, units) of 0 and 1: for which units the two arms are exchanged; all ways, or `PERMUTATIONS` drawn ones
    after the way that exchanges none."""
    if 2**units <= PERMUTATIONS:
        return np.array(list(itertools.product((0.0, 1.0), repeat=units)))
    drawn = np.random.default_rng(seed).integers(2, size=(PERMUTATIONS, units)).astype(float)
    drawn[0] = 0
    return drawn


def smallest_p(units: int) -> float:
    """The smallest p that exchanging arms within so many units can give: of all ways, that which exchanges none and
    that which exchanges all."""
    return 2 / 2**units if 2**units <= PERMUTATIONS else 1 / PERMUTATIONS


def _correct(arms: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Add Holm's correction over the arms, metric by metric."""
    for name in {name for cells in arms.values() for name in cells}:
        tested = [cells[name] for cells in arms.values() if np.isfinite(cells[name].get("p", np.nan))]
        for cell, corrected in zip(tested, holm([cell["p"] for cell in tested]), strict=True):
            cell["p_holm"] = corrected


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down corrected p-values, in the order given."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def is_significant(cell: Mapping[str, Any]) -> bool:
    """Whether a difference stands after correction and has the same sign in every one of two or more seeds."""
    return cell.get("p_holm", 1.0) < SIGNIFICANT and bool(cell.get("same_sign"))
