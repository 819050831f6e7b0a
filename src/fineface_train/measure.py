"""From a bundle to numbers and a page: what `evaluate`, `report` and the end of `train` share."""

import hashlib
import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from fineface_train.config import Config
from fineface_train.evaluation.drawn import ceiling
from fineface_train.evaluation.evaluate import evaluate
from fineface_train.evaluation.judges import load_judges
from fineface_train.evaluation.protocol import REAL_PROMPTS, EvaluationPrompt, build_plan, toyfacs_combinations, toyfacs_prompts
from fineface_train.files import plain, read_json, write_json
from fineface_train.methods.au_diffusion.base import PromptSet, load_base, weights_hash
from fineface_train.methods.au_diffusion.bundle import load_adapter
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.report import headline_table, write_report
from fineface_train.runs import FINISHED


def evaluation_prompts(config: Config) -> list[EvaluationPrompt]:
    """The 15 prompts that suit the base."""
    return toyfacs_prompts() if config.base.prompts is PromptSet.toyfacs else list(REAL_PROMPTS)


def load_generator(config: Config, bundle: Path) -> PipelineGenerator:
    """The base with a bundle in it, on the best device there is."""
    pipe = load_base(config.base)
    loaded = load_adapter(pipe, bundle, any_base=config.any_base)
    pipe.to(Accelerator().device)
    return PipelineGenerator(pipe, loaded.conditioning, config.sampling, config.base.resolution, config.scale)


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


def evaluation_settings(config: Config) -> dict[str, Any]:
    """What of the config decides an evaluation's numbers; kept in metrics.json."""
    everything = plain(config)
    return {key: everything[key] for key in ("protocol", "sampling", "judge", "scale")} | {"seed": config.evaluation.seed}


def is_measured(config: Config, out: Path) -> bool:
    """Whether `out` holds a finished evaluation of these settings."""
    path = out / "metrics.json"
    return path.is_file() and read_json(path).get("settings") == evaluation_settings(config)


def _made_by(config: Config, generator: PipelineGenerator, bundle: Path) -> str:
    """Everything beside the plan that decides the images."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(bundle.iterdir()) if path.suffix in (".safetensors", ".json")}
    parts = {name: weights_hash(getattr(generator.pipe, name)) for name in ("unet", "vae", "text_encoder")}
    scheduler = {key: str(value) for key, value in sorted(generator.pipe.scheduler.config.items())}
    return json.dumps([files, parts, scheduler, plain(config.sampling), config.base.resolution, config.scale])


def evaluation_folder(config: Config, bundle: Path) -> Path:
    """Where an evaluation goes by default: the bundle's run if that holds no other protocol, else a folder beside it.

    A bundle outside a run gets a folder under `run.root` that is named by its weights.
    """
    if config.out:
        return Path(config.out)
    if not (bundle.parent / FINISHED).is_file():
        weights = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(bundle.glob("*.safetensors")))).hexdigest()
        return Path(config.run.root) / f"evaluation-{weights[:8]}-{config.protocol.value}"
    known = bundle.parent / "metrics.json"
    if not known.is_file() or read_json(known, "protocol")["protocol"] == config.protocol.value:
        return bundle.parent
    return bundle.parent / f"evaluation-{config.protocol.value}"


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
