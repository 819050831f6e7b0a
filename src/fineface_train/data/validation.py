"""The images that a training never sees, as examples that are always the same: what tells how it goes where no judge
does."""

import dataclasses
import itertools

import numpy as np

from fineface_train.data.cache import LatentCache, TextCache
from fineface_train.data.conditioning import ConditioningConfig
from fineface_train.data.examples import ExampleDataset
from fineface_train.data.labels import LabelsConfig
from fineface_train.data.table import SampleTable

EXAMPLES = 128
"""Each with its own noise and timestep; of fewer images some are there more than once."""
BANDS = 4
"""Equal parts of the timesteps, by which errors are told apart."""


@dataclasses.dataclass(frozen=True)
class FixedRows:
    """Like `Mixture`: example i is of the i-th of these rows, which start again after the last."""

    rows: np.ndarray

    def row(self, index: int) -> int:
        return int(self.rows[index % len(self.rows)])


def validation_rows(table: SampleTable, weights: dict[str, float], seed: int) -> np.ndarray:
    """(`EXAMPLES`,) rows of split "validation", the sources that are trained on in turn; the same for one seed and
    table. Empty where no row is held out.

    Each source's rows come in an order of their own, drawn without replacement; they start again where they are fewer.
    """
    frame, found = table.frame, []
    for source in (source for source, weight in weights.items() if weight > 0):
        held_out = ((frame["split"] == "validation") & (frame["source"] == source)).to_numpy()
        if held_out.any():
            found.append(np.random.default_rng(seed).permutation(np.flatnonzero(held_out)))
    places = range(EXAMPLES if found else 0)
    turns = [(found[place % len(found)], place // len(found)) for place in places]
    return np.array([rows[turn % len(rows)] for rows, turn in turns], dtype=int)


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


def validation_groups(table: SampleTable, examples: ExampleDataset) -> dict[str, list[str]]:
    """By what errors are told apart, the group of each of the `EXAMPLES`: its `source`, and the `band` of its timestep
    ("000-249" is the first quarter of 1,000, with the least noise)."""
    steps = examples.timesteps
    edges, digits = [band * steps // BANDS for band in range(BANDS + 1)], len(str(steps - 1))
    names = [f"{low:0{digits}}-{high - 1:0{digits}}" for low, high in itertools.pairwise(edges)]
    seen = [examples[index] for index in range(EXAMPLES)]
    return {
        "source": table.frame["source"].iloc[[int(one.row) for one in seen]].tolist(),
        "band": [names[int(np.searchsorted(edges, int(one.timesteps), side="right")) - 1] for one in seen],
    }
