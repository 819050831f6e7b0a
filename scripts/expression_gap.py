#!/usr/bin/env python
"""How much a ToyFACS base knows of expressions: its error of x0 with captions that tell the AUs, another face's AUs, or
none.

    python scripts/expression_gap.py [--base data/toyfacs/base] [--faces 96]

The first line says how much there is to know: the mean squared change that AUs make to the scaled latent.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from fineface_train.aus import AU_COUNT, describe_aus
from fineface_train.methods.au_diffusion.base import load_base
from fineface_train.methods.au_diffusion.config import BaseConfig
from fineface_train.toyfacs.faces import caption, sample_face
from fineface_train.toyfacs.render import draw, draw_nuisances
from fineface_train.toyfacs.worlds import Expressions, sample_aus


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="data/toyfacs/base")
    parser.add_argument("--faces", type=int, default=96)
    arguments = parser.parse_args()
    pipe = load_base(BaseConfig(path=arguments.base))
    rng, count = np.random.default_rng(5), arguments.faces
    faces = [sample_face(rng) for _ in range(count)]
    aus = [sample_aus(rng, Expressions.sparse) for _ in range(count)]
    silent = [caption(face, rng) for face in faces]
    telling = [", ".join(filter(None, (text, describe_aus(values)))) for text, values in zip(silent, aus, strict=True)]
    others = [", ".join(filter(None, (text, describe_aus(aus[place - 1])))) for place, text in enumerate(silent)]
    nuisances = draw_nuisances(rng, count)

    def latents(vectors: Tensor) -> Tensor:
        images = draw(faces, vectors, nuisances) * 2 - 1
        return pipe.vae.encode(images).latent_dist.mean * pipe.vae.config.scaling_factor

    def embedding(texts: list[str]) -> Tensor:
        return pipe.text_encoder(
            pipe.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        )[0]

    clean = latents(torch.tensor(np.array(aus), dtype=torch.float32))
    change = (clean - latents(torch.zeros(count, AU_COUNT))).pow(2).mean().item()
    print(f"AUs change the latent by {change:.4f} (mean square; its variance is {clean.var().item():.2f})")
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    texts = [embedding(silent), embedding(telling), embedding(others)]
    print("timestep  silent  telling  telling another's")
    for timestep in (300, 500, 700, 800, 900, 999):
        alpha = pipe.scheduler.alphas_cumprod[timestep]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        errors = [
            (pipe.unet(noisy, torch.tensor(timestep), text).sample - clean).pow(2).mean().item() for text in texts
        ]
        print(f"{timestep:8d}  {errors[0]:.4f}  {errors[1]:7.4f}  {errors[2]:17.4f}")


if __name__ == "__main__":
    main()
