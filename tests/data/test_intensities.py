"""The corrections of annotated AUs: the paper's, the published code's, and that they can be kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.data.intensities import POWERS, Correction, Transform, fit_correction


def columns(*values: float, **others: tuple[float, ...]) -> np.ndarray:
    """The same column for every AU but the named ones."""
    return np.stack([np.array(others.get(key, values)) for key in AU_KEYS], axis=1)


def corrected(raw: np.ndarray, transform: Transform, low_cut: float = 0.0) -> dict[str, np.ndarray]:
    return dict(zip(AU_KEYS, fit_correction(raw, transform, low_cut)(raw).T, strict=True))


def test_paper() -> None:
    aus = corrected(columns(0.0, 0.1, 0.4, 0.5), Transform.paper)
    assert np.allclose(aus["AU2"], [0, 0.5, 2, 2.5])
    assert np.allclose(aus["AU1"], 5 * np.array([0, 0.2, 0.8, 1]) ** 1.8)
    assert np.allclose(aus["AU4"], aus["AU1"])
    for key in ("AU15", "AU17", "AU20"):
        assert np.allclose(aus[key], 5 * np.array([0, 0.2, 0.8, 1]) ** 0.8)
    assert corrected(columns(0.2, 0.6), Transform.paper)["AU1"].tolist() == [0, 5]
    assert corrected(columns(0.3, 0.3), Transform.paper)["AU1"].tolist() == [0, 0]


def test_published() -> None:
    aus = corrected(columns(0.0, 0.1, 0.2, AU17=(0.0, 0.1, 0.5)), Transform.published)
    assert np.allclose(aus["AU1"], 5 * 0.2 * np.array([0, 0.5, 1]) ** 1.8)
    assert np.allclose(aus["AU20"], 5 * 0.2 * 1.8 * np.array([0, 0.5, 1]) ** 0.8)
    assert np.allclose(aus["AU15"], 5 * 0.5 * 1.8 * np.array([0, 0.5, 1]) ** 0.8)
    assert np.allclose(aus["AU17"], 5 * 0.5 * 1.8 * np.array([0, 0.2, 1]) ** 0.8)
    assert max(column.max() for column in corrected(columns(0.0, 1.0), Transform.published).values()) == 5


def test_none() -> None:
    assert np.allclose(corrected(columns(0.1, 0.5), Transform.none)["AU1"], [0.5, 2.5])


@pytest.mark.parametrize(
    ("low_cut", "expected"), [(0.0, [0.9, 1.0, 1.05, 1.2]), (1.0, [0, 1.0, 1.05, 1.2]), (1.1, [0, 0, 0, 1.2])]
)
def test_low_cut(low_cut: float, expected: list[float]) -> None:
    assert np.allclose(corrected(columns(0.18, 0.2, 0.21, 0.24), Transform.paper, low_cut)["AU12"], expected)


def test_powers_are_a_choice() -> None:
    raw = columns(0.0, 0.1, 0.4, 0.5)
    aus = dict(
        zip(AU_KEYS, fit_correction(raw, Transform.paper, 0.0, POWERS | {"AU12": 2.0, "AU4": 1.0})(raw).T, strict=True)
    )
    assert np.allclose(aus["AU12"], 5 * np.array([0.0, 0.04, 0.64, 1.0]))
    assert np.allclose(aus["AU4"], [0, 0.5, 2, 2.5])


def test_new_images_get_the_numbers_of_the_fitted_ones(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).random((50, 12)) * 0.8
    for transform in Transform:
        fitted = fit_correction(raw, transform, 1.0)
        fitted.write(tmp_path / "correction.json")
        kept = Correction.read(tmp_path / "correction.json")
        assert kept == fitted
        assert np.array_equal(kept(raw[7:9]), fitted(raw)[7:9])  # not fitted to the two
        assert kept(np.full((1, 12), 1.0)).max() <= 5


@pytest.mark.parametrize(
    "text", ["{}", '{"curves": {}, "low_cut": 1}', '{"curves": {"AU1": {"power": 1, "colour": 2}}, "low_cut": 1}', "x"]
)
def test_what_is_no_correction_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "correction.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"correction\.json"):
        Correction.read(path)
    path.write_text(json.dumps({"curves": {key: {} for key in AU_KEYS}, "low_cut": 0}))
    assert Correction.read(path)(np.full((1, 12), 0.4)).tolist() == [[2.0] * 12]


@pytest.mark.parametrize("value", [None, "x", -1, 0, [1], True])
def test_a_correction_of_no_numbers_is_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "correction.json"
    path.write_text(
        json.dumps({"curves": {key: {"power": value if key == "AU4" else 1} for key in AU_KEYS}, "low_cut": 0})
    )
    with pytest.raises(
        ValueError, match=r"correction\.json is no correction of AUs \(AU4\.power=.* must be a number above 0\)"
    ):
        Correction.read(path)
