"""The base pipeline: a UNet on the latents of drawings, with the VAE and the text encoder that were built before."""

import os

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPModel, CLIPTokenizer

from fineface_train.evaluation.judges.models import AttributeClassifier
from fineface_train.toyfacs.render import RESOLUTION, grid
from fineface_train.toyfacs.worlds import sample_drawings
from toyfacs_weights import models
from toyfacs_weights.batches import HELD_OUT
from toyfacs_weights.judges import attribute_accuracy
from toyfacs_weights.stage import SCRATCH, SHIPPED, Stage, new_stage

POOL = 40_000
BASE_BATCH = 32


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
