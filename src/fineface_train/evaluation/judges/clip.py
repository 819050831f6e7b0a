"""CLIP's image similarity: how near a picture is to the neutral one of its unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel

from fineface_train.toyfacs.render import to_uint8


class ClipImageScorer:
    """CLIP image embeddings; the cosine of an image's and its neutral's is CLIP-I (FineFace, arXiv 2407.20175)."""

    def __init__(self, model: CLIPModel, processor: CLIPImageProcessorPil, device: torch.device | str = "cpu") -> None:
        self.model: Any = model.to(device).eval()
        self.processor: Any = processor

    @classmethod
    def load(cls, path: str, device: torch.device | str = "cpu") -> "ClipImageScorer":
        """A CLIP with its image processor beside it, from a folder or the hub."""
        return cls(CLIPModel.from_pretrained(path), CLIPImageProcessorPil.from_pretrained(path), device)

    def preprocess(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """What CLIP is given (B, 3, h, w) of images (3, H, W) in [0, 1], each of its own size.

        Their bytes are resized and cropped by CLIP's own image processor; the last step, a mean and a deviation for
        each colour, is done here in float32, so that the bits do not depend on how a version of it rounds.
        """
        pixels = [to_uint8(image[None])[0] for image in images]
        cut = self.processor(
            pixels, do_rescale=False, do_normalize=False, input_data_format="channels_last", return_tensors="np"
        )["pixel_values"]
        values = torch.from_numpy(np.ascontiguousarray(cut)).float() / 255
        if self.processor.do_normalize:
            mean, std = (
                torch.tensor(values).view(1, 3, 1, 1)
                for values in (self.processor.image_mean, self.processor.image_std)
            )
            values = (values - mean) / std
        return values

    @torch.no_grad()
    def embed(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """Unit vectors (B, D) on the CPU for images (3, H, W) in [0, 1]."""
        pooled = self.model.vision_model(pixel_values=self.preprocess(images).to(self.model.device)).pooler_output
        return F.normalize(self.model.visual_projection(pooled).float(), dim=-1).cpu()
