"""Which images an evaluation asks for: prompts, single AUs, combinations, and a neutral per prompt."""

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np

from fineface_train.aus import AU_COUNT, AU_KEYS
from fineface_train.evaluation.config import ProtocolName
from fineface_train.methods.protocol import Request
from fineface_train.toyfacs.faces import Face, caption, is_held_out_identity, sample_face

PROMPTS_SEED = 20175
SEEN_PROMPTS, HELD_OUT_PROMPTS = 5, 10


class Kind(enum.StrEnum):
    """What an image of the plan is for."""

    neutral = "neutral"
    individual = "individual"
    combination = "combination"


@dataclasses.dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt; `face` is what it describes, where that is known (ToyFACS), so that attributes can be checked."""

    text: str
    held_out: bool
    face: Face | None = None


@dataclasses.dataclass(frozen=True)
class AuSet:
    """A combination of AUs: 12 intensities; held-out ones never enter an adapter's corpus."""

    aus: tuple[float, ...]
    held_out: bool

    @property
    def commanded(self) -> str:
        """The AUs that are not 0: "AU6+AU12"."""
        return "+".join(key for key, value in zip(AU_KEYS, self.aus, strict=True) if value != 0)


@dataclasses.dataclass(frozen=True)
class PlannedImage:
    """One image of an evaluation and the request that makes it."""

    id: str
    kind: Kind
    prompt: EvaluationPrompt
    prompt_index: int
    set_index: int
    """Index of the combination; -1 for neutral and individual images."""
    set_held_out: bool
    commanded: str
    """AUs that are not 0: "AU12" or "AU6+AU12"; "" for the neutral."""
    request: Request

    @property
    def prompt_held_out(self) -> bool:
        return self.prompt.held_out

    @property
    def unit(self) -> str:
        """What statistics resample: here the prompt."""
        return unit_of_prompt(self.prompt_index)


def unit_of_prompt(index: int) -> str:
    """The name of the unit that all images of a prompt are."""
    return f"p{index:02d}"


@dataclasses.dataclass(frozen=True)
class _Share:
    """How much of the whole protocol is asked: how many seen and held-out prompts and sets, and which intensities."""

    prompts: tuple[int, int]
    sets: tuple[int, int]
    intensities: tuple[int, ...]


_REAL_CALIBRATION_TEXTS = (
    "a close-up of a woman with blond hair",
    "a bearded man in a gray sweater in a library",
    "an east asian boy in a red jacket",
    "a black man with short hair in front of a window",
)
CALIBRATION_PROMPTS = len(_REAL_CALIBRATION_TEXTS)
CALIBRATION_SETS = 60
CALIBRATION_SEED = 10_000
"""Added to the evaluation's seed, so that no starting noise is shared."""


_SHARES = {
    ProtocolName.calibration: _Share(
        prompts=(CALIBRATION_PROMPTS, 0), sets=(CALIBRATION_SETS, 0), intensities=(1, 2, 3, 4, 5)
    ),
    ProtocolName.glance: _Share(prompts=(0, 2), sets=(0, 0), intensities=(2, 5)),
    ProtocolName.quick: _Share(prompts=(1, 4), sets=(2, 15), intensities=(1, 3, 5)),
    ProtocolName.paper: _Share(prompts=(SEEN_PROMPTS, HELD_OUT_PROMPTS), sets=(25, 25), intensities=(1, 2, 3, 4, 5)),
}

_REAL_TEXTS = (
    # The prompts that the paper shows.
    "a close-up of Barack Obama",
    "a young man in a park",
    "an Asian woman in the park",
    "a man with black hair wearing a black jacket",
    "a girl wearing a sundress in a sunflower field",
    "an asian man in a pink shirt",
    "a caucasian man with a bald head wearing a red sweater",
    # Ours, in the same spirit: the paper's other eight are unpublished.
    "a close-up of an elderly woman with gray hair",
    "a black woman wearing a yellow blouse",
    "a man with a beard and glasses in an office",
    "a young woman with red hair in front of a brick wall",
    "an Indian man in a white shirt on a beach",
    "an old man with a white beard wearing a blue coat",
    "a Latina woman with long brown hair in a kitchen",
    "a boy with curly hair wearing a green hoodie on a street",
)
REAL_PROMPTS: tuple[EvaluationPrompt, ...] = tuple(EvaluationPrompt(text, held_out=False) for text in _REAL_TEXTS)
"""For bases that know real people: nobody is held out, so that headlines are over all prompts."""


def calibration_prompts(toyfacs: bool) -> list[EvaluationPrompt]:
    """Prompts that no evaluation uses; on ToyFACS of identities that adapters have seen."""
    if not toyfacs:
        return [EvaluationPrompt(text, held_out=False) for text in _REAL_CALIBRATION_TEXTS]
    rng = np.random.default_rng(PROMPTS_SEED + 1)
    taken = {prompt.face.identity for prompt in toyfacs_prompts() if prompt.face is not None}
    prompts: list[EvaluationPrompt] = []
    while len(prompts) < CALIBRATION_PROMPTS:
        face = sample_face(rng)
        if face.identity not in taken and not is_held_out_identity(face.identity):
            taken.add(face.identity)
            prompts.append(EvaluationPrompt(caption(face, rng), False, face))
    return prompts


def calibration_sets() -> list[AuSet]:
    """Two to five AUs at random, 1 to 5; none moves the same AUs as a combination of the evaluation."""
    rng = np.random.default_rng(PROMPTS_SEED + 1)
    taken = {one.commanded for one in toyfacs_combinations()}
    sets: list[AuSet] = []
    while len(sets) < CALIBRATION_SETS:
        chosen = rng.choice(AU_COUNT, size=rng.integers(2, 6), replace=False)
        one = au_set({AU_KEYS[au]: float(rng.integers(1, 6)) for au in chosen}, held_out=False)
        if one.commanded not in taken:
            sets.append(one)
    return sets


def toyfacs_prompts() -> list[EvaluationPrompt]:
    """15 captions of different identities, always the same: 5 seen by adapters, then 10 held out; none tells the
    expression."""
    rng = np.random.default_rng(PROMPTS_SEED)
    faces: list[Face] = []
    for held_out, count in ((False, SEEN_PROMPTS), (True, HELD_OUT_PROMPTS)):
        group: list[Face] = []
        while len(group) < count:
            candidates = [
                face
                for face in (sample_face(rng) for _ in range(100))
                if is_held_out_identity(face.identity) == held_out
            ]
            group.append(min(candidates, key=lambda face: _similarity(face, group)))
        faces += group
    return [EvaluationPrompt(caption(face, rng), is_held_out_identity(face.identity), face) for face in faces]


def _similarity(face: Face, others: list[Face]) -> float:
    """How much of `face` the others show already; an identity that is taken is never chosen again."""
    if any(face.identity == other.identity for other in others):
        return float("inf")
    return sum(mine == theirs for other in others for mine, theirs in zip(face.indices(), other.indices(), strict=True))


def au_set(values: dict[str, float], *, held_out: bool) -> AuSet:
    """The set of {"AU12": 3.0, ...}; AUs not named are 0. Raises ValueError for a key that is no AU."""
    unknown = sorted(set(values) - set(AU_KEYS))
    if unknown:
        raise ValueError(f"combination: {', '.join(unknown)} not among {', '.join(AU_KEYS)}")
    return AuSet(tuple(float(values.get(key, 0)) for key in AU_KEYS), held_out)


def toyfacs_combinations() -> list[AuSet]:
    """The 50 combinations: 25 that an adapter's corpus may hold, then 25 held out of it."""
    from fineface_train.toyfacs.combinations import HELD_OUT_COMBINATIONS, SEEN_COMBINATIONS

    seen = [au_set(values, held_out=False) for values in SEEN_COMBINATIONS]
    return seen + [au_set(values, held_out=True) for values in HELD_OUT_COMBINATIONS]


def build_plan(
    name: ProtocolName, prompts: Sequence[EvaluationPrompt], combinations: Sequence[AuSet], seed: int
) -> list[PlannedImage]:
    """Every image of the evaluation: neutrals first, then single AUs, then combinations.

    All images of a prompt have the seed `seed + prompt_index`. Indices and ids count in the full lists, so that the
    quick protocol's images are some of the paper protocol's. Where prompts (or sets) are all of one kind, the quick
    protocol takes as many of these as of both kinds together.
    """
    share = _SHARES[name]
    prompt_indices = _choose([prompt.held_out for prompt in prompts], share.prompts)
    set_indices = _choose([one.held_out for one in combinations], share.sets)

    def planned(prompt_index: int, suffix: str, kind: Kind, aus: AuSet, set_index: int = -1) -> PlannedImage:
        prompt = prompts[prompt_index]
        request = Request(prompt.text, aus.aus, seed + prompt_index)
        return PlannedImage(
            f"{unit_of_prompt(prompt_index)}_{suffix}",
            kind,
            prompt,
            prompt_index,
            set_index,
            aus.held_out,
            aus.commanded,
            request,
        )

    plan = [planned(index, "neutral", Kind.neutral, AuSet((0.0,) * AU_COUNT, False)) for index in prompt_indices]
    for index in prompt_indices:
        for key in AU_KEYS:
            plan += [
                planned(index, f"{key}_{value}", Kind.individual, au_set({key: value}, held_out=False))
                for value in share.intensities
            ]
    for index in prompt_indices:
        plan += [
            planned(index, f"set{number:02d}", Kind.combination, combinations[number], number) for number in set_indices
        ]
    return plan


def _choose(held_out: list[bool], share: tuple[int, int]) -> list[int]:
    """Indices of the first `share` = (seen, held-out) entries, in order; of one kind only, as many of it as of both."""
    seen = [index for index, flag in enumerate(held_out) if not flag]
    kept = [index for index, flag in enumerate(held_out) if flag]
    if not seen or not kept:
        return (seen or kept)[: sum(share)]
    return seen[: share[0]] + kept[: share[1]]
