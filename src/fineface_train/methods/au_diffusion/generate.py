"""Faces from an adapted pipeline, by the plain `StableDiffusionPipeline` call."""

import logging
from collections.abc import Sequence

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from fineface_train.aus import MAX_INTENSITY, format_aus
from fineface_train.data.conditioning import NO_CONTROL, ConditioningConfig, Entry
from fineface_train.methods.au_diffusion.conditioning import log_all, pipeline_arguments
from fineface_train.methods.au_diffusion.config import Negative, SamplingConfig
from fineface_train.methods.calibration import Calibration
from fineface_train.methods.protocol import Request
from fineface_train.texts import shown

logger = logging.getLogger(__name__)
FLAT = 2 / 255
"""A picture whose values all lie this close together, in each colour, shows nothing."""


class PerImagePipeline(StableDiffusionPipeline):
    """The plain pipeline, with an AU vector for each image of a batch.

    diffusers repeats `ip_adapter_image_embeds` once per prompt, as one reference image is meant for all of them; B
    vectors for B prompts would become B x B and be read as further tokens without an error. Here they stay as they are.
    """

    def prepare_ip_adapter_image_embeds(
        self,
        ip_adapter_image: None,
        ip_adapter_image_embeds: list[Tensor],
        device: torch.device,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
    ) -> list[Tensor]:
        return [embeds.to(device) for embeds in ip_adapter_image_embeds]


class PipelineGenerator:
    """A `FaceGenerator`: an adapted pipeline on its device. Every image depends on its own request only."""

    def __init__(
        self,
        pipe: StableDiffusionPipeline,
        conditioning: ConditioningConfig,
        config: SamplingConfig,
        resolution: int,
        scale: float | None = None,
        calibration: Calibration | None = None,
        *,
        strict: bool = True,
    ) -> None:
        """`conditioning`: how AUs enter `pipe`; `scale`: the adapter's (lambda of equation 2), None leaves the
        bundle's; `calibration`: what to ask for instead of the wanted AUs; `strict`: refuse pictures that show nothing,
        else tell of them (for looks while training goes on).

        Raises ValueError for a scale without an adapter.
        """
        self.pipe, self.conditioning = PerImagePipeline(**pipe.components, requires_safety_checker=False), conditioning
        self.config, self.resolution, self.calibration = config, resolution, calibration
        self.strict, self._told = strict, set[tuple[str, int]]()
        self.pipe.set_progress_bar_config(disable=True)
        if scale is not None:
            if conditioning.enters is not Entry.adapter:
                raise ValueError(
                    f"scale={scale}: this bundle has no adapter to scale, its AUs enter as "
                    f"{conditioning.enters.value}; leave scale out"
                )
            self.pipe.set_ip_adapter_scale(scale)

    def generate(self, requests: list[Request]) -> Tensor:
        """(B, 3, H, W) floats in [0, 1] on the CPU. Raises FloatingPointError for pictures that are not finite, or all
        of one colour."""
        made = self.make(requests)
        if fault := _fault(made, requests):
            remedy = f"lower what drives it: {self._driven_by(self._asked(requests))}"
            if self.strict:
                raise FloatingPointError(f"{fault}; {remedy}")
            logger.warning("%s; %s", fault, remedy)
        return made

    def _asked(self, requests: list[Request]) -> Tensor:
        """AUs (B, 12) that the adapter is asked for."""
        asked = [request.aus if self.calibration is None else self.calibration.ask(request.aus) for request in requests]
        return torch.tensor(asked, dtype=self.pipe.unet.dtype, device=self.pipe.device)

    @torch.no_grad()
    def make(self, requests: list[Request]) -> Tensor:
        """As `generate`, whatever the pictures show."""
        aus = self._asked(requests)
        guided = self.config.guidance > 1
        shape = (
            self.pipe.unet.config.in_channels,
            self.resolution // self.pipe.vae_scale_factor,
            self.resolution // self.pipe.vae_scale_factor,
        )
        # Starting noise is drawn on the CPU, one generator an image, so that it is the same on every device and in
        # every batch.
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)) for request in requests]
        prompts = [request.prompt for request in requests]
        images = self.pipe(
            **pipeline_arguments(
                self.pipe,
                self.conditioning,
                prompts,
                aus,
                guidance=guided,
                negative=self._negative(aus),
                tell=self._tell,
            ),
            latents=torch.stack(noise).to(self.pipe.device, self.pipe.unet.dtype),
            num_inference_steps=self.config.steps,
            guidance_scale=self.config.guidance,
            height=self.resolution,
            width=self.resolution,
            output_type="pt",
        ).images
        return images.float().cpu()

    def _tell(self, prompt: str, sentences: Sequence[str]) -> None:
        """What had no room of a prompt, once for all its AUs and seeds."""
        if (prompt, len(sentences)) not in self._told:
            self._told.add((prompt, len(sentences)))
            log_all(prompt, sentences)

    def _driven_by(self, aus: Tensor) -> str:
        """All that pushes a picture, with its values, what is furthest from usual first."""
        pushes = {f"method.sampling.guidance={self.config.guidance:g}": self.config.guidance / 10}
        if self.conditioning.enters is not Entry.text:
            strongest = float(aus.nan_to_num(0.0).abs().max())
            pushes[f"the AUs, asked for up to {strongest:g}"] = strongest / MAX_INTENSITY
        if self.conditioning.enters is Entry.adapter:
            scale = max(
                abs(scale)
                for processor in self.pipe.unet.attn_processors.values()
                for scale in getattr(processor, "scale", [0.0])
            )
            pushes[f"scale={scale:g}"] = scale
        return ", ".join(sorted(pushes, key=lambda push: -pushes[push]))

    def _negative(self, aus: Tensor) -> Tensor:
        """The AUs that guidance moves away from.

        With guidance g away from s * aus the adapter's part is pushed by g - s * (g - 1), to first order:
        `au_guidance`, solved for s.
        """
        guidance, pushed = self.config.guidance, self.config.au_guidance
        if pushed is not None:
            return aus * ((guidance - pushed) / (guidance - 1) if guidance > 1 else 0.0)
        # To an encoder without a learned null "no control" is zero.
        return (
            torch.zeros_like(aus)
            if self.config.negative is Negative.zero
            else aus.new_tensor(NO_CONTROL).expand_as(aus)
        )


def _fault(images: Tensor, requests: Sequence[Request]) -> str | None:
    """What is wrong with the first of `images` (B, 3, H, W) that shows nothing, in words."""
    for image, request in zip(images, requests, strict=True):
        which = f"the picture of {shown(request.prompt)} with {format_aus(list(request.aus))}, seed {request.seed},"
        if not image.isfinite().all():
            return f"{which} is not finite: its computation overflowed"
        if (image.amax((1, 2)) - image.amin((1, 2))).max() < FLAT:
            return f"{which} is all of one colour"
    return None
