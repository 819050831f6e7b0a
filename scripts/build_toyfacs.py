#!/usr/bin/env python
"""Build every shipped ToyFACS weight from nothing: VAE, CLIP, judges, attribute classifier and the base pipeline.

    python scripts/build_toyfacs.py                    # all stages, resumed where they stopped
    python scripts/build_toyfacs.py --only base        # one stage

Each stage trains on endless drawings with known labels, passes a check, and is then written under data/toyfacs/ as
safetensors. Progress is saved every minute in outputs/build_toyfacs/; the same command goes on. On a CPU each stage
runs as one single-threaded process per core (faster than one many-threaded process); on a GPU as one process.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL, StableDiffusionPipeline
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.judges.models import AttributeClassifier, PyramidJudge, ResidualJudge
from fineface_train.toyfacs import models
from fineface_train.toyfacs.faces import ATTRIBUTES, Face
from fineface_train.toyfacs.render import RESOLUTION, grid
from fineface_train.toyfacs.stage import SCRATCH, SHIPPED, Stage, built, forget, record, scratch_folder
from fineface_train.toyfacs.worlds import Drawings, Expressions, sample_drawings

STEPS = {"autoencoder": 5000, "clip": 2000, "judge_one": 1800, "judge_two": 2000, "attributes": 400, "base": 5600}
CLIP_SIBLINGS_FROM = 700
POOL = 40_000
BASE_BATCH = 32
HELD_OUT = 1_000_000_007
"""First word of the seed of drawings that only checks see."""
DENSE, SPARSE = (Expressions.dense,), (Expressions.sparse,)


def new_stage(name: str, model: nn.Module, rate: float, *, ema: float, upstream: tuple[str, ...] = ()) -> Stage:
    return Stage(
        name, model, steps=STEPS[name], rate=rate, ema=ema, stream=sorted(STEPS).index(name), upstream=upstream
    )


def held_out(count: int, kinds: tuple[Expressions, ...] = DENSE + SPARSE):  # noqa: ANN201
    return [sample_drawings((HELD_OUT, index), 50, kinds) for index in range(count // 50)]


def build_autoencoder() -> None:
    model = models.build_autoencoder(RESOLUTION)
    with (
        torch.no_grad()
    ):  # Residual branches off and almost no posterior noise: a far quicker start (measured, see docs).
        for block in model.modules():
            if isinstance(block, ResnetBlock2D):
                block.conv2.weight.zero_()
                block.conv2.bias.zero_()
        model.quant_conv.weight[models.LATENT_CHANNELS :] = 0
        model.quant_conv.bias[models.LATENT_CHANNELS :] = -7
    stage = new_stage("autoencoder", model, 1.5e-3, ema=0.998)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        images = draw_batch(stage, step, 4).images * 2 - 1
        # Through DDP's forward; posterior std stays near e^-3.5, since only the reconstruction and a faint KL pull on
        # it.
        output = stage.model(images, sample_posterior=True).sample
        loss = (output - images).abs().mean() + 2 * F.mse_loss(output, images)
        return loss, {"loss": f"{loss.item():.4f}"}

    stage.fit(loss_at)
    squared, latents = [], []
    with torch.no_grad():
        for batch in held_out(400):
            images = batch.images * 2 - 1
            mean = model.encode(images).latent_dist.mean
            squared.append(F.mse_loss(model.decode(mean).sample, images).item())
            latents.append(mean)
    model.register_to_config(scaling_factor=round(1 / torch.cat(latents).std().item(), 5))
    psnr = round(-10 * math.log10(sum(squared) / len(squared) / 4), 2)
    stage.ship("base/vae", {"psnr": psnr}, passed=psnr >= 28)


def build_clip() -> None:
    tokenizer = learned_tokenizer()
    stage = new_stage("clip", models.build_clip(tokenizer, RESOLUTION), 1.5e-3, ema=0.99)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        # Without siblings in a batch, colours alone tell images apart, and the text tower forgets glasses, beards and
        # expressions.
        batch = draw_batch(stage, step, 48, siblings=step >= CLIP_SIBLINGS_FROM)
        tokens = tokenizer(batch.captions, padding=True, truncation=True, return_tensors="pt").to(
            stage.accelerator.device
        )
        output = stage.model(**tokens, pixel_values=clip_pixels(batch.images), return_loss=True)
        return output.loss, {"loss": f"{output.loss.item():.3f}"}

    stage.fit(loss_at)
    hits = []
    with torch.no_grad():
        for index in range(10):
            batch = sample_drawings((HELD_OUT, index), 50, siblings=True)
            tokens = tokenizer(batch.captions, padding="max_length", truncation=True, return_tensors="pt")
            scores = stage.raw(**tokens, pixel_values=clip_pixels(batch.images)).logits_per_image
            hits.append((scores.argmax(1) == torch.arange(50)).float().mean().item())
    found = round(sum(hits) / len(hits), 4)
    passed = found >= 0.8
    if passed and stage.accelerator.is_main_process:
        side = {"height": RESOLUTION, "width": RESOLUTION}
        CLIPImageProcessorPil(
            size={"shortest_edge": RESOLUTION}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ).save_pretrained(SHIPPED / "clip")
        tokenizer.save_pretrained(SHIPPED / "clip")
    stage.ship("clip", {"caption_found_among_50_siblings": found}, passed=passed)


def learned_tokenizer() -> CLIPTokenizer:
    """A vocabulary of the captions; ties between merges fall at random, so one process learns it, once."""
    accelerator = Accelerator()
    folder = scratch_folder("clip") / "tokenizer"
    if accelerator.is_main_process and not (folder / "tokenizer_config.json").exists():
        captions = [text for index in range(40) for text in sample_drawings((HELD_OUT + 1, index), 50).captions]
        models.build_tokenizer(captions).save_pretrained(folder)
    accelerator.wait_for_everyone()
    return CLIPTokenizer.from_pretrained(folder)


def clip_pixels(images: Tensor) -> Tensor:
    """Images in [0, 1] as the shipped CLIP image processor hands them over."""
    return images * 2 - 1


def augment(images: Tensor) -> Tensor:
    """What a generator may do to a drawing: a little blur, noise, shift of tone; each sample its own amount."""
    count, device = len(images), images.device
    amount = torch.rand(count, 1, 1, 1, device=device) ** 2
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    mixed = images + 0.7 * amount * (blurred - images)
    tone = 1 + 0.1 * torch.randn(count, 3, 1, 1, device=device)
    noise = 0.05 * torch.rand(count, 1, 1, 1, device=device) * torch.randn_like(images)
    return (mixed * tone + 0.03 * torch.randn(count, 3, 1, 1, device=device) + noise).clamp(0, 1)


def build_judge(name: str, model: nn.Module, rate: float, kinds: tuple[Expressions, ...]) -> None:
    """An AU judge: mean squared error on augmented drawings of `kinds`; checked on both kinds, held out."""
    stage = new_stage(name, model, rate, ema=0.998)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        batch = draw_batch(stage, step, 32, kinds)
        loss = F.mse_loss(stage.model(augment(batch.images)), batch.aus.to(stage.accelerator.device))
        return loss, {"loss": f"{loss.item():.3f}"}

    stage.fit(loss_at)
    measured = {}
    vae_path = SHIPPED / "base" / "vae"
    vae = AutoencoderKL.from_pretrained(vae_path).eval() if vae_path.exists() else None
    for kind in Expressions:
        errors, shifts = [], []
        with torch.no_grad():
            for batch in held_out(1000, (kind,)):
                read = model(batch.images).clamp(0, 5)
                errors.append(((read - batch.aus) ** 2).mean(0))
                if vae is not None:
                    decoded = vae.decode(vae.encode(batch.images * 2 - 1).latent_dist.mean).sample
                    shifts.append((model((decoded / 2 + 0.5).clamp(0, 1)).clamp(0, 5) - read).mean(0))
        per_au = torch.stack(errors).mean(0)
        measured[f"mse_{kind.value}"] = round(per_au.mean().item(), 4)
        measured[f"mse_{kind.value}_per_au"] = dict(zip(AU_KEYS, [round(v, 4) for v in per_au.tolist()], strict=True))
        if shifts:
            shift = torch.stack(shifts).mean(0)
            measured[f"vae_shift_{kind.value}_per_au"] = dict(
                zip(AU_KEYS, [round(v, 3) for v in shift.tolist()], strict=True)
            )
    worst = max(measured["mse_dense_per_au"].values())
    stage.ship(f"judges/{name}", measured, passed=worst <= 0.15)


def build_attributes() -> None:
    stage = new_stage("attributes", AttributeClassifier(), 2e-3, ema=0.99)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        batch = draw_batch(stage, step, 32)
        truth = torch.tensor([face.indices() for face in batch.faces], device=stage.accelerator.device)
        logits = stage.model(augment(batch.images))
        loss = sum((F.cross_entropy(logit, truth[:, index]) for index, logit in enumerate(logits)), torch.zeros(()))
        return loss, {"loss": f"{loss.item():.3f}"}

    stage.fit(loss_at)
    accuracy = attribute_accuracy(stage.raw, [(b.images, b.faces) for b in held_out(500)])
    stage.ship("judges/attributes", {"accuracy": accuracy}, passed=accuracy["mean"] >= 0.98)


def attribute_accuracy(classifier: nn.Module, batches: list[tuple[Tensor, list[Face]]]) -> dict[str, float]:
    """Share of images that show what the caption said, per attribute and on average."""
    hits = []
    with torch.no_grad():
        for images, faces in batches:
            truth = torch.tensor([face.indices() for face in faces])
            hits.append(torch.stack([logit.argmax(1) for logit in classifier(images)], 1) == truth)
    accuracy = torch.cat(hits).float().mean(0)
    return {name: round(value, 4) for name, value in zip(ATTRIBUTES, accuracy.tolist(), strict=True)} | {
        "mean": round(accuracy.mean().item(), 4)
    }


def latent_pool(stage: Stage, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> tuple[list[Tensor], list[Tensor]]:
    """`POOL` drawings as scaled latents (fp16) and caption tokens, in shards of 1,000 that all processes build
    together."""
    folder = stage.scratch / "pool"
    folder.mkdir(parents=True, exist_ok=True)
    mine = range(stage.accelerator.process_index, POOL // 1000, stage.accelerator.num_processes)
    for shard in tqdm(mine, desc="drawing and encoding", disable=not stage.accelerator.is_main_process):
        path = folder / f"{shard:03d}.safetensors"
        if path.exists():
            continue
        latents, tokens = [], []
        for part in range(20):
            batch = sample_drawings((99, shard, part), 50)
            with torch.no_grad():
                latents.append(
                    vae.encode(batch.images.to(vae.device) * 2 - 1).latent_dist.mean.cpu() * vae.config.scaling_factor
                )
            tokens.append(
                tokenizer(batch.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
            )
        save_file({"latents": torch.cat(latents).half(), "tokens": torch.cat(tokens).short()}, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    stage.accelerator.wait_for_everyone()
    shards = [load_file(folder / f"{shard:03d}.safetensors") for shard in range(POOL // 1000)]
    return [shard["latents"] for shard in shards], [shard["tokens"] for shard in shards]


def build_base() -> None:
    """The base pipeline: x0 prediction with weights min(SNR + 1, 10), one caption in ten dropped for guidance."""
    stage = new_stage("base", models.build_unet(RESOLUTION), 1.2e-3, ema=0.998, upstream=("base/vae", "clip"))
    device, share = stage.accelerator.device, BASE_BATCH // stage.accelerator.num_processes
    vae = AutoencoderKL.from_pretrained(SHIPPED / "base" / "vae").eval().to(device)
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "clip")
    text_encoder = (
        models.text_encoder_of(CLIPModel.from_pretrained(SHIPPED / "clip")).eval().requires_grad_(False).to(device)
    )
    latent_shards, token_shards = latent_pool(stage, vae, tokenizer)
    latents, tokens = torch.cat(latent_shards), torch.cat(token_shards)
    blank = tokenizer("", padding="max_length", truncation=True, return_tensors="pt").input_ids[0].short()
    scheduler = models.build_scheduler()
    alphas = scheduler.alphas_cumprod.to(device)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        chosen = torch.randint(len(latents), (share,))
        clean = latents[chosen].float().to(device)
        words = torch.where(torch.rand(share, 1) < 0.1, blank, tokens[chosen]).long().to(device)
        with torch.no_grad():
            text = text_encoder(words).last_hidden_state
        timesteps = torch.randint(1000, (share,), device=device)
        noisy = scheduler.add_noise(clean, torch.randn_like(clean), timesteps)
        signal = alphas[timesteps]
        weight = (signal / (1 - signal) + 1).clamp(max=10)
        error = (stage.model(noisy, timesteps, text).sample - clean).pow(2).mean((1, 2, 3))
        loss = (weight * error).mean()
        return loss, {"loss": f"{loss.item():.3f}", "x0_error": f"{error.mean().item():.4f}"}

    stage.fit(loss_at)
    if not stage.accelerator.is_main_process:
        return
    stage.raw.half().float()  # shipped in half precision, so checked with its rounding
    pipe = StableDiffusionPipeline(
        vae=vae.cpu(),
        text_encoder=text_encoder.cpu(),
        tokenizer=tokenizer,
        unet=stage.raw,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    classifier = AttributeClassifier.from_pretrained(SHIPPED / "judges" / "attributes").eval()
    batches = []
    for index in tqdm(range(8), desc="checking captions"):
        batch = sample_drawings((HELD_OUT, 1000 + index), 50, expression_share=0.0)
        images = pipe(
            batch.captions,
            num_inference_steps=25,
            guidance_scale=3.0,
            output_type="pt",
            generator=[torch.Generator().manual_seed(i) for i in range(50)],
        ).images
        batches.append((images, batch.faces))
    Image.fromarray(grid(torch.cat([images[:6] for images, _ in batches]), 12)).save(SCRATCH / "base_samples.png")
    accuracy = attribute_accuracy(classifier, batches)
    pipe.unet.half()
    stage.ship("base", {"caption_accuracy": accuracy}, passed=accuracy["mean"] >= 0.95, model=pipe)


def build_bundle(launcher: list[str], environment: dict[str, str]) -> None:
    """The shipped adapter: `fineface train experiment=toyfacs`, resumed or found finished, and its bundle copied
    here."""
    command = [*launcher, "-m", "fineface_train", "train", "experiment=toyfacs"]
    output = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout
    run = Path(next(line.removeprefix("run: ") for line in output.splitlines() if line.startswith("run: ")))
    metrics, finished = (json.loads((run / name).read_text()) for name in ("metrics.json", "finished.json"))
    measured = {
        key: metrics["individual"][key]["value"]
        for key in ("slope", "au_mse_active", "au_mse_mean", "rank_correlation", "clip_i")
    }
    fault = _fault_of_bundle(metrics)
    if fault:
        raise SystemExit(f"bundle: {fault}; {run} was not copied")
    shutil.copytree(run / "bundle", SHIPPED / "bundle", dirs_exist_ok=True)
    record("bundle", measured | {"seconds": round(finished["training_seconds"]), "steps": finished["steps"]})


def _fault_of_bundle(metrics: dict) -> str | None:
    """What keeps an adapter from being shipped."""
    headline, per_au = metrics["individual"], metrics["per_au"].values()
    limits = {
        "mean slope under 0.85": headline["slope"]["value"] < 0.85,
        "an AU's slope under 0.5": min(au["slope"] for au in per_au) < 0.5,
        "au_mse_active over 15% of always-zero": headline["au_mse_active"]["value"]
        > 0.15 * headline["au_mse_active"]["always_zero"],
        "au_mse_mean over half of always-zero": headline["au_mse_mean"]["value"]
        > 0.5 * headline["au_mse_mean"]["always_zero"],
        "rank correlation under 0.9 for more than two AUs": sum(au["rank_correlation"] < 0.9 for au in per_au) > 2,
    }
    return ", ".join(limit for limit, broken in limits.items() if broken) or None


def draw_batch(
    stage: Stage, step: int, count: int, kinds: tuple[Expressions, ...] = DENSE + SPARSE, *, siblings: bool = False
) -> Drawings:
    batch = sample_drawings(stage.seed(step), count, kinds, siblings=siblings)
    batch.images = batch.images.to(stage.accelerator.device)
    return batch


STAGES = {
    "autoencoder": build_autoencoder,
    "clip": build_clip,
    "judge_one": lambda: build_judge("judge_one", ResidualJudge(), 2e-3, DENSE + SPARSE),
    "judge_two": lambda: build_judge("judge_two", PyramidJudge(), 1e-3, DENSE),
    "attributes": build_attributes,
    "base": build_base,
}
LAST = "bundle"


def launch(stage: str, processes: int) -> None:
    """Run one stage in processes of its own: one per core without a GPU, one in all with a GPU."""
    environment = os.environ | {"OMP_NUM_THREADS": "1" if processes > 1 else os.environ.get("OMP_NUM_THREADS", "")}
    if not environment["OMP_NUM_THREADS"]:
        del environment["OMP_NUM_THREADS"]
    if not torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"
    if stage in (LAST, "base"):  # their batches are shared out
        processes = next(count for count in range(processes, 0, -1) if BASE_BATCH % count == 0)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    if stage == LAST:
        build_bundle(launcher, environment)
    else:
        subprocess.run([*launcher, __file__, "--inside", stage], check=True, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    only = (
        "these stages, from nothing if they were built; the bundle's run is taken up again (default: all that "
        "data/toyfacs/build.json does not hold)"
    )
    parser.add_argument("--only", choices=[*STAGES, LAST], nargs="+", default=None, help=only)
    parser.add_argument(
        "--processes", type=int, default=1 if torch.cuda.is_available() else os.cpu_count(), help="processes per stage"
    )
    parser.add_argument("--inside", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        torch.manual_seed(0)
        STAGES[arguments.inside]()
        return
    started = time.time()
    for stage in set(arguments.only or ()) & set(built()):
        forget(stage)
    stages = arguments.only or [stage for stage in (*STAGES, LAST) if stage not in built()]
    for stage in stages:
        launch(stage, arguments.processes)
    minutes = sum(stage["seconds"] for stage in built().values()) / 60
    print(
        f"built {', '.join(stages) or 'nothing'} in {(time.time() - started) / 60:.1f} minutes; all stages together: "
        f"{minutes:.1f} minutes of wall time"
    )


if __name__ == "__main__":
    main()
