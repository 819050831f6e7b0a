"""What a ToyFACS face does: two distributions of expressions, and endless labelled drawings of them."""

import dataclasses
import enum

import numpy as np
import torch
from torch import Tensor

from fineface_train.aus import AU_COUNT, AU_KEYS
from fineface_train.toyfacs.faces import EXPRESSION_SHARE, Face, caption, sample_face
from fineface_train.toyfacs.render import draw, draw_nuisances


class Expressions(enum.Enum):
    """`dense`: each AU independently present in 3 of 10 faces. `sparse`: as DISFA's labels, few and co-occurring."""

    dense = "dense"
    sparse = "sparse"


# Expressions that people make, as (AU, share of the expression's strength); they make AUs co-occur as in DISFA.
PROTOTYPES: tuple[dict[str, float], ...] = (
    {"AU6": 0.8, "AU12": 1.0, "AU25": 0.6},
    {"AU12": 1.0, "AU25": 0.5},
    {"AU1": 0.8, "AU2": 0.8, "AU5": 0.7, "AU26": 0.8, "AU25": 0.6},
    {"AU1": 0.8, "AU4": 0.5, "AU15": 0.9, "AU17": 0.5},
    {"AU4": 1.0, "AU5": 0.5, "AU9": 0.4},
    {"AU4": 0.6, "AU9": 1.0, "AU17": 0.5},
    {"AU1": 0.7, "AU2": 0.5, "AU4": 0.5, "AU20": 0.9, "AU25": 0.4},
    {"AU25": 1.0, "AU26": 0.8},
    {"AU15": 0.6, "AU17": 1.0},
)
ALONE_SHARE = 0.40
NEUTRAL_SHARE = 0.12


def sample_aus(rng: np.random.Generator, kind: Expressions) -> list[float]:
    """12 intensities in [0, 5]. Sparse faces show one AU alone (40%), nothing (12%) or an expression people make
    (48%)."""
    if kind is Expressions.dense:
        return list(rng.uniform(0, 5, AU_COUNT) * (rng.uniform(size=AU_COUNT) < 0.3))
    values = np.zeros(AU_COUNT)
    draw_kind = rng.uniform()
    if draw_kind < ALONE_SHARE:
        values[rng.integers(AU_COUNT)] = rng.uniform(0.5, 5)
    elif draw_kind >= ALONE_SHARE + NEUTRAL_SHARE:
        strength = rng.uniform(1, 5)
        for key, share in PROTOTYPES[rng.integers(len(PROTOTYPES))].items():
            if rng.uniform() < 0.85:
                values[AU_KEYS.index(key)] = np.clip(strength * share + rng.normal(0, 0.5), 0, 5)
    return list(values)


@dataclasses.dataclass
class Drawings:
    """A batch of drawings and everything that is known about them."""

    images: Tensor
    """(B, 3, S, S) in [0, 1]."""
    aus: Tensor
    """(B, 12) in [0, 5]."""
    faces: list[Face]
    captions: list[str]


def sample_drawings(
    seed: tuple[int, ...],
    count: int,
    kinds: tuple[Expressions, ...] = (Expressions.dense, Expressions.sparse),
    expression_share: float = EXPRESSION_SHARE,
    *,
    siblings: bool = False,
) -> Drawings:
    """`count` drawings as a pure function of `seed`, the kinds of expression in turn; a share of captions tells the
    AUs.

    `siblings` come in eights that differ in glasses, beard and expression only, and all their captions tell the
    expression.
    """
    rng = np.random.default_rng(seed)
    faces = [sample_face(rng) for _ in range(count)]
    if siblings:
        faces = [
            dataclasses.replace(
                faces[index // 8], glasses=("no", "yes")[index % 2], beard=("no", "yes")[index // 2 % 2]
            )
            for index in range(count)
        ]
    aus = [sample_aus(rng, kinds[index % len(kinds)]) for index in range(count)]
    told = 1.0 if siblings else expression_share
    captions = [
        caption(face, rng, values if rng.uniform() < told else None) for face, values in zip(faces, aus, strict=True)
    ]
    vectors = torch.tensor(np.array(aus), dtype=torch.float32)
    return Drawings(draw(faces, vectors, draw_nuisances(rng, count)), vectors, faces, captions)
