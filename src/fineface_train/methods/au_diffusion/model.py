"""The trainable model: one module whose forward takes a batch and returns its losses."""

import dataclasses

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from fineface_train.data.examples import Batch
from fineface_train.methods.au_diffusion.adapter import FinetuneConfig, install_adapter, install_lora, mark_trainable
from fineface_train.methods.au_diffusion.encoders import EncoderConfig
from fineface_train.methods.au_diffusion.objective import Objective, ObjectiveConfig


class AUDiffusion(nn.Module):
    """The adapted UNet and its objective. VAE and text encoder stay outside: their outputs come with the batch."""

    def __init__(
        self,
        pipe: StableDiffusionPipeline,
        encoder: EncoderConfig,
        finetune: FinetuneConfig,
        objective: ObjectiveConfig,
        *,
        seed: int,
        gradient_checkpointing: bool,
        compiled: bool = False,
    ) -> None:
        """Adapt `pipe.unet` in place; new weights come from `seed`, so that arms with one seed start alike.

        `compiled`: predict with torch.compile; the pipeline's own UNet stays as it is, so that pictures do not compile anew.
        """
        super().__init__()
        self.unet = pipe.unet
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            install_adapter(self.unet, encoder, finetune.adapter_scale)
            if finetune.lora_rank:
                install_lora(self.unet, finetune.lora_rank, finetune.lora_alpha)
        self.trainable = mark_trainable(self.unet)
        self.objective = Objective(pipe.scheduler.alphas_cumprod, pipe.scheduler.config.prediction_type, objective)
        self.latent_scale = float(pipe.vae.config.scaling_factor)
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        # A function and no module, so that the UNet's parameters are known by one name; of fixed shapes, so that what came before changes no bit.
        self._compiled = torch.compile(self.unet.forward, dynamic=False) if compiled else None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"loss": scalar}: predict from noised latents, caption embedding and AUs (paper, equations 2 and 3)."""
        clean = (batch.latent_mean + batch.latent_std * batch.posterior_noise) * self.latent_scale
        noisy = self.objective.noised(clean, batch.noise, batch.timesteps)
        predict = self._compiled or self.unet
        prediction = predict(noisy, batch.timesteps, batch.text, added_cond_kwargs={"image_embeds": [batch.aus[:, None]]}).sample
        return {"loss": self.objective.loss(prediction, clean, batch.noise, batch.timesteps)}


def batch_to(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """Move a batch; floating-point parts get `dtype`."""
    moved = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        moved[field.name] = value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
    return Batch(**moved)
