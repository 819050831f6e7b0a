"""Two trainees of several players on small modules of torch's own, and a dataset that is a function of the index."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import Dataset, default_collate

from fineface_train.loop.config import Optimisation, Schedule, TrainerConfig
from fineface_train.loop.progress import Pause
from fineface_train.loop.trainee import Player, Turn
from fineface_train.loop.trainer import fit

STEPS = 13
CHANGE = 8
"""Step from which on the turns have another pattern."""
CRITIC = Optimisation(
    learning_rate=4e-3,
    betas=[0.0, 0.9],
    weight_decay=0.0,
    schedule=Schedule.cosine,
    warmup_steps=2,
    max_gradient_norm=None,
    ema_decay=None,
)
GENERATOR = Optimisation(learning_rate=1e-3, betas=[0.5, 0.99], max_gradient_norm=0.05, ema_decay=0.5)


class Pictures(Dataset[dict[str, Tensor]]):
    """Example i: a drawn 8 x 8 picture, the noise for a made one, and where between both the penalty looks."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        place, noise, between = (
            torch.rand(3, 1, 1, generator=generator),
            torch.randn(6, 1, 1, generator=generator),
            None,
        )
        between = torch.rand(1, 1, 1, generator=generator)
        x, y = torch.meshgrid(torch.linspace(0, 1, 8), torch.linspace(0, 1, 8), indexing="ij")
        real = torch.exp(-8 * ((x - place[0]) ** 2 + (y - place[1]) ** 2))[None] + 0.1 * place[2]
        return {"real": real, "noise": noise, "between": between}


class Gan(nn.Module):
    """WGAN-GP (arXiv 1704.00028): three critic turns, the last of them the penalty alone, then the generator's;
    from `CHANGE` on two."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.generator, self.critic = self.make_generator(), self.make_critic()
        self.players = {
            "critic": Player(self.parameters_of("critic"), optimisation=CRITIC),
            "generator": Player(self.parameters_of("generator"), {"generator.0.weight": 0.5}, GENERATOR),
        }

    def make_generator(self) -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(6, 8, 4), nn.SiLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1))

    def make_critic(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 1, 4))

    def parameters_of(self, part: str) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.named_parameters() if name.startswith(part)}

    def turn(self, step: int) -> Turn:
        first = [Turn("critic", "wasserstein"), Turn("critic", "wasserstein"), Turn("critic", "penalty")]
        if step < CHANGE:
            return [*first, Turn("generator")][step % 4]
        return [*first[1:], Turn("generator")][(step - CHANGE) % 3]

    @property
    def state(self) -> dict[str, Tensor]:
        return dict(self.named_parameters()) | dict(self.named_buffers())

    @property
    def averaged(self) -> list[str]:
        return [name for name in self.state if name.startswith("generator")]

    def forward(self, batch: dict[str, Tensor], turn: Turn) -> dict[str, Tensor]:
        real, made = batch["real"], self.generator(batch["noise"])
        if turn.player == "generator":
            return {"loss": -self.critic(made).mean(), "brightness": made.mean()}
        if turn.name == "penalty":
            between = (batch["between"] * real + (1 - batch["between"]) * made).detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
            return {"loss": 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()}
        return {"loss": self.critic(made).mean() - self.critic(real).mean()}


class NormalisedGan(Gan):
    """The same with batch norm in the generator and spectral norm in the critic: buffers that change at each turn."""

    def make_generator(self) -> nn.Module:
        first, *others = super().make_generator()
        return nn.Sequential(first, nn.BatchNorm2d(8), *others)

    def make_critic(self) -> nn.Module:
        first, *others = super().make_critic()
        return nn.Sequential(spectral_norm(first), *others)


class StoppedError(Exception):
    """Stands for a kill."""


def same(batch: Any) -> Any:
    return batch


def double(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in batch.items()}


def train(
    folder: Path,
    trainee: Gan,
    stop_after: int | None = None,
    *,
    to_device: Callable[[Any], Any] = same,
    pauses: Sequence[tuple[int, Callable[[int], None]]] = (),
    log_every: int = 1,
    **changes: Any,
) -> list[dict[str, float]]:
    """Fit it on `Pictures`, with `stop_after` as if killed after so many steps, before that step's checkpoint; returns
    the lines of its log."""
    values: dict[str, Any] = {"steps": STEPS, "batch_size": 4, "checkpoint_every": 1}
    config = TrainerConfig(**(values | changes))
    config.validate("trainer")
    lines: list[dict[str, float]] = []

    def log(step: int, values: dict[str, float]) -> None:
        lines.append({"step": step, **values})

    def stopping(batch: Any) -> Any:
        stopping.batches += 1
        if stop_after is not None and stopping.batches > stop_after * config.accumulation:
            raise StoppedError
        return to_device(batch)

    def resumed(step: int) -> None:
        stopping.batches = step * config.accumulation

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config.accumulation)
    with contextlib.suppress(StoppedError):
        fit(
            trainee,
            Pictures(),
            config,
            accelerator,
            folder,
            collate=default_collate,
            to_device=stopping,
            log=log,
            resumed=resumed,
            pauses=[Pause(every, action) for every, action in pauses],
            log_every=log_every,
        )
    return lines


def by_hand(trainee: Gan, steps: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state and the generator's averages after `steps` of a plain loop in torch, written for `Gan` alone."""
    critic = torch.optim.AdamW(trainee.critic.parameters(), lr=1.0, betas=(0.0, 0.9), weight_decay=0.0)
    first = trainee.generator[0].weight
    rest = [value for value in trainee.generator.parameters() if value is not first]
    generator = torch.optim.AdamW([{"params": [first]}, {"params": rest}], lr=1.0, betas=(0.5, 0.99), weight_decay=0.01)
    averages = {name: copy.deepcopy(value.data) for name, value in trainee.parameters_of("generator").items()}
    data, taken = Pictures(), {"critic": 0, "generator": 0}
    turns = [trainee.turn(step).player for step in range(steps)]
    for step, player in enumerate(turns):
        batch = default_collate([data[index] for index in range(4 * step, 4 * step + 4)])
        trainee.zero_grad()
        trainee(batch, trainee.turn(step))["loss"].backward()
        own = taken[player]
        if player == "critic":
            cosine = 0.5 + 0.5 * torch.cos(torch.tensor(torch.pi) * (own - 2) / (turns.count("critic") - 2)).item()
            critic.param_groups[0]["lr"] = 4e-3 * (min(1, (own + 1) / 2) if own < 2 else cosine)
            critic.step()
        else:
            torch.nn.utils.clip_grad_norm_(trainee.generator.parameters(), 0.05)
            generator.param_groups[0]["lr"], generator.param_groups[1]["lr"] = 0.5e-3, 1e-3
            generator.step()
            for name, value in trainee.parameters_of("generator").items():
                averages[name].lerp_(value.data, 1 - min(0.5, (1 + own) / (10 + own)))
        taken[player] += 1
    return {name: value.detach() for name, value in trainee.state.items()}, averages


def plain_config(**changes: Any) -> TrainerConfig:
    return dataclasses.replace(TrainerConfig(steps=STEPS, batch_size=4), **changes)
