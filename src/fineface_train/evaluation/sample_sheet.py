"""Pictures of the model while it trains: three prompts, each neutral and with every AU."""

import textwrap
from collections.abc import Sequence

import torch
from PIL import Image

from fineface_train.aus import AU_COUNT, AU_KEYS, MAX_INTENSITY
from fineface_train.methods.protocol import FaceGenerator, Request
from fineface_train.pictures import TEXT, face_sheet, to_picture

SAMPLE_PROMPTS = slice(4, 7)
"""The evaluation's prompts that the pictures during training show; on ToyFACS one seen and two held out."""
SAMPLE_IMAGES = (SAMPLE_PROMPTS.stop - SAMPLE_PROMPTS.start) * (1 + AU_COUNT)
"""Number of faces in these pictures."""
SMALLEST_FACE = 64
"""Pixels of a face in these pictures: smaller ones are enlarged, so that names fit."""
FACE_OF_LETTERS = 9
"""A letter has a ninth of a face's pixels, so that the names can be read where a page shrinks a wide sheet."""
LINE = 1.4
"""Height of a line of text, in letters."""


def sample_sheet(
    generator: FaceGenerator, prompts: Sequence[str], *, seed: int, batch_size: int, side: int
) -> Image.Image:
    """Each prompt neutral and with every AU at 5: a row of 13 images under the AUs' names. Row r has the starting noise
    of `seed` + r; faces are `side` pixels high and wide, or as small as names allow."""
    neutral = (0.0,) * AU_COUNT
    sets = [
        neutral,
        *(tuple(MAX_INTENSITY * (place == index) for place in range(AU_COUNT)) for index in range(AU_COUNT)),
    ]
    requests = [Request(prompt, aus, seed + row) for row, prompt in enumerate(prompts) for aus in sets]
    starts = range(0, len(requests), batch_size)
    images = torch.cat([generator.generate(requests[start : start + batch_size]) for start in starts])
    faces = [to_picture(image) for image in images]
    side = max(side, SMALLEST_FACE)
    text = max(TEXT, side // FACE_OF_LETTERS)
    lines = max(1, int(side / (LINE * text)))
    rows = [
        (_beside(prompt, lines), faces[row * len(sets) : (row + 1) * len(sets)]) for row, prompt in enumerate(prompts)
    ]
    return face_sheet(rows, ["neutral", *AU_KEYS], side=side, text=text)


def _beside(prompt: str, lines: int) -> str:
    """A prompt in about so many lines, which fit beside a face."""
    return textwrap.fill(prompt, max(24, len(prompt) // lines + 8))
