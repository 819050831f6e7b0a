"""The generate verb: faces of one prompt with the wanted AUs.

Of single AU vectors it writes a PNG for each seed. A range (aus="AU12=0..5") gives one sheet, a row for each seed and a
column for each intensity, and the same as an animation; `beside_base` gives a sheet whose first column is the base's
own picture. Every PNG holds what made it, and the command that makes it again.
"""

import dataclasses
import json
import shlex
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from fineface_train.aus import AU_KEYS, MAX_INTENSITY, au_steps, format_au_range, format_aus, parse_au_range
from fineface_train.config import PICTURES, GenerateConfig
from fineface_train.data.conditioning import ConditioningConfig, Entry
from fineface_train.files import SEAL, flat, plain, sha256
from fineface_train.loop.runs import provenance
from fineface_train.methods.au_diffusion.base import load_base
from fineface_train.methods.au_diffusion.bundle import CALIBRATION_FILE, load_calibration
from fineface_train.methods.au_diffusion.bundle_config import read_bundle_config
from fineface_train.methods.au_diffusion.config import Architecture
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.protocol import Request
from fineface_train.pictures import TEXT, face_sheet, to_picture
from fineface_train.verbs.generators import load_generator
from fineface_train.verbs.picture_files import Facts, made_already, new_picture, save_animation, save_png, slug

SEEN_TO = 10.0
"""The highest intensity, up and down, that docs/results.md has looked at."""
SHEET_SIDE = 128
"""Least side of a face on a sheet, in pixels, so that its name has room above it."""
NEUTRAL = tuple([0.0] * len(AU_KEYS))


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is to be drawn and where to, read from the config and checked."""

    prompt: str
    first: tuple[float, ...]
    last: tuple[float, ...]
    """Unlike `first` where a range is wanted."""
    folder: Path
    file: Path | None
    """The only picture's own name, if it was given one."""

    @property
    def is_range(self) -> bool:
        return self.first != self.last

    @property
    def aus(self) -> str:
        return format_au_range(self.first, self.last)


def read_wish(config: GenerateConfig) -> Wish:
    """Raises ValueError for a prompt that says nothing, AUs that cannot be read, and an `out` that names no folder and
    no picture that is free."""
    first, last = parse_au_range(config.aus)
    one_sheet = first != last or config.beside_base
    folder, file = Path(config.out or Path(config.run.root) / "generated"), None
    if config.out and folder.suffix.lower() in PICTURES and not folder.is_dir():
        folder, file = folder.parent, folder
        if file.suffix.lower() != ".png":
            raise ValueError(
                f"out={file}: pictures are PNG files, which hold what made them; give out={file.with_suffix('.png')} "
                f"or a folder"
            )
        if config.n > 1 and not one_sheet:
            raise ValueError(
                f"out={file}: is one picture, and n={config.n} are wanted; give a folder, such as "
                f"out={file.with_suffix('')}"
            )
        for path in (file, file.with_suffix(".gif")):
            if path.exists() and (path == file or (first != last and config.frames)):
                raise ValueError(
                    f"{path} exists already; nothing is overwritten: choose another out=NAME.png, or a folder, or "
                    f"remove it"
                )
    return Wish(_checked_prompt(config.prompt), tuple(first), tuple(last), folder, file)


def generate(config: GenerateConfig, wish: Wish, bundle: Path) -> list[Path]:
    """Draw what is wished for; returns the files, new ones and those that the same settings have made before."""
    if config.calibrated:
        load_calibration(bundle)  # what is wrong with it is said before anything is drawn, or found to be there
    values = [value for vector in (wish.first, wish.last) for value in vector]
    beyond = [
        key
        for key, *both in zip(AU_KEYS, wish.first, wish.last, strict=True)
        if not all(0 <= value <= MAX_INTENSITY for value in both)
    ]
    if beyond:
        far = (
            f"; of what lies beyond {-SEEN_TO:g}..{SEEN_TO:g} nothing is known"
            if max(map(abs, values)) > SEEN_TO
            else ""
        )
        print(
            f"note: {', '.join(beyond)} lies outside 0..{MAX_INTENSITY:g}: the adapter extrapolates beyond its "
            f"training{far}"
        )
    facts = _facts(config, wish, bundle)
    return (
        _draw_sheet(config, wish, bundle, facts)
        if wish.is_range or config.beside_base
        else _draw_singles(config, wish, bundle, facts)
    )


def _draw_singles(config: GenerateConfig, wish: Wish, bundle: Path, facts: Facts) -> list[Path]:
    """A PNG for each seed; those that were made before are left alone."""
    generator: PipelineGenerator | None = None
    paths = []
    for batch in _batches(config, wish, facts):
        if isinstance(batch, Path):
            print(f"{batch} (made before, in the same way)")
            paths.append(batch)
            continue
        generator = generator or load_generator(config, bundle)
        made_with = {"seed": str(batch[0]), "n": str(len(batch)), "evaluation.batch_size": str(len(batch))}
        for seed, image in zip(
            batch, generator.generate([Request(wish.prompt, wish.first, seed) for seed in batch]), strict=True
        ):
            told = facts | {"seed": str(seed)}
            with new_picture(wish.file, wish.folder, _stem(wish, f"seed{seed}"), told) as path:
                save_png(to_picture(image), path, told | {"command": _command(config, wish, made_with)})
            print(path)
            paths.append(path)
    return paths


def _batches(config: GenerateConfig, wish: Wish, facts: Facts) -> Iterator[list[int] | Path]:
    """Seeds that follow each other, up to a batch of them, and the pictures that there are already."""
    batch: list[int] = []
    for seed in range(config.seed, config.seed + config.n):
        there = (
            None if wish.file else made_already(wish.folder, _stem(wish, f"seed{seed}"), facts | {"seed": str(seed)})
        )
        if batch and (there or len(batch) == config.evaluation.batch_size):
            yield batch
            batch = []
        if there:
            yield there
        else:
            batch.append(seed)
    if batch:
        yield batch


def _draw_sheet(config: GenerateConfig, wish: Wish, bundle: Path, facts: Facts) -> list[Path]:
    """One sheet for all seeds, and for a range its animation."""
    seeds = range(config.seed, config.seed + config.n)
    facts = facts | {"seed": str(config.seed), "n": str(config.n), "beside_base": str(config.beside_base).lower()}
    facts |= {"columns": str(config.columns), "frames": str(config.frames)} if wish.is_range else {}
    animated = wish.is_range and config.frames > 0
    stem = _stem(
        wish, f"{'beside_base_' if config.beside_base else ''}seed{seeds[0]}{f'-{seeds[-1]}' if config.n > 1 else ''}"
    )
    there = None if wish.file else made_already(wish.folder, stem, facts)
    if there and (not animated or there.with_suffix(".gif").exists()):
        paths = [there, *([there.with_suffix(".gif")] if animated else [])]
        print("\n".join(f"{path} (made before, in the same way)" for path in paths))
        return paths
    columns = au_steps(wish.first, wish.last, config.columns) if wish.is_range else [wish.first]
    frames = au_steps(wish.first, wish.last, config.frames) if animated else []
    vectors = list(dict.fromkeys([*columns, *frames]))
    bases, pipe = [], None
    if config.beside_base:  # before the adapter enters it
        pipe = load_base(config.method.base).to(Accelerator().device)
        bare = PipelineGenerator(
            pipe, ConditioningConfig(enters=Entry.text), config.method.sampling, config.method.base.resolution
        )
        bases = _pictures(bare, [Request(wish.prompt, NEUTRAL, seed) for seed in seeds], config.evaluation.batch_size)
    generator = load_generator(config, bundle, pipe)
    drawn = iter(
        _pictures(
            generator,
            [Request(wish.prompt, aus, seed) for seed in seeds for aus in vectors],
            config.evaluation.batch_size,
        )
    )
    faces = [{aus: next(drawn) for aus in vectors} for _ in seeds]
    names = ["\n".join([f"seed {seed}", *_fixed(wish)]) for seed in seeds]
    side = max(SHEET_SIDE, config.method.base.resolution, (TEXT + 4) * (1 + max(name.count("\n") for name in names)))

    def sheet(shown: Sequence[tuple[float, ...]]) -> Image.Image:
        rows = [(name, [*bases[row : row + 1], *(faces[row][aus] for aus in shown)]) for row, name in enumerate(names)]
        return face_sheet(
            rows, [*(["base alone"] if bases else []), *("\n".join(_moving(wish, aus)) for aus in shown)], side=side
        )

    told = facts | {"command": _command(config, wish, {"seed": str(config.seed), "n": str(config.n)})}
    with new_picture(wish.file, wish.folder, stem, facts, also=".gif" if animated else None) as path:
        if animated:
            save_animation([sheet([aus]) for aus in frames], path.with_suffix(".gif"), told)
        save_png(sheet(columns), path, told)
    paths = [path, *([path.with_suffix(".gif")] if animated else [])]
    print("\n".join(map(str, paths)))
    return paths


def _pictures(generator: PipelineGenerator, requests: Sequence[Request], batch_size: int) -> list[Image.Image]:
    made: list[Tensor] = [
        generator.generate(list(requests[start : start + batch_size])) for start in range(0, len(requests), batch_size)
    ]
    return [to_picture(image) for image in torch.cat(made)]


def _moving(wish: Wish, aus: Sequence[float]) -> list[str]:
    """What a column is called: the AUs of the range, or, where there is none, all that are not 0."""
    names = [
        f"{key}={value:g}"
        for key, first, last, value in zip(AU_KEYS, wish.first, wish.last, aus, strict=True)
        if first != last
    ]
    return names or format_aus(list(aus)).split(",")


def _fixed(wish: Wish) -> list[str]:
    """The AUs that stay as they are beside a range."""
    both = zip(AU_KEYS, wish.first, wish.last, strict=True)
    return [f"{key}={first:g}" for key, first, last in both if first == last and first != 0] if wish.is_range else []


def _stem(wish: Wish, ending: str) -> str:
    return f"{slug(wish.prompt)}_{slug(wish.aus)}_{ending}"


def _facts(config: GenerateConfig, wish: Wish, bundle: Path) -> Facts:
    """Everything that makes a picture of this wish but its seed, for a PNG's metadata."""
    about = read_bundle_config(bundle)
    sampling = plain(config.method.sampling)
    scale = about.finetune.adapter_scale if config.scale is None else config.scale
    return {
        "prompt": wish.prompt,
        "aus": wish.aus,
        **{name: _as_text(value) for name, value in sampling.items()},
        **({"scale": _as_text(scale)} if about.conditioning.enters is Entry.adapter else {}),
        "calibrated": sha256(bundle / CALIBRATION_FILE) if config.calibrated else "false",
        "bundle": str(bundle),
        "bundle_sha256": sha256(bundle / SEAL),
        "base": config.method.base.name,
        "base_path": str(config.method.base.path),
        "resolution": str(config.method.base.resolution),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "versions": json.dumps(provenance()["versions"]),
    }


def _command(config: GenerateConfig, wish: Wish, made_with: dict[str, str]) -> str:
    """The command line that makes these pictures again, byte for byte on this machine: their batch changes a picture's
    last bits."""
    everything = plain(config)
    read = {key: everything[key] for key in ("scale", "calibrated", "any_base")}
    method = {key: everything["method"][key] for key in ("base", "sampling")}
    if wish.is_range or config.beside_base:
        read |= {key: everything[key] for key in ("columns", "frames", "beside_base")} | {
            "evaluation": {"batch_size": config.evaluation.batch_size}
        }
    method["base"].pop("sampling_steps")
    if config.method.base.architecture is Architecture.pretrained:
        method["base"].pop("tokenizer")
    if config.method.sampling.guidance == 1:  # where nothing reads it, and it would be refused
        method["sampling"].pop("negative")
    values = [f"{key}={_as_text(value)}" for key, value in flat({"method": method} | read)] + [
        f"{key}={value}" for key, value in made_with.items()
    ]
    aus = "" if wish.aus == "neutral" else wish.aus
    return shlex.join(
        ["fineface", "generate", f"bundle={config.bundle}", f"prompt={wish.prompt}", f"aus={aus}", *values]
    )


def _as_text(value: object) -> str:
    """As a command line takes it."""
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _checked_prompt(prompt: str | None) -> str:
    if not prompt or not prompt.strip():
        raise ValueError('prompt is empty: say what to draw, e.g. prompt="a person with short red hair"')
    odd = next(
        (letter for letter in prompt if unicodedata.category(letter) in ("Cc", "Cs") and not letter.isspace()), None
    )
    if odd is not None:
        what = "text that is not UTF-8" if unicodedata.category(odd) == "Cs" else "a control character"
        raise ValueError(f"prompt={prompt!r}: holds {what} ({odd!r}); leave it out")
    return prompt
