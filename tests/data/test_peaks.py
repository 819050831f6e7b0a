"""Peaks: where an AU stands out, early and late, with the frames around, also those that the table leaves out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fineface_train.aus import AU_KEYS, AUS
from fineface_train.data.config import DataConfig
from fineface_train.data.disfa.config import Mismatch
from fineface_train.data.disfa.layout import find_copy
from fineface_train.data.disfa.reader import read_frames
from fineface_train.data.peaks import AROUND, COLUMNS, PEAKS, find_peaks
from fineface_train.data.prepare import prepare
from fineface_train.data.prepared import PEAKS as PEAKS_FILE
from tests.data.conftest import disfa_config


def video(count: int, subject: str = "SN001", **rises: dict[int, float]) -> pd.DataFrame:
    """Frames 1 to `count` with AUs at some frames, such as au12={30: 5}."""
    values = pd.DataFrame(0.0, index=range(1, count + 1), columns=list(AUS)).rename_axis("frame")
    for au, at in rises.items():
        values.loc[list(at), int(au[2:])] = list(at.values())
    return values.reset_index().assign(subject=subject, image=[f"{subject}/{frame}.png" for frame in values.index])


def test_one_peak_of_each_third_with_the_frames_around() -> None:
    ramp = {frame: 5 - abs(frame - 80) for frame in range(76, 85)}
    frames = video(90, au1={10: 2, 20: 5}, au12={40: 3, 41: 3, 42: 3}, au4=ramp).sample(frac=1, random_state=0)
    found = find_peaks(frames)
    assert list(found) == list(COLUMNS)
    whose = found.drop_duplicates("peak")[["peak", "au"]].to_numpy().tolist()
    assert [whose[0], whose[2]] == [[20, "AU1"], [80, "AU4"]]
    assert whose[1][1] == "AU12"
    late = found[found["peak"] == 80]
    assert late["frame"].tolist() == [80 + offset for offset in AROUND]
    assert late["intensity"].tolist() == [5.0 - abs(offset) for offset in AROUND]
    assert late["image"].tolist() == [f"SN001/{80 + offset}.png" for offset in AROUND]


def test_what_is_not_there_is_left_out_or_empty() -> None:
    frames = video(30, au1={1: 4, 30: 4}, au2={15: 5, 14: 1})
    frames.loc[frames["frame"].isin([14, 16]), "image"] = np.nan
    found = find_peaks(frames[~frames["frame"].isin([28])])
    assert found.loc[found["peak"] == 1, "frame"].tolist() == [1, 2, 3, 5]
    assert found.loc[found["peak"] == 30, "frame"].tolist() == [26, 29, 30]
    middle = found[found["peak"] == 15].set_index("frame")
    assert middle["image"].isna().to_dict() == {frame: frame in (14, 16) for frame in (11, 13, 14, 15, 16, 17, 19)}
    assert middle["intensity"].to_dict() == {11: 0, 13: 0, 14: 1, 15: 5, 16: 0, 17: 0, 19: 0}


@pytest.mark.parametrize(
    "frames",
    [video(40), video(1, au1={1: 3}), video(40, au1=dict.fromkeys(range(1, 41), 3.0))],
    ids=["none", "alone", "flat"],
)
def test_nothing_stands_out_of_nothing(frames: pd.DataFrame) -> None:
    assert find_peaks(frames).empty


def test_a_frame_without_a_picture_is_no_peak() -> None:
    frames = video(9, au1={2: 5, 3: 4})
    frames.loc[frames["frame"] == 2, "image"] = np.nan
    assert set(find_peaks(frames)["peak"]) == {3}


def test_frames_that_are_thinned_are_around_all_the_same(corpus: Path) -> None:
    config = disfa_config(corpus, neutral_share=0.0, captions=None, mismatch=Mismatch.error)
    read = read_frames(find_copy(config), 0)
    everything = read_frames(find_copy(disfa_config(corpus, captions=None)), 0).frame.set_index(["subject", "frame"])
    assert read.peaks.groupby("subject")["peak"].nunique().between(1, PEAKS).all()
    assert set(read.peaks["subject"]) == {"SN001", "SN002", "SN003"}
    for row in read.peaks.itertuples():
        truth = everything.loc[(row.subject, row.frame)]
        assert (truth["image"], truth[AUS[AU_KEYS.index(row.au)]]) == (row.image, row.intensity)
    shown = set(zip(read.peaks["subject"], read.peaks["frame"], strict=True))
    assert shown - set(zip(read.frame["subject"], read.frame["frame"], strict=True)), (
        "none of the frames around is a thinned one"
    )


def test_prepare_keeps_them(corpus: Path, tmp_path: Path) -> None:
    config = DataConfig(name="disfa", root=f"{tmp_path}/prepared", disfa=disfa_config(corpus))
    prepare(config)
    kept = pd.read_parquet(f"{tmp_path}/prepared/{PEAKS_FILE}")
    pd.testing.assert_frame_equal(kept, read_frames(find_copy(config.disfa), 0).peaks)
