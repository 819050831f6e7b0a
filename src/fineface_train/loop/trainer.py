"""The training loop: it gives each turn its batch, and sees to logs, pauses, checkpoints and signals.

It draws nothing at random and knows no method: what is trained is a `Trainee`.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.utils.data import Dataset

from fineface_train.data.examples import ShareOfBatches, example_batches
from fineface_train.loop.accelerator import peak_memory_gb
from fineface_train.loop.averages import assign, averaged, first_averages, move_averages
from fineface_train.loop.checkpoint import TrainingState, resumable_state
from fineface_train.loop.config import TrainerConfig
from fineface_train.loop.processes import as_first, share_first
from fineface_train.loop.progress import Bar, Lines, Pause
from fineface_train.loop.signals import Interrupted, StopSignals
from fineface_train.loop.trainee import Trainee, check_trainee, turns_by_player
from fineface_train.loop.turns import make_optimisers, take_turn


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
    afterwards: float = 0.0,
) -> float:
    """Train for `config.steps` turns, resuming from the newest checkpoint under `folder`/state; returns the seconds it
    took, over all attempts.

    Args:
        trainee: on its device; left with the averaged weights where averages are kept.
        dataset: example i for any i >= 0; step s sees examples s * B to (s + 1) * B, B = `config.batch_size`.
        collate: makes a batch from a list of examples; `to_device` moves it to the trainee's device.
        log: called on the main process with (finished steps, values): of each kind of turn the last one since the
            line before.
        resumed: called once, before the first step, with the number of steps already done.
        pauses: what is done on the main process, with averaged weights in place.
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
    done = saved = _resume(state, folder, accelerator)
    for name, count in turns_by_player(trainee, done).items():
        optimisers[name].taken = count
    resumed(done)
    sampler = ShareOfBatches(
        range(done, config.steps),
        config.batch_size,
        config.accumulation,
        accelerator.process_index,
        accelerator.num_processes,
    )
    saving = Pause(config.checkpoint_every, lambda step: state.save(folder / "state", step))
    every_pause = [saving, *pauses]
    bar = Bar(range(done, config.steps), config.steps, every_pause, disable=not main, afterwards=afterwards)
    lines = Lines(config, state, every_pause, done, log_every)
    started = time.perf_counter() - state.seconds

    def look_if_due() -> None:
        due = [pause for pause in pauses if pause.is_due(done, config.steps)]
        if main and due:
            with averaged(trainee, averages):
                trainee.train(False)
                for pause in due:
                    pause.take(done)
                trainee.train()

    trainee.train()
    if done:
        look_if_due()  # the attempt before may have saved its step and not have come to its looks
    with (
        StopSignals() as stop,
        contextlib.closing(example_batches(dataset, sampler, config.workers, collate)) as batches,
    ):
        for step in bar:
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
                values = lines.take(done) | {"peak_memory_gb": peak_memory_gb(accelerator.device)}
                log(done, values)
                bar.set_postfix({name: f"{value:.3f}" for name, value in values.items() if name.endswith("loss")})
            if saving.is_due(done, config.steps) or taken.signal:
                if main:
                    saving.take(done)
                saved = done
            if taken.signal and done < config.steps:
                bar.close()
                accelerator.wait_for_everyone()
                raise Interrupted(taken.signal, done)
            look_if_due()
    accelerator.wait_for_everyone()
    trainee.train(False)
    assign(trainee.state, averages)
    return state.seconds


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
