import itertools
import json
import time

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from fineface_train.aus import AU_COUNT, AU_KEYS
from fineface_train.evaluation import metrics
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.plan import EvaluationPrompt, Kind, PlannedImage, au_set, build_plan

RNG = np.random.default_rng(3)
SETS = [
    au_set({str(key): float(RNG.integers(1, 6)) for key in RNG.choice(AU_KEYS, 4, replace=False)}, held_out=index >= 25)
    for index in range(50)
]
PROMPTS = [EvaluationPrompt(f"prompt {index}", held_out=index >= 5) for index in range(15)]
PLAN = build_plan(ProtocolName.paper, PROMPTS, SETS, seed=0)


def make_frame(plan: list[PlannedImage], **judges: np.ndarray) -> pd.DataFrame:
    """The frame that judges with these readings (N, 12) would leave."""
    columns: dict[str, list] = {
        "id": [image.id for image in plan],
        "kind": [image.kind.value for image in plan],
        "prompt_index": [image.prompt_index for image in plan],
        "prompt_held_out": [image.prompt_held_out for image in plan],
        "set_held_out": [image.set_held_out for image in plan],
        "clip_i": [1.0 if image.kind is Kind.neutral else 0.5 + 0.01 * image.prompt_index for image in plan],
    }
    frame = pd.DataFrame(columns)
    frame[list(AU_KEYS)] = requested(plan)
    for judge, measured in judges.items():
        frame[[f"{judge}_{key}" for key in AU_KEYS]] = measured
        frame[f"{judge}_face"] = True
    return frame


def requested(plan: list[PlannedImage]) -> np.ndarray:
    return np.array([image.request.aus for image in plan])


def noisy(plan: list[PlannedImage], seed: int = 0) -> np.ndarray:
    """A judge that mixes AUs, is noisy and clamps, so that it has ties."""
    rng = np.random.default_rng(seed)
    mixing = 0.7 * np.eye(AU_COUNT) + 0.05 * rng.normal(size=(AU_COUNT, AU_COUNT))
    return np.clip(requested(plan) @ mixing + 0.6 * rng.normal(size=(len(plan), AU_COUNT)), 0, 5)


@pytest.fixture(scope="module")
def noisy_result() -> dict:
    return metrics.measure(make_frame(PLAN, one=noisy(PLAN)), ["one"])


def values(summary: dict) -> dict[str, float | None]:
    return {name: entry["value"] for name, entry in summary.items()}


def test_a_perfect_judge_of_a_perfect_generator() -> None:
    result = metrics.measure(make_frame(PLAN, one=requested(PLAN)), ["one"])
    for kind in ("individual", "combination"):
        found = values(result[kind])
        assert found["au_mse_mean"] == found["au_mse_sum"] == found["au_mse_active"] == 0
        assert found["slope"] == pytest.approx(1)
        assert found["leakage"] == pytest.approx(0, abs=1e-9)
        assert found["rank_correlation"] == pytest.approx(1)
        assert result[kind]["slope"]["low"] == pytest.approx(1)
    assert np.allclose(result["leakage_matrix"], np.eye(12))
    assert result["response_curve"]["AU9"]["requested"] == [0, 1, 2, 3, 4, 5]
    assert result["response_curve"]["AU9"]["measured_mean"] == [0, 1, 2, 3, 4, 5]
    assert result["no_face_rate"] == 0
    assert result["attributes"] is None
    assert result["judge_disagreement"] is None
    assert result["images"] == 1665


def test_always_zero_scores_eleven_on_the_commanded_au(noisy_result: dict) -> None:
    result = noisy_result
    zero = {name: entry["always_zero"] for name, entry in result["individual"].items()}
    assert zero["au_mse_active"] == pytest.approx(11)
    assert zero["au_mse_sum"] == pytest.approx(11)
    assert zero["au_mse_mean"] == pytest.approx(11 / 12)
    assert zero["slope"] is zero["rank_correlation"] is zero["leakage"] is zero["clip_i"] is None
    held_out = np.array([one.aus for one in SETS[25:]])
    assert result["combination"]["au_mse_mean"]["always_zero"] == pytest.approx((held_out**2).mean())


def test_a_judge_that_says_zero_scores_what_always_zero_says_and_stays_valid_json() -> None:
    result = metrics.measure(make_frame(PLAN, one=np.zeros((len(PLAN), 12))), ["one"])
    json.dumps(result, allow_nan=False)
    for kind in ("individual", "combination"):
        for name, entry in result[kind].items():
            if name != "clip_i":
                assert entry["value"] == pytest.approx(entry["always_zero"])
    assert result["individual"]["slope"] == {"value": None, "low": None, "high": None, "always_zero": None}
    numbers = {key: value for key, value in result["per_au"]["AU1"].items() if not key.endswith(("_low", "_high"))}
    assert numbers == {"slope": 0, "rank_correlation": None, "au_mse_active": pytest.approx(11), "zero_reading": 0}


def test_individual_numbers_equal_polyfit_and_scipy(noisy_result: dict) -> None:
    result, measured = noisy_result, noisy(PLAN)
    frame = make_frame(PLAN, one=measured)
    held = frame["prompt_held_out"].to_numpy()
    slopes, ranks, errors = np.zeros((12, 12)), [], []
    for au, key in enumerate(AU_KEYS):
        chosen = [
            index
            for index, image in enumerate(PLAN)
            if held[index] and (image.commanded == key or image.kind is Kind.neutral)
        ]
        chosen = [index for index in chosen if PLAN[index].kind is not Kind.combination]
        x = requested(PLAN)[chosen, au]
        assert len(x) == 60
        slopes[au] = [np.polyfit(x, measured[chosen, other], 1)[0] for other in range(12)]
        ranks.append(scipy.stats.spearmanr(x, measured[chosen, au]).statistic)
        errors.append(((measured[chosen, au] - x)[x > 0] ** 2).mean())
        assert result["per_au"][key]["slope"] == pytest.approx(slopes[au, au])
        assert result["per_au"][key]["rank_correlation"] == pytest.approx(ranks[-1])
        assert result["per_au"][key]["au_mse_active"] == pytest.approx(errors[-1])
    found = values(result["individual"])
    assert np.allclose(result["leakage_matrix"], slopes)
    assert found["slope"] == pytest.approx(np.trace(slopes) / 12)
    assert found["leakage"] == pytest.approx(np.abs(slopes[~np.eye(12, dtype=bool)]).mean() / (np.trace(slopes) / 12))
    assert found["rank_correlation"] == pytest.approx(np.mean(ranks))
    assert found["au_mse_active"] == pytest.approx(np.mean(errors))
    single = held & (frame["kind"] == "individual").to_numpy()
    assert found["au_mse_mean"] == pytest.approx(((measured - requested(PLAN))[single] ** 2).mean())
    assert found["au_mse_sum"] == pytest.approx(12 * (found["au_mse_mean"] or 0))
    assert found["clip_i"] == pytest.approx(np.mean([0.5 + 0.01 * index for index in range(5, 15)]))
    neutral = held & (frame["kind"] == "neutral").to_numpy()
    assert result["per_au"]["AU4"]["zero_reading"] == pytest.approx(measured[neutral, 2].mean())


def test_combination_slopes_equal_lstsq_over_held_out_sets_and_neutrals(noisy_result: dict) -> None:
    result, measured = noisy_result, noisy(PLAN)
    chosen = [
        index
        for index, image in enumerate(PLAN)
        if image.prompt_held_out and (image.set_held_out or image.kind is Kind.neutral)
    ]
    assert len(chosen) == 10 * 26
    x, y = requested(PLAN)[chosen], measured[chosen]
    solved = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0][:12]
    diagonal = np.diag(solved)
    found = values(result["combination"])
    assert found["slope"] == pytest.approx(diagonal.mean())
    assert found["leakage"] == pytest.approx(np.abs(solved[~np.eye(12, dtype=bool)]).mean() / diagonal.mean())
    assert found["rank_correlation"] == pytest.approx(
        np.mean([scipy.stats.spearmanr(x[:, au], y[:, au]).statistic for au in range(12)])
    )
    shown = [index for index in chosen if PLAN[index].kind is Kind.combination]
    squared, active = (measured - requested(PLAN))[shown] ** 2, requested(PLAN)[shown] > 0
    assert found["au_mse_active"] == pytest.approx(
        np.mean([row[mask].mean() for row, mask in zip(squared, active, strict=True)])
    )


def test_combination_slopes_are_undefined_where_the_sets_do_not_determine_them() -> None:
    few = [one for one in SETS if not one.held_out][:2] + [one for one in SETS if one.held_out][:5]
    plan = build_plan(ProtocolName.quick, PROMPTS, few, seed=0)
    result = metrics.measure(make_frame(plan, one=noisy(plan)), ["one"])
    assert result["combination"]["slope"]["value"] is None
    assert result["combination"]["leakage"]["value"] is None
    assert result["combination"]["rank_correlation"]["value"] is not None
    assert result["individual"]["slope"]["value"] is not None


def test_spearman_shares_ranks_of_ties_and_resamples_like_scipy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 4, 30).astype(float), rng.integers(0, 3, 30).astype(float)
    weights = np.concatenate([np.ones((1, 30)), rng.integers(0, 3, (20, 30))])
    found = metrics.weighted_spearman(x, y, weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        assert value == pytest.approx(scipy.stats.spearmanr(np.repeat(x, row), np.repeat(y, row)).statistic)
    assert np.isnan(metrics.weighted_spearman(x, np.ones(30), weights)).all()
    assert np.isnan(metrics.weighted_spearman(np.ones(30), y, weights)).all()


def test_an_au_that_never_moves_counts_zero_in_the_means() -> None:
    measured = requested(PLAN)
    measured[:, :6] = 0
    found = values(metrics.measure(make_frame(PLAN, one=measured), ["one"])["individual"])
    assert found["slope"] == pytest.approx(0.5)
    assert found["rank_correlation"] == pytest.approx(0.5)


def test_the_bootstrap_resamples_prompts() -> None:
    result = metrics.measure(make_frame(PLAN, one=noisy(PLAN)), ["one"], seed=5)
    per_prompt = np.array([0.5 + 0.01 * index for index in range(5, 15)])
    draws = per_prompt[np.random.default_rng(5).integers(10, size=(1000, 10))].mean(1)
    entry = result["individual"]["clip_i"]
    assert (entry["low"], entry["high"]) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])))
    for kind, name in itertools.product(
        ("individual", "combination"), ("au_mse_mean", "au_mse_active", "slope", "rank_correlation", "leakage")
    ):
        entry = result[kind][name]
        assert entry["low"] < entry["high"]
        if name != "leakage":  # A mean of absolute values: its resamples lie higher.
            assert entry["low"] <= entry["value"] <= entry["high"], (kind, name)


def test_one_bootstrap_draw_equals_measuring_the_repeated_prompts() -> None:
    frame = make_frame(PLAN, one=noisy(PLAN))
    r = metrics.readings(frame[frame["prompt_held_out"]], "one", Kind.combination)
    weights = metrics.bootstrap_weights(10, seed=0, draws=1)
    repeated = [
        frame[frame["prompt_index"] == 5 + prompt].assign(prompt_index=copy)
        for prompt in range(10)
        for copy in range(int(weights[1, prompt]))
    ]
    again = metrics.readings(pd.concat(repeated), "one", Kind.combination)
    direct = metrics.scores(again, np.ones((1, int(again.unit.max()) + 1)))
    for name, found in metrics.scores(r, weights).items():
        assert found[1] == pytest.approx(direct[name][0], nan_ok=True), name


def test_subsets_and_headlines_where_nobody_is_held_out(noisy_result: dict) -> None:
    result = noisy_result
    assert result["subset"] == "held_out"
    assert set(result["subsets"]["individual"]) == {"seen", "held_out"}
    assert len(result["subsets"]["combination"]) == 4
    assert result["subsets"]["combination"]["held_out_identity_held_out_set"] == result["combination"]
    assert result["subsets"]["individual"]["held_out"] == result["individual"]
    real = build_plan(
        ProtocolName.paper, [EvaluationPrompt(prompt.text, held_out=False) for prompt in PROMPTS], SETS, seed=0
    )
    result = metrics.measure(make_frame(real, one=noisy(real)), ["one"])
    assert result["subset"] == "all"
    assert result["combination"]["au_mse_mean"]["always_zero"] == pytest.approx(
        (np.array([one.aus for one in SETS]) ** 2).mean()
    )


def test_judges_are_compared_and_two_of_them_take_less_than_three_seconds() -> None:
    first, second = noisy(PLAN), noisy(PLAN, seed=1)
    frame = make_frame(PLAN, one=first, two=second)
    frame.loc[:99, "one_face"] = False
    started = time.process_time()
    result = metrics.measure(frame, ["one", "two"])
    assert time.process_time() - started < 3
    entry = result["judge_disagreement"]["per_au"]["AU6"]
    assert entry["mean_squared_difference"] == pytest.approx(((first - second)[:, 4] ** 2).mean())
    assert entry["correlation"] == pytest.approx(scipy.stats.pearsonr(first[:, 4], second[:, 4]).statistic)
    assert result["no_face_rate"] == pytest.approx(100 / 1665)
    assert result["judges"]["one"]["individual"] == result["individual"]
    assert result["judges"]["two"]["individual"]["au_mse_mean"]["value"] != result["individual"]["au_mse_mean"]["value"]


def test_units_are_what_is_resampled() -> None:
    """Rows of before have no unit, and the prompt is theirs; a unit's name decides its code, and numbers count as
    numbers."""
    old = pd.DataFrame({"prompt_index": [10, 2, 10]})
    assert metrics.unit_names(old) == ["p10", "p02", "p10"]
    assert metrics.unit_codes(metrics.unit_names(old)).tolist() == [1, 0, 1]
    both = pd.concat([old, pd.DataFrame({"prompt_index": [0, 1], "unit": ["p10", "cat"]})])
    assert metrics.unit_names(both) == ["p10", "p02", "p10", "p10", "cat"]
    assert metrics.unit_codes(["p10", "p2", "a", "10", "9"]).tolist() == [2, 1, 0, 4, 3]
    large = [f"p{index}" for index in (0, 7, 99, 100, 101)]
    assert metrics.unit_codes(large).tolist() == [0, 1, 2, 3, 4]
