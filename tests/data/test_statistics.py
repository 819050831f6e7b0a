"""The numbers of a table, by hand."""

import numpy as np
import pandas as pd
import pytest

from fineface_train.data.inspection.statistics import BINS, au_statistics, caption_statistics, subject_statistics


def _aus() -> np.ndarray:
    """AU1 = 2 and AU2 = 4 in row 0, AU1 = 3 in row 1, nothing in rows 2 and 3."""
    aus = np.zeros((4, 12), dtype=np.float32)
    aus[0, :2], aus[1, 0] = (2, 4), 3
    return aus


def test_aus_that_count_equally() -> None:
    found = au_statistics(_aus())
    assert found.rows == 4
    assert found.neutral == 0.5
    assert found.active[:3] == [0.5, 0.25, 0]
    assert found.alone[:3] == [0.5, 0.0, None]
    assert found.mean[:3] == [2.5, 4.0, None]
    assert found.together[0][:3] == [1.0, 0.5, 0.0]
    assert found.together[1][:3] == [1.0, 1.0, 0.0]
    assert found.together[2] == [None] * 12
    assert [place for place, share in enumerate(found.histograms[0]) if share] == [2 * 4 - 1, 3 * 4 - 1]
    assert [sum(shares) for shares in found.histograms] == pytest.approx(found.active)


def test_aus_that_count_by_weights() -> None:
    found = au_statistics(_aus(), np.array([3.0, 1.0, 4.0, 0.0]))
    assert found.rows == 3
    assert found.neutral == 0.5
    assert found.active[:2] == [0.5, 0.375]
    assert found.alone[0] == 0.25
    assert found.mean[0] == pytest.approx((3 * 2 + 1 * 3) / 4)
    assert found.together[0][1] == 0.75


@pytest.mark.parametrize(
    ("intensity", "place"), [(0.01, 0), (0.25, 0), (0.26, 1), (1.0, 3), (4.99, BINS - 1), (5.0, BINS - 1)]
)
def test_each_intensity_falls_into_one_part(intensity: float, place: int) -> None:
    aus = np.zeros((1, 12), dtype=np.float32)
    aus[0, 4] = intensity
    assert np.flatnonzero(au_statistics(aus).histograms[4]).tolist() == [place]


def test_no_rows_have_no_numbers() -> None:
    found = au_statistics(np.zeros((0, 12), dtype=np.float32))
    assert (found.rows, found.neutral, found.active[0], found.mean[0]) == (0, 0.0, 0.0, None)


def test_captions() -> None:
    found = caption_statistics(["A man, a man!", "a man with a hat", "a man with a hat", " ", "close-up of a dog"])
    assert (found["captions"], found["distinct"], found["empty"], found["median_words"], found["most_words"]) == (
        5,
        4,
        1,
        4.0,
        5,
    )
    assert found["words"] == [("man", 3), ("hat", 2), ("close-up", 1), ("dog", 1)]
    assert found["repeated"] == [("a man with a hat", 2)]


def test_subjects() -> None:
    frame = pd.DataFrame(
        {"subject": list("aaabbc"), "split": ["train", "train", "test", "train", "train", "validation"]}
    )
    found = subject_statistics(frame)
    assert found["subjects"] == 3
    assert found["rows"] == [1, 2.0, 3]
    assert found["in_several_splits"] == ["a"]
    assert found["splits"]["train"] == {"rows": 4, "subjects": 2}
