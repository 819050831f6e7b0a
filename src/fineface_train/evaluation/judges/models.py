"""The networks that judge ToyFACS images: two AU judges of different architecture and an attribute classifier.

All take images (B, 3, 64, 64) in [0, 1]. Each is saved and loaded with `save_pretrained` / `from_pretrained`.
"""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from fineface_train.aus import AU_COUNT, MAX_INTENSITY


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut; halves the image when `stride` is 2."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResidualJudge(ModelMixin, ConfigMixin):
    """Judge one: a residual network that reads every place of the face (flattened 8x8 map), 12 intensities out."""

    @register_to_config
    def __init__(self, width: int = 24, outputs: int = AU_COUNT) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(
            ResidualBlock(width, width, 1),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 2),
            ResidualBlock(4 * width, 4 * width, 1),
        )
        self.head = nn.Sequential(
            nn.Conv2d(4 * width, width, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * width, 128),
            nn.ReLU(),
            nn.Linear(128, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Intensities (B, 12), near the 0-5 scale and not clamped."""
        return self.head(self.blocks(self.stem(images * 2 - 1))) * (MAX_INTENSITY / 2)


class PyramidJudge(ModelMixin, ConfigMixin):
    """Judge two: a plain pyramid of 5x5 convolutions with group normalisation, no shortcuts, read as a 4x4 map."""

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 128), outputs: int = AU_COUNT) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(channels_in, channels_out, 5, 2, 2), nn.GroupNorm(8, channels_out), nn.GELU()]
        self.pyramid = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(16 * widths[-1], 192), nn.GELU(), nn.Linear(192, outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Intensities (B, 12), near the 0-5 scale and not clamped."""
        return self.head(self.pyramid(images * 2 - 1)) * (MAX_INTENSITY / 2)


class AttributeClassifier(ModelMixin, ConfigMixin):
    """Which skin, hair, style, glasses, beard, shirt and background a drawn face shows: logits per attribute."""

    @register_to_config
    def __init__(self, classes: tuple[int, ...] = (5, 5, 3, 2, 2, 8, 8), width: int = 24) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2),
            nn.ReLU(),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 3 * width, 2),
            nn.Flatten(),
            nn.Linear(64 * 3 * width, 128),
            nn.ReLU(),
            nn.Linear(128, sum(self.classes)),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits (B, classes) for each attribute."""
        return list(self.body(images * 2 - 1).split(self.classes, dim=1))
