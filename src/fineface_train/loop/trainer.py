"""The training loop: accelerate, gradient accumulation, clipping, schedules, averaging of weights, checkpoints.

It draws nothing at random and knows no method: a model here is a module with `.trainable` (parameters by name) whose
`forward(batch)` returns {"loss": scalar, ...}.
"""

import contextlib
import dataclasses
import datetime
import logging
import math
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, cast

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor, nn
from tqdm import tqdm

from fineface_train.data.examples import ExampleDataset, ShareOfBatches, example_batches
from fineface_train.loop.checkpoint import TrainingState, latest_state
from fineface_train.loop.config import Precision, Schedule, TrainerConfig

logger = logging.getLogger(__name__)
DECIDED_BY_CONFIG = {
    "ACCELERATE_DYNAMO_BACKEND": ("trainer.compile", "dynamo_backend", "no"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("trainer.accumulation", "gradient_accumulation_steps", "1"),
    "ACCELERATE_MIXED_PRECISION": ("trainer.precision", "mixed_precision", "no"),
}
"""What the environment and `accelerate config` may ask of accelerate: the key that decides it, accelerate's option, and
the value that asks for nothing."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end; it has, after a checkpoint."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} after step {step}, which is saved; the same command goes on "
            f"from there"
        )
        self.number = number


class StopSignals:
    """Inside, Ctrl-C, SIGTERM and SIGUSR2 (clusters, submitit) only leave a note, so that a step is never cut.

    A second Ctrl-C ends the process as usual. Not so the others: a cluster and torchrun may both send theirs.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
            }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        self.received = number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])


class TrainableModel(Protocol):
    trainable: dict[str, nn.Parameter]
    rates: dict[str, float]
    """Of each trainable: its learning rate, as a share of the configured one."""

    def __call__(self, batch: Any) -> dict[str, Tensor]: ...


def learning_rate(config: TrainerConfig, step: int) -> float:
    """The rate of step 0, 1, ...: linear warm-up, then constant, or a cosine that ends at 0."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.schedule is Schedule.cosine and step >= config.warmup_steps:
        share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        rate *= 0.5 + 0.5 * math.cos(math.pi * share)
    return rate


def make_accelerator(config: TrainerConfig) -> Accelerator:
    """An accelerator with the configured precision and accumulation, on whatever this machine has.

    Raises ValueError where accelerate is told to shard the model (what is trained here is small, and is saved from
    whole parameters), where there is nothing to compile with, and for a precision that this device has not.
    """
    for sharding in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{sharding}", "false").lower() == "true":
            raise ValueError(
                f"accelerate is set to {sharding}, which shards a model over processes; fineface trains whole copies "
                f"side by side (docs/scaling.md says why). "
                f"Launch without --use_{sharding.lower()}, or choose plain multi-GPU in `accelerate config`"
            )
    precision = config.precision
    if precision is Precision.auto:
        precision = Precision.bf16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else Precision.fp32
    mixed = {Precision.bf16: "bf16", Precision.fp16: "fp16"}.get(precision, "no")
    accelerator = launched(mixed_precision=mixed, gradient_accumulation_steps=config.accumulation)
    if precision is Precision.fp16 and accelerator.device.type == "cpu":
        raise ValueError(
            "trainer.precision=fp16: on a CPU nothing trains in it; choose bf16 or fp32, or auto, which finds what the "
            "device has"
        )
    compiler = os.environ.get("CXX", "g++")
    if config.compile and accelerator.device.type == "cpu" and not shutil.which(compiler):
        raise ValueError(
            f"trainer.compile=true: no C++ compiler {compiler!r} here (Debian: apt install g++; or set CXX); or leave "
            f"trainer.compile out"
        )
    return accelerator


def launched(**options: Any) -> Accelerator:
    """An accelerator over all processes of this launch. Raises ValueError where it does not see them, so that each
    would work for itself.

    What accelerate would take from the environment beside `options`, and train otherwise for, is told and left out.
    """
    for variable, (key, option, nothing) in DECIDED_BY_CONFIG.items():
        asked = os.environ.pop(variable, "").lower()
        if asked not in ("", nothing, str(options.get(option))):
            logger.warning("%s=%s is left out of account: the config decides (%s)", variable, asked, key)
    # Preparing a large dataset keeps the others waiting for the first process longer than the default 10 or 30 minutes.
    patient = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=24))
    try:
        accelerator = Accelerator(kwargs_handlers=[patient], **options)
        wanted = int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        settings = " ".join(
            f"{name}={value}"
            for name, value in sorted(os.environ.items())
            if name.startswith("ACCELERATE_") or name == "WORLD_SIZE"
        )
        raise ValueError(
            f"accelerate cannot start ({error})"
            + (f"; mend or unset what the environment says: {settings}" if settings else "")
        ) from error
    if accelerator.num_processes != wanted:
        raise ValueError(
            f"{wanted} processes were launched, but accelerate sees {accelerator.num_processes}; on a CPU set "
            f"ACCELERATE_USE_CPU=true"
        )
    return accelerator


def as_first(accelerator: Accelerator, value: Any) -> Any:
    """What the first process has found or decided, on all of them."""
    values = [value]
    if accelerator.num_processes > 1:
        broadcast_object_list(values)
    return values[0]


def weight_dtype(config: TrainerConfig, accelerator: Accelerator) -> torch.dtype:
    """The type of frozen weights; batches stay float32 (float64 for `fp64`) and autocast does the rest."""
    if config.precision is Precision.fp64:
        return torch.float64
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision, torch.float32)


def assign(trainable: dict[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Copy `values` into the parameters of the same names."""
    for name, parameter in trainable.items():
        parameter.data.copy_(values[name])


def peak_memory_gb(device: torch.device) -> float:
    """The most memory that this process has held so far: of its GPU, or on a CPU of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


@contextlib.contextmanager
def averaged(trainable: dict[str, nn.Parameter], averages: dict[str, Tensor] | None) -> Iterator[None]:
    """Inside, the trainables hold their averages (if there are any)."""
    if averages is None:
        yield
        return
    kept = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    try:
        assign(trainable, averages)
        yield
    finally:
        assign(trainable, kept)


def fit(
    model: nn.Module,
    dataset: ExampleDataset,
    config: TrainerConfig,
    accelerator: Accelerator,
    folder: Path,
    to_device: Callable[[Any], Any],
    log: Callable[[int, dict[str, float]], None],
    resumed: Callable[[int], None],
    pauses: Sequence[tuple[int, Callable[[int], None]]],
    log_every: int,
) -> float:
    """Train to `config.steps`, going on from the newest checkpoint under `folder`/state; returns the seconds it took,
    over all attempts.

    Args:
        model: a `TrainableModel` on its device; left with the averaged weights when averaging is on.
        to_device: moves a batch to the model's device.
        log: called on the main process with (finished steps, values).
        resumed: called once, before the first step, with the number of steps already done.
        pauses: (every so many steps and at the end, 0 for never; what is called then on the main process, with averaged
            weights in place).
    Raises:
        FloatingPointError: loss or gradient is not finite; names the step, the examples and the last checkpoint.
        Interrupted: SIGTERM, SIGUSR2 or Ctrl-C, on any process; the step it came in is finished and saved.
    """
    trainee = cast(TrainableModel, model)
    trainable, rates = trainee.trainable, trainee.rates
    averages = {name: parameter.detach().clone() for name, parameter in trainable.items()} if config.ema_decay else None
    groups = [
        {"params": [trainable[name] for name in trainable if rates[name] == rate], "rate": rate}
        for rate in sorted(set(rates.values()))
    ]
    optimiser = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.betas[0], config.betas[1]), weight_decay=config.weight_decay
    )
    wrapped, prepared = accelerator.prepare(model, optimiser)
    state = TrainingState(trainable, averages, optimiser, accelerator.scaler)
    done = saved = _resume(state, folder, accelerator)
    resumed(done)
    main = accelerator.is_main_process
    sampler = ShareOfBatches(
        range(done, config.steps),
        config.batch_size,
        config.accumulation,
        accelerator.process_index,
        accelerator.num_processes,
    )
    model.train()
    started, logged_at, logged_step, skipped = time.perf_counter() - state.seconds, time.perf_counter(), done, 0
    bar = tqdm(
        range(done, config.steps),
        initial=done,
        total=config.steps,
        desc="training",
        unit="step",
        mininterval=1,
        disable=not main,
    )

    def pause_if_due() -> None:
        due = [action for every, action in pauses if every and (done == config.steps or done % every == 0)]
        if main and due:
            with averaged(trainable, averages):
                model.eval()
                for action in due:
                    action(done)
                model.train()

    if done:
        pause_if_due()  # the attempt before may have saved its step and not have come to its pause
    with StopSignals() as stop, contextlib.closing(example_batches(dataset, sampler, config.workers)) as batches:
        for step in bar:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step) * group["rate"]
            taken = one_step(wrapped, prepared, accelerator, batches, config, trainable, to_device, stop)
            if not taken.is_sound(config, accelerator.mixed_precision):
                raise FloatingPointError(
                    f"step {step + 1}: loss {taken.loss}, gradient norm {taken.norm}; examples {taken.examples}; "
                    f"last good checkpoint: step {saved} in {folder / 'state'}"
                )
            skipped += not math.isfinite(taken.norm)
            state.average(min(config.ema_decay or 0.0, (1 + step) / (10 + step)))
            done, last = step + 1, step + 1 == config.steps
            state.seconds = time.perf_counter() - started
            if main and (last or done % log_every == 0):
                now = time.perf_counter()
                speed = (done - logged_step) * config.batch_size / (now - logged_at)
                values = {
                    "loss": taken.loss,
                    "learning_rate": learning_rate(config, step),
                    "gradient_norm": taken.norm,
                    "examples_per_second": speed,
                }
                values |= {
                    "examples": done * config.batch_size,
                    "seconds": state.seconds,
                    "peak_memory_gb": peak_memory_gb(accelerator.device),
                }
                values |= {"skipped_steps": skipped} if skipped else {}
                log(done, values)
                bar.set_postfix(loss=f"{taken.loss:.3f}")
                logged_at, logged_step = now, done
            if last or done % config.checkpoint_every == 0 or taken.signal:
                if main:
                    state.save(folder / "state", done)
                saved = done
            if taken.signal and not last:
                bar.close()
                accelerator.wait_for_everyone()
                raise Interrupted(taken.signal, done)
            pause_if_due()
    accelerator.wait_for_everyone()
    model.eval()
    if averages is not None:
        assign(trainable, averages)
    return state.seconds


def _resume(state: TrainingState, folder: Path, accelerator: Accelerator) -> int:
    """Load the newest whole checkpoint, the same one on all processes; returns the number of steps it has behind it."""
    found = as_first(accelerator, latest_state(folder / "state") if accelerator.is_main_process else None)
    if found is None:
        return 0
    done = state.load(found)
    accelerator.print(f"going on after step {done}", flush=True)
    return done


@dataclasses.dataclass
class StepTaken:
    """What is known after an optimiser step: the loss over all processes, the gradient's norm before clipping."""

    loss: float
    norm: float
    signal: int
    """That any process got; 0 for none."""
    examples: list[int]
    """Of this process."""

    def is_sound(self, config: TrainerConfig, mixed_precision: str) -> bool:
        """Whether training may go on. fp16's gradient overflows now and then: its scaler skips that step and lowers the
        scale."""
        finite_enough = math.isfinite(self.loss) and (math.isfinite(self.norm) or mixed_precision == "fp16")
        return finite_enough or config.skip_nonfinite


def one_step(
    model: nn.Module,
    optimiser: Any,
    accelerator: Accelerator,
    batches: Iterator[Any],
    config: TrainerConfig,
    trainable: dict[str, nn.Parameter],
    to_device: Callable[[Any], Any],
    stop: StopSignals,
) -> StepTaken:
    """One optimiser step over all its micro-batches."""
    total, norm, indices = torch.zeros((), device=accelerator.device, dtype=torch.float64), torch.zeros(()), []
    for _ in range(config.accumulation):
        batch = next(batches)
        indices += batch.index.tolist()
        with accelerator.accumulate(model):
            loss = model(to_device(batch))["loss"]
            accelerator.backward(loss)
            total += loss.detach().double() / config.accumulation
            if accelerator.sync_gradients:
                limit = math.inf if config.max_gradient_norm is None else config.max_gradient_norm
                norm = accelerator.clip_grad_norm_(trainable.values(), limit)
                if config.skip_nonfinite and not math.isfinite(float(norm)):
                    optimiser.zero_grad()
            optimiser.step()
            optimiser.zero_grad()
    everywhere = accelerator.gather(torch.stack([total, torch.full_like(total, stop.received)])[None])
    return StepTaken(float(everywhere[:, 0].mean()), float(norm), int(everywhere[:, 1].max()), indices)
