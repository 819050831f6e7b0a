"""Copies of DISFA whose pictures show their frame's number in blocks, so that each joined row can be checked."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fineface_train.aus import AUS
from fineface_train.data.crew import Crew
from fineface_train.data.disfa.config import DisfaConfig, Mismatch
from fineface_train.data.disfa.layout import find_copy
from fineface_train.data.disfa.reader import ensure_frames, read_frames
from tests.data.videos import BITS, BLOCK, numbered, write_video

COUNT = 40
"""Frames of a whole recording, and its labels."""
WHOLE = range(COUNT)


def barcode(number: int) -> np.ndarray:
    """(32, 144, 3): large enough for any codec."""
    return np.kron(numbered(number), np.ones((2, 2, 1), dtype=np.uint8))


def number_in(path: str) -> int:
    grey = np.asarray(Image.open(path).convert("L"))[2 * BLOCK, BLOCK :: 2 * BLOCK]
    return sum(int(value > 127) << bit for bit, value in enumerate(grey[:BITS]))


@dataclasses.dataclass
class Tree:
    """Labels of SN001 (and a whole SN002), and SN001's pictures: a video where `video` is named, else a folder of
    images."""

    pictures: Sequence[int] = WHOLE
    """The recording's frames that are there, in order."""
    video: str | None = None
    codec: str = "mjpeg"
    between: int = 0
    times: Sequence[int] | None = None
    rate: int = 20
    spoil: Callable[[Path], object] = lambda path: None
    """Done to the finished video."""
    numbers: Sequence[int] | None = None
    """Numbers of the images; null: from 0."""
    labels: Sequence[int] = WHOLE
    """The frames that have labels, from 0."""
    renumbered: bool = False
    """Whether the labels' lines are counted from 1 whatever frames they are of."""
    ends: dict[int, int] = dataclasses.field(default_factory=dict)
    """For an AU, labels that its file lacks at the end."""
    suffix: str = "png"

    def write(self, root: Path) -> Path:
        for subject, pictures, times in (("SN001", self.pictures, self.times), ("SN002", WHOLE, None)):
            labels = list(self.labels if subject == "SN001" else WHOLE)
            folder = root / "ActionUnit_Labels" / subject
            folder.mkdir(parents=True)
            for au in AUS:
                kept = labels[: len(labels) - (self.ends.get(au, 0) if subject == "SN001" else 0)]
                lines = [
                    f"{(place if self.renumbered else frame) + 1},{(frame * au) % 6}\n"
                    for place, frame in enumerate(kept)
                ]
                (folder / f"{subject}_au{au}.txt").write_text("".join(lines))
            mine = subject == "SN001"
            if self.video is not None:
                name = root / "Videos_LeftCamera" / f"LeftVideo{subject}_comp{self.video if mine else '.avi'}"
                how = {"codec": self.codec, "between": self.between, "rate": self.rate} if mine else {}
                write_video(name, [barcode(number) for number in pictures], times=times, **how)  # type: ignore[arg-type]
                if mine:
                    self.spoil(name)
                continue
            numbers = self.numbers if mine and self.numbers is not None else range(len(pictures))
            (root / "frames" / subject).mkdir(parents=True)
            for place, number in zip(numbers, pictures, strict=True):
                Image.fromarray(barcode(number)).save(root / "frames" / subject / f"{place:05d}.{self.suffix}")
        return root


def joined(root: Path, mismatch: Mismatch, **config: object) -> pd.Series:
    """The picture's number that each frame (from 0) of SN001 got; every row of every subject is checked to be of its
    label."""
    values = {
        "image_pattern": "{subject}/{index:05d}.png",
        "neutral_share": 1.0,
        "captions": None,
        "mismatch": mismatch,
    }
    chosen = DisfaConfig(root=str(root), **(values | config))  # type: ignore[arg-type]
    chosen.validate("data.disfa")
    copy = find_copy(chosen)
    ensure_frames(copy, root.with_name("extracted"), Crew(quiet=True))
    frame = read_frames(copy, 0, root.with_name("extracted")).frame
    mine = frame[frame["subject"] == "SN001"]
    return pd.Series([number_in(path) for path in mine["image"]], index=mine["frame"].to_numpy() - 1)
