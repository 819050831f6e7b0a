"""Averages of what is trained: kept beside it, in its place while something looks at it, and what the bundle gets."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from fineface_train.loop.trainee import Player, Trainee, buffers_of
from fineface_train.loop.turns import Optimiser


def first_averages(trainee: Trainee, optimisers: Iterable[Optimiser]) -> dict[str, Tensor]:
    """Copies, by name, of all in `trainee.averaged` but the parameters of players without an `ema_decay`; empty where
    no player has one."""
    every, without = list(optimisers), set[str]()
    for optimiser in every:
        without |= set() if optimiser.settings.ema_decay else set(optimiser.player.parameters)
    if not any(optimiser.settings.ema_decay for optimiser in every):
        return {}
    return {name: trainee.state[name].detach().clone() for name in trainee.averaged if name not in without}


def move_averages(averages: dict[str, Tensor], trainee: Trainee, player: Player, decay: float) -> None:
    """After a turn of `player`: its parameters move their averages, buffers are copied."""
    if not averages:
        return
    state, buffers = trainee.state, buffers_of(trainee)
    for name, average in averages.items():
        if name in player.parameters:
            average.lerp_(state[name].detach(), 1 - decay)
        elif name in buffers:
            average.copy_(state[name])


@torch.no_grad()
def assign(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy `values` into the tensors of the same names."""
    for name, value in values.items():
        state[name].copy_(value)


@contextlib.contextmanager
def in_place(trainee: Trainee, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the trainee's state holds these `values` (averages, the best weights) under their names."""
    kept = {name: trainee.state[name].detach().clone() for name in values}
    try:
        assign(trainee.state, values)
        yield
    finally:
        assign(trainee.state, kept)
