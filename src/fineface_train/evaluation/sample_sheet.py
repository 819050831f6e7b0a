"""Pictures of the model while it trains: three prompts, each neutral and with every AU."""

import textwrap

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from fineface_train.aus import AU_COUNT, AU_KEYS, MAX_INTENSITY
from fineface_train.config import Config
from fineface_train.evaluation.measure import evaluation_prompts
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.protocol import Request
from fineface_train.pictures import face_sheet, to_picture

SAMPLE_PROMPTS = slice(4, 7)
"""The evaluation's prompts that the pictures during training show; on ToyFACS one seen and two held out."""
SMALLEST_FACE = 64
"""Pixels of a face in these pictures: smaller ones are enlarged, so that names fit."""
LINE = 20
"""Pixels of a line of text beside one."""


def looking(config: Config, pipe: StableDiffusionPipeline) -> PipelineGenerator:
    """The model in training as a generator; a picture that shows nothing is told of, and the training goes on."""
    return PipelineGenerator(
        pipe, config.method.conditioning, config.method.sampling, config.method.base.resolution, strict=False
    )


def sample_sheet(config: Config, pipe: StableDiffusionPipeline) -> Image.Image:
    """Three prompts, each neutral and with every AU at 5: rows of 13 images under the AUs' names."""
    generator = looking(config, pipe)
    neutral = (0.0,) * AU_COUNT
    sets = [
        neutral,
        *(tuple(MAX_INTENSITY * (place == index) for place in range(AU_COUNT)) for index in range(AU_COUNT)),
    ]
    prompts = [prompt.text for prompt in evaluation_prompts(config)[SAMPLE_PROMPTS]]
    requests = [
        Request(prompt, aus, config.evaluation.seed + row) for row, prompt in enumerate(prompts) for aus in sets
    ]
    size = config.evaluation.batch_size
    images = torch.cat([generator.generate(requests[start : start + size]) for start in range(0, len(requests), size)])
    faces = [to_picture(image) for image in images]
    side = max(config.method.base.resolution, SMALLEST_FACE)
    rows = [
        (_beside(prompt, side), faces[row * len(sets) : (row + 1) * len(sets)]) for row, prompt in enumerate(prompts)
    ]
    return face_sheet(rows, ["neutral", *AU_KEYS], side=side)


def _beside(prompt: str, side: int) -> str:
    """A prompt in lines that fit beside a face."""
    return textwrap.fill(prompt, max(24, len(prompt) // max(1, side // LINE) + 8))
