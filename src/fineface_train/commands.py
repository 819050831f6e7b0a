"""What each verb does, top to bottom: prepare, train, generate, evaluate, report."""

import dataclasses
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers import StableDiffusionPipeline
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fineface_train.aus import AU_COUNT, AU_KEYS, MAX_INTENSITY, format_aus, parse_aus
from fineface_train.config import Config, plain, to_yaml
from fineface_train.data.cache import latent_cache, text_cache
from fineface_train.data.examples import ExampleDataset
from fineface_train.data.mixture import Mixture
from fineface_train.data.prepare import prepare as prepare_data
from fineface_train.data.prepare import read_manifest
from fineface_train.data.table import SampleTable
from fineface_train.evaluation.drawn import ceiling
from fineface_train.evaluation.evaluate import evaluate as evaluate_images
from fineface_train.evaluation.judges import load_judges
from fineface_train.evaluation.protocol import REAL_PROMPTS, EvaluationPrompt, build_plan, toyfacs_combinations, toyfacs_prompts
from fineface_train.methods.au_diffusion.adapter import AuditRow, audit
from fineface_train.methods.au_diffusion.base import PromptSet, fingerprint, load_base
from fineface_train.methods.au_diffusion.bundle import BundleConfig, base_fingerprints, load_adapter, read_bundle_config, save_bundle
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.au_diffusion.model import AUDiffusion, batch_to
from fineface_train.methods.protocol import Request
from fineface_train.report import headline_table, write_report
from fineface_train.runs import choose_folder, is_finished, provenance, write_json
from fineface_train.toyfacs.render import grid
from fineface_train.tracking import Tracker
from fineface_train.trainer import Precision, fit, make_accelerator, weight_dtype

DATA_SEED = 0
"""Chooses neutral frames and splits; not the run's seed, so that arms with different seeds share one table."""


def prepare(config: Config) -> SampleTable:
    """`fineface prepare`: from the files of a dataset to one table."""
    return prepare_data(config.data, DATA_SEED)


def train(config: Config) -> Path:
    """`fineface train`: fit an adapter, write its bundle, evaluate it and write the report. Returns the run folder."""
    accelerator = make_accelerator(config.trainer)
    with accelerator.main_process_first():
        table = prepare(config)
        pipe = load_base(config.base)
        vae_hash, text_hash, unet_hash = (fingerprint(module) for module in (pipe.vae, pipe.text_encoder, pipe.unet))
    corpus = read_manifest(Path(config.data.root))["corpus"]
    hashes = {"table": table.fingerprint(), "corpus": corpus, "vae": vae_hash, "text": text_hash, "unet": unet_hash}
    folder = _run_folder(config, accelerator, config.data.weights(table), hashes)
    if is_finished(folder):
        accelerator.print(f"{folder} is finished already; nothing to do. Start over in a new folder with run.fresh=true.\nrun: {folder}")
        return folder
    pipe.to(accelerator.device)
    with accelerator.main_process_first():
        cache, quiet = Path(config.data.root) / "cache", not accelerator.is_main_process
        latents = latent_cache(table, pipe.vae, vae_hash, cache, config.base.resolution, config.image_transform, quiet=quiet)
        text = text_cache(table, pipe, text_hash, cache, quiet=quiet)

    bundle_config = BundleConfig(
        encoder=config.encoder,
        finetune=config.finetune,
        base_name=config.base.name,
        base_fingerprints=base_fingerprints(pipe.unet),
        cross_attention_dim=pipe.unet.config.cross_attention_dim,
        resolution=config.base.resolution,
        training={"steps": config.trainer.steps, "batch_size": config.trainer.batch_size, "seed": config.seed, "data": config.data.name, "samples": len(table)},
    )
    dtype = torch.float64 if config.trainer.precision is Precision.fp64 else torch.float32
    pipe.to(dtype=weight_dtype(config.trainer, accelerator))
    model = AUDiffusion(
        pipe, config.encoder, config.finetune, config.objective, seed=config.seed, gradient_checkpointing=config.trainer.gradient_checkpointing
    ).to(accelerator.device)
    if dtype == torch.float64:
        model.double()
    mixture = Mixture(table, config.data.weights(table), config.data.rarity_weighting, config.seed)
    dataset = ExampleDataset(
        table.aus(), mixture, config.labels, config.conditioning, latents, text,
        timesteps=model.objective.timesteps, batch_size=config.trainer.batch_size, seed=config.seed,
    )  # fmt: skip
    rows = audit(pipe.unet, {"text encoder": pipe.text_encoder, "VAE": pipe.vae})
    accelerator.print(_audit_table(rows))

    tracker = _start_tracking(config, folder, rows) if accelerator.is_main_process else None
    started = time.perf_counter()

    def picture(step: int) -> None:
        assert tracker is not None
        with accelerator.autocast():
            image = _sample_sheet(config, pipe)
        path = folder / "samples" / f"step_{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        tracker.images(step, "samples", {"neutral, then each AU at 5": image})

    fit(
        model, dataset, config.trainer, accelerator, folder,
        to_device=lambda batch: batch_to(batch, accelerator.device, dtype),
        log=lambda step, values: tracker.log(step, values) if tracker else None,
        resumed=lambda step: tracker.resume(step) if tracker else None,
        picture=picture,
        log_every=config.tracking.log_every,
    )  # fmt: skip
    if accelerator.is_main_process:
        assert tracker is not None
        save_bundle(pipe.unet, bundle_config, folder / "bundle")
        seconds = time.perf_counter() - started
        made_from = {"base": {"name": config.base.name, "unet": unet_hash, "vae": vae_hash, "text_encoder": text_hash}, "table": table.fingerprint()}
        made_by = {"training_seconds": seconds, "processes": accelerator.num_processes, "device": str(accelerator.device)}
        write_json(folder / "provenance.json", provenance() | made_from | made_by)
        write_json(folder / "finished.json", {"steps": config.trainer.steps, "seconds": seconds})
        if config.evaluation.after_training:
            metrics = _evaluate(config, folder / "bundle", folder)
            headline = {part: {key: cell["value"] for key, cell in metrics[part].items()} for part in ("individual", "combination")}
            tracker.log(config.trainer.steps, {"evaluation": headline})
            tracker.table("evaluation/per_au", pd.DataFrame.from_dict(metrics["per_au"], orient="index").reset_index(names="au"))
            report(config, folder)
        tracker.finish()
        print(f"run: {folder}", flush=True)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return folder


def generate(config: Config) -> list[Path]:
    """`fineface generate`: faces of one prompt with the wanted AUs, as PNGs that carry how they were made."""
    if not config.prompt:
        raise ValueError('prompt is empty: say what to draw, e.g. prompt="a person with short red hair"')
    values = parse_aus(config.aus, allow_beyond_range=True)
    beyond = [key for key, value in zip(AU_KEYS, values, strict=True) if not 0 <= value <= MAX_INTENSITY]
    if beyond:
        print(f"note: {', '.join(beyond)} lies outside 0..{MAX_INTENSITY:g}: the adapter extrapolates beyond its training")
    bundle = _need_bundle(config)
    generator, _ = _load_generator(config, bundle)
    folder = Path(config.out or "outputs/generated")
    requests = [Request(config.prompt, tuple(values), config.seed + index) for index in range(config.n)]
    paths = [folder / f"{_slug(config.prompt)}_{_slug(format_aus(values))}_seed{request.seed}.png" for request in requests]
    taken = [path for path in paths if path.exists()]
    if taken:
        raise ValueError(f"{taken[0]} exists already; nothing is overwritten: choose another out=FOLDER or seed, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(requests), config.evaluation.batch_size):
        part = requests[start : start + config.evaluation.batch_size]
        for image, request, path in zip(generator.generate(part), part, paths[start:], strict=False):
            _save_png(_to_pil(image), path, {"prompt": request.prompt, "aus": format_aus(values), "seed": str(request.seed), "bundle": str(bundle)})
            print(path)
    return paths


def evaluate(config: Config) -> dict[str, Any]:
    """`fineface evaluate`: generate the protocol's images with a bundle, judge them, write rows and metrics."""
    bundle = _need_bundle(config)
    run = bundle.parent if (bundle.parent / "config.yaml").is_file() else None
    out = Path(config.out) if config.out else run or Path(config.run.root) / f"evaluation-{bundle.name}-{config.protocol.value}"
    metrics = _evaluate(config, bundle, out)
    print(headline_table(metrics))
    print(f"evaluation: {out}\nreport: {write_report(out)}")
    return metrics


def report(config: Config, folder: Path | None = None) -> Path:
    """`fineface report`: the HTML page and Markdown table of a run folder (out=FOLDER, or the one the bundle lies in)."""
    if folder is None:
        folder = Path(config.out) if config.out else _need_bundle(config).parent
    if not folder.is_dir():
        raise ValueError(f"out={folder}: no such folder; give the run folder that `fineface train` printed")
    page = write_report(folder)
    if (folder / "metrics.json").is_file():
        print(headline_table(json.loads((folder / "metrics.json").read_text())))
    sheets = sorted((folder / "samples").glob("*.png"))
    if sheets:
        print(f"samples: {sheets[-1]}")
    print(f"report: {page}")
    return page


def evaluation_prompts(config: Config) -> list[EvaluationPrompt]:
    """The 15 prompts that suit the base."""
    return toyfacs_prompts() if config.base.prompts is PromptSet.toyfacs else list(REAL_PROMPTS)


def _run_folder(config: Config, accelerator: Accelerator, weights: dict[str, float], hashes: dict[str, Any]) -> Path:
    """This run's folder, the same on all processes."""
    everything = plain(config)
    kept = ("seed", "image_transform", "labels", "conditioning", "encoder", "finetune", "objective", "trainer")
    identity: dict[str, Any] = {key: everything[key] for key in kept}
    identity["trainer"] = {key: value for key, value in identity["trainer"].items() if key not in ("workers", "checkpoint_every", "sample_every")}
    identity |= {"weights": weights, "rarity": config.data.rarity_weighting, "resolution": config.base.resolution} | hashes
    name = config.experiment or f"{config.data.name}-{config.encoder.name.value}"
    chosen = [choose_folder(config.run, name, identity)]
    if accelerator.num_processes > 1:
        broadcast_object_list(chosen)
    folder = chosen[0]
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.yaml").exists():
            (folder / "config.yaml").write_text(to_yaml(config))
    return folder


def _start_tracking(config: Config, folder: Path, rows: list[AuditRow]) -> Tracker:
    write_json(folder / "audit.json", {"parts": [dataclasses.asdict(row) for row in rows]})
    return Tracker(folder, config.tracking, plain(config), folder.name)


def _audit_table(rows: list[AuditRow]) -> str:
    """Trainable, frozen and dead parameters by part, as text."""
    lines = [f"{'part':<14}{'trainable':>14}{'frozen':>14}{'dead':>12}"]
    total = AuditRow("total", *(sum(getattr(row, kind) for row in rows) for kind in ("trainable", "frozen", "dead")))
    return "\n".join(lines + [f"{row.part:<14}{row.trainable:>14,}{row.frozen:>14,}{row.dead:>12,}" for row in [*rows, total]])


def _sample_sheet(config: Config, pipe: StableDiffusionPipeline) -> Image.Image:
    """Three prompts, each neutral and with every AU at 5: rows of 13 images."""
    pipe.unet.eval()
    generator = PipelineGenerator(pipe, config.sampling, config.base.resolution)
    neutral = (0.0,) * AU_COUNT
    sets = [neutral, *(tuple(MAX_INTENSITY * (place == index) for place in range(AU_COUNT)) for index in range(AU_COUNT))]
    prompts = evaluation_prompts(config)[4:7]
    requests = [Request(prompt.text, aus, config.evaluation.seed + row) for row, prompt in enumerate(prompts) for aus in sets]
    size = config.evaluation.batch_size
    images = torch.cat([generator.generate(requests[start : start + size]) for start in range(0, len(requests), size)])
    return Image.fromarray(grid(images, len(sets)))


def _load_generator(config: Config, bundle: Path) -> tuple[PipelineGenerator, BundleConfig]:
    """The base with a bundle in it, on the best device there is."""
    pipe = load_base(config.base)
    loaded = load_adapter(pipe, bundle, any_base=config.any_base)
    pipe.to(Accelerator().device)
    sampling = config.sampling if config.scale is None else dataclasses.replace(config.sampling, scale=config.scale)
    return PipelineGenerator(pipe, sampling, config.base.resolution), loaded


def _evaluate(config: Config, bundle: Path, out: Path) -> dict[str, Any]:
    generator, loaded = _load_generator(config, bundle)
    judges = load_judges(config.judge, generator.pipe.device)
    plan = build_plan(config.protocol, evaluation_prompts(config), toyfacs_combinations(), config.evaluation.seed)
    weights = b"".join(path.read_bytes() for path in sorted(bundle.glob("*.safetensors")))
    made_by = [hashlib.sha256(weights).hexdigest(), loaded.base_fingerprints, plain(generator.config), config.base.resolution]
    out.mkdir(parents=True, exist_ok=True)
    metrics = evaluate_images(
        generator,
        judges,
        plan,
        out,
        protocol=config.protocol,
        bundle=str(bundle),
        generator_fingerprint=json.dumps(made_by),
        batch_size=config.evaluation.batch_size,
    )
    if config.base.prompts is PromptSet.toyfacs and "ceiling" not in metrics:
        drawn = ceiling(judges, plan, out / "ceiling", config.protocol)
        metrics["ceiling"] = {part: drawn[part] for part in ("individual", "combination")}
        write_json(out / "metrics.json", metrics)
    return metrics


def _need_bundle(config: Config) -> Path:
    if not config.bundle:
        raise ValueError("bundle is empty: give a trained adapter, e.g. bundle=data/toyfacs/bundle or bundle=outputs/<run>/bundle")
    read_bundle_config(Path(config.bundle))  # what is wrong with it is said before a model loads
    return Path(config.bundle)


def _slug(text: str, limit: int = 60) -> str:
    return "".join(letter if letter.isalnum() or letter in "=.-" else "_" for letter in text)[:limit].strip("_")


def _to_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _save_png(image: Image.Image, path: Path, facts: dict[str, str]) -> None:
    info = PngInfo()
    for key, value in facts.items():
        info.add_itxt(key, value)
    partial = path.with_name(path.name + ".partial")
    image.save(partial, format="PNG", pnginfo=info)
    os.replace(partial, path)
