"""The train verb, top to bottom: data, base, caches, model, loop, bundle, then evaluation and report."""

import contextlib
import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline

from fineface_train.config import Config, to_yaml, training_values
from fineface_train.data.augmentation import View
from fineface_train.data.cache import LatentCache, TextCache, latent_cache, text_cache
from fineface_train.data.conditioning import Entry
from fineface_train.data.contents import INDEX, image_contents
from fineface_train.data.crew import Crew
from fineface_train.data.examples import Batch, ExampleDataset, Prior, check_batch_size, collate
from fineface_train.data.mixture import Mixture
from fineface_train.data.prepare import prepare
from fineface_train.data.prompts import counted
from fineface_train.data.table import SampleTable
from fineface_train.data.validation import validation_examples, validation_groups, validation_rows
from fineface_train.data.views import Views, open_views
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.glance import glance
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.judges.judges import Judges, find_judges, load_judges
from fineface_train.evaluation.plan import PlannedImage, build_plan, toyfacs_combinations
from fineface_train.evaluation.sample_sheet import SAMPLE_IMAGES, SAMPLE_PROMPTS, sample_sheet
from fineface_train.files import SEAL, damage, read_json, sha256, write_json, write_text
from fineface_train.locks import locked, writable
from fineface_train.loop.accelerator import make_accelerator, weight_dtype
from fineface_train.loop.best import BEST, BEST_NOTE, SaveBundle
from fineface_train.loop.checkpoint import latest_state, other_format, resumable_state
from fineface_train.loop.config import VALIDATION_LOSS, Precision
from fineface_train.loop.dashboards import GLANCE
from fineface_train.loop.earlier_runs import about_neighbours, run_to_extend, take_on
from fineface_train.loop.processes import as_first, make_crew
from fineface_train.loop.progress import Pause
from fineface_train.loop.runs import FINISHED, choose_folder, is_finished, provenance
from fineface_train.loop.tracking import Tracker
from fineface_train.loop.trainer import Fitted, fit
from fineface_train.loop.validation import HeldOut, Validation
from fineface_train.methods.au_diffusion.adapter import audit, audit_table
from fineface_train.methods.au_diffusion.base import check_base, load_base, recorded, weights_hash
from fineface_train.methods.au_diffusion.bundle import base_fingerprints, save_bundle
from fineface_train.methods.au_diffusion.bundle_config import BundleConfig
from fineface_train.methods.au_diffusion.config import Trained
from fineface_train.methods.au_diffusion.model import AUDiffusion, batch_to
from fineface_train.methods.au_diffusion.prior import prior
from fineface_train.verbs.evaluate import measure_bundle, print_report
from fineface_train.verbs.evaluation_folder import evaluation_folder, measured_folder
from fineface_train.verbs.generators import evaluation_prompts, looking, seconds_per_image
from fineface_train.verbs.run_identity import Given, prompt_writer, run_identity, told_captions

logger = logging.getLogger(__name__)


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
    check_base(config.method.base)
    crew = make_crew(accelerator)
    table = prepare(config.data, crew=crew)
    accelerator.print(_check_held_out(config, table), end="")
    with accelerator.main_process_first():
        contents = image_contents(
            table.frame["image"], Path(config.data.root) / INDEX, progress=accelerator.is_main_process
        )
        pipe = load_base(config.method.base)
    hashes = {name: weights_hash(getattr(pipe, name)) for name in ("vae", "text_encoder", "unet")}
    given = Given(table, contents, pipe, hashes, told_captions(config, table, pipe))
    identity = run_identity(config, accelerator, given)
    name = config.experiment or f"{config.data.name}-{config.method.short_name}"
    folder = as_first(
        accelerator, choose_folder(config.run, name, identity, with_report=config.evaluation.after_training)
    )
    if as_first(accelerator, is_finished(folder) and not writable(folder)):
        accelerator.print(
            f"{folder} is finished already, and cannot be written; its page, if it has one: {folder / 'report.html'}"
        )
        return folder
    with crew.entered(locked(folder, wait=wait)):
        crew.first(lambda: _look_beside(config, folder, identity, quiet=wait))
        if accelerator.is_main_process and not (folder / "config.yaml").exists():
            write_text(folder / "config.yaml", to_yaml(config))
        if _is_done(config, accelerator, folder):
            accelerator.print(
                f"{folder} is finished already; nothing to do. Start over in a new folder with run.fresh=true."
            )
            if config.trainer.best_by is not None and not (folder / BEST_NOTE).is_file():
                accelerator.print("It kept no best weights: it was trained without trainer.best_by.")
        else:
            _fit(config, accelerator, given, folder)
        accelerator.wait_for_everyone()
        if config.evaluation.after_training:
            _measure(config, accelerator, folder)
        if accelerator.is_main_process:
            print(f"run: {folder}", flush=True)
    return folder


def _look_beside(config: Config, folder: Path, identity: dict[str, Any], *, quiet: bool) -> None:
    """A new run takes on the state of the one that it extends, or says which run it is near (unless `quiet`); one that
    has begun does neither.

    Raises ValueError where there is nothing to extend, and where an earlier version began the run.
    """
    if not config.method.trains or is_finished(folder) or resumable_state(folder / "state") is not None:
        return
    if config.run.extend:
        earlier = run_to_extend(folder, identity)
        print(f"{folder} takes on the first {take_on(earlier, folder)} steps of {earlier}")
    elif not quiet and not config.run.fresh and not (folder / "config.yaml").exists():
        values = training_values(config)
        del values["method"]["sampling"]  # decides no training
        told = about_neighbours(folder, values, identity)
        if told:
            print(told)


def _is_done(config: Config, accelerator: Accelerator, folder: Path) -> bool:
    """Whether the run is trained and its bundle as it was written; one that is not is named, and made again from the
    last checkpoint.

    Raises ValueError where no checkpoint is left that this version can make it from.
    """
    done, fault = is_finished(folder), None
    if done and accelerator.is_main_process and (fault := _bundle_fault(config, folder)):
        done, newest = False, latest_state(folder / "state")
        other = newest and other_format(newest)
        if other:
            fault = f"{fault}; {other}"
        elif newest is not None or not config.method.trains:
            logger.warning("%s: making it again%s", fault, " from the last checkpoint" if config.method.trains else "")
            fault = None
    done, fault = as_first(accelerator, (done, fault))
    if fault:
        raise ValueError(
            f"{fault}, and no checkpoint is left to make it from; bring back a copy, or start over with run.fresh=true"
        )
    return bool(done)


def _bundle_fault(config: Config, folder: Path) -> str | None:
    """What is wrong with the bundle of a finished run, or with that of its best weights where these are asked for, in
    words."""
    finished = read_json(folder / FINISHED)
    sealed = {"bundle": finished.get("bundle")}
    sealed |= {BEST: finished["best"]["bundle"]} if config.trainer.best_by is not None and "best" in finished else {}
    for name, digest in sealed.items():
        bundle = folder / name
        swapped = digest not in (None, sha256(bundle / SEAL)) if (bundle / SEAL).is_file() else False
        if fault := damage(bundle) or (f"{bundle} is not the one that this run wrote" if swapped else None):
            return fault
    return None


def _fit(config: Config, accelerator: Accelerator, given: Given, folder: Path) -> None:
    """From the base and a table to a bundle; where nothing is trained, from the base alone."""
    bundle_config = _bundle_config(config, given.pipe, given.table)

    def save(place: Path, steps: int) -> None:
        after = dataclasses.replace(bundle_config, training=bundle_config.training | {"steps": steps})
        save_bundle(given.pipe.unet, after, place)

    fitted, compute = Fitted(0.0, 0), 0.0
    if config.method.trains:
        fitted, compute = _train(config, accelerator, given, folder, save)
    if accelerator.is_main_process:
        save(folder / "bundle", fitted.steps)
        took = {"training_seconds": round(fitted.seconds, 1), "training_petaflop": round(compute / 1e15, 3)}
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
            "base": {"name": config.method.base.name} | given.hashes,
            "table": given.table.fingerprint(),
            "labels": labels,
        }
        write_json(folder / "provenance.json", provenance() | made_from | made_by | took)
        write_json(folder / FINISHED, fitted.told() | {"bundle": sha256(folder / "bundle" / SEAL)} | took)
        if fitted.stopped is not None:
            print(f"stopped early after step {fitted.steps}: {fitted.stopped}")
        if fitted.best is not None:
            best = fitted.best
            print(f"best {best['by']}: {best['value']:.6g} after step {best['step']}; its bundle: {folder / BEST}")


def _train(
    config: Config, accelerator: Accelerator, given: Given, folder: Path, save: SaveBundle
) -> tuple[Fitted, float]:
    """From the base and a table to trained weights in its UNet; returns how it ended and the floating point operations
    that it took. `save` writes the bundle of the weights in place."""
    pipe = given.pipe.to(accelerator.device)
    inputs = open_caches(config, given, make_crew(accelerator))
    model = build_model(config, pipe, accelerator)
    dataset = build_dataset(config, given.table, model, inputs)
    rows = audit(pipe.unet, {"text encoder": pipe.text_encoder, "VAE": pipe.vae})
    accelerator.print(audit_table(rows))
    with accelerator.autocast():
        example = batch_to(collate([dataset[0]]), accelerator.device, batch_dtype(config))
        compute = model.operations(example) * config.trainer.batch_size
    tracker = None
    if accelerator.is_main_process:
        write_json(folder / "audit.json", {"parts": [dataclasses.asdict(row) for row in rows]})
        tracker = Tracker(folder, config.tracking, training_values(config), folder.name)

    def picture(step: int) -> None:
        assert tracker is not None
        with accelerator.autocast():
            image = sample_sheet(
                looking(config, pipe),
                [prompt.text for prompt in evaluation_prompts(config)[SAMPLE_PROMPTS]],
                seed=config.evaluation.seed,
                batch_size=config.evaluation.batch_size,
                side=config.method.base.resolution,
            )
        path = folder / "samples" / f"step_{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        tracker.images(step, "samples", {"neutral, then each AU at 5": image})

    @functools.cache
    def judges() -> Judges:
        return load_judges(config.judge, accelerator.device)

    def look(step: int) -> dict[str, Any]:
        plan = planned(config, ProtocolName.glance)
        with accelerator.autocast():
            seen = glance(looking(config, pipe), judges(), plan, config.evaluation.batch_size)
        return {GLANCE: seen}

    def to_device(batch: Batch) -> Batch:
        return batch_to(batch, accelerator.device, batch_dtype(config))

    held_out = validation_rows(given.table, config.data.weights(given.table), config.evaluation.seed)
    image = 0.0
    if tracker is not None and makes_images(config):
        with accelerator.autocast():
            image = seconds_per_image(config, pipe)
    pauses = [
        Pause(config.trainer.sample_every, picture, expected=SAMPLE_IMAGES * image),
        Pause(config.evaluation.every, look, expected=len(planned(config, ProtocolName.glance)) * image),
    ]
    if len(held_out):
        examples = validation_examples(
            given.table,
            held_out,
            config.method.conditioning,
            inputs.latents,
            inputs.text,
            timesteps=model.objective.timesteps,
            seed=config.evaluation.seed,
        )
        validation = Validation(
            HeldOut(
                examples,
                given.table.frame["subject"].iloc[held_out].tolist(),
                validation_groups(given.table, examples),
            ),
            model.errors,
            collate,
            to_device,
            config.evaluation.batch_size,
            accelerator,
            folder,
        )
        pauses.append(Pause(config.trainer.validation_steps(nothing_else=nothing_else(config)), validation))
    evaluated = len(planned(config)) / accelerator.num_processes if config.evaluation.after_training else 0
    fitted = fit(
        model,
        dataset,
        config.trainer,
        accelerator,
        folder,
        collate=collate,
        to_device=to_device,
        log=lambda step, values: tracker.log(step, values) if tracker else None,
        resumed=lambda step: tracker.resume(step) if tracker else None,
        pauses=pauses,
        log_every=config.tracking.log_every,
        save_bundle=save,
        afterwards=evaluated * image,
    )
    if tracker is not None:
        tracker.finish()
    return fitted, compute * fitted.steps


def nothing_else(config: Config) -> bool:
    """Whether only the loss on held-out images tells how the training goes, as there is no judge."""
    return config.judge.kind is JudgeKind.none and config.evaluation.after_training


def planned(config: Config, protocol: ProtocolName | None = None) -> list[PlannedImage]:
    """The images of the evaluation at the end, or of another protocol."""
    return build_plan(
        protocol or config.protocol, evaluation_prompts(config), toyfacs_combinations(), config.evaluation.seed
    )


def makes_images(config: Config) -> bool:
    """Whether a training makes images, while it goes on or at its end."""
    return bool(config.trainer.sample_every) or config.evaluation.wanted


def _check_held_out(config: Config, table: SampleTable) -> str:
    """What to say where no image is held out for the validation loss. Raises ValueError where it was asked for."""
    trainer = config.trainer
    validated = config.method.trains and trainer.validation_steps(nothing_else=nothing_else(config)) > 0
    if not validated or len(validation_rows(table, config.data.weights(table), config.evaluation.seed)):
        return ""
    none = "no image is held out of training (split validation)"
    remedy = "data.<source>.validation_share holds some out"
    if trainer.best_by == VALIDATION_LOSS:
        raise ValueError(f"trainer.best_by={trainer.best_by}: {none}; {remedy}")
    if trainer.validate_every is not None:
        raise ValueError(f"trainer.validate_every={trainer.validate_every}: {none}; {remedy}, or choose 0")
    return f"{none}: no validation loss; {remedy}\n"


@dataclasses.dataclass
class Inputs:
    """What the base's frozen parts say about the table, on disk."""

    latents: LatentCache
    text: TextCache
    """Of what the model is told: the captions, with the AUs' words where AUs enter as text."""
    text_without_aus: TextCache
    """The same where AUs are hidden."""
    prior: Prior | None
    views: Views | None
    """Of the training images, where they are augmented."""


def open_caches(config: Config, given: Given, crew: Crew) -> Inputs:
    """Find what the bare base says about the table, or have the whole crew build it."""
    table, pipe, hashes = given.table, given.pipe, given.hashes
    folder, method = config.data.cache_folder, config.method
    latents = latent_cache(
        table,
        given.contents,
        pipe.vae,
        hashes["vae"],
        folder,
        method.base.resolution,
        config.image_transform,
        crew=crew,
    )

    def posteriors(rows: np.ndarray, view: View) -> LatentCache:
        return latent_cache(
            SampleTable(table.frame.iloc[rows]),
            [given.contents[row] for row in rows],
            pipe.vae,
            hashes["vae"],
            folder,
            config.method.base.resolution,
            config.image_transform,
            view=view,
            crew=crew,
        )

    views = open_views(
        config.data.augmentation, table, config.data.weights(table), latents, posteriors, silent=crew.index > 0
    )
    captions, writer = table.frame["caption"].tolist(), prompt_writer(config, pipe)
    for sentence in counted(given.told, captions, writer.room) if crew.index == 0 else ():
        logger.warning("%s", sentence)
    without = text = text_cache([one.text for one in given.told], pipe, hashes["text_encoder"], folder, crew=crew)
    if method.conditioning.enters is Entry.text:
        without = text_cache(captions, pipe, hashes["text_encoder"], folder, crew=crew)
    own = (
        prior(pipe, hashes, method.finetune, method.sampling, method.base.resolution, writer, folder, crew)
        if method.finetune.prior_weight
        else None
    )
    return Inputs(latents, text, without, own, views)


def build_model(config: Config, pipe: StableDiffusionPipeline, accelerator: Accelerator) -> AUDiffusion:
    """The base, moved to this process's device and the run's precision, with its new trainables."""
    frozen, method = weight_dtype(config.trainer, accelerator), config.method
    pipe.to(
        accelerator.device,
        frozen if method.finetune.train is not Trained.everything else torch.promote_types(frozen, torch.float32),
    )
    if config.trainer.channels_last:
        pipe.unet.to(memory_format=torch.channels_last)
    ways = {"gradient_checkpointing": config.trainer.gradient_checkpointing, "compiled": config.trainer.compile}
    model = AUDiffusion(
        pipe, method.conditioning.enters, method.encoder, method.finetune, method.objective, seed=config.seed, **ways
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
        config.method.conditioning,
        inputs.latents,
        inputs.text,
        text_without_aus=inputs.text_without_aus,
        prior=inputs.prior,
        views=inputs.views,
        timesteps=model.objective.timesteps,
        rounding_group=micro,
        seed=config.seed,
    )


def _bundle_config(config: Config, pipe: StableDiffusionPipeline, table: SampleTable) -> BundleConfig:
    """What the bundle says of itself; taken before the base is adapted or rounded."""
    return BundleConfig(
        conditioning=config.method.conditioning,
        encoder=config.method.encoder,
        finetune=config.method.finetune,
        base_name=config.method.base.name,
        base_fingerprints=base_fingerprints(pipe.unet),
        cross_attention_dim=pipe.unet.config.cross_attention_dim,
        resolution=config.method.base.resolution,
        training={
            "steps": config.trainer.steps,
            "batch_size": config.trainer.batch_size,
            "seed": config.seed,
            "data": config.data.name,
            "samples": int((table.frame["split"] == "train").sum()),
        }
        if config.method.trains
        else {"steps": 0},
        base=recorded(config.method.base),
    )


def _measure(config: Config, accelerator: Accelerator, folder: Path) -> None:
    """Evaluate the finished run's bundle (judge=none: make its images) on all processes, log the headline, write the
    report; nothing if that was done with these settings."""
    bundle, first = folder / "bundle", accelerator.is_main_process
    out = evaluation_folder(config, bundle)
    out, place = as_first(accelerator, (out, measured_folder(config, out)))
    if as_first(accelerator, place is not None and (place / "report.html").is_file()):
        accelerator.print(f"{place} is evaluated already; its page: {place / 'report.html'}")
        return
    crew = make_crew(accelerator)
    own = contextlib.nullcontext() if out == folder else locked(out)  # the run folder is locked already
    with crew.entered(own):
        place, metrics = measure_bundle(config, bundle, out, crew)
    if first and place == folder and config.judge.kind is not JudgeKind.none:
        _log_evaluation(config, folder, metrics)
    if first:
        print_report(place)


def _log_evaluation(config: Config, folder: Path, metrics: dict[str, Any]) -> None:
    """The headline and the table per AU, as the last line of the run's metrics."""
    tracker = Tracker(folder, config.tracking, training_values(config), folder.name)
    steps = read_json(folder / FINISHED)["steps"] or config.trainer.steps  # fewer where the run was stopped early
    tracker.resume(steps, evaluations=False)
    headline = {
        part: {key: cell["value"] for key, cell in metrics[part].items()} for part in ("individual", "combination")
    }
    tracker.log(steps, {"evaluation": headline})
    tracker.table(
        "evaluation/per_au", pd.DataFrame.from_dict(metrics["per_au"], orient="index").reset_index(names="au")
    )
    tracker.finish()
