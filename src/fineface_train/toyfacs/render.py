"""How a ToyFACS face is drawn: batched, anti-aliased signed-distance shapes in torch.

Coordinates run from -1 (left, top) to 1 (right, bottom). Every AU moves its own part of the face by an amount
linear in its intensity and brings its own creases, so that each can be read alone and in combination.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fineface_train.toyfacs.faces import BACKGROUNDS, HAIRS, SHIRTS, SKINS, Face

RESOLUTION = 64
INK = (0.12, 0.06, 0.06)
"""Colour of brows, nose and creases: darker than every skin and beard, so that an AU changes every face in the same
direction."""
LIPS = (0.86, 0.24, 0.30)
NUISANCES = 9
"""Numbers in [-1, 1] per drawing that no caption tells: position, size, proportions, gaze, brow, tint."""


Point = tuple[Tensor | float, Tensor | float]


class Canvas:
    """A batch of images (B, 3, S, S) in [0, 1] and the coordinates to draw on them."""

    def __init__(self, colour: Tensor, size: int, dx: Tensor, dy: Tensor, scale: Tensor) -> None:
        axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
        self.pixel = 2 / size / scale
        self.page_y, self.page_x = axis.view(1, -1, 1), axis.view(1, 1, -1)
        self.x = ((self.page_x - dx) / scale).expand(-1, size, size)
        self.y = ((self.page_y - dy) / scale).expand(-1, size, size)
        self.mirrored_x = self.x.abs()
        self.image = colour[:, :, None, None].expand(-1, 3, size, size).clone()

    def cover(self, distance: Tensor) -> Tensor:
        """Signed distance (B, S, S), negative inside, to coverage in [0, 1] over one pixel."""
        return (0.5 - distance / self.pixel).clamp(0, 1)

    def paint(self, mask: Tensor, colour: Tensor) -> None:
        """Blend `colour` (B, 3) over the image where `mask` (B, S, S) covers it."""
        mask = mask[:, None]
        self.image = self.image * (1 - mask) + colour[:, :, None, None] * mask

    def ellipse(
        self, cx: Tensor | float, cy: Tensor | float, rx: Tensor | float, ry: Tensor | float, *, pair: bool = False
    ) -> Tensor:
        """First-order signed distance to an ellipse; a `pair` is drawn on both sides of the face at once."""
        dx, dy = ((self.mirrored_x if pair else self.x) - cx) / rx, (self.y - cy) / ry
        radius = torch.sqrt(dx * dx + dy * dy + 1e-8)
        slope = torch.sqrt((dx / rx) ** 2 + (dy / ry) ** 2 + 1e-8)
        return (radius - 1) * radius / slope

    def stroke(self, points: list[Point], width: Tensor | float) -> Tensor:
        """Signed distance to a polyline of the given half width, drawn on the right side and mirrored to the left."""
        best: Tensor | None = None
        for (ax, ay), (bx, by) in itertools.pairwise(points):
            ux, uy = bx - ax, by - ay
            px, py = self.mirrored_x - ax, self.y - ay
            along = ((px * ux + py * uy) / (ux * ux + uy * uy + 1e-8)).clamp(0, 1)
            squared = (px - along * ux) ** 2 + (py - along * uy) ** 2
            best = squared if best is None else torch.minimum(best, squared)
        assert best is not None
        return torch.sqrt(best + 1e-10) - width


def _gather(palette: dict[str, tuple[float, float, float]], names: list[str]) -> Tensor:
    return torch.tensor([palette[name] for name in names])


def draw(faces: list[Face], aus: Tensor, nuisances: Tensor, size: int = RESOLUTION) -> Tensor:
    """Draw faces: `aus` (B, 12) in [0, 5], `nuisances` (B, `NUISANCES`) in [-1, 1]; returns (B, 3, size, size) in [0,
    1]."""
    if aus.shape != (len(faces), 12) or nuisances.shape != (len(faces), NUISANCES):
        raise ValueError(
            f"{len(faces)} faces need aus (B, 12) and nuisances (B, {NUISANCES}), got {tuple(aus.shape)}, "
            f"{tuple(nuisances.shape)}"
        )
    n = [column.view(-1, 1, 1) for column in nuisances.float().T]
    a = [(column / 5).view(-1, 1, 1) for column in aus.float().T]
    au1, au2, au4, au5, au6, au9, *_, au26 = a
    skin = _gather(SKINS, [f.skin for f in faces]) + 0.015 * nuisances[:, 8:9].float()
    hair = _gather(HAIRS, [f.hair for f in faces])
    shirt, ground = _gather(SHIRTS, [f.shirt for f in faces]), _gather(BACKGROUNDS, [f.background for f in faces])

    def flag(name: str, value: str) -> Tensor:
        return torch.tensor([float(getattr(f, name) == value) for f in faces]).view(-1, 1, 1)

    c = Canvas(ground, size, 0.006 * n[0], 0.006 * n[1] - 0.03, 1.08 + 0.008 * n[2])
    face_w, chin = 0.60 + 0.01 * n[3], 0.72 + 0.15 * au26
    outline = skin * 0.45
    ink, lips = torch.tensor([INK]).expand_as(skin), torch.tensor([LIPS]).expand_as(skin)

    # Behind the face: long hair, neck, shirt, ears.
    back = torch.maximum(c.ellipse(0, -0.12, 0.80, 0.80), c.y + 0.1)
    back = torch.minimum(back, torch.maximum(c.mirrored_x - 0.80, torch.maximum(-0.1 - c.y, c.y - 0.74)))
    c.paint(c.cover(back) * flag("style", "long"), hair * 0.85)
    c.paint(c.cover(torch.maximum(c.mirrored_x - 0.20, 0.4 - c.y)), skin * 0.82)
    c.paint(c.cover(c.ellipse(0, 1.28, 0.98, 0.50)), shirt)
    c.paint(c.cover(c.ellipse(face_w, -0.05, 0.075, 0.13, pair=True)), skin * 0.9)

    # The head: an ellipse whose lower half follows the jaw.
    middle = -0.06
    head = c.ellipse(0, middle, face_w, torch.where(c.y < middle, 0.74, chin - middle))
    c.paint(c.cover(head - 0.02), outline)
    c.paint(c.cover(head), skin)

    # Beard: the lower face, its colour towards the hair's.
    beard_edge = 0.30 - 0.10 * (c.x / face_w) ** 2
    c.paint(c.cover(torch.maximum(head, beard_edge - c.y)) * flag("beard", "yes"), 0.6 * skin + 0.4 * hair)

    # Hair on top of the forehead; a bald head keeps the temples'.
    temples = torch.maximum(head, torch.maximum(0.46 - c.mirrored_x, (c.y + 0.29).abs() - 0.17))
    c.paint(c.cover(temples) * flag("style", "bald"), hair)
    hairline = 0.65 - 0.45 * (c.mirrored_x / face_w).clamp(0, 1.2) ** 4
    cap = torch.maximum(c.ellipse(0, -0.16, face_w + 0.07, 0.74), torch.maximum(c.y + hairline, c.y - 0.02))
    c.paint(c.cover(cap) * (1 - flag("style", "bald")), hair)

    def fold(points: list[Point], strength: Tensor, width: float = 0.016) -> None:
        """A crease that fades in, thickens and (by its points) grows with the strength of its AU."""
        shown = strength.clamp(0, 1)
        c.paint(c.cover(c.stroke(points, width + 0.014 * shown)) * shown**0.6, ink)

    # Creases of the upper face: AU1 in the middle of the forehead, AU2 at its sides, AU4 between the brows.
    for offset in (0.0, 0.075):
        fold([(0.0, -0.525 + offset), (0.06 + 0.12 * au1, -0.545 + offset)], au1)
    fold([(0.36 - 0.10 * au2, -0.53), (0.38, -0.57), (0.40 + 0.10 * au2, -0.52)], au2)
    fold([(0.045, -0.24 - 0.16 * au4), (0.04, -0.20)], au4, width=0.018)

    # Cheeks and crow's feet: AU6.
    flush = 0.45 * skin + 0.55 * torch.tensor([1.0, 0.15, 0.12])
    spot = torch.sqrt(((c.mirrored_x - 0.34) / 0.17) ** 2 + ((c.y - 0.16 + 0.05 * au6) / 0.11) ** 2)
    c.paint((1.25 - spot).clamp(0, 1) * au6, flush)
    for tilt in (-0.06, 0.03):
        fold([(0.44, -0.08 + tilt * 0.4), (0.46 + 0.09 * au6, -0.08 + tilt * 1.8)], au6, width=0.010)

    # Eyes: AU5 lifts the upper lid, AU6 pushes the lower lid up.
    eye_x, eye_y = 0.255 + 0.008 * n[4], -0.09
    white = torch.tensor([[0.98, 0.98, 0.98]]).expand_as(skin)
    dark = torch.tensor([[0.06, 0.05, 0.07]]).expand_as(skin)
    eye = c.ellipse(eye_x, eye_y, 0.145, torch.where(c.y < eye_y, 0.075 + 0.085 * au5, 0.070 - 0.050 * au6), pair=True)
    c.paint(c.cover(eye - 0.018), outline)
    opening = c.cover(eye)
    c.paint(opening, white)
    c.paint(
        c.cover(c.ellipse(eye_x + 0.03 * n[5] * c.x.sign(), eye_y - 0.005, 0.068, 0.068, pair=True)) * opening, dark
    )
    c.paint(c.cover(torch.maximum((eye - 0.012).abs() - 0.016, c.y - eye_y)), dark)

    # Brows: AU1 lifts the inner end, AU2 the outer half, AU4 pulls all down and together.
    brow_y = -0.30 + 0.012 * n[6]
    inner = (0.115 - 0.055 * au4, brow_y - 0.165 * au1 + 0.085 * au4)
    bend = (0.25, brow_y - 0.035 - 0.07 * au1 - 0.10 * au2 + 0.085 * au4)
    outer = (0.415, brow_y + 0.02 - 0.185 * au2 + 0.03 * au4)
    c.paint(c.cover(c.stroke([inner, bend, outer], 0.036 + 0.003 * n[7])), ink)

    # Nose: AU9 lifts and widens its base and folds its bridge.
    nose_y, wing = 0.21 - 0.06 * au9, 0.085 + 0.065 * au9
    c.paint(c.cover(c.stroke([(0.0, nose_y + 0.025), (wing * 0.8, nose_y), (wing, nose_y - 0.045)], 0.017)) * 0.9, ink)
    for offset in (0.0, 0.075):
        fold([(0.0, -0.01 + offset), (0.03 + 0.08 * au9, 0.02 + offset)], au9)
    fold([(0.13, 0.05), (0.14 + 0.08 * au9, 0.12)], au9)

    _draw_mouth(c, fold, ink, lips, *a[6:])

    # Glasses lie over everything.
    frame = torch.tensor([[0.08, 0.08, 0.10]]).expand_as(skin)
    rim = c.ellipse(0.255, -0.09, 0.20, 0.19, pair=True).abs() - 0.014
    wires = torch.minimum(
        c.stroke([(0.0, -0.115), (0.06, -0.115)], 0.014), c.stroke([(0.455, -0.10), (0.60, -0.12)], 0.014)
    )
    c.paint(c.cover(torch.minimum(rim, wires)) * flag("glasses", "yes"), frame)
    return c.image.clamp(0, 1)


def _draw_mouth(
    c: Canvas,
    fold: Callable,
    ink: Tensor,
    lip_colour: Tensor,
    au12: Tensor,
    au15: Tensor,
    au17: Tensor,
    au20: Tensor,
    au25: Tensor,
    au26: Tensor,
) -> None:
    """Mouth, chin and their creases; the AUs are (B, 1, 1) on the 0-1 scale."""
    mouth_y = 0.43 - 0.055 * au17
    width = 0.235 + 0.035 * au12 + 0.135 * au20 - 0.02 * au26 - 0.01 * au15
    corner = -0.150 * au12 + 0.145 * au15
    squared = (c.x / width) ** 2
    arch = (1 - squared).clamp(min=0)
    centre = mouth_y + corner * (squared.clamp(max=1.2) - 0.35)
    gap_up, gap_down = 0.055 * au25, 0.050 * au25 + 0.19 * au26
    lip_up, lip_down = 0.046 - 0.016 * au20, 0.060 - 0.020 * au20 + 0.035 * au17
    top, bottom = centre - gap_up * arch, centre + gap_down * arch
    round_arch = torch.sqrt(arch + 1e-6)
    lips = torch.maximum(
        torch.maximum(top - lip_up * round_arch - c.y, c.y - bottom - lip_down * round_arch), c.mirrored_x - width
    )
    c.paint(c.cover(lips), lip_colour)
    seam = c.cover(torch.maximum((c.y - centre).abs() - 0.013, c.mirrored_x - width - 0.02))
    c.paint(seam * (1 - (au25 + au26).clamp(0, 0.4) / 0.4), lip_colour * 0.35)

    # The opening: dark, teeth along its upper edge as the lips part, a tongue as the jaw drops.
    inside = torch.maximum(torch.maximum(top - c.y, c.y - bottom), c.mirrored_x - width)
    opening = c.cover(inside) * ((gap_up + gap_down) / 0.03).clamp(0, 1)
    c.paint(opening, torch.tensor([[0.20, 0.03, 0.05]]).expand_as(ink))
    teeth = c.cover(c.y - top - 0.115 * au25 * arch)
    c.paint(opening * teeth * (au25 / 0.2).clamp(0, 1), torch.tensor([[0.99, 0.99, 0.95]]).expand_as(ink))
    tongue = c.cover(c.ellipse(0, mouth_y + 0.05 + gap_down, 0.6 * width, 0.10 * au26 + 1e-3))
    c.paint(opening * tongue * au26.clamp(0, 1) * 0.9, torch.tensor([[0.90, 0.40, 0.45]]).expand_as(ink))

    # AU12: the fold from the nose around the lifted corner. AU15: the fold below the lowered corner.
    fold([(0.13, 0.22), (0.24 + 0.05 * au12, 0.28), (0.31 + 0.05 * au12, 0.28 + 0.12 * au12)], au12, 0.018)
    fold([(width + 0.02, mouth_y + corner + 0.05), (width + 0.06, mouth_y + corner + 0.06 + 0.12 * au15)], au15, 0.020)
    # AU20: the upright creases beside the stretched mouth.
    outside = width + 0.065
    fold(
        [(outside, mouth_y - 0.02 - 0.10 * au20), (outside + 0.02, mouth_y), (outside, mouth_y + 0.02 + 0.10 * au20)],
        au20,
        0.020,
    )
    # AU17: the boss of the chin, an arch with dimples under it.
    chin_y, reach = 0.60 + 0.17 * au26 - 0.02 * au17, 0.06 + 0.10 * au17
    fold([(0.0, chin_y), (0.5 * reach, chin_y), (reach, chin_y + 0.045)], au17, 0.018)
    dimple = c.ellipse(0.04, chin_y + 0.065, 0.022 + 0.012 * au17, 0.022 + 0.012 * au17, pair=True)
    c.paint(c.cover(dimple) * au17.clamp(0, 1) ** 0.7, ink)


def draw_nuisances(rng: np.random.Generator, count: int) -> Tensor:
    """Uniform nuisances (count, `NUISANCES`) in [-1, 1]."""
    return torch.from_numpy(rng.uniform(-1, 1, (count, NUISANCES)).astype(np.float32))


def to_uint8(images: Tensor) -> np.ndarray:
    """(B, 3, S, S) floats in [0, 1] to (B, S, S, 3) bytes, rounded."""
    return np.ascontiguousarray((images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


def grid(images: Tensor, columns: int, gap: int = 2) -> np.ndarray:
    """Tile (B, 3, S, S) into one picture of bytes, row by row."""
    array = to_uint8(images)
    rows, size = math.ceil(len(array) / columns), array.shape[1]
    sheet = np.full((rows * (size + gap) - gap, columns * (size + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(array):
        top, left = index // columns * (size + gap), index % columns * (size + gap)
        sheet[top : top + size, left : left + size] = image
    return sheet
