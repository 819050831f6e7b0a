"""The train verb, top to bottom: data, base, caches, model, loop, bundle, then evaluation and report."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline

from fineface_train.config import Config, to_yaml
from fineface_train.data.cache import LatentCache, TextCache, latent_cache, text_cache
from fineface_train.data.conditioning import Entry
from fineface_train.data.contents import INDEX, image_contents
from fineface_train.data.crew import Crew
from fineface_train.data.examples import ExampleDataset, Prior, check_batch_size, collate
from fineface_train.data.mixture import Mixture
from fineface_train.data.prepare import prepare
from fineface_train.data.prompts import counted
from fineface_train.data.table import SampleTable
from fineface_train.data.validation import EXAMPLES, validation_examples, validation_rows
from fineface_train.evaluation.evaluate import glance
from fineface_train.evaluation.judges.judges import JudgeKind, Judges, find_judges, load_judges
from fineface_train.evaluation.measure import (
    evaluation_folder,
    evaluation_prompts,
    is_measured,
    measure_bundle,
    print_report,
)
from fineface_train.evaluation.plan import ProtocolName, build_plan, toyfacs_combinations
from fineface_train.evaluation.sample_sheet import looking, sample_sheet
from fineface_train.files import SEAL, damage, plain, read_json, sha256, write_json, write_text
from fineface_train.locks import locked, writable
from fineface_train.loop.accelerator import make_accelerator, weight_dtype
from fineface_train.loop.checkpoint import latest_state, other_format, resumable_state
from fineface_train.loop.config import Precision
from fineface_train.loop.earlier_runs import about_neighbours, run_to_extend, take_on
from fineface_train.loop.processes import as_first
from fineface_train.loop.runs import FINISHED, VALIDATION_FILE, choose_folder, is_finished, provenance
from fineface_train.loop.tracking import GLANCE, VALIDATION, Tracker
from fineface_train.loop.trainer import fit
from fineface_train.methods.au_diffusion.adapter import Trained, audit, audit_table
from fineface_train.methods.au_diffusion.base import check_base, load_base, recorded, weights_hash
from fineface_train.methods.au_diffusion.bundle import BundleConfig, base_fingerprints, save_bundle
from fineface_train.methods.au_diffusion.model import AUDiffusion, batch_to
from fineface_train.methods.au_diffusion.prior import prior
from fineface_train.reads import trains
from fineface_train.verbs.run_identity import Given, method_name, prompt_writer, run_identity, told_captions

logger = logging.getLogger(__name__)
VALIDATION_EVERY = 500
"""Steps, where that is left open and there is no judge."""


def train(config: Config, *, wait: bool = False) -> Path:
    """Fit an adapter, write its bundle, evaluate it and write the report; returns the run folder.

    Raises ValueError where another process is at the same run, unless told to `wait` for it.
    """
    if config.calibrated:
        raise ValueError(
            "calibrated=true: a bundle is calibrated when it is trained: fineface calibrate bundle=..., then evaluate "
            "with calibrated=true"
        )
    accelerator = make_accelerator(config.trainer)
    check_batch_size(config.trainer.batch_size, config.trainer.accumulation, accelerator.num_processes)
    if config.evaluation.wanted and config.judge.kind is not JudgeKind.none:
        find_judges(config.judge)  # what is missing is said now, not after the training
    check_base(config.base)
    table = prepare(config.data, crew=make_crew(accelerator))
    with accelerator.main_process_first():
        contents = image_contents(
            table.frame["image"], Path(config.data.root) / INDEX, progress=accelerator.is_main_process
        )
        pipe = load_base(config.base)
    hashes = {name: weights_hash(getattr(pipe, name)) for name in ("vae", "text_encoder", "unet")}
    given = Given(table, contents, pipe, hashes, told_captions(config, table, pipe))
    identity = run_identity(config, accelerator, given)
    name = config.experiment or f"{config.data.name}-{method_name(config)}"
    folder = as_first(
        accelerator, choose_folder(config.run, name, identity, with_report=config.evaluation.after_training)
    )
    if as_first(accelerator, is_finished(folder) and not writable(folder)):
        accelerator.print(
            f"{folder} is finished already, and cannot be written; its page, if it has one: {folder / 'report.html'}"
        )
        return folder
    with _alone(accelerator, folder, wait):
        _look_beside(config, accelerator, folder, identity, quiet=wait)
        if accelerator.is_main_process and not (folder / "config.yaml").exists():
            write_text(folder / "config.yaml", to_yaml(config))
        if _is_done(config, accelerator, folder):
            accelerator.print(
                f"{folder} is finished already; nothing to do. Start over in a new folder with run.fresh=true."
            )
        else:
            _fit(config, accelerator, given, folder)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if config.evaluation.after_training:
                _measure(config, folder)
            print(f"run: {folder}", flush=True)
    return folder


def _look_beside(
    config: Config, accelerator: Accelerator, folder: Path, identity: dict[str, Any], *, quiet: bool
) -> None:
    """A new run takes on the state of the one that it extends, or says which run it is near (unless `quiet`); one that
    has begun does neither.

    Raises ValueError on all processes where there is nothing to extend, and where an earlier version began the run.
    """
    refused = None
    if accelerator.is_main_process and trains(config) and not is_finished(folder):
        try:
            if resumable_state(folder / "state") is not None:
                pass
            elif config.run.extend:
                earlier = run_to_extend(folder, identity)
                print(f"{folder} takes on the first {take_on(earlier, folder)} steps of {earlier}")
            elif not quiet and not config.run.fresh and not (folder / "config.yaml").exists():
                told = about_neighbours(folder, plain(config), identity)
                if told:
                    print(told)
        except ValueError as error:
            refused = str(error)
    if refused := as_first(accelerator, refused):
        raise ValueError(refused)


@contextlib.contextmanager
def _alone(accelerator: Accelerator, folder: Path, wait: bool) -> Iterator[None]:
    """The first process locks the run folder for all; all are told if another run has it."""
    with contextlib.ExitStack() as stack:
        refused = None
        if accelerator.is_main_process:
            try:
                stack.enter_context(locked(folder, wait=wait))
            except ValueError as error:
                refused = str(error)
        if refused := as_first(accelerator, refused):
            raise ValueError(refused)
        yield


def _is_done(config: Config, accelerator: Accelerator, folder: Path) -> bool:
    """Whether the run is trained and its bundle as it was written; one that is not is named, and made again from the
    last checkpoint.

    Raises ValueError where no checkpoint is left that this version can make it from.
    """
    done, fault = is_finished(folder), None
    if done and accelerator.is_main_process and (fault := _bundle_fault(folder)):
        done, newest = False, latest_state(folder / "state")
        other = newest and other_format(newest)
        if other:
            fault = f"{fault}; {other}"
        elif newest is not None or not trains(config):
            logger.warning("%s: making it again%s", fault, " from the last checkpoint" if trains(config) else "")
            fault = None
    done, fault = as_first(accelerator, (done, fault))
    if fault:
        raise ValueError(
            f"{fault}, and no checkpoint is left to make it from; bring back a copy, or start over with run.fresh=true"
        )
    return bool(done)


def _bundle_fault(folder: Path) -> str | None:
    """What is wrong with the bundle of a finished run, in words."""
    bundle, finished = folder / "bundle", read_json(folder / FINISHED)
    swapped = finished.get("bundle") not in (None, sha256(bundle / SEAL)) if (bundle / SEAL).is_file() else False
    return damage(bundle) or (f"{bundle} is not the one that this run wrote" if swapped else None)


def _fit(config: Config, accelerator: Accelerator, given: Given, folder: Path) -> None:
    """From the base and a table to a bundle; where nothing is trained, from the base alone."""
    bundle_config = _bundle_config(config, given.pipe, given.table)
    seconds, compute = _train(config, accelerator, given, folder) if trains(config) else (0.0, 0.0)
    if accelerator.is_main_process:
        save_bundle(given.pipe.unet, bundle_config, folder / "bundle")
        took = {"training_seconds": round(seconds, 1), "training_petaflop": round(compute / 1e15, 3)}
        device = accelerator.device
        made_by = {
            "processes": accelerator.num_processes,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        }
        labels = sorted(
            {
                f"{source}: {who}"
                for source, who in given.table.frame[["source", "aus_from"]].drop_duplicates().itertuples(index=False)
            }
        )
        made_from = {
            "base": {"name": config.base.name} | given.hashes,
            "table": given.table.fingerprint(),
            "labels": labels,
        }
        write_json(folder / "provenance.json", provenance() | made_from | made_by | took)
        steps = config.trainer.steps if trains(config) else 0
        write_json(folder / FINISHED, {"steps": steps, "bundle": sha256(folder / "bundle" / SEAL)} | took)


def make_crew(accelerator: Accelerator) -> Crew:
    """All processes of this launch."""
    return Crew(
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.wait_for_everyone,
        lambda value: as_first(accelerator, value),
    )


def _train(config: Config, accelerator: Accelerator, given: Given, folder: Path) -> tuple[float, float]:
    """From the base and a table to trained weights in its UNet; returns the seconds it took and the floating point
    operations."""
    pipe = given.pipe.to(accelerator.device)
    inputs = open_caches(config, given, make_crew(accelerator))
    model = build_model(config, pipe, accelerator)
    dataset = build_dataset(config, given.table, model, inputs)
    rows = audit(pipe.unet, {"text encoder": pipe.text_encoder, "VAE": pipe.vae})
    accelerator.print(audit_table(rows))
    with accelerator.autocast():
        example = batch_to(collate([dataset[0]]), accelerator.device, batch_dtype(config))
        compute = model.operations(example) * config.trainer.batch_size * config.trainer.steps
    tracker = None
    if accelerator.is_main_process:
        write_json(folder / "audit.json", {"parts": [dataclasses.asdict(row) for row in rows]})
        tracker = Tracker(folder, config.tracking, plain(config), folder.name)

    def picture(step: int) -> None:
        assert tracker is not None
        with accelerator.autocast():
            image = sample_sheet(config, pipe)
        path = folder / "samples" / f"step_{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        tracker.images(step, "samples", {"neutral, then each AU at 5": image})

    @functools.cache
    def judges() -> Judges:
        return load_judges(config.judge, accelerator.device)

    def look(step: int) -> None:
        assert tracker is not None
        plan = build_plan(
            ProtocolName.glance, evaluation_prompts(config), toyfacs_combinations(), config.evaluation.seed
        )
        with accelerator.autocast():
            seen = glance(looking(config, pipe), judges(), plan, config.evaluation.batch_size)
        tracker.log(step, {GLANCE: seen})

    held_out = validation_rows(given.table, config.data.weights(given.table), config.evaluation.seed)
    examples = validation_examples(
        given.table,
        held_out,
        config.conditioning,
        inputs.latents,
        inputs.text,
        timesteps=model.objective.timesteps,
        seed=config.evaluation.seed,
    )

    def validate(step: int) -> None:
        assert tracker is not None
        with accelerator.autocast():
            errors = _validation_errors(config, model, examples, accelerator.device)
        subjects = given.table.frame["subject"].iloc[[examples.mixture.row(index) for index in range(EXAMPLES)]]
        write_json(
            folder / VALIDATION_FILE,
            {"step": step, "loss": float(np.mean(errors)), "errors": errors, "subjects": subjects.tolist()},
        )
        tracker.log(step, {VALIDATION: {"loss": float(np.mean(errors))}})

    validating = _validation_every(config)
    if validating and not len(held_out):
        accelerator.print(
            "no image is held out of training (split validation): no validation loss; data.<source>.validation_share "
            "holds some out"
        )
        validating = 0
    seconds = fit(
        model,
        dataset,
        config.trainer,
        accelerator,
        folder,
        collate=collate,
        to_device=lambda batch: batch_to(batch, accelerator.device, batch_dtype(config)),
        log=lambda step, values: tracker.log(step, values) if tracker else None,
        resumed=lambda step: tracker.resume(step) if tracker else None,
        pauses=[(config.trainer.sample_every, picture), (config.evaluation.every, look), (validating, validate)],
        log_every=config.tracking.log_every,
    )
    if tracker is not None:
        tracker.finish()
    return seconds, compute


def _validation_every(config: Config) -> int:
    """Steps between two looks at held-out images; 0 for none. Without a judge they are all that tells how a training
    goes."""
    if config.evaluation.validation_every is not None:
        return config.evaluation.validation_every
    return VALIDATION_EVERY if config.judge.kind is JudgeKind.none and config.evaluation.after_training else 0


def _validation_errors(
    config: Config, model: AUDiffusion, examples: ExampleDataset, device: torch.device
) -> list[float]:
    """The squared error of each of the `EXAMPLES`."""
    size, errors = config.evaluation.batch_size, []
    for start in range(0, EXAMPLES, size):
        batch = collate([examples[index] for index in range(start, min(start + size, EXAMPLES))])
        errors += model.errors(batch_to(batch, device, batch_dtype(config))).tolist()
    return errors


@dataclasses.dataclass
class Inputs:
    """What the base's frozen parts say about the table, on disk."""

    latents: LatentCache
    text: TextCache
    """Of what the model is told: the captions, with the AUs' words where AUs enter as text."""
    text_without_aus: TextCache
    """The same where AUs are hidden."""
    prior: Prior | None


def open_caches(config: Config, given: Given, crew: Crew) -> Inputs:
    """Find what the bare base says about the table, or have the whole crew build it."""
    table, pipe, hashes = given.table, given.pipe, given.hashes
    folder = config.data.cache_folder
    latents = latent_cache(
        table,
        given.contents,
        pipe.vae,
        hashes["vae"],
        folder,
        config.base.resolution,
        config.image_transform,
        crew=crew,
    )
    captions, writer = table.frame["caption"].tolist(), prompt_writer(config, pipe)
    for sentence in counted(given.told, captions, writer.room) if crew.index == 0 else ():
        logger.warning("%s", sentence)
    without = text = text_cache([one.text for one in given.told], pipe, hashes["text_encoder"], folder, crew=crew)
    if config.conditioning.enters is Entry.text:
        without = text_cache(captions, pipe, hashes["text_encoder"], folder, crew=crew)
    own = (
        prior(pipe, hashes, config.finetune, config.sampling, config.base.resolution, writer, folder, crew)
        if config.finetune.prior_weight
        else None
    )
    return Inputs(latents, text, without, own)


def build_model(config: Config, pipe: StableDiffusionPipeline, accelerator: Accelerator) -> AUDiffusion:
    """The base, moved to this process's device and the run's precision, with its new trainables."""
    frozen = weight_dtype(config.trainer, accelerator)
    pipe.to(
        accelerator.device,
        frozen if config.finetune.train is not Trained.everything else torch.promote_types(frozen, torch.float32),
    )
    if config.trainer.channels_last:
        pipe.unet.to(memory_format=torch.channels_last)
    ways = {"gradient_checkpointing": config.trainer.gradient_checkpointing, "compiled": config.trainer.compile}
    model = AUDiffusion(
        pipe, config.conditioning.enters, config.encoder, config.finetune, config.objective, seed=config.seed, **ways
    )
    return model.to(accelerator.device, batch_dtype(config) if config.trainer.precision is Precision.fp64 else None)


def batch_dtype(config: Config) -> torch.dtype:
    """Of what the model is given: autocast rounds it where the precision is lower."""
    return torch.float64 if config.trainer.precision is Precision.fp64 else torch.float32


def build_dataset(config: Config, table: SampleTable, model: AUDiffusion, inputs: Inputs) -> ExampleDataset:
    """The run's examples, all of them functions of the seed."""
    mixture = Mixture(table, config.data.weights(table), config.data.rarity_weighting, config.seed)
    micro = config.trainer.batch_size // config.trainer.accumulation
    return ExampleDataset(
        table.aus(),
        mixture,
        config.labels,
        config.conditioning,
        inputs.latents,
        inputs.text,
        text_without_aus=inputs.text_without_aus,
        prior=inputs.prior,
        timesteps=model.objective.timesteps,
        rounding_group=micro,
        seed=config.seed,
    )


def _bundle_config(config: Config, pipe: StableDiffusionPipeline, table: SampleTable) -> BundleConfig:
    """What the bundle says of itself; taken before the base is adapted or rounded."""
    return BundleConfig(
        conditioning=config.conditioning,
        encoder=config.encoder,
        finetune=config.finetune,
        base_name=config.base.name,
        base_fingerprints=base_fingerprints(pipe.unet),
        cross_attention_dim=pipe.unet.config.cross_attention_dim,
        resolution=config.base.resolution,
        training={
            "steps": config.trainer.steps,
            "batch_size": config.trainer.batch_size,
            "seed": config.seed,
            "data": config.data.name,
            "samples": int((table.frame["split"] == "train").sum()),
        }
        if trains(config)
        else {"steps": 0},
        base=recorded(config.base),
    )


def _measure(config: Config, folder: Path) -> None:
    """Evaluate the finished run's bundle (judge=none: make its images), log the headline, write the report; nothing if
    that was done with these settings."""
    bundle = folder / "bundle"
    out = evaluation_folder(config, bundle)
    if (out / "report.html").is_file() and is_measured(config, out):
        print(f"{out} is evaluated already; its page: {out / 'report.html'}")
        return
    with contextlib.nullcontext() if out == folder else locked(out):  # the run folder is locked already
        metrics = measure_bundle(config, bundle, out)
    if out == folder and config.judge.kind is not JudgeKind.none:
        _log_evaluation(config, folder, metrics)
    print_report(out)


def _log_evaluation(config: Config, folder: Path, metrics: dict[str, Any]) -> None:
    """The headline and the table per AU, as the last line of the run's metrics."""
    tracker = Tracker(folder, config.tracking, plain(config), folder.name)
    tracker.resume(config.trainer.steps, evaluations=False)
    headline = {
        part: {key: cell["value"] for key, cell in metrics[part].items()} for part in ("individual", "combination")
    }
    tracker.log(config.trainer.steps, {"evaluation": headline})
    tracker.table(
        "evaluation/per_au", pd.DataFrame.from_dict(metrics["per_au"], orient="index").reset_index(names="au")
    )
    tracker.finish()
