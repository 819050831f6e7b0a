"""Arms against a reference, recomputed here by other code."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.compare import (
    compare,
    difference,
    exchanges,
    holm,
    is_significant,
    pool,
    read_kind,
    smallest_p,
)
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.plan import EvaluationPrompt, Kind, build_plan
from tests.evaluation.test_metrics import PLAN, SETS, make_frame, noisy, requested

HELD_OUT = [image.prompt_held_out and image.kind is not Kind.combination for image in PLAN]


def weaker(seed: int, shrink: float) -> pd.DataFrame:
    """A judge's frame of faces that move `shrink` times as much as `noisy`."""
    frame = make_frame(PLAN, one=np.clip(noisy(PLAN, seed) * shrink, 0, 5))
    return frame.assign(
        clip_i=frame["clip_i"] - 0.001 * seed,
        attr_skin=True,
        attr_hair=[index % 7 != seed for index in range(len(frame))],
    )


ARMS = {
    "strong": {seed: weaker(seed, 1.0) for seed in (0, 1)},
    "weak": {seed: weaker(seed + 10, 0.6) for seed in (0, 1)},
}


@pytest.fixture(scope="module")
def compared() -> dict:
    return compare(ARMS, "strong", "one")


def prompt_means(frames: dict[int, pd.DataFrame]) -> np.ndarray:
    """Squared error of the one commanded AU, by held-out prompt: the mean of its images of all seeds."""
    frame = pd.concat([frame[HELD_OUT] for frame in frames.values()])
    frame = frame[frame["kind"] == "individual"]
    asked, read = frame[list(AU_KEYS)].to_numpy(), frame[[f"one_{key}" for key in AU_KEYS]].to_numpy()
    return frame.assign(error=((asked - read) ** 2)[asked > 0]).groupby("prompt_index")["error"].mean().to_numpy()


def test_a_mean_against_its_prompts(compared: dict) -> None:
    """Value, difference and the permutation test over all 2^10 sign flips of the prompts' differences."""
    strong, weak = (prompt_means(frames) for frames in ARMS.values())
    cell = compared["individual"]["weak"]["au_mse_active"]
    assert cell["value"] == pytest.approx(weak.mean())
    assert cell["difference"] == pytest.approx((weak - strong).mean())
    flips = [abs(np.mean((weak - strong) * signs)) for signs in itertools.product((1, -1), repeat=10)]
    assert cell["p"] == pytest.approx(np.mean([flip >= abs(np.mean(weak - strong)) - 1e-12 for flip in flips]))
    draws = np.random.default_rng(5).integers(10, size=(4000, 10))
    low, high = np.percentile((weak - strong)[draws].mean(1), (2.5, 97.5))
    assert (cell["difference_low"], cell["difference_high"]) == (
        pytest.approx(low, abs=0.05),
        pytest.approx(high, abs=0.05),
    )


def test_a_slope_against_a_regression(compared: dict) -> None:
    """The images of all seeds, AU by AU, then averaged."""
    slopes = {}
    for name, frames in ARMS.items():
        frame = pd.concat([frame[HELD_OUT] for frame in frames.values()])
        rows = [(frame[key] > 0) | (frame["kind"] == "neutral") for key in AU_KEYS]
        slopes[name] = np.mean(
            [
                linregress(frame.loc[row, key], frame.loc[row, f"one_{key}"]).slope
                for key, row in zip(AU_KEYS, rows, strict=True)
            ]
        )
    cell = compared["individual"]["weak"]["slope"]
    assert cell["value"] == pytest.approx(slopes["weak"])
    assert cell["difference"] == pytest.approx(slopes["weak"] - slopes["strong"])
    assert is_significant(cell)


def test_seeds_and_their_sign(compared: dict) -> None:
    cell = compared["individual"]["weak"]["au_mse_active"]
    for seed in (0, 1):
        assert cell["seeds"][seed] == pytest.approx(prompt_means({seed: ARMS["weak"][seed]}).mean())
    assert cell["same_sign"]
    assert "difference" not in compared["individual"]["strong"]["au_mse_active"]
    mixed = {"a": {0: weaker(0, 1.0), 1: weaker(1, 0.6)}, "b": {0: weaker(2, 0.6), 1: weaker(3, 1.0)}}
    assert not compare(mixed, "a", "one")["individual"]["b"]["au_mse_active"]["same_sign"]


def test_leakage_does_not_fall_with_the_number_of_seeds() -> None:
    """A mean of absolute values: of images put together it would. An arm's value is the mean of its seeds'."""
    arms = {
        "three": {seed: make_frame(PLAN, one=noisy(PLAN, seed)) for seed in range(3)},
        "one": {0: make_frame(PLAN, one=noisy(PLAN, 3))},
    }
    found = compare(arms, "three", "one")["individual"]
    cell = found["three"]["leakage"]
    assert cell["value"] == pytest.approx(np.mean(list(cell["seeds"].values())))
    assert cell["value"] > 0.9 * found["one"]["leakage"]["value"]


def test_differences_are_over_common_seeds() -> None:
    """An arm with three seeds against one with one: what is compared is that one, and nothing is called significant on
    a single seed."""
    alone = compare({"strong": ARMS["strong"], "weak": {1: ARMS["weak"][1]}}, "strong", "one")["individual"]["weak"]
    same = compare({"strong": {1: ARMS["strong"][1]}, "weak": {1: ARMS["weak"][1]}}, "strong", "one")["individual"][
        "weak"
    ]
    for name, cell in alone.items():
        assert cell["common_seeds"] == [1]
        if name not in ("attributes", "identity"):  # not in these frames
            assert (cell["difference"], cell["p"]) == (same[name]["difference"], same[name]["p"])
        assert not is_significant(cell)
    none = compare({"strong": {0: ARMS["strong"][0]}, "weak": {1: ARMS["weak"][1]}}, "strong", "one")["individual"][
        "weak"
    ]["slope"]
    assert none["common_seeds"] == []
    assert np.isnan(none["difference"])
    assert np.isnan(none["p_holm"])


def test_the_same_arm_differs_in_nothing() -> None:
    same = compare({"a": ARMS["strong"], "b": ARMS["strong"]}, "a", "one")
    for kind in ("individual", "combination"):
        for name, cell in same[kind]["b"].items():
            if name in ("attributes", "identity"):  # not in these frames
                continue
            assert cell["difference"] == pytest.approx(0, abs=1e-12)
            assert cell["p"] == 1
            assert not is_significant(cell)


def test_chance_is_called_chance() -> None:
    """Two arms of one distribution: p-values are spread over [0, 1], and few are small."""
    plan = [image for image in PLAN if image.kind is not Kind.combination]
    small = []
    for trial in range(40):
        one, two = (
            read_kind(make_frame(plan, one=noisy(plan, 2 * trial + arm)), "one", Kind.individual) for arm in (0, 1)
        )
        small.append(difference([one], [two], 0)["au_mse_active"]["p"])
    assert np.mean(np.array(small) < 0.05) <= 0.15
    assert 0.3 < np.mean(small) < 0.7


def test_attributes_and_identity_are_kept_apart(compared: dict) -> None:
    frame = pd.concat([frame[HELD_OUT] for frame in ARMS["strong"].values()])
    shown = frame[frame["kind"] == "individual"]
    assert np.isnan(
        compared["individual"]["strong"]["attributes"]["value"]
    )  # five of the seven are not in these frames
    whole = [
        frame.assign(
            **{f"attr_{name}": frame["attr_hair"] for name in ("style", "glasses", "beard", "shirt", "background")}
        )
        for frame in ARMS["strong"].values()
    ]
    found = compare({"a": dict(enumerate(whole))}, "a", "one")["individual"]["a"]
    assert found["attributes"]["value"] == pytest.approx((1 + 6 * shown["attr_hair"].mean()) / 7)
    assert found["identity"]["value"] == pytest.approx(shown["attr_hair"].mean())


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_exchanges_are_all_or_many() -> None:
    assert len(np.unique(exchanges(4, 0), axis=0)) == 16
    assert (smallest_p(10), smallest_p(4), smallest_p(15)) == (2 / 1024, 1 / 8, 1 / 4096)
    many = exchanges(15, 0)
    assert len(many) == 4096
    assert not many[0].any()


def test_pooling_seeds_keeps_prompts() -> None:
    one = read_kind(ARMS["strong"][0], "one", Kind.individual)
    both = pool([one, one])
    assert both.units == one.units == 10
    assert len(both.requested) == 2 * len(one.requested)


def test_arms_of_other_images_are_refused() -> None:
    quick = build_plan(
        ProtocolName.quick,
        [EvaluationPrompt(f"prompt {index}", held_out=index >= 5) for index in range(15)],
        SETS,
        seed=0,
    )
    other = make_frame(quick, one=requested(quick))
    with pytest.raises(ValueError, match="weak and strong were not evaluated on the same images"):
        compare({"strong": ARMS["strong"], "weak": {0: other}}, "strong", "one")
