"""A trial of the configured run on made-up examples: what a step, an image and an encoding take. All that doctor knows
of the family of methods stands here."""

import dataclasses
import math
import time

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline
from torch import Tensor

from fineface_train.aus import AU_COUNT
from fineface_train.config import Config
from fineface_train.data.cache import encoded_at_once, load_image
from fineface_train.data.examples import Batch
from fineface_train.methods.au_diffusion.adapter import audit, audit_table
from fineface_train.methods.au_diffusion.base import load_base
from fineface_train.methods.au_diffusion.model import AUDiffusion, batch_to
from fineface_train.verbs.generators import seconds_per_image
from fineface_train.verbs.train import batch_dtype, build_model, makes_images

STEPS_TIMED, EXAMPLES_TRIED = 3, 4
"""On few examples, so that a batch that does not fit is said and not tried; activations and time grow with their
number."""
QUICK, SMALL = 5.0, 2e9
"""Seconds of a step and bytes of its activations up to which all its examples are tried."""
FLOAT = 4
"""Bytes."""
COMPRESSED = 0.6
"""Share of the bytes of its pixels that a photograph takes as PNG."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What a step takes of one process."""

    parts: str
    """Table of the parameters by part."""
    frozen: int
    trainable: int
    averages: int
    activations: int
    """Bytes; activations are those of the `examples` that go through the model together."""
    examples: int
    tried: int
    seconds: float
    """Of a step, from `tried` examples."""
    seconds_of_error: float
    """Of an example of the validation, which goes forward only."""

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by what they are for."""
        return {
            "frozen weights": self.frozen,
            "trainables with gradients and Adam's two moments": 4 * self.trainable,
            "averages": self.averages,
            f"activations kept for the backward pass of {self.examples} examples": self.activations,
        }


@dataclasses.dataclass(frozen=True)
class Trial:
    """What was measured."""

    training: Training | None
    """None where nothing is trained."""
    image: float
    """Seconds of an image that the model makes; 0 where none is made."""
    picture: int
    """Bytes of an image as a file."""
    encoded: float
    """Seconds to encode an image for the cache."""
    caption: float
    latents: int
    """Bytes of the cache for an image."""
    embedding: int
    """Bytes of the cache for a caption."""


def open_base(config: Config) -> StableDiffusionPipeline:
    """The frozen base. Raises ValueError where it is missing."""
    return load_base(config.method.base)


def try_out(config: Config, pipe: StableDiffusionPipeline, accelerator: Accelerator, known: list[str]) -> Trial:
    """Measure the configured run. `known`: paths of a few training images, read to see how long that takes; may be
    empty."""
    pipe.to(accelerator.device)
    latent = (pipe.unet.config.in_channels, *(2 * [config.method.base.resolution // pipe.vae_scale_factor]))
    tokens, width = pipe.tokenizer.model_max_length, pipe.unet.config.cross_attention_dim
    encoded, caption = (
        (_seconds_to_encode(config, pipe, known), _seconds_of_caption(pipe)) if config.method.trains else (0, 0)
    )
    training = _try_training(config, pipe, accelerator, latent, tokens, width) if config.method.trains else None
    image = 0.0
    if makes_images(config):
        with accelerator.autocast():
            image = seconds_per_image(config, pipe)
    return Trial(
        training,
        image,
        picture=int(COMPRESSED * 3 * config.method.base.resolution**2),
        encoded=encoded,
        caption=caption,
        latents=2 * FLOAT * math.prod(latent),
        embedding=FLOAT * tokens * width,
    )


def _seconds_to_encode(config: Config, pipe: StableDiffusionPipeline, known: list[str]) -> float:
    """Of an image: by the VAE, and to be read, where some are known."""
    side, count = config.method.base.resolution, encoded_at_once(config.method.base.resolution)
    started = time.perf_counter()
    for path in known:
        load_image(path, side, config.image_transform)
    read = (time.perf_counter() - started) / max(1, len(known))
    images = torch.zeros(count, 3, side, side, device=pipe.vae.device, dtype=pipe.vae.dtype)
    with torch.no_grad():
        pipe.vae.encode(images[:1])  # warms up
        started = time.perf_counter()
        pipe.vae.encode(images).latent_dist.mean.sum().item()  # waits for a GPU
    return read + (time.perf_counter() - started) / count


def _seconds_of_caption(pipe: StableDiffusionPipeline, count: int = 16) -> float:
    ids = pipe.tokenizer(count * ["a face"], padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        pipe.text_encoder(ids[:1].to(pipe.text_encoder.device))
        started = time.perf_counter()
        pipe.text_encoder(ids.to(pipe.text_encoder.device))[0].sum().item()
    return (time.perf_counter() - started) / count


def _try_training(
    config: Config,
    pipe: StableDiffusionPipeline,
    accelerator: Accelerator,
    latent: tuple[int, ...],
    tokens: int,
    width: int,
) -> Training:
    trainer = config.trainer
    model = build_model(config, pipe, accelerator)
    parts = audit_table(audit(pipe.unet, {"text encoder": pipe.text_encoder, "VAE": pipe.vae}))
    micro = max(1, trainer.batch_size // (trainer.accumulation * accelerator.num_processes))

    def examples(count: int) -> Batch:
        batch = _made_up(count, latent, tokens, width, model.objective.timesteps)
        if config.method.finetune.prior_weight:
            batch.prior = dataclasses.replace(batch)
        return batch_to(batch, accelerator.device, batch_dtype(config))

    trainable = sum(parameter.numel() * parameter.element_size() for parameter in model.trainable.values())
    modules = (pipe.unet, pipe.vae, pipe.text_encoder)
    every = sum(p.numel() * p.element_size() for part in modules for p in part.parameters())
    tried = min(micro, EXAMPLES_TRIED)
    kept, seconds = _steps(model, examples(tried), accelerator)
    if tried < micro and seconds * micro / tried < QUICK and kept * micro / tried < SMALL:
        tried = micro
        kept, seconds = _steps(model, examples(tried), accelerator)
    with accelerator.autocast():
        started = time.perf_counter()
        model.errors(examples(tried)).sum().item()
        errors = time.perf_counter() - started
    return Training(
        parts=parts,
        frozen=every - trainable,
        trainable=trainable,
        averages=trainable if trainer.ema_decay else 0,
        activations=kept * micro // tried,
        examples=micro,
        tried=tried,
        seconds=seconds * micro / tried * trainer.accumulation,
        seconds_of_error=errors / tried,
    )


def _made_up(count: int, latent: tuple[int, ...], tokens: int, width: int, timesteps: int) -> Batch:
    """Random examples of the right shapes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    index = torch.arange(count)
    return Batch(
        index=index,
        row=index,
        aus=5 * torch.rand(count, AU_COUNT, generator=generator),
        latent_mean=normal(count, *latent),
        latent_std=normal(count, *latent).abs(),
        posterior_noise=normal(count, *latent),
        noise=normal(count, *latent),
        timesteps=torch.randint(timesteps, (count,), generator=generator),
        text=normal(count, tokens, width),
    )


def _steps(model: AUDiffusion, batch: Batch, accelerator: Accelerator) -> tuple[int, float]:
    """Bytes that autograd keeps of one forward pass (each storage once, weights not counted), and seconds of the
    fastest of a few steps."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    optimiser = torch.optim.AdamW(model.trainable.values(), lr=1e-9)
    times = []
    for step in range(STEPS_TIMED):
        started = time.perf_counter()
        with (
            torch.autograd.graph.saved_tensors_hooks(
                note if step == 0 else lambda tensor: tensor, lambda tensor: tensor
            ),
            accelerator.autocast(),
        ):
            loss = model(batch)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()  # waits for a GPU
        times.append(time.perf_counter() - started)
    return sum(kept.values()), min(times)
