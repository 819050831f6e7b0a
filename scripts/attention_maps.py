#!/usr/bin/env python
"""Where each AU's token is looked at: the adapter's attention over its AU tokens, drawn on the face that it makes.

    python scripts/attention_maps.py --bundle data/toyfacs/bundle --out docs/results/attention.webp [--prompts 4]

For each AU a face with that AU at 5, and on it softmax(QK) of that AU's token: mean of layers, heads, steps and
prompts, less the token's mean. On ToyFACS it is known where an AU moves the face: printed is how much more attention
the token gets there than elsewhere (1: no more), beside the mean of the other AUs' tokens at the same place. A bundle
whose encoder writes a single token has nothing to show and is refused.
"""

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from PIL import Image, ImageDraw
from torch import Tensor

from fineface_train.aus import AU_COUNT, AU_KEYS, AU_NAMES, MAX_INTENSITY
from fineface_train.data.conditioning import Entry
from fineface_train.evaluation.ceiling import DrawnFaces
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.plan import build_plan, toyfacs_prompts
from fineface_train.methods.au_diffusion.adapter import au_encoder, cross_attention_names
from fineface_train.methods.au_diffusion.base import load_base
from fineface_train.methods.au_diffusion.bundle import load_adapter
from fineface_train.methods.au_diffusion.config import BaseConfig, SamplingConfig
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.protocol import Request
from fineface_train.pictures import save_webp, to_picture

SIDE, SCALE, SEED = 64, 2, 1000


@contextmanager
def recorded(unet: UNet2DConditionModel) -> Iterator[list[Tensor]]:
    """Inside, every adapter's attention over its tokens, (images, tokens, SIDE, SIDE) on the CPU, of the guided half of
    each batch."""
    maps: list[Tensor] = []

    def note(attention: Any, arguments: tuple[Tensor, ...], others: dict[str, Any], _: Tensor) -> None:
        hidden, tokens = arguments[0], others["encoder_hidden_states"][1][0].flatten(1, 2)
        queries, keys = attention.to_q(hidden), attention.processor.to_k_ip[0](tokens)
        q, k = (x.unflatten(2, (attention.heads, -1)).transpose(1, 2) for x in (queries, keys))
        weights = (q @ k.transpose(2, 3) * attention.scale).softmax(-1).mean(1)  # (2B, positions, tokens)
        side = math.isqrt(weights.shape[1])
        square = weights.transpose(1, 2).unflatten(2, (side, side))[len(weights) // 2 :]
        maps.append(F.interpolate(square.float().cpu(), size=(SIDE, SIDE), mode="bilinear", align_corners=False))

    attentions = [unet.get_submodule(name.removesuffix(".processor")) for name in cross_attention_names(unet)]
    handles = [attention.register_forward_hook(note, with_kwargs=True) for attention in attentions]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--base", default="data/toyfacs/base")
    parser.add_argument("--out", type=Path, default=Path("attention.webp"))
    parser.add_argument("--prompts", type=int, default=4, help="held-out prompts that the maps are averaged over")
    arguments = parser.parse_args()
    pipe = load_base(BaseConfig(path=arguments.base))
    config = load_adapter(pipe, arguments.bundle)
    encoder = au_encoder(pipe.unet)
    if config.conditioning.enters is not Entry.adapter or encoder is None or encoder.tokens < AU_COUNT:
        parser.error(
            f"bundle={arguments.bundle}: no adapter with a token for each AU, so that there is nothing to look at"
        )
    generator = PipelineGenerator(pipe, config.conditioning, SamplingConfig(steps=15), SIDE)
    plan = build_plan(ProtocolName.paper, toyfacs_prompts(), [], SEED)
    prompts = [image for image in plan if image.request.aus == (0.0,) * AU_COUNT and image.prompt_held_out][
        : arguments.prompts
    ]
    drawn = DrawnFaces(plan)

    faces, maps, moved = [], [], []
    for au in range(AU_COUNT):
        requests = [
            Request(
                one.request.prompt, tuple(MAX_INTENSITY * (place == au) for place in range(AU_COUNT)), one.request.seed
            )
            for one in prompts
        ]
        with recorded(generator.pipe.unet) as seen:
            faces.append(generator.generate(requests)[0])
        maps.append(torch.stack(seen).mean((0, 1))[:AU_COUNT])
        change = (drawn.generate(requests) - drawn.generate([one.request for one in prompts])).abs().mean((0, 1))
        moved.append(change > 0.25 * change.max())

    numbers = {}
    for au, key in enumerate(AU_KEYS):
        ratios = [float(one[moved[au]].mean() / one[~moved[au]].mean()) for one in maps[au]]
        numbers[key] = {"its token": ratios[au], "other tokens": float(np.mean(ratios[:au] + ratios[au + 1 :]))}
        print(
            f"{key:<6}{AU_NAMES[au]:<22} where it moves the face: {ratios[au]:.2f} x elsewhere; other AUs' tokens "
            f"there: {numbers[key]['other tokens']:.2f} x"
        )
    save_webp(_sheet(faces, [maps[au][au] for au in range(AU_COUNT)], moved), arguments.out)
    arguments.out.with_suffix(".json").write_text(json.dumps(numbers, indent=2) + "\n")
    print(arguments.out)


def _sheet(faces: list[Tensor], maps: list[Tensor], moved: list[Tensor]) -> Image.Image:
    """Four AUs a row: the face, the attention on it, and where the AU moves a drawn face."""
    side, label, columns = SIDE * SCALE, 38, 4
    sheet = Image.new("RGB", (columns * (3 * side + 16), 3 * (side + label + 8)), "white")
    pen = ImageDraw.Draw(sheet)
    for au, (face, attention, region) in enumerate(zip(faces, maps, moved, strict=True)):
        left, top = au % columns * (3 * side + 16), au // columns * (side + label + 8)
        pen.text((left, top + 3), f"{AU_KEYS[au]} {AU_NAMES[au]}", fill="black", font_size=14)
        heat = ((attention - attention.mean()) / (attention - attention.mean()).max()).clamp(0, 1)
        grey = face.mean(0, keepdim=True).expand(3, -1, -1) * 0.8
        red = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1)
        shown = [face, grey * (1 - 0.8 * heat) + red * 0.8 * heat, torch.where(region, red, grey)]
        for place, (name, picture) in enumerate(
            zip(("generated", "attention, relative", "moves a drawing"), shown, strict=True)
        ):
            pen.text((left + place * (side + 3), top + 21), name, fill="grey", font_size=11)
            sheet.paste(
                to_picture(picture).resize((side, side), Image.Resampling.LANCZOS),
                (left + place * (side + 3), top + label),
            )
    return sheet


if __name__ == "__main__":
    main()
