"""All that evaluation, calibration and sample pictures ask of the family of a bundle: what makes images, what that is
known by, and which prompts suit it."""

import dataclasses
import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from diffusers import StableDiffusionPipeline

from fineface_train.aus import AU_COUNT
from fineface_train.config import Config
from fineface_train.evaluation.plan import REAL_PROMPTS, EvaluationPrompt, toyfacs_prompts
from fineface_train.files import plain
from fineface_train.methods.au_diffusion.base import load_base, recorded, weights_hash
from fineface_train.methods.au_diffusion.bundle import (
    CALIBRATION_FILE,
    check_bundle,
    load_adapter,
    load_calibration,
    save_calibration,
)
from fineface_train.methods.au_diffusion.bundle_config import CONFIG_FILE, BundleConfig
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.calibration import Calibration
from fineface_train.methods.protocol import Request

__all__ = ["CALIBRATION_FILE", "CONFIG_FILE", "check_bundle", "load_calibration", "save_calibration"]
logger = logging.getLogger(__name__)
EXTREME_SCALE, EXTREME_GUIDANCE = 5.0, 15.0
"""Up to so many times the adapter's trained scale, and so much guidance, the shipped bundle still draws faces."""
SLOW = 0.5
"""Seconds of one image with one sampling step from which the time of batches is not measured."""


def draws(config: Config) -> bool:
    """Whether the base knows the drawn world, so that true drawings are the ceiling."""
    return bool(config.method.draws == "toyfacs")


def evaluation_prompts(config: Config) -> list[EvaluationPrompt]:
    """The 15 prompts that suit the base."""
    return toyfacs_prompts() if draws(config) else list(REAL_PROMPTS)


def way(config: Config) -> dict[str, Any]:
    """How images are drawn, as calibrations and evaluations have it written down."""
    return {"sampling": plain(config.method.sampling), "scale": config.scale}


def base_values(config: Config) -> dict[str, Any]:
    """What of the base decides the images, as a bundle records it."""
    return recorded(config.method.base)


def looking(config: Config, pipe: StableDiffusionPipeline) -> PipelineGenerator:
    """The model in training as a generator; it warns of a picture that shows nothing, and the training goes on."""
    return PipelineGenerator(
        pipe, config.method.conditioning, config.method.sampling, config.method.base.resolution, strict=False
    )


def seconds_per_image(config: Config, pipe: StableDiffusionPipeline) -> float:
    """Seconds that one image takes in batches of `evaluation.batch_size`, from made-up images of few sampling steps;
    where these take long, from one image alone."""

    def took(count: int, steps: int) -> float:
        sampling = dataclasses.replace(config.method.sampling, steps=steps)
        generator = PipelineGenerator(pipe, config.method.conditioning, sampling, config.method.base.resolution)
        requests = [Request("a face", (1.0,) * AU_COUNT, seed) for seed in range(count)]
        started = time.perf_counter()
        generator.make(requests)
        return time.perf_counter() - started

    took(1, 1)  # warms up
    alone = took(1, 1)
    count = 1 if alone > SLOW else config.evaluation.batch_size
    once, more = (alone if count == 1 else took(count, 1)), (2 if alone > SLOW else 5)
    step = max(0.0, took(count, more) - once) / (more - 1)
    return (max(0.0, once - step) + step * config.method.sampling.steps) / count


def load_generator(config: Config, bundle: Path, pipe: StableDiffusionPipeline | None = None) -> PipelineGenerator:
    """The base (`pipe`, if it is loaded already) with a bundle in it, on the best device there is."""
    pipe = pipe or load_base(config.method.base)
    loaded = load_adapter(pipe, bundle, any_base=config.any_base)
    pipe.to(Accelerator().device)
    _warn_of_extremes(config, loaded)
    calibration = _calibration(config, bundle) if config.calibrated else None
    return PipelineGenerator(
        pipe, loaded.conditioning, config.method.sampling, config.method.base.resolution, config.scale, calibration
    )


def _warn_of_extremes(config: Config, bundle: BundleConfig) -> None:
    """Warn of a scale far from the trained one, and of a guidance far beyond what is known to work."""
    trained = bundle.finetune.adapter_scale
    if config.scale is not None and not 0 <= config.scale <= EXTREME_SCALE * trained:
        logger.warning(
            "note: scale=%g: the adapter was trained at %g; below 0 or beyond %g faces break",
            config.scale,
            trained,
            EXTREME_SCALE * trained,
        )
    if config.method.sampling.guidance > EXTREME_GUIDANCE:
        guidance = config.method.sampling.guidance
        logger.warning(
            "note: method.sampling.guidance=%g: far beyond what is in use (1 to 7.5); beyond %g colours burn out",
            guidance,
            EXTREME_GUIDANCE,
        )


def _calibration(config: Config, bundle: Path) -> Calibration:
    """The bundle's calibration; warns where images are made in another way than it was fitted to."""
    calibration, about = load_calibration(bundle)
    here = way(config)
    other = [key for key in ("sampling", "scale") if about.get(key) != here[key]]
    if other:
        logger.warning(
            "%s was calibrated with other values of %s; what is measured may differ", bundle, ", ".join(other)
        )
    for used, requests in ((calibration.alone, "one AU"), (calibration.several, "several AUs")):
        if not used:
            logger.warning(
                "calibrated=true: requests of %s stay as they are; calibrating %s did not make them better",
                requests,
                bundle,
            )
    return calibration


def made_by(config: Config, generator: PipelineGenerator, bundle: Path) -> str:
    """Everything beside the plan that decides the images."""
    used = [
        path
        for path in sorted(bundle.iterdir())
        if path.suffix in (".safetensors", ".json") and (config.calibrated or path.name != CALIBRATION_FILE)
    ]
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in used}
    parts = {name: weights_hash(getattr(generator.pipe, name)) for name in ("unet", "vae", "text_encoder")}
    scheduler = {key: str(value) for key, value in sorted(generator.pipe.scheduler.config.items())}
    return json.dumps(
        [files, parts, scheduler, plain(config.method.sampling), config.method.base.resolution, config.scale]
    )
