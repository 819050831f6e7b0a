"""The drawing: what an AU does to a face, on every skin, hair and beard."""

import itertools

import pytest
import torch

from fineface_train.aus import AU_COUNT, AU_KEYS
from fineface_train.toyfacs.faces import HAIRS, SKINS, Face
from fineface_train.toyfacs.render import NUISANCES, draw

FACES = [
    Face(skin, hair, "short", "no", beard, "blue", "white")
    for skin, hair, beard in itertools.product(SKINS, HAIRS, ("no", "yes"))
]


def drawn(aus: torch.Tensor) -> torch.Tensor:
    return draw(FACES, aus, torch.zeros(len(FACES), NUISANCES)).flatten(1)


@pytest.mark.parametrize("au", range(AU_COUNT), ids=lambda au: AU_KEYS[au])
def test_an_au_changes_every_face_in_the_same_direction(au: int) -> None:
    """With creases lighter than dark skin and darker than light skin, adapters learned the AU of the majority only."""
    asked = torch.zeros(len(FACES), AU_COUNT)
    neutral = drawn(asked)
    asked[:, au] = 5
    change = drawn(asked) - neutral
    mean = change.mean(0)
    assert float((change @ mean / mean.norm() ** 2).min()) > 0.2
    asked[:, au] = 2
    part = (drawn(asked) - neutral).norm(dim=1) / change.norm(dim=1)
    assert float(part.min()) > 0.15  # visible at 2
    assert float(part.max()) < 0.95  # and more so at 5
