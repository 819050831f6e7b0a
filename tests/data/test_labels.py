"""Distribution smoothing: what it does to the labels, and that it is a pure function."""

import numpy as np
import pytest

from fineface_train.data.labels import LabelsConfig, smooth


def _smoothed(value: float, config: LabelsConfig, count: int = 20000) -> np.ndarray:
    """(count, 12) smoothed copies of a constant vector."""
    rng = np.random.default_rng(0)
    aus = np.full(12, value, dtype=np.float32)
    return np.stack([smooth(aus, rng.standard_normal(12), rng.uniform(), config) for _ in range(count)])


def test_default_is_the_papers_variance() -> None:
    assert LabelsConfig().std ** 2 == pytest.approx(0.2, abs=1e-3)
    smoothed = _smoothed(2.5, LabelsConfig(rounding_probability=0.0), 5000)
    assert smoothed.var() == pytest.approx(0.2, abs=0.005)
    assert smoothed.mean() == pytest.approx(2.5, abs=0.01)


def test_noise_reaches_absent_aus_and_stays_in_range() -> None:
    absent = _smoothed(0, LabelsConfig(rounding_probability=0.0), 2000)
    assert (absent == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert absent.min() == 0
    assert _smoothed(5, LabelsConfig(), 2000).max() == 5


def test_a_fifth_of_the_examples_is_rounded_as_a_whole() -> None:
    smoothed = _smoothed(2.5, LabelsConfig(), 4000)
    whole = (smoothed == np.rint(smoothed)).all(axis=1)
    assert whole.mean() == pytest.approx(0.2, abs=0.02)
    assert not (smoothed[~whole] == np.rint(smoothed[~whole])).any()


def test_pure_function_of_its_arguments() -> None:
    aus, noise = np.arange(12, dtype=np.float32) / 3, np.linspace(-2, 2, 12)
    before = aus.copy()
    first = smooth(aus, noise, 0.9, LabelsConfig())
    assert np.array_equal(first, smooth(aus, noise, 0.9, LabelsConfig()))
    assert np.array_equal(aus, before)
    assert np.allclose(first, np.clip(aus + 0.447 * noise, 0, 5))
    assert np.array_equal(smooth(aus, noise, 0.1, LabelsConfig()), np.rint(first))
    assert first.dtype == np.float32


def test_no_smoothing_leaves_labels_alone() -> None:
    aus = np.array([0.0, 1.3, 5.0] * 4, dtype=np.float32)
    assert np.array_equal(smooth(aus, np.ones(12), 0.0, LabelsConfig(std=0.0, rounding_probability=0.0)), aus)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"std": -0.1}, r"labels\.std=-0\.1"), ({"rounding_probability": 2.0}, r"labels\.rounding_probability=2\.0")],
)
def test_config_errors_name_key_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelsConfig(**change).validate("labels")
