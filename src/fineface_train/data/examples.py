"""Training example i: everything random in training, as a pure function of (seed, i).

The trainer draws nothing. So a run can be resumed from one integer, does not depend on the number of processes or
workers, and two arms of an ablation with one seed see the same images, noise and timesteps.
"""

import dataclasses
import signal
from collections.abc import Generator, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fineface_train.data.cache import LatentCache, TextCache
from fineface_train.data.labels import LabelsConfig, Scope, smooth
from fineface_train.data.mixture import Mixture


@dataclasses.dataclass
class ConditioningConfig:
    """How often training hides the caption or the AUs, for guidance. Both 0 in the published code."""

    caption_dropout: float = 0.1
    au_dropout: float = 0.0
    """Share of examples whose AUs are set to 0 after smoothing, whatever the face shows."""

    def validate(self, key: str) -> None:
        for name in ("caption_dropout", "au_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must be a probability, from 0 to 1")


@dataclasses.dataclass
class Batch:
    """A batch of training examples, stacked."""

    index: Tensor
    """(B,) global example index."""
    row: Tensor
    """(B,) row of the sample table."""
    aus: Tensor
    """(B, 12) after smoothing, rounding and dropout, in [0, 5]."""
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


class ExampleDataset(Dataset[Batch]):
    """Example i of an endless stream; see the module's text. `rounding_group`: examples that share one draw with `labels.scope=batch`."""

    def __init__(
        self,
        aus: np.ndarray,
        mixture: Mixture,
        labels: LabelsConfig,
        conditioning: ConditioningConfig,
        latents: LatentCache,
        text: TextCache,
        *,
        timesteps: int,
        rounding_group: int,
        seed: int,
    ) -> None:
        self.aus, self.mixture, self.labels, self.conditioning = aus, mixture, labels, conditioning
        self.latents, self.text, self.timesteps, self.rounding_group, self.seed = latents, text, timesteps, rounding_group, seed

    def __getitem__(self, index: int) -> Batch:
        """Example `index` as a `Batch` without its leading axis."""
        rng = self._generator(index, stream=1)
        row = self.mixture.row(index)
        mean, std = self.latents[row]
        # The order of these draws is part of what a seed means: add new ones at the end.
        posterior_noise = rng.standard_normal(mean.shape, dtype=np.float32)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        timestep = int(rng.integers(self.timesteps))
        au_noise, round_draw = rng.standard_normal(12), float(rng.uniform())
        drop_caption, drop_aus = rng.uniform(), rng.uniform()
        if self.labels.scope is Scope.batch:
            round_draw = float(self._generator(index // self.rounding_group, stream=2).uniform())
        aus = smooth(self.aus[row], au_noise, round_draw, self.labels)
        if drop_aus < self.conditioning.au_dropout:
            aus = np.zeros_like(aus)
        caption = self.text.empty if drop_caption < self.conditioning.caption_dropout else self.text[row]
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
        )

    def _generator(self, index: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, index, stream]))


def check_batch_size(batch_size: int, accumulation: int, processes: int) -> None:
    """Raises ValueError unless every process and micro-batch can have an equal share."""
    if batch_size % (accumulation * processes):
        raise ValueError(
            f"trainer.batch_size={batch_size} cannot be divided among {processes} processes x trainer.accumulation={accumulation}; "
            f"choose a multiple of {accumulation * processes}"
        )


class ShareOfBatches(Sampler[list[int]]):
    """Micro-batches of one process: step s of the run is examples s * B to (s + 1) * B, split over accumulation and processes."""

    def __init__(self, steps: range, batch_size: int, accumulation: int, process: int, processes: int) -> None:
        check_batch_size(batch_size, accumulation, processes)
        self.steps, self.batch_size, self.accumulation, self.process, self.processes = steps, batch_size, accumulation, process, processes

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch_size // (self.accumulation * self.processes)
        for step in self.steps:
            for part in range(self.accumulation):
                first = step * self.batch_size + (part * self.processes + self.process) * share
                yield list(range(first, first + share))

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation


def collate(examples: list[Batch]) -> Batch:
    """Stack examples into a batch."""
    return Batch(**{field.name: torch.stack([getattr(example, field.name) for example in examples]) for field in dataclasses.fields(Batch)})


def example_batches(dataset: ExampleDataset, sampler: ShareOfBatches, workers: int) -> Generator[Batch]:
    """Micro-batches in order; the number of workers changes nothing but speed. To be closed: that ends the workers."""
    batches = iter(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers, worker_init_fn=_leave_signals_to_the_trainer))
    try:
        yield from batches
    finally:
        if workers:  # they ignore the signal that Python would end them with
            batches._shutdown_workers()  # type: ignore[attr-defined]


def _leave_signals_to_the_trainer(_: int) -> None:
    """What a terminal or a cluster sends reaches workers too; the trainer needs them to finish its step."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
