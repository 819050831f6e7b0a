"""One turn: micro-batches, gradients over processes, clipping, and the step of the player's optimiser."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import convert_to_fp32
from torch import Tensor

from fineface_train.loop.config import Optimisation, TrainerConfig, learning_rate
from fineface_train.loop.processes import average_gradients, share_first
from fineface_train.loop.signals import StopSignals
from fineface_train.loop.trainee import Player, Trainee, Turn, buffers_of, turns_by_player


@dataclasses.dataclass
class Optimiser:
    """A player's AdamW, and where the player stands in its own turns."""

    player: Player
    settings: Optimisation
    adamw: Any
    """As accelerate prepared it."""
    turns: int
    """That the player takes in the whole run."""
    taken: int = 0
    """That it has behind it."""

    @property
    def rate(self) -> float:
        """Learning rate of the turn to come."""
        return learning_rate(self.settings, self.taken, self.turns)

    @property
    def decay(self) -> float:
        """Decay of the averages at the turn to come: less in the first turns, so that they forget the start."""
        return min(self.settings.ema_decay or 0.0, (1 + self.taken) / (10 + self.taken))


def make_optimisers(trainee: Trainee, config: TrainerConfig, accelerator: Accelerator) -> dict[str, Optimiser]:
    """One for each player; `trainer` decides what a player does not."""
    turns, made = turns_by_player(trainee, config.steps), {}
    for name, player in trainee.players.items():
        settings, by_rate = player.optimisation or config, dict[float, list[Tensor]]()
        for key, parameter in player.parameters.items():
            by_rate.setdefault(player.rates.get(key, 1.0), []).append(parameter)
        adamw = torch.optim.AdamW(
            [{"params": by_rate[rate], "rate": rate} for rate in sorted(by_rate)],
            lr=settings.learning_rate,
            betas=(settings.betas[0], settings.betas[1]),
            weight_decay=settings.weight_decay,
        )
        made[name] = Optimiser(player, settings, accelerator.prepare(adamw), turns[name])
    return made


@dataclasses.dataclass
class TurnTaken:
    """What is known after a turn."""

    values: dict[str, float]
    """Everything the trainee returned, as means over processes and micro-batches."""
    norm: float
    """Norm of the player's gradient, before clipping."""
    signal: int
    """That any process got; 0 for none."""

    def is_sound(self, config: TrainerConfig, mixed_precision: str) -> bool:
        """Whether training may go on. fp16's gradient overflows now and then: its scaler skips that step and lowers the
        scale."""
        finite_enough = math.isfinite(self.values["loss"]) and (math.isfinite(self.norm) or mixed_precision == "fp16")
        return finite_enough or config.skip_nonfinite


def take_turn(
    trainee: Trainee,
    turn: Turn,
    optimiser: Optimiser,
    accelerator: Accelerator,
    batches: Iterator[Any],
    config: TrainerConfig,
    to_device: Callable[[Any], Any],
    stop: StopSignals,
) -> TurnTaken:
    """One step of one player's optimiser, over `config.accumulation` micro-batches.

    The loss's gradient goes to the player's parameters only, whatever else took part in the loss.
    """
    trained = list(optimiser.player.parameters.values())
    optimiser.adamw.zero_grad()  # whatever ran between the turns
    for group in optimiser.adamw.param_groups:
        group["lr"] = optimiser.rate * group["rate"]
    before = {name: value.clone() for name, value in buffers_of(trainee).items()} if config.skip_nonfinite else {}
    totals: dict[str, Tensor] = {}
    for _ in range(config.accumulation):
        batch = to_device(next(batches))
        with accelerator.autocast():
            values = convert_to_fp32(trainee(batch, turn))
        accelerator.backward(values["loss"], inputs=trained)
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + value.detach().double() / config.accumulation
    average_gradients(trained, accelerator)
    limit = optimiser.settings.max_gradient_norm
    norm = float(accelerator.clip_grad_norm_(trained, math.inf if limit is None else limit))
    if config.skip_nonfinite and not math.isfinite(norm):
        optimiser.adamw.zero_grad()
        for name, value in before.items():
            trainee.state[name].copy_(value)
    optimiser.adamw.step()
    optimiser.adamw.zero_grad()
    share_first(buffers_of(trainee).values(), accelerator)
    told = torch.stack([*totals.values(), torch.full_like(totals["loss"], stop.received)])
    everywhere = accelerator.gather(told[None])
    means = everywhere[:, :-1].mean(0).tolist()
    return TurnTaken(dict(zip(totals, means, strict=True)), norm, int(everywhere[:, -1].max()))
