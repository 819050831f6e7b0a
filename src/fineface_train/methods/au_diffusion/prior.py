"""DreamBooth's prior (arXiv 2208.12242, section 3.2): what the untrained base makes of one prompt, so that training
does not forget it."""

import json
import logging
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from fineface_train.data.cache import generated_cache
from fineface_train.data.conditioning import NO_CONTROL
from fineface_train.data.crew import Crew
from fineface_train.data.examples import Prior
from fineface_train.data.prompts import PromptWriter, in_words
from fineface_train.methods.au_diffusion.config import FinetuneConfig, SamplingConfig

logger = logging.getLogger(__name__)


def prior(
    pipe: StableDiffusionPipeline,
    hashes: dict[str, str],
    finetune: FinetuneConfig,
    sampling: SamplingConfig,
    resolution: int,
    writer: PromptWriter,
    root: Path,
    crew: Crew,
) -> Prior:
    """Find or build under `root` the latents of `finetune.prior_images` images; `pipe` is the bare base, known by the
    `hashes` of its parts."""
    told = writer.write([finetune.prior_prompt], [NO_CONTROL])[0]
    for sentence in in_words(told, finetune.prior_prompt, writer.room) if crew.index == 0 else ():
        logger.warning("method.finetune.prior_prompt: %s", sentence)
    side = resolution // pipe.vae_scale_factor
    shape = (pipe.unet.config.in_channels, side, side)

    @torch.no_grad()
    def make(chosen: slice) -> Tensor:
        noise = [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            for seed in range(chosen.start, chosen.stop)
        ]
        latents = pipe(
            [told.text] * len(noise),
            latents=torch.stack(noise).to(pipe.device, pipe.unet.dtype),
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            height=resolution,
            width=resolution,
            output_type="latent",
        ).images
        if not latents.isfinite().all():
            raise FloatingPointError(
                f"the base's own images for DreamBooth's prior are not finite; lower "
                f"method.sampling.guidance={sampling.guidance:g}"
            )
        return latents / pipe.vae.config.scaling_factor

    scheduler = {key: str(value) for key, value in sorted(pipe.scheduler.config.items())}
    made_by = json.dumps([hashes, scheduler, told.text, sampling.steps, sampling.guidance, resolution], sort_keys=True)
    latents = generated_cache(finetune.prior_images, shape, made_by, make, root, crew=crew)
    with torch.no_grad():
        text = pipe.encode_prompt(told.text, pipe.device, 1, False)[0][0]
    return Prior(latents, text.float().cpu().numpy())
