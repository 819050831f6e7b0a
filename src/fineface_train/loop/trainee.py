"""What a family of methods hands to the loop: its players, whose turn it is, and all that training changes."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from fineface_train.loop.config import Optimisation, TrainerConfig


@dataclasses.dataclass(frozen=True)
class Turn:
    """One step of the run: the player whose parameters it changes."""

    player: str
    name: str = ""
    """Tells turns of one player apart that have different losses, such as "penalty"; empty where it has one kind."""

    @property
    def title(self) -> str:
        """What stands before the names of its values in metrics.jsonl: "critic", or "critic.penalty"."""
        return f"{self.player}.{self.name}" if self.name else self.player


@dataclasses.dataclass(frozen=True)
class Player:
    """The parameters that one optimiser moves, and how."""

    parameters: dict[str, nn.Parameter]
    """By their names in the trainee's `state`."""
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Learning rate by parameter, as a share of the player's; 1 for those left out."""
    optimisation: Optimisation | None = None
    """The player's own settings; None: those of `trainer`."""


class Trainee(Protocol):
    """A model that the loop trains, usually an `nn.Module`. Its parameters are those of its players; everything else
    that a training step changes (running statistics, power iterations) is a buffer."""

    @property
    def players(self) -> Mapping[str, Player]: ...

    def turn(self, step: int) -> Turn:
        """Whose step `step` (0, 1, ...) is: a pure function, so that a run resumes from the number of its steps."""
        ...

    @property
    def state(self) -> Mapping[str, Tensor]:
        """All that training changes, parameters and buffers, by name: what a checkpoint holds.

        The loop asks anew each time and writes into these tensors, since a module may exchange its buffers.
        """
        ...

    @property
    def averaged(self) -> Sequence[str]:
        """Names in `state` whose average is kept where the player has an `ema_decay`. A buffer among them is copied at
        each turn: it is an average itself, or a direction of length 1."""
        ...

    def __call__(self, batch: Any, turn: Turn) -> dict[str, Tensor]:
        """Scalars by name, the same names for all batches of one kind of turn. "loss", the mean over the batch, is
        minimised; all are logged."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch between training and use, as in `nn.Module`."""
        ...


def parameters_of(trainee: Trainee) -> dict[str, nn.Parameter]:
    """The parameters of all players by name."""
    return {name: value for player in trainee.players.values() for name, value in player.parameters.items()}


def buffers_of(trainee: Trainee) -> dict[str, Tensor]:
    """What training changes beside the players' parameters."""
    parameters = parameters_of(trainee)
    return {name: value for name, value in trainee.state.items() if name not in parameters}


def forgotten_buffers(trainee: Trainee) -> dict[str, Tensor]:
    """Buffers of an `nn.Module` that its `state` does not hold: constants, unless the trainee forgot one."""
    if not isinstance(trainee, nn.Module):
        return {}
    held = {value.data_ptr() for value in trainee.state.values()}
    saved = trainee.state_dict(keep_vars=True)
    buffers = {name: value for name, value in saved.items() if not isinstance(value, nn.Parameter)}
    return {name: value for name, value in buffers.items() if value.data_ptr() not in held}


def turns_by_player(trainee: Trainee, steps: int) -> Counter[str]:
    """How many of the first `steps` steps are each player's."""
    return Counter(trainee.turn(step).player for step in range(steps))


def check_trainee(trainee: Trainee, config: TrainerConfig, mixed_precision: str) -> None:
    """Raises ValueError for settings of the trainer that would train this trainee wrongly, and AssertionError where it
    contradicts itself."""
    state, players = trainee.state, trainee.players
    names = [name for player in players.values() for name in player.parameters]
    twice = [name for name, count in Counter(names).items() if count > 1]
    assert not twice, f"{twice} are parameters of several players"
    held = {name: value.data_ptr() for name, value in state.items()}  # state_dict() has views of the parameters
    strangers = [name for name, value in parameters_of(trainee).items() if held.get(name) != value.data_ptr()]
    assert not strangers, f"the state does not hold these parameters of players: {strangers}"
    assert set(trainee.averaged) <= set(state), f"averaged, but not in the state: {set(trainee.averaged) - set(state)}"
    without = set(turns_by_player(trainee, config.steps)) - set(players)
    assert not without, f"turns of players that there are not: {sorted(without)}"
    if len(players) > 1 and mixed_precision == "fp16":
        raise ValueError(
            f"trainer.precision=fp16: the loss scale of fp16 belongs to one optimiser, and this method has "
            f"{len(players)} ({', '.join(players)}); choose bf16, fp32 or auto"
        )
    buffers = list(buffers_of(trainee))
    if buffers and config.accumulation > 1:
        raise ValueError(
            f"trainer.accumulation={config.accumulation}: this method keeps statistics of its batches ({buffers[0]}"
            + (f" and {len(buffers) - 1} more" if len(buffers) > 1 else "")
            + "), which parts of a batch would change one after another; choose trainer.accumulation=1 and a smaller "
            "trainer.batch_size"
        )
