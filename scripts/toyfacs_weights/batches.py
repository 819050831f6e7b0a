"""Drawings with known labels to train and to check on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fineface_train.toyfacs.worlds import Drawings, Expressions, sample_drawings
from toyfacs_weights.stage import Stage

HELD_OUT = 1_000_000_007
"""First word of the seed of drawings that only checks see."""
DENSE, SPARSE = (Expressions.dense,), (Expressions.sparse,)


def draw_batch(
    stage: Stage, step: int, count: int, kinds: tuple[Expressions, ...] = DENSE + SPARSE, *, siblings: bool = False
) -> Drawings:
    batch = sample_drawings(stage.seed(step), count, kinds, siblings=siblings)
    batch.images = batch.images.to(stage.accelerator.device)
    return batch


def held_out(count: int, kinds: tuple[Expressions, ...] = DENSE + SPARSE):  # noqa: ANN201
    return [sample_drawings((HELD_OUT, index), 50, kinds) for index in range(count // 50)]


def augment(images: Tensor) -> Tensor:
    """What a generator may do to a drawing: a little blur, noise, shift of tone; each sample its own amount."""
    count, device = len(images), images.device
    amount = torch.rand(count, 1, 1, 1, device=device) ** 2
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    mixed = images + 0.7 * amount * (blurred - images)
    tone = 1 + 0.1 * torch.randn(count, 3, 1, 1, device=device)
    noise = 0.05 * torch.rand(count, 1, 1, 1, device=device) * torch.randn_like(images)
    return (mixed * tone + 0.03 * torch.randn(count, 3, 1, 1, device=device) + noise).clamp(0, 1)
