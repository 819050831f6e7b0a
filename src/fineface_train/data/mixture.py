"""Which row of the sample table is training example i: a source by its weight, then a row of that source."""

import numpy as np

from fineface_train.data.table import SampleTable


class Mixture:
    """An endless, random-access stream of training rows: `row(i)` depends on (seed, i) alone.

    Rows are drawn with replacement, so that there are no epochs to keep track of. Only rows of split "train" are drawn.
    """

    def __init__(self, table: SampleTable, weights: dict[str, float], rarity_weighting: float, seed: int) -> None:
        """`weights` gives each source's share of the examples, up to a factor; sources left out are never drawn.

        With `rarity_weighting` p, a row's weight within its source is the mean inverse frequency of its active AUs to
        the power p; 0 draws uniformly. Raises ValueError for a source without training rows, and for weights that are
        negative or all 0.
        """
        if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ValueError(f"mixture: weights={weights}: none may be negative, and at least one must be positive")
        drawn = {source: weight for source, weight in weights.items() if weight > 0}
        training = table.frame["split"].to_numpy() == "train"
        sources, aus = table.frame["source"].to_numpy(), table.aus()
        self.seed, self._length = seed, len(table)
        self._source_ends = _cumulative(np.array(list(drawn.values())))
        self._rows = [np.flatnonzero(training & (sources == source)) for source in drawn]
        for source, rows in zip(drawn, self._rows, strict=True):
            if len(rows) == 0:
                known = ", ".join(sorted(set(sources[training]))) or "none"
                raise ValueError(
                    f"mixture: source {source!r} has a weight but no training rows; sources with training rows: {known}"
                )
        self._row_ends = [_cumulative(row_weights(aus[rows], rarity_weighting)) for rows in self._rows]

    def row(self, index: int) -> int:
        """Row of the table that is global example `index`."""
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, index, 0]))
        source_draw, row_draw = rng.random(2)
        source = int(np.searchsorted(self._source_ends, source_draw, side="right"))
        return int(self._rows[source][np.searchsorted(self._row_ends[source], row_draw, side="right")])

    def probabilities(self) -> np.ndarray:
        """Each row's chance (N,) to be any one example; 0 for what is never drawn."""
        chances = np.zeros(self._length)
        for share, rows, ends in zip(_shares(self._source_ends), self._rows, self._row_ends, strict=True):
            chances[rows] = share * _shares(ends)
        return chances


def row_weights(aus: np.ndarray, rarity_weighting: float) -> np.ndarray:
    """Positive weights (N,) for intensities (N, 12): mean inverse frequency of a row's active AUs, to a power.

    A neutral row counts as one that shows a thirteenth AU, "neutral", with its own frequency.
    """
    active = aus > 0
    shown = np.column_stack([active, ~active.any(axis=1)])
    inverse_frequency = len(aus) / np.maximum(shown.sum(axis=0), 1)
    return ((shown @ inverse_frequency) / shown.sum(axis=1)) ** rarity_weighting


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """Upper ends of the weights' intervals in [0, 1); the last is exactly 1, so that every draw falls into one."""
    ends = np.cumsum(weights, dtype=np.float64)
    ends /= ends[-1]
    return ends


def _shares(ends: np.ndarray) -> np.ndarray:
    """The inverse of `_cumulative`: each interval's length."""
    return np.diff(ends, prepend=0.0)
