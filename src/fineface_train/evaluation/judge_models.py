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
            ResidualBlock(width, width, 1), ResidualBlock(width, 2 * width, 2), ResidualBlock(2 * width, 4 * width, 2), ResidualBlock(4 * width, 4 * width, 1)
        )
        self.head = nn.Sequential(nn.Conv2d(4 * width, width, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * width, 128), nn.ReLU(), nn.Linear(128, outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Intensities (B, 12), near the 0-5 scale and not clamped."""
        return self.head(self.blocks(self.stem(images * 2 - 1))) * (MAX_INTENSITY / 2)


class PatchJudge(ModelMixin, ConfigMixin):
    """Judge two: 4x4 patches mixed by wide depthwise convolutions (ConvMixer), coordinates appended, pooled by attention per AU."""

    @register_to_config
    def __init__(self, width: int = 96, depth: int = 3, outputs: int = AU_COUNT) -> None:
        super().__init__()
        self.patches = nn.Conv2d(5, width, 6, 4, 1)
        self.space = nn.ModuleList(nn.Conv2d(width, width, 5, padding=2, groups=width) for _ in range(depth))
        self.channels = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(depth))
        self.space_norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(depth))
        self.channel_norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(depth))
        self.place = nn.Conv2d(width, outputs, 1)
        self.place_bias = nn.Parameter(torch.zeros(1, outputs, 16, 16))
        self.value = nn.Conv2d(width, width, 1)
        self.read = nn.Parameter(torch.randn(outputs, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Intensities (B, 12), near the 0-5 scale and not clamped."""
        size = images.shape[-1]
        axis = torch.linspace(-1, 1, size, device=images.device, dtype=images.dtype)
        where = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))[None].expand(len(images), -1, -1, -1)
        x = self.patches(torch.cat([images * 2 - 1, where], dim=1))
        for space, space_norm, channels, channel_norm in zip(self.space, self.space_norms, self.channels, self.channel_norms, strict=True):
            x = x + torch.nn.functional.gelu(space_norm(space(x)))
            x = torch.nn.functional.gelu(channel_norm(channels(x)))
        weight = (self.place(x) + self.place_bias).flatten(2).softmax(-1)
        pooled = torch.einsum("bop,bcp->boc", weight, self.value(x).flatten(2))
        return (torch.einsum("boc,oc->bo", pooled, self.read) + self.bias) * (MAX_INTENSITY / 2)


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
