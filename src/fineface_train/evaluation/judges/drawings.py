"""Judges of drawn faces: two small networks that read AUs, and one that reads the attributes a caption tells."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fineface_train.aus import MAX_INTENSITY
from fineface_train.evaluation.judges.models import AttributeClassifier, PyramidJudge, ResidualJudge
from fineface_train.toyfacs.faces import ATTRIBUTES, Face
from fineface_train.toyfacs.render import NUISANCES, draw


def _ready(model: Any, device: torch.device | str) -> Any:
    return model.to(device).eval()


def batch_of(images: Sequence[Tensor] | Tensor) -> Tensor:
    """Images (3, H, W) of one size as a batch (B, 3, H, W)."""
    return images if isinstance(images, Tensor) else torch.stack(list(images))


class AttributeJudge:
    """Which caption attributes a drawn face shows."""

    def __init__(self, model: AttributeClassifier, device: torch.device | str = "cpu") -> None:
        self.model = _ready(model, device)

    @torch.no_grad()
    def predict(self, images: Sequence[Tensor] | Tensor) -> list[Face]:
        """The most likely face for each of the images (3, 64, 64)."""
        logits = self.model(batch_of(images).to(self.model.device))
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
    def read(self, images: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        """See `AuJudge.read`; images are 64 pixels high and wide."""
        images = batch_of(images)
        aus = self.model(images.to(self.model.device)).float().clamp(0, MAX_INTENSITY).cpu()
        images = images.float().cpu()
        return aus, likeness(images, self.attributes.predict(images), aus) >= self.face_threshold
