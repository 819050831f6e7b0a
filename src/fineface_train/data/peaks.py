"""Frames at which an AU peaks, with those around: by them a person sees at once whether pictures and labels of a video
belong together."""

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS, AUS

PEAKS = 3
"""Peaks of each subject: one early, one in the middle, one late, where a drift shows."""
AROUND: tuple[int, ...] = (-4, -2, -1, 0, 1, 2, 4)
"""Frames that are shown with each."""
COLUMNS: tuple[str, ...] = ("subject", "peak", "au", "frame", "image", "intensity")


def find_peaks(frames: pd.DataFrame) -> pd.DataFrame:
    """Rows (`COLUMNS`) of the frames around each peak: its subject, frame and AU, and of each frame its image (None
    where it has none) and intensity.

    A peak is where an AU stands out most from the frames `AROUND`, so that pictures that are a few frames off look
    wrong.

    Args:
        frames: columns `subject`, `frame` (a number that rises in time), `image` (NaN where there is none), and one per
            AU number.
    """
    rows: list[tuple[object, ...]] = []
    for subject, each in frames.groupby("subject", sort=True):
        ordered = each.sort_values("frame").set_index("frame")
        images = ordered["image"]
        values = ordered[list(AUS)].to_numpy(dtype=float)
        standing = _standing_out(values)
        standing[images.isna().to_numpy()] = -np.inf
        for part in np.array_split(np.arange(len(ordered)), PEAKS):
            if not len(part) or standing[part].max() <= 0:
                continue
            place, au = np.unravel_index(int(standing[part].argmax()), (len(part), len(AUS)))
            peak = int(ordered.index[part[place]])
            for frame in (peak + offset for offset in AROUND):
                if frame in images.index:
                    image, value = images[frame], ordered.loc[frame, AUS[au]]
                    rows.append((subject, peak, AU_KEYS[au], frame, None if pd.isna(image) else image, float(value)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _standing_out(values: np.ndarray) -> np.ndarray:
    """How far each of `values` (n, 12) stands above those around it, summed; -inf where it is 0."""
    found = np.zeros_like(values)
    for offset in AROUND:
        if 0 < abs(offset) < len(values):
            far = max(0, offset), len(values) + min(0, offset)
            near = max(0, -offset), len(values) + min(0, -offset)
            found[near[0] : near[1]] += values[near[0] : near[1]] - values[far[0] : far[1]]
    found[values <= 0] = -np.inf
    return found
