"""The VAE of the base pipeline."""

import math

import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from fineface_train.toyfacs.render import RESOLUTION
from toyfacs_weights import models
from toyfacs_weights.batches import draw_batch, held_out
from toyfacs_weights.stage import new_stage


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
