"""From a bundle to numbers and a page: what `evaluate`, `report` and the end of `train` share."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from fineface_train.aus import AU_KEYS
from fineface_train.compose import load_config
from fineface_train.config import Config
from fineface_train.earlier_keys import of_evaluation
from fineface_train.evaluation.ceiling import ceiling
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.evaluate import METRICS, PICTURES, evaluate, read_images
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.judges.judges import find_judges, load_judges
from fineface_train.evaluation.plan import (
    CALIBRATION_SEED,
    REAL_PROMPTS,
    EvaluationPrompt,
    build_plan,
    calibration_prompts,
    calibration_sets,
    toyfacs_combinations,
    toyfacs_prompts,
)
from fineface_train.files import flat, hash_of, plain, read_json, write_json
from fineface_train.locks import locked, writable
from fineface_train.loop.runs import FINISHED
from fineface_train.methods.au_diffusion.base import load_base, recorded, weights_hash
from fineface_train.methods.au_diffusion.bundle import (
    CALIBRATION_FILE,
    load_adapter,
    load_calibration,
    save_calibration,
)
from fineface_train.methods.au_diffusion.bundle_config import CONFIG_FILE, BundleConfig
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.calibration import Calibration, fit_calibration
from fineface_train.overrides import choices
from fineface_train.reports.run import command, headline_table, unjudged, write_report
from fineface_train.verbs.base_of_bundle import base_is_found, fitting_base, read_run_config, with_base

logger = logging.getLogger(__name__)
EXTREME_SCALE, EXTREME_GUIDANCE = 5.0, 15.0
"""Up to so many times the adapter's trained scale, and so much guidance, the shipped bundle still draws faces."""


def evaluation_prompts(config: Config) -> list[EvaluationPrompt]:
    """The 15 prompts that suit the base."""
    return toyfacs_prompts() if config.method.draws == "toyfacs" else list(REAL_PROMPTS)


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
    here = _way(config)
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


def calibrate_bundle(config: Config, bundle: Path) -> Path:
    """Measure how a bundle answers on the calibration prompts, and store in it what to ask for (see
    `methods.calibration`).

    The same images are then made calibrated: requests of one AU, and of several, are calibrated where that has lowered
    the error (on the commanded AU; over all 12).
    """
    generator = load_generator(dataclasses.replace(config, calibrated=False), bundle)
    judges = load_judges(config.judge, generator.pipe.device)
    judge = next(iter(judges.aus))
    prompts = calibration_prompts(config.method.draws == "toyfacs")
    plan = build_plan(ProtocolName.calibration, prompts, calibration_sets(), config.evaluation.seed + CALIBRATION_SEED)
    requested = np.array([image.request.aus for image in plan])

    def read() -> NDArray[np.float64]:
        frame = read_images(generator, judges, plan, config.evaluation.batch_size)
        return frame[[f"{judge}_{key}" for key in AU_KEYS]].to_numpy(float)

    measured = read()
    generator.calibration = fitted = fit_calibration(requested, measured)
    before, after = _calibration_errors(requested, measured), _calibration_errors(requested, read())
    calibration = dataclasses.replace(
        fitted, alone=after["alone"] < before["alone"], several=after["several"] < before["several"]
    )
    about = {
        "judge": judge,
        "images": len(plan),
        "seed": config.evaluation.seed + CALIBRATION_SEED,
        "error": {"as it is": before, "calibrated": after},
    }
    return save_calibration(bundle, calibration, about | _way(config))


def _way(config: Config) -> dict[str, Any]:
    """How images are drawn, as calibrations and evaluations have it written down."""
    return {"sampling": plain(config.method.sampling), "scale": config.scale}


def _calibration_errors(requested: NDArray[np.float64], measured: NDArray[np.float64]) -> dict[str, float]:
    """Mean squared errors: of requests of one AU on that AU, of several over all 12."""
    commanded, squared = requested != 0, (measured - requested) ** 2
    one, several = commanded.sum(1) == 1, commanded.sum(1) > 1
    return {"alone": float(squared[one][commanded[one]].mean()), "several": float(squared[several].mean())}


def measure_bundle(config: Config, bundle: Path, out: Path) -> dict[str, Any]:
    """Generate and judge the protocol's images under `out`; where faces can be drawn, the same for true drawings as the
    ceiling.

    With judge=none the images are made, and nothing is measured.
    """
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
    if judges.aus and config.method.draws == "toyfacs" and "ceiling" not in metrics:
        drawn = ceiling(judges, plan, out / "ceiling", config.protocol)
        metrics["ceiling"] = {part: drawn[part] for part in ("individual", "combination")}
    if judges.aus or "individual" not in metrics:  # else these are the images of an evaluation that has been judged
        metrics["settings"] = evaluation_settings(config)
        metrics["judge_it"] = judge_command(config, bundle, out)
        write_json(out / (METRICS if judges.aus else PICTURES), metrics)
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
    return (
        {key: everything[key] for key in ("protocol", "judge", "calibrated")}
        | _way(config)
        | {"seed": config.evaluation.seed}
    )


def is_measured(config: Config, out: Path) -> bool:
    """Whether `out` holds a finished evaluation of these settings; without a judge, one of these images by whatever
    judge."""
    found, ours = read_evaluation(out).get("settings"), evaluation_settings(config)
    if config.judge.kind is JudgeKind.none and found:
        found, ours = found | {"judge": None}, ours | {"judge": None}
    return found == ours


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What is known of an evaluation in `folder`, of judged images or else of pictures; nothing where there is none."""
    return of_evaluation(
        next((read_json(folder / name) for name in (METRICS, PICTURES) if (folder / name).is_file()), {})
    )


def fitting_judge(config: Config) -> str:
    """The judge that reads what the base draws."""
    return "toyfacs" if config.method.draws == "toyfacs" else "libreface"


def check_judge(config: Config) -> None:
    """Raises ValueError where the judge's models are missing."""
    try:
        find_judges(config.judge)
    except ValueError as error:
        raise ValueError(
            f"{error}; without a judge: judge=none makes pictures and a page, which a judge can measure later"
        ) from error


def judge_command(config: Config, bundle: Path, out: Path) -> str:
    """The command that measures these very images, by the judge that fits: nothing of them is made again."""
    base: list[str] = []
    if not base_is_found(bundle):
        ours = config.method.base
        base = [f"base={ours.name if ours.name in choices('base') else fitting_base(ours.prompts)}"]
        if ours.path:
            base.append(f"method.base.path={os.path.abspath(ours.path) if Path(ours.path).is_dir() else ours.path}")
    return _judging(bundle, out, fitting_judge(config), _of_images(config), base)


def _judging(bundle: Path, out: Path, judge: str, wanted: dict[str, Any], base: Sequence[str] = ()) -> str:
    """The command that evaluates a bundle in `out` as `wanted` (see `_of_images`)."""
    said = [f"bundle={bundle.absolute()}", f"out={out.absolute()}", f"judge={judge}", *base]
    default = dict(flat(_of_images(load_config(with_base(said, tell=False)))))
    return command(
        "evaluate",
        *said,
        *(f"{key}={_written(value)}" for key, value in flat(wanted) if key in default and default[key] != value),
    )


def _of_images(config: Config) -> dict[str, Any]:
    """What of the config decides an evaluation's images, beside the bundle's own base."""
    everything = plain(config)
    chosen: dict[str, Any] = {key: everything[key] for key in ("protocol", "scale", "calibrated", "any_base")}
    method = {"sampling": plain(config.method.sampling), "base": recorded(config.method.base)}
    return chosen | {"evaluation": {"seed": config.evaluation.seed}, "method": method}


def _written(value: Any) -> str:
    """As an override has it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _made_by(config: Config, generator: PipelineGenerator, bundle: Path) -> str:
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


def evaluation_folder(config: Config, bundle: Path) -> Path:
    """Where an evaluation goes by default: the bundle's run if that holds none of another protocol or way of sampling,
    else a folder in it.

    A bundle outside a run, or in one that cannot be written and does not hold this evaluation, gets a folder under
    `run.root` that is named by its weights.
    """
    if config.out:
        return Path(config.out)
    if (bundle.parent / FINISHED).is_file():
        folder = _folder_in_run(config, bundle)
        if writable(folder) or is_measured(config, folder):
            return folder
    weights = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(bundle.glob("*.safetensors")))).hexdigest()
    return Path(config.run.root) / f"evaluation-{weights[:8]}-{config.protocol.value}"


def _folder_in_run(config: Config, bundle: Path) -> Path:
    found, ours = read_evaluation(bundle.parent), evaluation_settings(config)
    if not found:
        return bundle.parent
    theirs = found.get("settings") or {}
    others = {
        key: ours[key]
        for key in ("sampling", "scale", "calibrated", "seed")
        if key in theirs and theirs[key] != ours[key]
    }
    if not others and found["protocol"] == config.protocol.value:
        return bundle.parent
    way = hash_of(others, 4)
    return bundle.parent / f"evaluation-{config.protocol.value}{f'-{way}' if others else ''}"


def print_report(folder: Path) -> Path:
    """Write the page of `folder`, unless it cannot be written; print the headline table, or how to get one, and where
    to look."""
    page = write_report(folder, _judge_command_of_run(folder)) if writable(folder) else folder / "report.html"
    if (folder / METRICS).is_file():
        print(headline_table(read_json(folder / METRICS, "individual", "combination")))
    elif (folder / PICTURES).is_file():
        print(unjudged(of_evaluation(read_json(folder / PICTURES, "protocol", "images"))))
    sheets = sorted((folder / "samples").glob("*.png"))
    if sheets:
        print(f"samples: {sheets[-1]}")
    print(f"report: {page}")
    return page


def _judge_command_of_run(run: Path) -> str | None:
    """The command that evaluates a run's bundle as its config says, by the judge that fits its base; None where there
    is no such bundle."""
    if (
        not (run / "bundle" / CONFIG_FILE).is_file()
        or not (run / "config.yaml").is_file()
        or not base_is_found(run / "bundle")
    ):
        return None
    config = read_run_config(run)
    wanted: dict[str, Any] = {key: config[key] for key in ("protocol", "scale") if key in config}
    wanted |= {"method": {key: value for key, value in (config.get("method") or {}).items() if key == "sampling"}}
    wanted |= (
        {"evaluation": {"seed": config["evaluation"]["seed"]}} if "seed" in (config.get("evaluation") or {}) else {}
    )
    judge = fitting_judge(load_config(with_base([f"bundle={run / 'bundle'}"], tell=False)))
    return _judging(run / "bundle", run, judge, wanted)
