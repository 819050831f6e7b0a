"""The training loop: it gives each turn its batch, and sees to logs, pauses, checkpoints and signals.

It draws nothing at random and knows no method: what is trained is a `Trainee`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.utils.data import Dataset

from fineface_train.data.examples import ShareOfBatches, example_batches
from fineface_train.loop.accelerator import peak_memory_gb
from fineface_train.loop.averages import assign, first_averages, move_averages
from fineface_train.loop.best import Best, SaveBundle
from fineface_train.loop.checkpoint import TrainingState, resumable_state
from fineface_train.loop.config import TrainerConfig
from fineface_train.loop.looks import Looks
from fineface_train.loop.processes import as_first, share_first
from fineface_train.loop.progress import Bar, Lines, Pause
from fineface_train.loop.signals import Interrupted, StopSignals
from fineface_train.loop.trainee import Trainee, check_trainee, turns_by_player
from fineface_train.loop.turns import make_optimisers, take_turn


@dataclasses.dataclass(frozen=True)
class Fitted:
    """How a training ended."""

    seconds: float
    """That it took, over all attempts."""
    steps: int
    """That were taken: `trainer.steps`, or fewer where it was stopped early."""
    stopped: str | None = None
    """Why it was stopped early, in words."""
    best: dict[str, Any] | None = None
    """What best.json says, on the main process."""

    def told(self) -> dict[str, Any]:
        """For finished.json; nothing of what does not apply."""
        said = {"steps": self.steps, "stopped_early": self.stopped, "best": self.best}
        return {name: value for name, value in said.items() if value is not None}


def fit(
    trainee: Trainee,
    dataset: Dataset[Any],
    config: TrainerConfig,
    accelerator: Accelerator,
    folder: Path,
    *,
    collate: Callable[[list[Any]], Any],
    to_device: Callable[[Any], Any],
    log: Callable[[int, dict[str, float]], None],
    resumed: Callable[[int], None],
    pauses: Sequence[Pause],
    log_every: int,
    save_bundle: SaveBundle | None = None,
    afterwards: float = 0.0,
) -> Fitted:
    """Train for `config.steps` turns, or until `config.patience` ends it, resuming from the newest checkpoint under
    `folder`/state.


    Args:
        trainee: on its device; left with the averaged weights where averages are kept.
        dataset: example i for any i >= 0; step s sees examples s * B to (s + 1) * B, B = `config.batch_size`.
        collate: makes a batch from a list of examples; `to_device` moves it to the trainee's device.
        log: called on the main process with (finished steps, values): of each kind of turn the last one since the
            line before; and what a pause has seen.
        resumed: called once, before the first step, with the number of steps already done.
        pauses: looks at the training (see `Looks`), on the main process with averaged weights in place.
        save_bundle: writes the weights in place for `config.best_by`, which keeps the best.
        afterwards: seconds that what follows is thought to take, for the bar.

    Raises:
        ValueError: what `check_trainee` refuses; a checkpoint of another format.
        FloatingPointError: loss or gradient is not finite; names the step, the examples and the last checkpoint.
        Interrupted: SIGTERM, SIGUSR2 or Ctrl-C, on any process; the step it came in is finished and saved.
    """
    check_trainee(trainee, config, accelerator.mixed_precision)
    assert accelerator.gradient_accumulation_steps == config.accumulation
    main = accelerator.is_main_process
    share_first(trainee.state.values(), accelerator)
    optimisers = make_optimisers(trainee, config, accelerator)
    averages = first_averages(trainee, optimisers.values())
    state = TrainingState(trainee, averages, {name: one.adamw for name, one in optimisers.items()}, accelerator.scaler)
    if main and config.best_by is not None:
        assert save_bundle is not None, "trainer.best_by keeps bundles"
        state.best = Best(config.best_by, config.patience, folder, save_bundle)
    done = saved = _resume(state, folder, accelerator)
    for name, count in turns_by_player(trainee, done).items():
        optimisers[name].taken = count
    resumed(done)
    if state.best is not None:
        state.best.mend(trainee)
    sampler = ShareOfBatches(
        range(done, config.steps),
        config.batch_size,
        config.accumulation,
        accelerator.process_index,
        accelerator.num_processes,
    )
    saving = Pause(config.checkpoint_every, lambda step: state.save(folder / "state", step))
    looks = Looks(pauses, trainee, averages, state.best, log, config, accelerator)
    bar = Bar(range(done, config.steps), config.steps, [saving, *looks.pauses], disable=not main, afterwards=afterwards)
    lines = Lines(config, state, [saving, *looks.pauses], done, log_every)
    started = time.perf_counter() - state.seconds

    def log_line() -> None:
        values = lines.take(done) | {"peak_memory_gb": peak_memory_gb(accelerator.device)}
        log(done, values)
        bar.set_postfix({name: f"{value:.3f}" for name, value in values.items() if name.endswith("loss")})

    trainee.train()
    # The attempt before may have saved its step and not have come to its looks.
    stopped = looks.take_due(done) if done else None
    with (
        StopSignals() as stop,
        contextlib.closing(example_batches(dataset, sampler, config.workers, collate)) as batches,
    ):
        for step in bar if stopped is None else ():
            turn = trainee.turn(step)
            optimiser = optimisers[turn.player]
            rate, decay = optimiser.rate, optimiser.decay
            taken = take_turn(trainee, turn, optimiser, accelerator, batches, config, to_device, stop)
            if not taken.is_sound(config, accelerator.mixed_precision):
                where, examples = lines.prefix(turn), [index for part in sampler.of_step(step) for index in part]
                raise FloatingPointError(
                    f"step {step + 1}: {where}loss {taken.values['loss']}, {where}gradient norm {taken.norm}; examples "
                    f"{examples}; last good checkpoint: step {saved} in {folder / 'state'}"
                )
            move_averages(averages, trainee, optimiser.player, decay)
            optimiser.taken += 1
            done, state.seconds = step + 1, time.perf_counter() - started
            lines.note(turn, rate, taken)
            if main and lines.is_due(done):
                log_line()
            if saving.is_due(done, config.steps) or taken.signal:
                if main:
                    saving.take(done)
                saved = done
            if taken.signal and done < config.steps:
                bar.close()
                accelerator.wait_for_everyone()
                raise Interrupted(taken.signal, done)
            stopped = looks.take_due(done)
            if stopped is not None:
                if main and not lines.is_due(done):
                    log_line()
                if main and saved < done:
                    saving.take(done)
                break
    bar.close()
    accelerator.wait_for_everyone()
    trainee.train(False)
    assign(trainee.state, averages)
    best = state.best.told() if state.best is not None and state.best.step else None
    return Fitted(state.seconds, done, stopped, best)


def _resume(state: TrainingState, folder: Path, accelerator: Accelerator) -> int:
    """Load the newest whole checkpoint, the same one on all processes; returns the number of steps it has behind it."""
    found, refused = None, None
    if accelerator.is_main_process:
        try:
            found = resumable_state(folder / "state")
        except ValueError as error:
            refused = str(error)
    found, refused = as_first(accelerator, (found, refused))
    if refused:
        raise ValueError(refused)
    if found is None:
        return 0
    done = state.load(found)
    accelerator.print(f"going on after step {done}", flush=True)
    return done
