"""Training example i: everything random in training, as a pure function of (seed, i).

The trainer draws nothing. So a run can be resumed from one integer, does not depend on the number of processes or
workers, and two arms of an ablation with one seed see the same images, noise and timesteps.
"""

import dataclasses
import signal
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fineface_train.data.cache import LatentCache, TextCache
from fineface_train.data.conditioning import NO_CONTROL, ConditioningConfig
from fineface_train.data.labels import LabelsConfig, Scope, smooth
from fineface_train.data.views import Views


@dataclasses.dataclass
class Batch:
    """A batch of training examples, stacked."""

    index: Tensor
    """(B,) global example index."""
    row: Tensor
    """(B,) row of the sample table."""
    aus: Tensor
    """(B, 12) after smoothing and rounding, in [0, 5]; NaN where they are hidden."""
    latent_mean: Tensor
    """(B, C, h, w) of the VAE posterior, unscaled."""
    latent_std: Tensor
    posterior_noise: Tensor
    """(B, C, h, w) standard normal: which sample of the posterior."""
    noise: Tensor
    """(B, C, h, w) standard normal: the diffusion noise."""
    timesteps: Tensor
    """(B,) in [0, T)."""
    text: Tensor
    """(B, tokens, d) caption embedding; of the empty caption where it was dropped."""
    prior: "Batch | None" = None
    """As many images of the base's own, for prior preservation (DreamBooth)."""


@dataclasses.dataclass(frozen=True)
class Prior:
    """What the base makes of one prompt, for DreamBooth's prior preservation (arXiv 2208.12242, section 3.2)."""

    latents: LatentCache
    text: np.ndarray
    """(tokens, d) embedding of the prompt."""


class Rows(Protocol):
    """Which row of the table is example i: a `Mixture`, or rows that are always the same (`validation.FixedRows`)."""

    def row(self, index: int) -> int: ...


class ExampleDataset(Dataset[Batch]):
    """Example i of an endless stream; see the module's text."""

    def __init__(
        self,
        aus: np.ndarray,
        mixture: Rows,
        labels: LabelsConfig,
        conditioning: ConditioningConfig,
        latents: LatentCache,
        text: TextCache,
        *,
        text_without_aus: TextCache | None = None,
        prior: Prior | None = None,
        views: Views | None = None,
        timesteps: int,
        rounding_group: int,
        seed: int,
    ) -> None:
        """`aus` (N, 12), `latents` and `text`: of the table's rows; `rounding_group`: examples that share one draw with
        `labels.scope=batch`.

        `text_without_aus`: where `text` says the AUs, the captions alone, for examples that hide them. `views`: what
        stands in for `latents` where images are augmented.
        """
        self.aus, self.mixture, self.labels, self.conditioning = aus, mixture, labels, conditioning
        self.latents, self.text, self.text_without_aus, self.prior = latents, text, text_without_aus or text, prior
        self.views, self.timesteps, self.rounding_group, self.seed = views, timesteps, rounding_group, seed

    def __getitem__(self, index: int) -> Batch:
        """Example `index` as a `Batch` without its leading axis."""
        rng = self._generator(index, stream=1)
        row = self.mixture.row(index)
        mean, std = self.latents[row] if self.views is None else self._view(index, row, self.views)
        # The order of these draws is part of what a seed means: add new ones at the end.
        posterior_noise = rng.standard_normal(mean.shape, dtype=np.float32)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        timestep = int(rng.integers(self.timesteps))
        au_noise, round_draw = rng.standard_normal(12), float(rng.uniform())
        drop_caption, drop_aus = rng.uniform(), rng.uniform()
        if self.labels.scope is Scope.batch:
            round_draw = float(self._generator(index // self.rounding_group, stream=2).uniform())
        aus = smooth(self.aus[row], au_noise, round_draw, self.labels)
        text = self.text
        if drop_aus < self.conditioning.au_dropout:
            aus, text = np.array(NO_CONTROL), self.text_without_aus
        caption = text.empty if drop_caption < self.conditioning.caption_dropout else text[row]
        return Batch(
            index=torch.tensor(index),
            row=torch.tensor(row),
            aus=torch.from_numpy(np.asarray(aus, dtype=np.float32)),
            latent_mean=torch.from_numpy(mean),
            latent_std=torch.from_numpy(std),
            posterior_noise=torch.from_numpy(posterior_noise),
            noise=torch.from_numpy(noise),
            timesteps=torch.tensor(timestep),
            text=torch.from_numpy(caption),
            prior=None if self.prior is None else self._prior_example(index, self.prior),
        )

    def _view(self, index: int, row: int, views: Views) -> tuple[np.ndarray, np.ndarray]:
        """Posterior of the view that example `index` takes of its row; by draws of its own, so that all else of the
        example is as it would be without."""
        return views.posterior(row, self._generator(index, stream=4))

    def _prior_example(self, index: int, prior: Prior) -> Batch:
        """What goes beside example `index`: an image of the base's own, with noise and timestep of its own."""
        rng = self._generator(index, stream=3)
        row = int(rng.integers(len(prior.latents)))
        mean, std = prior.latents[row]
        return Batch(
            index=torch.tensor(index),
            row=torch.tensor(row),
            aus=torch.tensor(NO_CONTROL),
            latent_mean=torch.from_numpy(mean),
            latent_std=torch.from_numpy(std),
            posterior_noise=torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32)),
            noise=torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32)),
            timesteps=torch.tensor(int(rng.integers(self.timesteps))),
            text=torch.from_numpy(prior.text),
        )

    def _generator(self, index: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, index, stream]))


def check_batch_size(batch_size: int, accumulation: int, processes: int) -> None:
    """Raises ValueError unless every process and micro-batch can have an equal share."""
    if batch_size % (accumulation * processes):
        raise ValueError(
            f"trainer.batch_size={batch_size} cannot be divided among {processes} processes x "
            f"trainer.accumulation={accumulation}; "
            f"choose a multiple of {accumulation * processes}"
        )


class ShareOfBatches(Sampler[list[int]]):
    """Micro-batches of one process: step s of the run is examples s * B to (s + 1) * B, split over accumulation and
    processes."""

    def __init__(self, steps: range, batch_size: int, accumulation: int, process: int, processes: int) -> None:
        check_batch_size(batch_size, accumulation, processes)
        self.steps, self.batch_size, self.accumulation, self.process, self.processes = (
            steps,
            batch_size,
            accumulation,
            process,
            processes,
        )

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield from self.of_step(step)

    def of_step(self, step: int) -> list[list[int]]:
        """This process's micro-batches of one step, as indices of examples."""
        share = self.batch_size // (self.accumulation * self.processes)
        parts = [self.process + part * self.processes for part in range(self.accumulation)]
        starts = [step * self.batch_size + part * share for part in parts]
        return [list(range(first, first + share)) for first in starts]

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation


def collate(examples: list[Batch]) -> Batch:
    """Stack examples into a batch."""
    priors = [example.prior for example in examples if example.prior is not None]
    stacked = {
        field.name: torch.stack([getattr(example, field.name) for example in examples])
        for field in dataclasses.fields(Batch)
        if field.name != "prior"
    }
    return Batch(**stacked, prior=collate(priors) if priors else None)


def example_batches(
    dataset: Dataset[Any], sampler: ShareOfBatches, workers: int, together: Callable[[list[Any]], Any] = collate
) -> Generator[Any]:
    """Micro-batches in order, made from lists of examples by `together`; the number of workers changes nothing but
    speed. To be closed: that ends the workers."""
    batches = iter(
        DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=together,
            num_workers=workers,
            worker_init_fn=_leave_signals_to_the_trainer,
        )
    )
    try:
        yield from batches
    finally:
        if workers:  # they ignore the signal that Python would end them with
            batches._shutdown_workers()  # type: ignore[attr-defined]


def _leave_signals_to_the_trainer(_: int) -> None:
    """What a terminal or a cluster sends reaches workers too; the trainer needs them to finish its step."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
