"""What every part of the configured run takes, in seconds and bytes."""

import time
from pathlib import Path

import torch
from accelerate import Accelerator

from fineface_train.config import Config
from fineface_train.data.sources import Sources
from fineface_train.data.table import SampleTable
from fineface_train.data.validation import EXAMPLES
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.judges.judges import Judges, load_judges
from fineface_train.evaluation.sample_sheet import SAMPLE_IMAGES
from fineface_train.loop.progress import times_due
from fineface_train.verbs.checkup.data_needs import caches, preparation
from fineface_train.verbs.checkup.machine import seconds_per_byte
from fineface_train.verbs.checkup.need import Need
from fineface_train.verbs.checkup.trial import Training, Trial
from fineface_train.verbs.generators import draws
from fineface_train.verbs.train import nothing_else, planned

JUDGED_TOGETHER = 8


def all_needs(
    config: Config, accelerator: Accelerator, trial: Trial, table: SampleTable | None, found: Sources
) -> list[Need]:
    """Every part of the run, in the order in which they come."""
    needs = []
    if trial.training is not None:
        needs += preparation(config, accelerator.num_processes, table, found)
        needs += caches(config, trial, table, found, accelerator.num_processes)
        needs += _training(config, trial, trial.training)
    if config.evaluation.wanted or config.trainer.sample_every:
        needs += _images(config, accelerator, trial)
    return needs


def _training(config: Config, trial: Trial, training: Training) -> list[Need]:
    trainer = config.trainer
    copies = 4 if trainer.ema_decay else 3  # weights, Adam's two moments, averages
    saved, kept = times_due(trainer.checkpoint_every, trainer.steps), 2 * copies + 1
    written = seconds_per_byte(Path(config.run.root)) * copies * training.trainable
    needs = [
        Need(
            f"training: {trainer.steps:,} steps of {trainer.batch_size} examples, {training.seconds:.2f} s each",
            trainer.steps * training.seconds,
        ),
        Need(f"checkpoints: {saved} (two are kept), and the bundle", saved * written, kept * training.trainable),
    ]
    validations = times_due(config.trainer.validation_steps(nothing_else=nothing_else(config)), trainer.steps)
    if validations:
        seconds = validations * EXAMPLES * training.seconds_of_error
        needs.append(Need(f"validation: {validations} x {EXAMPLES} examples", seconds))
    if pictures := times_due(trainer.sample_every, trainer.steps):
        each = SAMPLE_IMAGES * trial.image
        what = f"sample pictures: {pictures} x {SAMPLE_IMAGES} faces, {trial.image:.2f} s a face"
        needs.append(Need(what, pictures * each, pictures * SAMPLE_IMAGES * trial.picture))
    return needs


def _images(config: Config, accelerator: Accelerator, trial: Trial) -> list[Need]:
    """Looks while training goes on, and the evaluation at its end."""
    needs, judging = [], _seconds_to_judge(config, accelerator)
    if config.evaluation.every and trial.training is not None:
        looks, images = (
            times_due(config.evaluation.every, config.trainer.steps),
            len(planned(config, ProtocolName.glance)),
        )
        seconds = None if judging is None else looks * images * (trial.image + judging)
        needs.append(Need(f"looks: {looks} x {images} images, made and judged", seconds))
    if not config.evaluation.after_training:
        return needs
    images, processes = len(planned(config)), accelerator.num_processes
    drawn = draws(config) and config.judge.kind is not JudgeKind.none
    what = f"evaluation: {images:,} images{' and as many true drawings' if drawn else ''}"
    size = images * trial.picture * (2 if drawn else 1)
    needs.append(Need(f"{what}, made", images * trial.image / processes, size))
    if config.judge.kind is not JudgeKind.none:
        count = images * (2 if drawn else 1)
        seconds = None if judging is None else count * judging / processes
        needs.append(Need(f"evaluation: {count:,} images judged", seconds))
    return needs


def _seconds_to_judge(config: Config, accelerator: Accelerator) -> float | None:
    """Seconds that all judges take for an image; None where they are not there, or another program that is not started
    for this."""
    if config.judge.kind is not JudgeKind.toyfacs or not config.evaluation.wanted:
        return None
    try:
        judges = load_judges(config.judge, accelerator.device)
    except ValueError:  # which is among the faults
        return None
    return timed(judges)


def timed(judges: Judges, count: int = JUDGED_TOGETHER) -> float:
    """Seconds that all judges take for one made-up image."""
    assert judges.clip is not None, "all judges have a CLIP beside them"
    assert judges.size is not None, "judges of drawings say which size they read"
    images = torch.rand(count, 3, judges.size, judges.size, generator=torch.Generator().manual_seed(0))
    for last in (False, True):  # the first warms up
        started = time.perf_counter()
        for judge in judges.aus.values():
            judge.read(images)
        judges.clip.embed(images)
        if judges.attributes is not None:
            judges.attributes.predict(images)
        if last:
            break
    return (time.perf_counter() - started) / count
