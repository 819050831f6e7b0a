"""From one row per image to the numbers of an evaluation, each with a 95% interval.

AU error and CLIP-I are FineFace's (arXiv 2407.20175); slopes, rank correlation and leakage are ours. A *unit* is what
is resampled, with all its images: a prompt, a source picture, a pair. Every statistic is a function of `weights`
(D, P): how often each of P units counts in each of D bootstrap draws. Draw 0 counts every unit once and gives the
value; the others resample units and give the interval. NaN stands for what is undefined, and becomes null in JSON.
"""

import dataclasses
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fineface_train.aus import AU_COUNT, AU_KEYS
from fineface_train.evaluation.plan import Kind, unit_of_prompt
from fineface_train.toyfacs.faces import ATTRIBUTES

Array = NDArray[np.float64]
DRAWS = 1000
INTERVAL = (2.5, 97.5)
IDENTITY = ("skin", "hair", "style", "glasses", "beard")
UNJUDGED = ("clip_i", "attributes", "identity")
"""Numbers that do not come from an AU judge."""


@dataclasses.dataclass(frozen=True)
class Readings:
    """What one judge read in the images of one kind and in the neutrals of their units; N images, P units."""

    kind: Kind
    requested: Array
    """(N, 12), in [0, 5]."""
    measured: Array
    """(N, 12), in [0, 5]."""
    clip_i: Array
    """(N,)."""
    attributes: Array
    """(N,) share of the caption's attributes that the image shows; NaN where they are not known."""
    identity: Array
    """(N,) 1 where it shows all those of the identity (skin, hair, style, glasses, beard), else 0; NaN where they are
    not known."""
    neutral: NDArray[np.bool_]
    """(N,)."""
    unit: NDArray[np.intp]
    """(N,), codes 0..P-1."""

    @property
    def units(self) -> int:
        return int(self.unit.max()) + 1

    @property
    def commanded(self) -> list[int]:
        """Positions of the AUs that some image asks for."""
        return [int(au) for au in np.flatnonzero((self.requested != 0).any(0))]

    def rows_of(self, au: int) -> NDArray[np.bool_]:
        """The images that tell how the face follows one AU: that AU alone and the neutrals; in combinations, all."""
        return (self.requested[:, au] != 0) | self.neutral | (self.kind is Kind.combination)


def readings(frame: pd.DataFrame, judge: str, kind: Kind) -> Readings:
    """The rows of `kind` and the neutrals of `frame` (columns of images.parquet) as arrays."""
    chosen = frame[frame["kind"].isin([kind.value, Kind.neutral.value])]
    return Readings(
        kind,
        chosen[list(AU_KEYS)].to_numpy(np.float64),
        chosen[[f"{judge}_{key}" for key in AU_KEYS]].to_numpy(np.float64),
        chosen["clip_i"].to_numpy(np.float64),
        _shown(chosen, ATTRIBUTES).mean(1),
        _shown(chosen, IDENTITY).min(1),
        (chosen["kind"] == Kind.neutral.value).to_numpy(bool),
        unit_codes(unit_names(chosen)),
    )


def unit_names(frame: pd.DataFrame) -> list[str]:
    """The unit of each row. Rows that an earlier version wrote have no column `unit`; theirs is the prompt, by its
    index."""
    if "unit" not in frame:
        return [unit_of_prompt(index) for index in frame["prompt_index"]]
    both = zip(frame["unit"], frame["unit"].notna(), frame["prompt_index"], strict=True)  # rows of old and new together
    return [str(unit) if known else unit_of_prompt(index) for unit, known, index in both]


def unit_codes(names: Sequence[str]) -> NDArray[np.intp]:
    """(N,) codes 0..P-1 of units by their names alone, so that equal units have equal codes in every table; numbers in
    names count as numbers, p2 before p10."""
    order = {name: code for code, name in enumerate(sorted(set(names), key=_in_parts))}
    return np.array([order[name] for name in names], dtype=np.intp)


def _in_parts(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name


def _shown(frame: pd.DataFrame, attributes: Iterable[str]) -> Array:
    """(N, attributes): 1 where an image shows what the caption says, 0 where not, NaN where that is not known."""
    return frame.reindex(columns=[f"attr_{name}" for name in attributes]).astype(float).to_numpy()


def bootstrap_weights(units: int, seed: int, draws: int = DRAWS) -> Array:
    """(1 + draws, units): ones, then how often each unit comes up when as many units are drawn with
    replacement."""
    chosen = np.random.default_rng(seed).integers(units, size=(draws, units))
    counts = np.stack([np.bincount(draw, minlength=units) for draw in chosen])
    return np.concatenate([np.ones((1, units)), counts])


def _per_unit(values: Array, unit: NDArray[np.intp], units: int) -> Array:
    """Sums of values (N, ...) over each unit's rows: (P, ...)."""
    sums = np.zeros((units, *values.shape[1:]))
    np.add.at(sums, unit, values)
    return sums


def weighted_mean(values: Array, unit: NDArray[np.intp], weights: Array) -> Array:
    """Means (D,) of values (N,) over the rows, each counting as often as its unit; NaN without rows."""
    units = weights.shape[1]
    count = weights @ _per_unit(np.ones(len(values)), unit, units)
    return _ratio(weights @ _per_unit(values, unit, units), count)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Numerator over denominator, NaN where the denominator is not positive."""
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)


def response_matrix(r: Readings, weights: Array) -> Array:
    """(D, 12 requested, 12 measured) slopes; rows of AUs that no image asks for are NaN.

    Individual: each measured AU on the one requested AU, over its images and the neutrals. Combination: each measured
        AU on
    all requested AUs at once. Both with an intercept; NaN where the images do not determine the slopes.
    """
    matrix = np.full((len(weights), AU_COUNT, AU_COUNT), np.nan)
    groups = [r.commanded] if r.kind is Kind.combination else [[au] for au in r.commanded]
    for group in groups:
        rows = r.rows_of(group[0])
        matrix[:, group] = _least_squares(r.requested[rows][:, group], r.measured[rows], r.unit[rows], weights)
    return matrix


def _least_squares(x: Array, y: Array, unit: NDArray[np.intp], weights: Array) -> Array:
    """Slopes (D, K, 12) of y (N, 12) on x (N, K) with an intercept, by the normal equations of each draw."""
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    gram = np.einsum("dp,pij->dij", weights, _per_unit(design[:, :, None] * design[:, None, :], unit, weights.shape[1]))
    cross = np.einsum("dp,pij->dij", weights, _per_unit(design[:, :, None] * y[:, None, :], unit, weights.shape[1]))
    singular = np.linalg.matrix_rank(gram, hermitian=True) < design.shape[1]
    gram[singular] = np.eye(design.shape[1])
    slopes = np.linalg.solve(gram, cross)[:, 1:]
    slopes[singular] = np.nan
    return slopes


def weighted_spearman(x: Array, y: Array, weights: Array) -> Array:
    """Spearman's correlation (D,) of x and y (N,), ties sharing their mean rank, row i counting weights[d, i] times.

    NaN where x or y is constant.
    """
    rank_x, rank_y = _mean_ranks(x, weights), _mean_ranks(y, weights)
    total = weights.sum(1, keepdims=True)
    rank_x -= (weights * rank_x).sum(1, keepdims=True) / total
    rank_y -= (weights * rank_y).sum(1, keepdims=True) / total
    weighted = weights * rank_x
    spread = (weighted * rank_x).sum(1) * (weights * rank_y * rank_y).sum(1)
    return _ratio((weighted * rank_y).sum(1), np.sqrt(np.where(spread > 1e-9, spread, 0)))


def _mean_ranks(values: Array, weights: Array) -> Array:
    """Mean ranks (D, N), up to a constant, of values (N,) of which row i comes weights[d, i] times."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    held = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(held, axis=1) - held / 2
    group = np.searchsorted(ordered[starts], values)
    return middle[:, group]


def rank_correlations(r: Readings, weights: Array) -> Array:
    """(D, 12) Spearman correlations of requested and measured intensity; NaN where nothing was asked or the reading is
    constant."""
    result = np.full((len(weights), AU_COUNT), np.nan)
    for au in r.commanded:
        rows = r.rows_of(au)
        result[:, au] = weighted_spearman(r.requested[rows, au], r.measured[rows, au], weights[:, r.unit[rows]])
    return result


def scores(r: Readings, weights: Array) -> dict[str, Array]:
    """The headline numbers, each (D,).

    An AU that never moves counts 0 in the mean `slope` and `rank_correlation`, so that not moving is not rewarded;
    where no AU moves (the judge that always says 0) they are undefined. `leakage` is undefined unless the mean diagonal
    slope is positive.
    """
    shown = ~r.neutral
    squared, active = (r.measured - r.requested)[shown] ** 2, (r.requested != 0)[shown]
    unit = r.unit[shown]
    per_image = {
        "au_mse_mean": squared.mean(1),
        "au_mse_sum": squared.sum(1),
        "au_mse_active": (squared * active).sum(1) / active.sum(1),
    }
    result = {name: weighted_mean(values, unit, weights) for name, values in per_image.items()}

    matrix = response_matrix(r, weights)[:, r.commanded]
    diagonal = matrix[:, range(len(r.commanded)), r.commanded]
    others = np.delete(
        np.abs(matrix).reshape(len(matrix), -1), [row * AU_COUNT + au for row, au in enumerate(r.commanded)], axis=1
    )
    result["slope"] = np.where((diagonal == 0).all(1), np.nan, diagonal.mean(1))
    ranks = rank_correlations(r, weights)[:, r.commanded]
    result["rank_correlation"] = np.where(np.isnan(ranks).all(1), np.nan, np.nan_to_num(ranks).mean(1))
    result["leakage"] = _ratio(others.mean(1), diagonal.mean(1))
    for name in UNJUDGED:
        result[name] = weighted_mean(getattr(r, name)[shown], unit, weights)
    return result


def mean_scores(parts: Sequence[Readings], weights: Array) -> dict[str, Array]:
    """`scores` of each training seed's images, averaged; of images put together, a mean of absolute values (leakage)
    would fall with their number."""
    each = [scores(part, weights) for part in parts]
    return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}


def summarise(parts: Sequence[Readings], seed: int) -> dict[str, dict[str, float]]:
    """Each of `scores`, averaged over training seeds, as value, low, high (95%, units resampled) and always_zero (the
    same images, every reading 0).

    The interval is the percentile one. Leakage is a mean of absolute values, which grows with noise, so that where it
    is small its resamples, and with them its interval, lie above its value.
    """
    weights = bootstrap_weights(parts[0].units, seed)
    found = mean_scores(parts, weights)
    always_zero = scores(dataclasses.replace(parts[0], measured=np.zeros_like(parts[0].measured)), weights[:1])
    always_zero |= dict.fromkeys(UNJUDGED, np.array([np.nan]))
    summary = {}
    for name, values in found.items():
        low, high = _interval(values[1:])
        summary[name] = {
            "value": float(values[0]),
            "low": low,
            "high": high,
            "always_zero": float(always_zero[name][0]),
        }
    return summary


def _interval(draws: Array) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN slice")  # An undefined statistic has an undefined interval.
        low, high = np.nanpercentile(draws, INTERVAL)
    return float(low), float(high)


def per_au(r: Readings, seed: int) -> dict[str, dict[str, float]]:
    """For each AU alone: slope and rank correlation with 95% intervals, squared error, and what the judge reads of it
    on neutral images."""
    weights = bootstrap_weights(r.units, seed)
    slopes, ranks = response_matrix(r, weights), rank_correlations(r, weights)
    result = {}
    for au, key in enumerate(AU_KEYS):
        shown = r.requested[:, au] != 0
        (slope_low, slope_high), (rank_low, rank_high) = _interval(slopes[1:, au, au]), _interval(ranks[1:, au])
        result[key] = {
            "slope": float(slopes[0, au, au]),
            "slope_low": slope_low,
            "slope_high": slope_high,
            "rank_correlation": float(ranks[0, au]),
            "rank_correlation_low": rank_low,
            "rank_correlation_high": rank_high,
            "au_mse_active": float(((r.measured - r.requested)[shown, au] ** 2).mean()) if shown.any() else np.nan,
            "zero_reading": float(r.measured[r.neutral, au].mean()) if r.neutral.any() else np.nan,
        }
    return result


def response_curve(r: Readings, seed: int) -> dict[str, dict[str, list[float]]]:
    """Mean reading of each AU at each requested intensity of that AU alone, with 95% intervals over units."""
    weights = bootstrap_weights(r.units, seed)
    curves = {}
    for au in r.commanded:
        levels = np.unique(r.requested[r.rows_of(au), au])
        rows = [r.rows_of(au) & (r.requested[:, au] == level) for level in levels]
        means = [weighted_mean(r.measured[here, au], r.unit[here], weights) for here in rows]
        ends = [_interval(values[1:]) for values in means]
        curves[AU_KEYS[au]] = {
            "requested": levels.tolist(),
            "measured_mean": [float(values[0]) for values in means],
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
        }
    return curves


def disagreement(frame: pd.DataFrame, first: str, second: str) -> dict[str, Any]:
    """How far two judges differ over all images: mean squared difference and Pearson correlation, per AU and on
    average."""
    per_key = {}
    for key in AU_KEYS:
        one, two = (frame[f"{judge}_{key}"].to_numpy(np.float64) for judge in (first, second))
        varied = one.std() > 0 and two.std() > 0
        per_key[key] = {
            "mean_squared_difference": float(((one - two) ** 2).mean()),
            "correlation": float(np.corrcoef(one, two)[0, 1]) if varied else np.nan,
        }
    known = [values["correlation"] for values in per_key.values() if not np.isnan(values["correlation"])]
    mean = float(np.mean([values["mean_squared_difference"] for values in per_key.values()]))
    return {
        "first": first,
        "second": second,
        "mean_squared_difference": mean,
        "correlation": float(np.mean(known)) if known else np.nan,
        "per_au": per_key,
    }


def subset_frames(frame: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """The frame by kind and by whether identity and set were held out; neutrals go with their units."""
    held_prompt, held_set, neutral = (
        frame["prompt_held_out"],
        frame["set_held_out"],
        frame["kind"] == Kind.neutral.value,
    )
    individual = {"seen": ~held_prompt, "held_out": held_prompt}
    combination = {
        f"{identity}_identity_{group}_set": individual[identity] & (neutral | (held_set == (group == "held_out")))
        for identity in ("seen", "held_out")
        for group in ("seen", "held_out")
    }
    parts = {Kind.individual.value: individual, Kind.combination.value: combination}
    return {
        kind: {name: frame[mask] for name, mask in masks.items() if (mask & (frame["kind"] == kind)).any()}
        for kind, masks in parts.items()
    }


def headline_frames(frame: pd.DataFrame) -> dict[Kind, pd.DataFrame]:
    """The images that the headlines are over: held-out identities (and sets); where no unit is held out, all."""
    if not frame["prompt_held_out"].any():
        return {Kind.individual: frame, Kind.combination: frame}
    held_out = frame[frame["prompt_held_out"]]
    return {
        Kind.individual: held_out,
        Kind.combination: subset_frames(frame)["combination"].get("held_out_identity_held_out_set", held_out),
    }


def measure(frame: pd.DataFrame, judges: list[str], seed: int = 0) -> dict[str, Any]:
    """Everything of metrics.json that the images tell; `judges` names the column prefixes, the headlines' judge first.

    Headlines are over held-out identities (and sets); where no unit is held out (real bases), over all images. A kind
    of which there is no image has an empty dictionary.
    """
    first = judges[0]
    subsets = subset_frames(frame)
    headlines, held_out = headline_frames(frame), bool(frame["prompt_held_out"].any())
    individual, combination = headlines[Kind.individual], headlines[Kind.combination]

    alone, together = ((part["kind"] == kind).any() for kind, part in headlines.items())

    def headline(judge: str) -> dict[str, Any]:
        singles = readings(individual, judge, Kind.individual)
        sets = readings(combination, judge, Kind.combination)
        return {
            "individual": summarise([singles], seed) if alone else {},
            "combination": summarise([sets], seed) if together else {},
            "per_au": per_au(singles, seed) if alone else {},
        }

    by_judge = {judge: headline(judge) for judge in judges}
    singles = readings(individual, first, Kind.individual)
    attributes = {
        str(name).removeprefix("attr_"): float(individual[name].mean())
        for name in frame.columns
        if str(name).startswith("attr_")
    }
    result = {
        "first_judge": first,
        "subset": "held_out" if held_out else "all",
        **by_judge[first],
        "subsets": {
            kind: {name: summarise([readings(part, first, Kind(kind))], seed) for name, part in parts.items()}
            for kind, parts in subsets.items()
        },
        "judges": by_judge,
        "judge_disagreement": disagreement(frame, first, judges[1]) if len(judges) > 1 else None,
        "leakage_matrix": response_matrix(singles, np.ones((1, singles.units)))[0].tolist() if alone else None,
        "response_curve": response_curve(singles, seed) if alone else {},
        "no_face_rate": float(1 - frame[f"{first}_face"].mean()),
        "attributes": attributes | {"mean": float(np.mean(list(attributes.values())))} if attributes else None,
        "images": len(frame),
    }
    return nulled(result)


def nulled(value: Any) -> Any:
    """The same value with NaN replaced by None, for JSON."""
    if isinstance(value, dict):
        return {key: nulled(part) for key, part in value.items()}
    if isinstance(value, list):
        return [nulled(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
