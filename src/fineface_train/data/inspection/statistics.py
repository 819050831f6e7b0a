"""A sample table in numbers: how often AUs are shown, how strongly, with which others; captions; subjects."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fineface_train.aus import MAX_INTENSITY
from fineface_train.data.splits import SPLITS

BINS = 20
"""Quarters of the intensities above 0."""
COMMON = 30
REPEATED = 5
LITTLE_WORDS = frozenset(
    (
        "a",
        "an",
        "and",
        "the",
        "of",
        "in",
        "on",
        "at",
        "with",
        "to",
        "for",
        "by",
        "from",
        "as",
        "is",
        "are",
        "it",
        "his",
        "her",
        "their",
        "its",
    )
)


@dataclasses.dataclass(frozen=True)
class AuStatistics:
    """Statistics of intensities (N, 12) whose rows count by weights; lists are in the order of `AUS`."""

    rows: int
    neutral: float
    """Share of rows without any AU."""
    active: list[float]
    """Share of rows in which the AU is above 0."""
    alone: list[float | None]
    """Share of an AU's rows that show no other AU; None for an AU that is never shown."""
    mean: list[float | None]
    """Mean intensity where it is shown."""
    together: list[list[float | None]]
    """Share of an AU's rows that show each other AU."""
    histograms: list[list[float]]
    """Share of rows with an intensity in each of `BINS` equal parts of (0, 5]."""


def au_statistics(aus: np.ndarray, weights: np.ndarray | None = None) -> AuStatistics:
    """Statistics of intensities (N, 12) in [0, 5]; `weights` (N,) need not sum to 1 and are equal by default."""
    weights = np.ones(len(aus)) if weights is None else weights
    used = weights > 0
    aus, weights = aus[used], weights[used] / (weights.sum() or 1)
    shown = (aus > 0).astype(np.float64)
    active = weights @ shown
    alone = weights @ (shown * (shown.sum(axis=1, keepdims=True) == 1))
    mean = weights @ (aus * shown)
    both = (shown * weights[:, None]).T @ shown
    bins = np.clip(np.ceil(aus * BINS / MAX_INTENSITY).astype(int) - 1, 0, BINS - 1)
    return AuStatistics(
        rows=len(aus),
        neutral=float(weights @ (shown.sum(axis=1) == 0)),
        active=active.tolist(),
        alone=_over(alone, active),
        mean=_over(mean, active),
        together=[_over(row, np.full(len(row), total)) for row, total in zip(both, active, strict=True)],
        histograms=[
            np.bincount(bins[above, au], weights=weights[above], minlength=BINS).tolist()
            for au, above in ((au, aus[:, au] > 0) for au in range(aus.shape[1]))
        ],
    )


def _over(some: np.ndarray, whole: np.ndarray) -> list[float | None]:
    return [float(part / total) if total > 0 else None for part, total in zip(some, whole, strict=True)]


def caption_statistics(captions: Sequence[str]) -> dict[str, Any]:
    """Counts of captions: all, distinct, empty, of words (median, most), the most common words and the captions that
    occur most often."""
    times = collections.Counter(captions)
    words: collections.Counter[str] = collections.Counter()
    lengths = []
    for caption in captions:
        said = re.findall(r"[\w'-]+", caption.lower())
        lengths.append(len(said))
        words.update(set(said) - LITTLE_WORDS)
    return {
        "captions": len(captions),
        "distinct": len(times),
        "empty": sum(not caption.strip() for caption in captions),
        "median_words": float(np.median(lengths)) if lengths else None,
        "most_words": max(lengths, default=0),
        "words": sorted(words.items(), key=lambda word: (-word[1], word[0]))[:COMMON],
        "repeated": [(caption, count) for caption, count in times.most_common(REPEATED) if count > 1],
    }


def subject_statistics(frame: pd.DataFrame) -> dict[str, Any]:
    """Counts of a sample table's frame: rows and subjects of each split, rows of a subject (least, median, most),
    subjects that lie in several splits."""
    sizes = frame.groupby("subject").size()
    splits = frame.groupby("subject")["split"].nunique()
    return {
        "splits": {
            split: {
                "rows": int((frame["split"] == split).sum()),
                "subjects": frame.loc[frame["split"] == split, "subject"].nunique(),
            }
            for split in SPLITS
        },
        "subjects": len(sizes),
        "rows": [int(sizes.min()), float(sizes.median()), int(sizes.max())] if len(sizes) else [0, 0.0, 0],
        "in_several_splits": sorted(splits.index[splits > 1]),
    }
