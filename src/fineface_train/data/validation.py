"""The images that a training never sees, as examples that are always the same: what tells how it goes where no judge
does."""

import dataclasses

import numpy as np

from fineface_train.data.cache import LatentCache, TextCache
from fineface_train.data.conditioning import ConditioningConfig
from fineface_train.data.examples import ExampleDataset
from fineface_train.data.labels import LabelsConfig
from fineface_train.data.table import SampleTable

EXAMPLES = 128
"""Each with its own noise and timestep; of fewer images some are there more than once."""


@dataclasses.dataclass(frozen=True)
class FixedRows:
    """Like `Mixture`, of given rows one after the other."""

    rows: np.ndarray

    def row(self, index: int) -> int:
        return int(self.rows[index % len(self.rows)])


def validation_rows(table: SampleTable, weights: dict[str, float], seed: int) -> np.ndarray:
    """Up to `EXAMPLES` rows of split "validation" of the sources that are trained on, drawn without replacement; the
    same for one seed and table."""
    drawn = [source for source, weight in weights.items() if weight > 0]
    rows = np.flatnonzero(
        (table.frame["split"] == "validation").to_numpy() & table.frame["source"].isin(drawn).to_numpy()
    )
    return np.random.default_rng(seed).permutation(rows)[:EXAMPLES]


def validation_examples(
    table: SampleTable,
    rows: np.ndarray,
    conditioning: ConditioningConfig,
    latents: LatentCache,
    text: TextCache,
    *,
    timesteps: int,
    seed: int,
) -> ExampleDataset:
    """Examples 0 to `EXAMPLES` of `rows`: labels as they are, nothing dropped; noise and timesteps are those of `seed`,
    whatever the training's own."""
    return ExampleDataset(
        table.aus(),
        FixedRows(rows),
        LabelsConfig(std=0, rounding_probability=0),
        dataclasses.replace(conditioning, au_dropout=0, caption_dropout=0),
        latents,
        text,
        timesteps=timesteps,
        rounding_group=1,
        seed=seed,
    )
