"""From a bundle to numbers and a page: what `evaluate`, `report` and the end of `train` share."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from fineface_train.aus import AU_KEYS
from fineface_train.config import Config
from fineface_train.evaluation.drawn import ceiling
from fineface_train.evaluation.evaluate import evaluate, read_images
from fineface_train.evaluation.judges import load_judges
from fineface_train.evaluation.protocol import (
    CALIBRATION_SEED,
    REAL_PROMPTS,
    EvaluationPrompt,
    ProtocolName,
    build_plan,
    calibration_prompts,
    calibration_sets,
    toyfacs_combinations,
    toyfacs_prompts,
)
from fineface_train.files import hash_of, plain, read_json, write_json
from fineface_train.locks import locked
from fineface_train.methods.au_diffusion.base import PromptSet, load_base, weights_hash
from fineface_train.methods.au_diffusion.bundle import CALIBRATION_FILE, BundleConfig, load_adapter, load_calibration, save_calibration
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.calibration import Calibration, fit_calibration
from fineface_train.report import headline_table, write_report
from fineface_train.runs import FINISHED

logger = logging.getLogger(__name__)
EXTREME_SCALE, EXTREME_GUIDANCE = 5.0, 15.0
"""Up to so many times the adapter's trained scale, and so much guidance, the shipped bundle still draws faces."""


def evaluation_prompts(config: Config) -> list[EvaluationPrompt]:
    """The 15 prompts that suit the base."""
    return toyfacs_prompts() if config.base.prompts is PromptSet.toyfacs else list(REAL_PROMPTS)


def load_generator(config: Config, bundle: Path, pipe: StableDiffusionPipeline | None = None) -> PipelineGenerator:
    """The base (`pipe`, if it is loaded already) with a bundle in it, on the best device there is."""
    pipe = pipe or load_base(config.base)
    loaded = load_adapter(pipe, bundle, any_base=config.any_base)
    pipe.to(Accelerator().device)
    _warn_of_extremes(config, loaded)
    calibration = _calibration(config, bundle) if config.calibrated else None
    return PipelineGenerator(pipe, loaded.conditioning, config.sampling, config.base.resolution, config.scale, calibration)


def _warn_of_extremes(config: Config, bundle: BundleConfig) -> None:
    """Of a scale far from the one that was trained, and a guidance far beyond what is known to work."""
    trained = bundle.finetune.adapter_scale
    if config.scale is not None and not 0 <= config.scale <= EXTREME_SCALE * trained:
        logger.warning("note: scale=%g: the adapter was trained at %g; below 0 or beyond %g faces break", config.scale, trained, EXTREME_SCALE * trained)
    if config.sampling.guidance > EXTREME_GUIDANCE:
        guidance = config.sampling.guidance
        logger.warning("note: sampling.guidance=%g: far beyond what is in use (1 to 7.5); beyond %g colours burn out", guidance, EXTREME_GUIDANCE)


def _calibration(config: Config, bundle: Path) -> Calibration:
    """The bundle's calibration; warns where images are made in another way than it was fitted to."""
    calibration, about = load_calibration(bundle)
    here = plain(config)
    other = [key for key in ("sampling", "scale") if about.get(key) != here[key]]
    if other:
        logger.warning("%s was calibrated with other values of %s; what is measured may differ", bundle, ", ".join(other))
    for used, requests in ((calibration.alone, "one AU"), (calibration.several, "several AUs")):
        if not used:
            logger.warning("calibrated=true: requests of %s stay as they are; calibrating %s did not make them better", requests, bundle)
    return calibration


def calibrate_bundle(config: Config, bundle: Path) -> Path:
    """Measure how a bundle answers on the calibration prompts, and store in it what to ask for (see `methods.calibration`).

    The same images are then made calibrated: requests of one AU, and of several, are calibrated where that has lowered the error (on the commanded
    AU; over all 12).
    """
    generator = load_generator(dataclasses.replace(config, calibrated=False), bundle)
    judges = load_judges(config.judge, generator.pipe.device)
    judge = next(iter(judges.aus))
    prompts = calibration_prompts(config.base.prompts is PromptSet.toyfacs)
    plan = build_plan(ProtocolName.calibration, prompts, calibration_sets(), config.evaluation.seed + CALIBRATION_SEED)
    requested = np.array([image.request.aus for image in plan])

    def read() -> NDArray[np.float64]:
        frame = read_images(generator, judges, plan, config.evaluation.batch_size)
        return frame[[f"{judge}_{key}" for key in AU_KEYS]].to_numpy(float)

    measured = read()
    generator.calibration = fitted = fit_calibration(requested, measured)
    before, after = _calibration_errors(requested, measured), _calibration_errors(requested, read())
    calibration = dataclasses.replace(fitted, alone=after["alone"] < before["alone"], several=after["several"] < before["several"])
    here = plain(config)
    about = {"judge": judge, "images": len(plan), "seed": config.evaluation.seed + CALIBRATION_SEED, "error": {"as it is": before, "calibrated": after}}
    return save_calibration(bundle, calibration, about | {key: here[key] for key in ("sampling", "scale")})


def _calibration_errors(requested: NDArray[np.float64], measured: NDArray[np.float64]) -> dict[str, float]:
    """Mean squared errors: of requests of one AU on that AU, of several over all 12."""
    commanded, squared = requested != 0, (measured - requested) ** 2
    one, several = commanded.sum(1) == 1, commanded.sum(1) > 1
    return {"alone": float(squared[one][commanded[one]].mean()), "several": float(squared[several].mean())}


def measure_bundle(config: Config, bundle: Path, out: Path) -> dict[str, Any]:
    """Generate and judge the protocol's images under `out`; where faces can be drawn, the same for true drawings as the ceiling."""
    generator = load_generator(config, bundle)
    judges = load_judges(config.judge, generator.pipe.device)
    plan = build_plan(config.protocol, evaluation_prompts(config), toyfacs_combinations(), config.evaluation.seed)
    out.mkdir(parents=True, exist_ok=True)
    metrics = evaluate(
        generator,
        judges,
        plan,
        out,
        protocol=config.protocol,
        bundle=str(bundle),
        generator_fingerprint=_made_by(config, generator, bundle),
        batch_size=config.evaluation.batch_size,
    )
    if config.base.prompts is PromptSet.toyfacs and "ceiling" not in metrics:
        drawn = ceiling(judges, plan, out / "ceiling", config.protocol)
        metrics["ceiling"] = {part: drawn[part] for part in ("individual", "combination")}
    metrics["settings"] = evaluation_settings(config)
    write_json(out / "metrics.json", metrics)
    return metrics


def measure_once(config: Config, bundle: Path, out: Path) -> Path:
    """`measure_bundle` into `out`, alone there, unless `out` holds that evaluation; returns `out`."""
    with locked(out):
        if not is_measured(config, out):
            measure_bundle(config, bundle, out)
    return out


def evaluation_settings(config: Config) -> dict[str, Any]:
    """What of the config decides an evaluation's numbers; kept in metrics.json."""
    everything = plain(config)
    return {key: everything[key] for key in ("protocol", "sampling", "judge", "scale", "calibrated")} | {"seed": config.evaluation.seed}


def is_measured(config: Config, out: Path) -> bool:
    """Whether `out` holds a finished evaluation of these settings."""
    path = out / "metrics.json"
    return path.is_file() and read_json(path).get("settings") == evaluation_settings(config)


def _made_by(config: Config, generator: PipelineGenerator, bundle: Path) -> str:
    """Everything beside the plan that decides the images."""
    used = [path for path in sorted(bundle.iterdir()) if path.suffix in (".safetensors", ".json") and (config.calibrated or path.name != CALIBRATION_FILE)]
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in used}
    parts = {name: weights_hash(getattr(generator.pipe, name)) for name in ("unet", "vae", "text_encoder")}
    scheduler = {key: str(value) for key, value in sorted(generator.pipe.scheduler.config.items())}
    return json.dumps([files, parts, scheduler, plain(config.sampling), config.base.resolution, config.scale])


def evaluation_folder(config: Config, bundle: Path) -> Path:
    """Where an evaluation goes by default: the bundle's run if that holds none of another protocol or way of sampling, else a folder in it.

    A bundle outside a run gets a folder under `run.root` that is named by its weights.
    """
    if config.out:
        return Path(config.out)
    if not (bundle.parent / FINISHED).is_file():
        weights = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(bundle.glob("*.safetensors")))).hexdigest()
        return Path(config.run.root) / f"evaluation-{weights[:8]}-{config.protocol.value}"
    known = bundle.parent / "metrics.json"
    if not known.is_file():
        return bundle.parent
    found, ours = read_json(known, "protocol"), evaluation_settings(config)
    theirs = found.get("settings") or {}
    others = {key: ours[key] for key in ("sampling", "scale", "calibrated", "seed") if key in theirs and theirs[key] != ours[key]}
    if not others and found["protocol"] == config.protocol.value:
        return bundle.parent
    way = hash_of(others, 4)
    return bundle.parent / f"evaluation-{config.protocol.value}{f'-{way}' if others else ''}"


def print_report(folder: Path) -> Path:
    """Write the page of `folder`; print the headline table and where to look."""
    page = write_report(folder)
    if (folder / "metrics.json").is_file():
        print(headline_table(read_json(folder / "metrics.json", "individual", "combination")))
    sheets = sorted((folder / "samples").glob("*.png"))
    if sheets:
        print(f"samples: {sheets[-1]}")
    print(f"report: {page}")
    return page
