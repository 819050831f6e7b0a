"""Which judges look at the images, where their models are, and how they are loaded."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fineface_train.data.annotators.libreface import LIBREFACE, find_weights, libreface
from fineface_train.evaluation.judges.clip import ClipImageScorer
from fineface_train.evaluation.judges.config import JudgeConfig, JudgeKind
from fineface_train.evaluation.judges.drawings import AttributeJudge, ToyFacsJudge
from fineface_train.evaluation.judges.models import AttributeClassifier, PyramidJudge, ResidualJudge
from fineface_train.evaluation.judges.photographs import LibreFaceJudge
from fineface_train.toyfacs.render import RESOLUTION

LIBREFACE_KEY = "judge.libreface"
AU_JUDGE_CLASSES: dict[str, Any] = {"ResidualJudge": ResidualJudge, "PyramidJudge": PyramidJudge}


class AuJudge(Protocol):
    """Anything that reads AUs in images."""

    def read(self, images: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        """B images (3, H, W) in [0, 1] to AUs (B, 12) clamped to [0, 5] and whether a face was found (B,), on the CPU.

        Images are of one size where `Judges.size` says one, else each of its own. AUs are always numbers: a judge that
        cannot read an image without a face answers 0.
        """
        ...


@dataclasses.dataclass
class Judges:
    """All that looks at the images, or nothing: without AU judges there is no CLIP either, and images are made and not
    measured.

    The first AU judge is the headlines' one; `fingerprint` tells the weights apart.
    """

    aus: dict[str, AuJudge]
    clip: ClipImageScorer | None
    attributes: AttributeJudge | None
    fingerprint: str
    size: int | None = None
    """Pixels a side that pictures are cut and resized to before anything looks at them (see `media.read_picture`); None
    leaves them as they are."""
    name: str = "judge"
    """Names the folder of their numbers where those of other judges lie beside the media already."""


def find_judges(config: JudgeConfig) -> dict[str, Path]:
    """The folders of the configured judges' models, without loading them. Raises ValueError, naming the key, where one
    holds no model."""
    return JUDGES[config.kind].find(config)


def load_judges(config: JudgeConfig, device: torch.device | str = "cpu") -> Judges:
    """The configured judges, ready to read. Raises ValueError, naming the key, where a folder holds no such model."""
    return dataclasses.replace(JUDGES[config.kind].load(config, device), name=config.kind.value)


def _find_toyfacs(config: JudgeConfig) -> dict[str, Path]:
    paths = {name: Path(getattr(config, name)) for name in ("one", "two", "attributes", "clip")}
    for name, path in paths.items():
        if not (path / "config.json").is_file():
            raise ValueError(
                f"judge.{name}: no model in {path}; give a folder with a config.json (scripts/build_toyfacs.py builds "
                f"them)"
            )
    for name in ("one", "two"):
        if _class_name(paths[name]) not in AU_JUDGE_CLASSES:
            raise ValueError(
                f"judge.{name}: {paths[name]} holds a {_class_name(paths[name])}; an AU judge is one of "
                f"{', '.join(AU_JUDGE_CLASSES)}"
            )
    return paths


def _load_toyfacs(config: JudgeConfig, device: torch.device | str) -> Judges:
    paths = _find_toyfacs(config)
    attributes = AttributeJudge(AttributeClassifier.from_pretrained(paths["attributes"]), device)
    au_judges: dict[str, AuJudge] = {}
    for name in ("one", "two"):
        model = AU_JUDGE_CLASSES[_class_name(paths[name])].from_pretrained(paths[name])
        au_judges[f"judge_{name}"] = ToyFacsJudge(model, attributes, config.face_threshold, device)
    reader = f"{config.kind.value} {config.face_threshold}"
    return Judges(
        au_judges,
        ClipImageScorer.load(config.clip, device),
        attributes,
        judges_fingerprint(reader, list(paths.values())),
        RESOLUTION,
    )


def _class_name(folder: Path) -> str:
    """The class of a model that `save_pretrained` wrote."""
    return str(json.loads((folder / "config.json").read_text()).get("_class_name"))


def _find_libreface(config: JudgeConfig) -> dict[str, Path]:
    libreface(config.libreface, LIBREFACE_KEY)
    if Path(config.clip).is_dir() and not (Path(config.clip) / "config.json").is_file():
        raise ValueError(f"judge.clip: no model in {config.clip}; give a folder with a config.json, or a hub name")
    return {"clip": Path(config.clip)}


def _load_libreface(config: JudgeConfig, device: torch.device | str) -> Judges:
    paths = _find_libreface(config)
    clip = "" if paths["clip"].is_dir() else config.clip  # a hub name stands for its weights
    reader = f"{LIBREFACE} {find_weights(config.libreface, LIBREFACE_KEY)[1]} {clip} resized by its processor"
    judge = LibreFaceJudge(libreface(config.libreface, LIBREFACE_KEY))
    return Judges(
        {"libreface": judge},
        ClipImageScorer.load(config.clip, device),
        None,
        judges_fingerprint(reader, [paths["clip"]]),
    )


def judges_fingerprint(reader: str, folders: list[Path]) -> str:
    """SHA-256 over the weights in `folders` and, in words, what else changes a reading."""
    digest = hashlib.sha256(reader.encode())
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Looks:
    """A kind of judge: where its models are, and how they are loaded. What it reads of the config, and what it can look
    at, stands in `judges.config.READS`."""

    find: Callable[[JudgeConfig], dict[str, Path]]
    load: Callable[[JudgeConfig, torch.device | str], Judges]


JUDGES = {
    JudgeKind.toyfacs: Looks(_find_toyfacs, _load_toyfacs),
    JudgeKind.libreface: Looks(_find_libreface, _load_libreface),
    JudgeKind.none: Looks(lambda _: {}, lambda *_: Judges({}, None, None, "none")),
}
