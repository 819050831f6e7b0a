import dataclasses

import numpy as np
import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.plan import (
    REAL_PROMPTS,
    AuSet,
    Kind,
    au_set,
    build_plan,
    toyfacs_combinations,
    toyfacs_prompts,
)
from fineface_train.toyfacs.faces import ATTRIBUTES, is_held_out_identity


@pytest.fixture(scope="module")
def combinations() -> list[AuSet]:
    rng = np.random.default_rng(0)
    return [
        au_set({str(key): 3.0 for key in rng.choice(AU_KEYS, 3, replace=False)}, held_out=index >= 25)
        for index in range(50)
    ]


def test_toyfacs_prompts_are_five_seen_and_ten_held_out_identities() -> None:
    prompts = toyfacs_prompts()
    assert prompts == toyfacs_prompts()
    assert [prompt.held_out for prompt in prompts] == [False] * 5 + [True] * 10
    faces = [prompt.face for prompt in prompts]
    assert all(
        face is not None and is_held_out_identity(face.identity) == prompt.held_out
        for face, prompt in zip(faces, prompts, strict=True)
    )
    assert len({face.identity for face in faces if face}) == 15
    for prompt in prompts:
        assert prompt.face is not None
        assert prompt.face.shirt in prompt.text
        assert "raiser" not in prompt.text


def test_toyfacs_prompts_show_nearly_every_attribute_value() -> None:
    for name, values in ATTRIBUTES.items():
        assert {getattr(prompt.face, name) for prompt in toyfacs_prompts()} == set(values)


def test_real_prompts_hold_nobody_out() -> None:
    assert len({prompt.text for prompt in REAL_PROMPTS}) == 15
    assert not any(prompt.held_out for prompt in REAL_PROMPTS)


def test_paper_plan_has_1665_images(combinations: list[AuSet]) -> None:
    plan = build_plan(ProtocolName.paper, toyfacs_prompts(), combinations, seed=7)
    kinds = [image.kind for image in plan]
    assert [kinds.count(kind) for kind in (Kind.neutral, Kind.individual, Kind.combination)] == [15, 900, 750]
    assert len({image.id for image in plan}) == 1665
    assert sum(image.prompt_held_out and image.set_held_out for image in plan) == 10 * 25
    assert all(image.request.seed == 7 + image.prompt_index for image in plan)
    assert all((image.set_index == -1) == (image.kind is not Kind.combination) for image in plan)


def test_quick_plan_is_a_part_of_the_paper_plan(combinations: list[AuSet]) -> None:
    quick = build_plan(ProtocolName.quick, toyfacs_prompts(), combinations, seed=0)
    assert len(quick) == 5 + 5 * 12 * 3 + 5 * 17
    assert set(map(dataclasses.astuple, quick)) <= set(
        map(dataclasses.astuple, build_plan(ProtocolName.paper, toyfacs_prompts(), combinations, seed=0))
    )
    assert sum(image.prompt_held_out for image in quick if image.kind is Kind.neutral) == 4
    assert {image.set_held_out for image in quick if image.set_index < 25} == {False}
    assert len({image.set_index for image in quick if image.set_held_out}) == 15


def test_quick_plan_of_real_prompts_takes_five(combinations: list[AuSet]) -> None:
    plan = build_plan(ProtocolName.quick, REAL_PROMPTS, combinations, seed=0)
    assert len({image.prompt_index for image in plan}) == 5


def test_an_image_commands_what_its_request_asks(combinations: list[AuSet]) -> None:
    plan = {image.id: image for image in build_plan(ProtocolName.paper, toyfacs_prompts(), combinations, seed=0)}
    assert plan["p03_AU12_4"].commanded == "AU12"
    assert plan["p03_AU12_4"].request.aus == tuple(4.0 if key == "AU12" else 0.0 for key in AU_KEYS)
    assert plan["p03_neutral"].commanded == ""
    assert plan["p03_set30"].request.aus == combinations[30].aus
    assert plan["p03_set30"].commanded.count("+") == 2


def test_a_set_of_an_unknown_au_is_refused() -> None:
    with pytest.raises(ValueError, match="AU13"):
        au_set({"AU13": 2.0}, held_out=False)


def test_the_quick_plan_determines_every_slope_in_combinations() -> None:
    """12 AUs and an intercept, the neutral among the rows, on held-out sets alone."""
    plan = build_plan(ProtocolName.quick, toyfacs_prompts(), toyfacs_combinations(), seed=0)
    sets = {image.set_index: image.request.aus for image in plan if image.set_held_out}
    assert np.linalg.matrix_rank(np.array([[1, *aus] for aus in [(0,) * 12, *sets.values()]])) == 13
