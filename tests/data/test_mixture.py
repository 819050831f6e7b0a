"""The mixture: random access, proportions of sources, rarity weighting, training rows only."""

import numpy as np
import pytest

from fineface_train.data.mixture import Mixture, row_weights
from fineface_train.data.table import SampleTable


def _table(a: int = 30, b: int = 70) -> SampleTable:
    """Rows of source a, then of source b; every tenth row is validation. In each source 1 row of 5 shows AU9, the
    others AU12."""

    def part(source: str, count: int) -> SampleTable:
        aus = np.zeros((count, 12))
        rare = np.arange(count) % 5 == 0
        aus[rare, 5], aus[~rare, 6] = 3, 3
        names = [f"{source}/{index}" for index in range(count)]
        splits = ["validation" if index % 10 == 9 else "train" for index in range(count)]
        return SampleTable.build(
            source,
            ids=names,
            images=names,
            captions=names,
            aus=aus,
            subjects=names,
            splits=splits,
            aus_from="x",
            caption_from="y",
        )

    return SampleTable.concatenate([part("a", a), part("b", b)])


def _rows(mixture: Mixture, count: int = 8000) -> np.ndarray:
    return np.array([mixture.row(index) for index in range(count)])


def test_row_is_a_pure_function_of_seed_and_index() -> None:
    table = _table()
    first, again = (Mixture(table, {"a": 1.0, "b": 1.0}, 0.0, seed=3) for _ in range(2))
    forwards = [first.row(index) for index in range(200)]
    assert [again.row(index) for index in reversed(range(200))] == forwards[::-1]
    assert first.row(10**12) == again.row(10**12)
    other = Mixture(table, {"a": 1.0, "b": 1.0}, 0.0, seed=4)
    assert [other.row(index) for index in range(200)] != forwards


def test_sources_come_in_proportion_to_their_weights() -> None:
    table = _table()
    rows = _rows(Mixture(table, {"a": 3.0, "b": 1.0}, 0.0, seed=0))
    assert (table.frame["source"].to_numpy()[rows] == "a").mean() == pytest.approx(0.75, abs=0.02)
    alone = _rows(Mixture(table, {"a": 0.0, "b": 2.0}, 0.0, seed=0), 500)
    assert set(table.frame["source"].to_numpy()[alone]) == {"b"}


def test_every_training_row_and_no_other_is_drawn_evenly() -> None:
    table = _table()
    rows = _rows(Mixture(table, {"a": 27.0, "b": 63.0}, 0.0, seed=0), 9000)
    counts = np.bincount(rows, minlength=len(table))
    training = (table.frame["split"] == "train").to_numpy()
    assert (counts[~training] == 0).all()
    assert counts[training].min() > 60
    assert counts[training].max() < 150


def test_rarity_weighting_evens_out_the_aus() -> None:
    table = _table()
    rare = table.aus()[:, 5] > 0
    share = [rare[_rows(Mixture(table, {"b": 1.0}, power, seed=0))].mean() for power in (0.0, 0.5, 1.0)]
    training = ((table.frame["source"] == "b") & (table.frame["split"] == "train")).to_numpy()
    assert share[0] == pytest.approx(rare[training].mean(), abs=0.02)
    assert share[0] < share[1] < share[2]
    assert share[2] == pytest.approx(0.5, abs=0.02)


def test_probabilities_are_how_often_rows_come() -> None:
    table = _table()
    mixture = Mixture(table, {"a": 3.0, "b": 1.0}, 1.0, seed=0)
    chances = mixture.probabilities()
    assert chances.sum() == pytest.approx(1)
    assert chances[:30].sum() == pytest.approx(0.75)
    assert (chances[(table.frame["split"] != "train").to_numpy()] == 0).all()
    assert np.bincount(_rows(mixture), minlength=100) / 8000 == pytest.approx(chances, abs=0.012)


def test_row_weights_by_hand() -> None:
    aus = np.zeros((4, 12))
    aus[0, 0] = aus[1, 0] = aus[1, 1] = 2
    # AU1 in 2 of 4 rows, AU2 in 1 of 4, neutral in 2 of 4: inverse frequencies 2, 4 and 2.
    assert row_weights(aus, 1.0).tolist() == [2, 3, 2, 2]
    assert row_weights(aus, 0.0).tolist() == [1, 1, 1, 1]


def test_bad_weights_are_refused() -> None:
    table = _table()
    for weights in ({}, {"a": -1.0, "b": 1.0}, {"a": 0.0}):
        with pytest.raises(ValueError, match=r"mixture: weights="):
            Mixture(table, weights, 0.0, seed=0)
    with pytest.raises(
        ValueError, match=r"source 'c' has a weight but no training rows; sources with training rows: a, b"
    ):
        Mixture(table, {"c": 1.0}, 0.0, seed=0)
