"""The posteriors of all views of the training images, each view in a cache of its own."""

import logging
from collections.abc import Callable

import numpy as np

from fineface_train.data.augmentation import AS_IT_IS, Augmentation, View, mirrorable
from fineface_train.data.cache import LatentCache
from fineface_train.data.table import SampleTable
from fineface_train.texts import shown

logger = logging.getLogger(__name__)


def rows_of_view(table: SampleTable, weights: dict[str, float], view: View) -> np.ndarray:
    """Rows of which training may take this view: of split "train" and a source that is drawn from, and, where it is
    mirrored, with a caption that tells no side."""
    drawn = [source for source, weight in weights.items() if weight > 0]
    wanted = (table.frame["split"] == "train").to_numpy() & table.frame["source"].isin(drawn).to_numpy()
    return np.flatnonzero(wanted & mirrorable(table.frame["caption"]) if view.mirrored else wanted)


class Views:
    """The posteriors of all views of each training row."""

    def __init__(
        self, augmentation: Augmentation, latents: LatentCache, of_view: dict[View, tuple[np.ndarray, LatentCache]]
    ) -> None:
        """`latents`: of all rows as they are. `of_view`: for each other view its rows, ascending, and their
        posteriors."""
        self.augmentation, self.latents, self.of_view = augmentation, latents, of_view
        self.unmirrored = np.ones(len(latents), dtype=bool)
        for view, (rows, _) in of_view.items():
            if view.mirrored:
                self.unmirrored[rows] = False

    def posterior(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation (C, h, w) of the view of `row` that `rng` draws."""
        view = self.augmentation.choose(rng, mirrorable=not self.unmirrored[row])
        if view == AS_IT_IS:
            return self.latents[row]
        rows, latents = self.of_view[view]
        return latents[int(np.searchsorted(rows, row))]


def open_views(
    augmentation: Augmentation,
    table: SampleTable,
    weights: dict[str, float],
    latents: LatentCache,
    posteriors: Callable[[np.ndarray, View], LatentCache],
    *,
    silent: bool,
) -> Views | None:
    """All views of the training rows; None where augmentation is off.

    Args:
        latents: of all rows of the table as they are.
        posteriors: finds or builds those of some rows in one view (see `latent_cache`).
        silent: do not tell how many rows cannot be mirrored.
    """
    if not augmentation.views:
        return None
    of_view = {}
    for view in augmentation.views:
        rows = rows_of_view(table, weights, view)
        of_view[view] = (rows, posteriors(rows, view) if len(rows) else latents)
    if augmentation.flip and not silent:
        _tell_unmirrored(table, rows_of_view(table, weights, AS_IT_IS))
    return Views(augmentation, latents, of_view)


def _tell_unmirrored(table: SampleTable, rows: np.ndarray) -> None:
    captions = table.frame["caption"].iloc[rows]
    sided = captions[~mirrorable(captions)]
    if len(sided):
        logger.warning(
            "data.flip: %d of %d training images are never mirrored, since their captions tell left or right, such as "
            "%s",
            len(sided),
            len(rows),
            shown(sided.iloc[0]),
        )
