"""Who looks at the images: AU judges, the caption-attribute judge and CLIP's image similarity."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel

from fineface_train.aus import MAX_INTENSITY
from fineface_train.data.annotators.libreface import LIBREFACE, find_weights, libreface
from fineface_train.evaluation.judges.config import JudgeConfig, JudgeKind
from fineface_train.evaluation.judges.models import AttributeClassifier, PyramidJudge, ResidualJudge
from fineface_train.evaluation.judges.photographs import LibreFaceJudge
from fineface_train.toyfacs.faces import ATTRIBUTES, Face
from fineface_train.toyfacs.render import NUISANCES, draw

LIBREFACE_KEY = "judge.libreface"
AU_JUDGE_CLASSES: dict[str, Any] = {"ResidualJudge": ResidualJudge, "PyramidJudge": PyramidJudge}


class AuJudge(Protocol):
    """Anything that reads AUs in images."""

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [0, 1] to AUs (B, 12) clamped to [0, 5] and whether a face was found (B,), on the CPU.

        AUs are always numbers: a judge that cannot read an image without a face answers 0.
        """
        ...


def _ready(model: Any, device: torch.device | str) -> Any:
    return model.to(device).eval()


class AttributeJudge:
    """Which caption attributes a drawn face shows."""

    def __init__(self, model: AttributeClassifier, device: torch.device | str = "cpu") -> None:
        self.model = _ready(model, device)

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Face]:
        """The most likely face for each of the images (B, 3, 64, 64)."""
        logits = self.model(images.to(self.model.device))
        chosen = torch.stack([logit.argmax(1) for logit in logits], dim=1).tolist()
        return [
            Face(**{name: ATTRIBUTES[name][index] for name, index in zip(ATTRIBUTES, row, strict=True)})
            for row in chosen
        ]


def attribute_hits(predicted: Face, truth: Face) -> dict[str, bool]:
    """Per attribute, whether the image shows what the caption told."""
    return {name: getattr(predicted, name) == getattr(truth, name) for name in ATTRIBUTES}


def likeness(images: Tensor, faces: list[Face], aus: Tensor) -> Tensor:
    """How much images (B, 3, S, S) look like drawings of what was read in them: correlations (B,) in [-1, 1].

    Compared are the colours around the head at an eighth to a tenth of its size, so that small shifts and blur do not
    matter, each colour channel less its mean. Drawings score above 0.8; noise, ramps and blank images below 0.5,
    whatever was read.
    """
    size = images.shape[-1]
    drawn = draw(faces, aus, torch.zeros(len(faces), NUISANCES), size)

    def head(x: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(
            x[:, :, size // 8 : size - size // 8, 3 * size // 16 : size - 3 * size // 16], (12, 10)
        )
        return (coarse - coarse.mean((2, 3), keepdim=True)).flatten(1)

    return F.cosine_similarity(head(images), head(drawn), eps=1e-4)


class ToyFacsJudge:
    """A small network that reads the AUs of drawn faces.

    It has no detector: a face is found where the image is like a drawing of the AUs and attributes that were read in
    it.
    """

    def __init__(
        self,
        model: ResidualJudge | PyramidJudge,
        attributes: AttributeJudge,
        face_threshold: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = _ready(model, device)
        self.attributes = attributes
        self.face_threshold = face_threshold

    @torch.no_grad()
    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `AuJudge.read`."""
        aus = self.model(images.to(self.model.device)).float().clamp(0, MAX_INTENSITY).cpu()
        images = images.float().cpu()
        return aus, likeness(images, self.attributes.predict(images), aus) >= self.face_threshold


class ClipImageScorer:
    """CLIP image embeddings; the cosine of an image's and its neutral's is CLIP-I (SPEC section 5)."""

    def __init__(self, model: CLIPModel, processor: CLIPImageProcessorPil, device: torch.device | str = "cpu") -> None:
        self.model = _ready(model, device)
        self.processor: Any = processor

    @classmethod
    def load(cls, path: str, device: torch.device | str = "cpu") -> "ClipImageScorer":
        """A CLIP with its image processor beside it, from a folder or the hub."""
        return cls(CLIPModel.from_pretrained(path), CLIPImageProcessorPil.from_pretrained(path), device)

    def preprocess(self, images: Tensor) -> Tensor:
        """What the image processor does to images (B, 3, H, W) in [0, 1], in torch: resize, centre crop, normalise."""
        wanted = self.processor
        height, width = images.shape[-2:]
        if wanted.do_resize:
            scale = wanted.size.shortest_edge / min(height, width) if wanted.size.shortest_edge else None
            # As transformers does, the longer side is rounded down.
            target = (
                (int(height * scale + 1e-6), int(width * scale + 1e-6))
                if scale
                else (wanted.size.height, wanted.size.width)
            )
            if target != (height, width):
                images = F.interpolate(images, size=target, mode="bicubic", antialias=True).clamp(0, 1)
        if wanted.do_center_crop:
            height, width = images.shape[-2:]
            top, left = (height - wanted.crop_size.height) // 2, (width - wanted.crop_size.width) // 2
            images = images[:, :, top : top + wanted.crop_size.height, left : left + wanted.crop_size.width]
        if wanted.do_normalize:
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (wanted.image_mean, wanted.image_std))
            images = (images - mean) / std
        return images

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors (B, D) on the CPU for images (B, 3, H, W) in [0, 1]."""
        pooled = self.model.vision_model(pixel_values=self.preprocess(images).to(self.model.device)).pooler_output
        return F.normalize(self.model.visual_projection(pooled).float(), dim=-1).cpu()


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


def find_judges(config: JudgeConfig) -> dict[str, Path]:
    """The folders of the configured judges' models, without loading them. Raises ValueError, naming the key, where one
    holds no model."""
    return JUDGES[config.kind].find(config)


def load_judges(config: JudgeConfig, device: torch.device | str = "cpu") -> Judges:
    """The configured judges, ready to read. Raises ValueError, naming the key, where a folder holds no such model."""
    return JUDGES[config.kind].load(config, device)


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
    reader = f"{LIBREFACE} {find_weights(config.libreface, LIBREFACE_KEY)[1]} {clip}"
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
