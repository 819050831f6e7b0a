"""The trainee of this family: one module with one player, whose forward takes a batch and returns its loss."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fineface_train.data.conditioning import Entry
from fineface_train.data.examples import Batch
from fineface_train.loop.trainee import Player, Turn
from fineface_train.methods.au_diffusion.adapter import adapt, mark_trainable
from fineface_train.methods.au_diffusion.conditioning import unet_arguments
from fineface_train.methods.au_diffusion.config import EncoderConfig, FinetuneConfig, ObjectiveConfig, Trained
from fineface_train.methods.au_diffusion.objective import Objective

TURN = Turn("adapter")


class AUDiffusion(nn.Module):
    """The adapted UNet and its objective. VAE and text encoder stay outside: their outputs come with the batch."""

    def __init__(
        self,
        pipe: StableDiffusionPipeline,
        conditioning: Entry,
        encoder: EncoderConfig,
        finetune: FinetuneConfig,
        objective: ObjectiveConfig,
        *,
        seed: int,
        gradient_checkpointing: bool,
        compiled: bool = False,
    ) -> None:
        """Adapt `pipe.unet` in place for AUs that enter as `conditioning` says; new weights come from `seed`, so that
        arms with one seed start alike.

        `compiled`: predict with torch.compile; the pipeline's own UNet stays as it is, so that pictures do not compile
        anew.
        """
        super().__init__()
        self.unet = pipe.unet
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapt(self.unet, conditioning, encoder, finetune)
        self.conditioning, self.prior_weight = conditioning, finetune.prior_weight
        self.trainable = mark_trainable(
            self.unet, whole=finetune.train is Trained.everything, keys=finetune.adapter_keys
        )
        self.players = {"adapter": Player(self.trainable, {name: _rate(name, finetune) for name in self.trainable})}
        self.averaged = tuple(self.trainable)
        self.objective = Objective(pipe.scheduler.alphas_cumprod, pipe.scheduler.config.prediction_type, objective)
        self.latent_scale = float(pipe.vae.config.scaling_factor)
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        # A function and no module, so that the UNet's parameters are known by one name; of fixed shapes, so that what
        # came before changes no bit.
        self._compiled = torch.compile(self.unet.forward, dynamic=False) if compiled else None

    def turn(self, step: int) -> Turn:
        """Every step is the adapter's."""
        return TURN

    @property
    def state(self) -> dict[str, nn.Parameter]:
        """The trained parameters; the UNet has no buffers that change."""
        return self.trainable

    def forward(self, batch: Batch, turn: Turn = TURN) -> dict[str, Tensor]:
        """{"loss": scalar}: that of the batch, and `prior_weight` times that of the prior's part, where there is
        one."""
        loss = self._loss(batch)
        if batch.prior is not None:
            loss = loss + self.prior_weight * self._loss(batch.prior)
        return {"loss": loss}

    def operations(self, batch: Batch) -> int:
        """Floating point operations of one forward and backward pass over `batch`; leaves no gradient."""
        compiled, self._compiled = self._compiled, None
        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
        ):  # fused attention is not counted on CPUs
            self(batch)["loss"].backward()
        self._compiled = compiled
        self.zero_grad()
        return int(counter.get_total_flops())

    @torch.no_grad()
    def errors(self, batch: Batch) -> Tensor:
        """Squared error (B,) of each example's prediction, not weighted."""
        prediction, clean = self._predict(batch, self.unet)
        return self.objective.errors(prediction, clean, batch.noise, batch.timesteps)

    def _loss(self, batch: Batch) -> Tensor:
        prediction, clean = self._predict(batch, self._compiled or self.unet)
        return self.objective.loss(prediction, clean, batch.noise, batch.timesteps)

    def _predict(self, batch: Batch, unet: Callable[..., Any]) -> tuple[Tensor, Tensor]:
        """What the UNet says of noised latents, caption embedding and AUs (paper, equations 2 and 3), and the clean
        latents."""
        clean = (batch.latent_mean + batch.latent_std * batch.posterior_noise) * self.latent_scale
        noisy = self.objective.noised(clean, batch.noise, batch.timesteps)
        return unet(
            noisy, batch.timesteps, **unet_arguments(self.unet, self.conditioning, batch.text, batch.aus)
        ).sample, clean


def _rate(name: str, finetune: FinetuneConfig) -> float:
    """Learning rate of the trained tensor `name` as a share of trainer.learning_rate."""
    if name.startswith("unet."):
        return finetune.base_rate
    return finetune.adapter_rate if name.endswith(("to_k_ip.weight", "to_v_ip.weight")) else 1.0


def batch_to(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """Move a batch; floating-point parts get `dtype`."""
    moved: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Batch):
            moved[field.name] = batch_to(value, device, dtype)
        elif value is not None:
            moved[field.name] = value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
    return Batch(**moved)
