#!/usr/bin/env python
"""Ask adapters for intensities from -10 to 10: what the judge reads, what is kept of the face, and a picture.

    python scripts/extrapolate.py sweep=table2 --out docs/results/extrapolation [key=value ...]
    python scripts/extrapolate.py bundle=data/toyfacs/bundle --out outputs/extrapolation

Four held-out prompts, each AU alone at -10, -5, 0, 5, 7.5 and 10; of a sweep, the first seed of each arm. Training saw
0 to 5 only, and the judges read no more than 5: beyond that range what matters is whether the face stays a face
(attributes and identity kept) and keeps moving (CLIP-I). Writes <out>/extrapolation.md and .json, and a picture for
each adapter.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fineface_train.aus import AU_COUNT, AU_KEYS, AU_NAMES
from fineface_train.compose import load_config
from fineface_train.config import Config
from fineface_train.evaluation.glance import read_images
from fineface_train.evaluation.judges.judges import Judges, load_judges
from fineface_train.evaluation.metrics import bootstrap_weights, nulled, weighted_mean
from fineface_train.evaluation.plan import AuSet, Kind, PlannedImage
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.protocol import Request
from fineface_train.pictures import face_sheet, save_webp, to_picture
from fineface_train.reports.sweep_records import chosen_folder, first_runs
from fineface_train.reports.words import markdown_table, number
from fineface_train.toyfacs.faces import ATTRIBUTES
from fineface_train.verbs.generators import evaluation_prompts, load_generator

LEVELS = (-10.0, -5.0, 5.0, 7.5, 10.0)
PROMPTS = 4


def plan(config: Config) -> list[PlannedImage]:
    """Each prompt's neutral, then each AU alone at every level."""
    prompts = evaluation_prompts(config)
    chosen = [index for index, prompt in enumerate(prompts) if prompt.held_out][:PROMPTS] or list(range(PROMPTS))
    images = []
    for index in chosen:
        prompt, seed = prompts[index], config.evaluation.seed + index
        neutral = Request(prompt.text, (0.0,) * AU_COUNT, seed)
        images.append(PlannedImage(f"p{index}_neutral", Kind.neutral, prompt, index, -1, False, "", neutral))
        for au, key in enumerate(AU_KEYS):
            for level in LEVELS:
                aus = AuSet(tuple(level * (place == au) for place in range(AU_COUNT)), False)
                request = Request(prompt.text, aus.aus, seed)
                images.append(
                    PlannedImage(f"p{index}_{key}_{level:g}", Kind.individual, prompt, index, -1, False, key, request)
                )
    return images


def summary(frame: pd.DataFrame, judge: str) -> list[dict[str, Any]]:
    """For each level: the reading of the commanded AU, CLIP-I and what is kept, each with its 95% interval over
    prompts."""
    prompt = np.unique(frame["prompt_index"], return_inverse=True)[1]
    weights = bootstrap_weights(PROMPTS, 0)
    attributes = frame[[f"attr_{name}" for name in ATTRIBUTES if f"attr_{name}" in frame]].to_numpy(float)
    values = {
        "clip_i": frame["clip_i"].to_numpy(float),
        "caption kept": attributes.mean(1) if attributes.size else np.full(len(frame), np.nan),
    }
    asked, read = frame[list(AU_KEYS)].to_numpy(float), frame[[f"{judge}_{key}" for key in AU_KEYS]].to_numpy(float)
    rows = []
    for level in LEVELS:
        here = (asked == level).any(1)
        found: dict[str, Any] = {"level": level}
        for name, all_of in (values | {"reading": np.where(asked == level, read, 0).sum(1)}).items():
            means = weighted_mean(all_of[here], prompt[here], weights)
            found[name] = {
                "value": float(means[0]),
                "low": float(np.percentile(means[1:], 2.5)),
                "high": float(np.percentile(means[1:], 97.5)),
            }
        rows.append(found)
    return rows


def sheet(generator: PipelineGenerator, images: list[PlannedImage]) -> Image.Image:
    """The first prompt: a row for each AU, from -10 to 10 with the neutral between."""
    first = [image for image in images if image.prompt_index == images[0].prompt_index]
    neutral, others = first[0], {(image.commanded, max(image.request.aus, key=abs)): image for image in first[1:]}
    columns = sorted({0.0, *LEVELS})
    ordered = [[others[key, level] if level else neutral for level in columns] for key in AU_KEYS]
    faces = [[to_picture(face) for face in generator.generate([image.request for image in row])] for row in ordered]
    names = [f"{key} {name}" for key, name in zip(AU_KEYS, AU_NAMES, strict=True)]
    return face_sheet(list(zip(names, faces, strict=True)), [f"{level:g}" for level in columns], side=64)


def bundles(config: Config) -> dict[str, Path]:
    """By arm, the first seed's bundle; or the one that was named."""
    if config.bundle:
        return {Path(config.bundle).parent.name: Path(config.bundle)}
    folder = chosen_folder(config)
    return {arm: run / "bundle" for arm, run in first_runs(folder).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="sweep=NAME or bundle=FOLDER, and other values of the config")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_config(arguments.overrides)
    chosen = bundles(config)
    if not chosen:
        parser.error("no bundle: give bundle=FOLDER, or sweep=NAME of a sweep that has run")
    arguments.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {}
    judges: Judges | None = None
    for arm, bundle in chosen.items():
        print(arm, flush=True)
        generator = load_generator(config, bundle)
        judges = judges or load_judges(config.judge, generator.pipe.device)
        images = plan(config)
        found[arm] = summary(
            read_images(generator, judges, images, config.evaluation.batch_size), next(iter(judges.aus))
        )
        save_webp(sheet(generator, images), arguments.out / f"{arm.replace('=', '_').replace(' ', '_')}.webp")
    rows = [["arm", *(f"{name} at {level:g}" for name in ("reading", "clip_i", "caption kept") for level in LEVELS)]]
    for arm, levels in found.items():
        cells = [one[name] for name in ("reading", "clip_i", "caption kept") for one in levels]
        rows.append(
            [
                f"`{arm}`",
                *(f"{number(cell['value'])} ({number(cell['low'])} to {number(cell['high'])})" for cell in cells),
            ]
        )
    (arguments.out / "extrapolation.md").write_text(markdown_table(rows))
    (arguments.out / "extrapolation.json").write_text(json.dumps(nulled(found), indent=2) + "\n")
    print(markdown_table(rows))
    print(arguments.out)


if __name__ == "__main__":
    main()
