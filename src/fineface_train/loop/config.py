"""How a training is run: steps, batches, rates, precision. Imports no torch."""

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
class TrainerConfig:
    """Optimisation; defaults are the paper's (SPEC section 2)."""

    steps: int = 20_000
    batch_size: int = 16
    """Global: divided by processes and accumulation."""
    accumulation: int = 1
    learning_rate: float = 1e-4
    betas: list[float] = dataclasses.field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 0.01
    schedule: Schedule = Schedule.constant
    warmup_steps: int = 0
    max_gradient_norm: float | None = 1.0
    """null turns clipping off; the norm is logged either way."""
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
    ema_decay: float | None = None
    """Average the trainables; the bundle then holds the average."""
    checkpoint_every: int = 1000
    sample_every: int = 1000
    """Steps between sample pictures, and one at the end; 0 for none."""
    workers: int = 0

    def validate(self, key: str) -> None:
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must be at least 1")
        for name in ("warmup_steps", "sample_every", "workers", "weight_decay"):
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
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"{key}.batch_size={self.batch_size} is not a multiple of {key}.accumulation={self.accumulation}"
            )
