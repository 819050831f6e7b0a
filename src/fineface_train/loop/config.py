"""The config of training: how each player is optimised, and how the loop runs. Imports no torch."""

import dataclasses
import enum
import math


class Schedule(enum.Enum):
    constant = "constant"
    cosine = "cosine"


class Precision(enum.Enum):
    """`auto`: bf16 on GPUs that have it, float32 elsewhere. Trainables are float32 in all but `fp64`."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    fp64 = "fp64"


@dataclasses.dataclass
class Optimisation:
    """How AdamW optimises one player; defaults are the paper's (FineFace, arXiv 2407.20175, implementation
    details).

    `trainer` holds these keys for every player. A family whose players differ has a field of this type in its own
    config, and hands it to the `Player`. Warm-up and schedule count the player's own turns.
    """

    learning_rate: float = 1e-4
    betas: list[float] = dataclasses.field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 0.01
    schedule: Schedule = Schedule.constant
    warmup_steps: int = 0
    max_gradient_norm: float | None = 1.0
    """null turns clipping off; the norm is logged either way."""
    ema_decay: float | None = None
    """Average the trainables; the bundle then holds the average."""

    def validate(self, key: str) -> None:
        """Raises ValueError that names the key below `key`, its value and what is allowed."""
        for name in ("warmup_steps", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must not be negative")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"{key}.learning_rate={self.learning_rate}: must be positive and finite")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"{key}.betas={self.betas}: must be two numbers in [0, 1)")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0:
            raise ValueError(
                f"{key}.max_gradient_norm={self.max_gradient_norm}: must be positive, or null for no clipping"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"{key}.ema_decay={self.ema_decay}: must lie between 0 and 1, or be null")


@dataclasses.dataclass
class TrainerConfig(Optimisation):
    """The loop, and how a player is optimised that has no settings of its own."""

    steps: int = 20_000
    """Steps of the run; each is one player's turn."""
    batch_size: int = 16
    """Global: divided by processes and accumulation."""
    accumulation: int = 1
    skip_nonfinite: bool = False
    """Leave out (and count) a step whose gradient is not finite, instead of stopping the run."""
    precision: Precision = Precision.auto
    gradient_checkpointing: bool = False
    channels_last: bool = False
    """Keep the UNet's weights channels-last: faster convolutions on some machines and sizes, slower on others
    (docs/benchmarks.md)."""
    compile: bool = False
    """torch.compile the UNet: a minute or more at the start, then faster steps (docs/benchmarks.md). Needs a C++
    compiler on CPUs."""
    checkpoint_every: int = 1000
    sample_every: int = 1000
    """Steps between sample pictures, and one at the end; 0 for none."""
    workers: int = 0

    def validate(self, key: str) -> None:
        """Raises ValueError that names the key below `key`, its value and what is allowed."""
        super().validate(key)
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must be at least 1")
        for name in ("sample_every", "workers"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must not be negative")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"{key}.batch_size={self.batch_size} is not a multiple of {key}.accumulation={self.accumulation}"
            )


def learning_rate(optimisation: Optimisation, step: int, steps: int) -> float:
    """The rate of a player's own turn `step` (0, 1, ...) of `steps`: linear warm-up, then constant, or a cosine that
    ends at 0."""
    rate = optimisation.learning_rate * min(1.0, (step + 1) / max(1, optimisation.warmup_steps))
    if optimisation.schedule is Schedule.cosine and step >= optimisation.warmup_steps:
        share = (step - optimisation.warmup_steps) / max(1, steps - optimisation.warmup_steps)
        rate *= 0.5 + 0.5 * math.cos(math.pi * share)
    return rate
