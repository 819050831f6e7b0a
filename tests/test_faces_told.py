"""Captions of the drawn world read back."""

import numpy as np
import pytest

from fineface_train.evaluation.plan import REAL_PROMPTS, calibration_prompts, toyfacs_prompts
from fineface_train.toyfacs.faces import caption, face_told, sample_face


def test_every_caption_tells_its_face() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        face = sample_face(rng)
        aus = rng.uniform(0, 5, 12).tolist() if rng.integers(2) else None
        text = caption(face, rng, aus)
        assert face_told(text) == face, text
    for prompt in (*toyfacs_prompts(), *calibration_prompts(True)):
        assert face_told(prompt.text) == prompt.face


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a person",
        *(prompt.text for prompt in REAL_PROMPTS),
        "a person with red skin, short red hair, in a blue shirt, green background",
        "a person with light skin, short red hair, hats, in a blue shirt, green background",
        "a person with light skin, light skin, short red hair, in a blue shirt, green background",
        "a person with short red hair, in a blue shirt, green background",
    ],
)
def test_other_texts_tell_none(text: str) -> None:
    assert face_told(text) is None
