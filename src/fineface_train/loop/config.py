"""The config of training: how each player is optimised, and how the loop runs. Imports no torch."""

import dataclasses
import difflib
import enum
import math

VALIDATION_LOSS = "validation.loss"
VALIDATION_EVERY = 500
"""Steps between two validations, where that is left open and nothing else tells how a training goes."""


class Better(enum.Enum):
    """Which of two values is the better one."""

    lower = "lower"
    higher = "higher"
    nearer_one = "nearer 1"

    def distance(self, value: float) -> float:
        """Grows as `value` gets worse; not a number is worst."""
        if math.isnan(value):
            return math.inf
        return {Better.lower: value, Better.higher: -value, Better.nearer_one: abs(value - 1)}[self]


CRITERIA = {
    VALIDATION_LOSS: Better.lower,
    "glance.au_mse_active": Better.lower,
    "glance.au_mse_mean": Better.lower,
    "glance.au_mse_sum": Better.lower,
    "glance.slope": Better.nearer_one,
    "glance.rank_correlation": Better.higher,
    "glance.leakage": Better.lower,
    "glance.clip_i": Better.higher,
    "glance.attributes": Better.higher,
    "glance.identity": Better.higher,
}
"""What `trainer.best_by` can name: values of metrics.jsonl, and which is better."""


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
    """AdamW's step size, after the warm-up."""
    betas: list[float] = dataclasses.field(default_factory=lambda: [0.9, 0.999])
    """AdamW's decay rates of the gradient's mean and square."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    schedule: Schedule = Schedule.constant
    """How the learning rate goes on after the warm-up."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises linearly to its full value."""
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
    """Parts of a batch that are run one after another, to save memory."""
    skip_nonfinite: bool = False
    """Leave out (and count) a step whose gradient is not finite, instead of stopping the run."""
    precision: Precision = Precision.auto
    """Number format of the computation; weights that are trained stay in fp32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, which saves memory and costs time."""
    channels_last: bool = False
    """Keep the UNet's weights channels-last: faster convolutions on some machines and sizes, slower on others
    (docs/benchmarks.md)."""
    compile: bool = False
    """torch.compile the UNet: a minute or more at the start, then faster steps (docs/benchmarks.md). Needs a C++
    compiler on CPUs."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints, and one at the end; the last two are kept."""
    sample_every: int = 1000
    """Steps between sample pictures, and one at the end; 0 for none."""
    validate_every: int | None = None
    """Steps between two validations (the loss on images held out of training, split "validation"), and one at the end;
    0 for none; null: 500 where judge=none or trainer.best_by=validation.loss asks for it, else none."""
    best_by: str | None = None
    """Keep the best weights so far as the bundle `best`, beside the last ones in `bundle`: by validation.loss, or by
    what evaluation.every measures, such as glance.au_mse_active; null keeps none."""
    patience: int | None = None
    """End the run early, once so many looks in a row were no better by trainer.best_by; null never does."""
    workers: int = 0
    """Processes that load examples beside the training; 0: the training loads them itself."""

    def validate(self, key: str) -> None:
        """Raises ValueError that names the key below `key`, its value and what is allowed."""
        super().validate(key)
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must be at least 1")
        for name in ("sample_every", "workers", "validate_every"):
            if not (getattr(self, name) or 0) >= 0:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must not be negative (0 for none)")
        self._validate_best(key)
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"{key}.batch_size={self.batch_size} is not a multiple of {key}.accumulation={self.accumulation}"
            )

    def _validate_best(self, key: str) -> None:
        if self.best_by is not None and self.best_by not in CRITERIA:
            near = difflib.get_close_matches(self.best_by, CRITERIA, n=1)
            raise ValueError(
                f"{key}.best_by={self.best_by}: must be one of {', '.join(CRITERIA)}, or null"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        if self.best_by == VALIDATION_LOSS and self.validate_every == 0:
            raise ValueError(
                f"{key}.best_by={self.best_by}: {key}.validate_every=0 validates never; give the steps between two "
                f"validations, or leave it out (every {VALIDATION_EVERY})"
            )
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"{key}.patience={self.patience}: must be at least 1, or null")
        if self.patience is not None and self.best_by is None:
            raise ValueError(
                f"{key}.patience={self.patience}: nothing says which look is better; set {key}.best_by, such as "
                f"{key}.best_by={VALIDATION_LOSS}"
            )

    def check_looks(self, key: str, glance_every: int) -> None:
        """Raises ValueError where `best_by` names what is never measured; `glance_every` is evaluation.every."""
        if self.best_by is not None and self.best_by != VALIDATION_LOSS and not glance_every:
            raise ValueError(
                f"{key}.best_by={self.best_by}: evaluation.every=0 measures nothing while training goes on; give the "
                f"steps between two looks, such as evaluation.every=200"
            )

    def validation_steps(self, *, nothing_else: bool) -> int:
        """Steps between two validations, 0 for none. `nothing_else`: no judge tells how the training goes."""
        if self.validate_every is not None:
            return self.validate_every
        return VALIDATION_EVERY if nothing_else or self.best_by == VALIDATION_LOSS else 0


def learning_rate(optimisation: Optimisation, step: int, steps: int) -> float:
    """The rate of a player's own turn `step` (0, 1, ...) of `steps`: linear warm-up, then constant, or a cosine that
    ends at 0."""
    rate = optimisation.learning_rate * min(1.0, (step + 1) / max(1, optimisation.warmup_steps))
    if optimisation.schedule is Schedule.cosine and step >= optimisation.warmup_steps:
        share = (step - optimisation.warmup_steps) / max(1, steps - optimisation.warmup_steps)
        rate *= 0.5 + 0.5 * math.cos(math.pi * share)
    return rate
