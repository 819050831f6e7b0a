"""Who is drawn: attributes, identities and captions of ToyFACS faces.

An *identity* is a (skin, hair, style, glasses, beard) tuple; shirt and background are told in the caption but belong
to nobody. One identity in five is held out: it never enters the corpus that adapters are trained on.
"""

import dataclasses
import hashlib
import itertools
import re

import numpy as np

from fineface_train.aus import describe_aus

Colour = tuple[float, float, float]

SKINS: dict[str, Colour] = {
    "pale": (0.99, 0.88, 0.82),
    "light": (0.93, 0.73, 0.58),
    "tan": (0.79, 0.58, 0.38),
    "brown": (0.63, 0.43, 0.29),
    "dark": (0.45, 0.29, 0.21),
}
HAIRS: dict[str, Colour] = {
    "black": (0.07, 0.06, 0.09),
    "brown": (0.36, 0.20, 0.08),
    "blond": (0.95, 0.80, 0.36),
    "red": (0.80, 0.26, 0.06),
    "gray": (0.66, 0.67, 0.70),
}
STYLES: tuple[str, ...] = ("bald", "short", "long")
SHIRTS: dict[str, Colour] = {
    "red": (0.86, 0.10, 0.14),
    "yellow": (0.98, 0.86, 0.15),
    "green": (0.12, 0.55, 0.20),
    "blue": (0.14, 0.30, 0.85),
    "purple": (0.50, 0.18, 0.70),
    "white": (0.97, 0.97, 0.97),
    "black": (0.10, 0.10, 0.11),
    "orange": (0.97, 0.52, 0.10),
}
BACKGROUNDS: dict[str, Colour] = {
    "red": (0.78, 0.22, 0.20),
    "yellow": (0.88, 0.80, 0.25),
    "green": (0.24, 0.62, 0.32),
    "blue": (0.20, 0.38, 0.80),
    "purple": (0.55, 0.30, 0.70),
    "white": (0.92, 0.92, 0.92),
    "teal": (0.12, 0.62, 0.64),
    "orange": (0.92, 0.52, 0.20),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "skin": tuple(SKINS),
    "hair": tuple(HAIRS),
    "style": STYLES,
    "glasses": ("no", "yes"),
    "beard": ("no", "yes"),
    "shirt": tuple(SHIRTS),
    "background": tuple(BACKGROUNDS),
}
EXPRESSION_SHARE = 0.6
"""Share of the base's and CLIP's captions that tell the expression; the adapter's corpus never tells it."""


@dataclasses.dataclass(frozen=True)
class Face:
    """The attributes that a caption tells: the five of the identity first, then shirt and background."""

    skin: str
    hair: str
    style: str
    glasses: str
    beard: str
    shirt: str
    background: str

    @property
    def identity(self) -> tuple[str, str, str, str, str]:
        return (self.skin, self.hair, self.style, self.glasses, self.beard)

    def indices(self) -> list[int]:
        """Class index of each attribute, in the order of `ATTRIBUTES`."""
        return [values.index(getattr(self, name)) for name, values in ATTRIBUTES.items()]


def all_identities() -> list[tuple[str, ...]]:
    """All 300 identities in a fixed order."""
    return list(itertools.product(SKINS, HAIRS, STYLES, ("no", "yes"), ("no", "yes")))


def is_held_out_identity(identity: tuple[str, ...]) -> bool:
    """Whether adapters never see this identity: a fixed pseudo-random fifth of all."""
    digest = hashlib.sha256("|".join(identity).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < 0.2


def sample_face(rng: np.random.Generator, identities: list[tuple[str, ...]] | None = None) -> Face:
    """A face drawn uniformly from `identities` (default: all), with a uniform shirt and background."""
    pool = identities if identities is not None else all_identities()
    skin, hair, style, glasses, beard = pool[rng.integers(len(pool))]
    shirt = list(SHIRTS)[rng.integers(len(SHIRTS))]
    background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    return Face(skin, hair, style, glasses, beard, shirt, background)


def caption(face: Face, rng: np.random.Generator, aus: list[float] | None = None) -> str:
    """A sentence that tells every attribute of `face`, in one of several orders, and the expression if `aus` is given.

    At most 46 tokens of the ToyFACS tokenizer (the text tower reads 64).
    """
    hair = f"{face.style} {face.hair} hair" if face.style != "bald" else f"a bald head and {face.hair} temples"
    # What is absent is not named: "no glasses" would leave it to the text encoder to tell which of two things is
    # denied.
    parts = [f"{face.skin} skin", hair] + ["glasses"] * (face.glasses == "yes") + ["a beard"] * (face.beard == "yes")
    parts = [parts[i] for i in rng.permutation(len(parts))]
    person = ("a person", "a portrait of a person", "a drawing of a person", "a close-up of a person")[rng.integers(4)]
    shirt = ("wearing a {} shirt", "in a {} shirt", "with a {} shirt")[rng.integers(3)].format(face.shirt)
    scene = ("on a {} background", "in front of a {} wall", "{} background")[rng.integers(3)].format(face.background)
    text = f"{person} with {', '.join(parts)}, {shirt}, {scene}"
    expression = describe_aus(aus) if aus is not None else ""
    return f"{text}, {expression}" if expression else text


CAPTION = re.compile(
    r"(?:a|a portrait of a|a drawing of a|a close-up of a) person with (?P<parts>.+), (?:wearing|in|with) a "
    r"(?P<shirt>\w+) shirt, (?:on a (?P<on>\w+) background|in front of a (?P<wall>\w+) wall|"
    r"(?P<plain>\w+) background)(?:, .+)?"
)
HAIR = re.compile(r"(?:(?P<style>\w+) (?P<hair>\w+) hair|a bald head and (?P<temples>\w+) temples)")


def face_told(text: str) -> Face | None:
    """The face that a text describes in the words of `caption`, with or without an expression; None for any other
    text."""
    told = CAPTION.fullmatch(text)
    if told is None:
        return None
    parts = told["parts"].split(", ")
    skins = [part.removesuffix(" skin") for part in parts if part.endswith(" skin")]
    hairs = [found for part in parts if (found := HAIR.fullmatch(part))]
    others = [part for part in parts if not part.endswith(" skin") and not HAIR.fullmatch(part)]
    if len(skins) != 1 or len(hairs) != 1 or not set(others) <= {"glasses", "a beard"}:
        return None
    hair = hairs[0]
    face = Face(
        skin=skins[0],
        hair=hair["hair"] or hair["temples"],
        style=hair["style"] or "bald",
        glasses="yes" if "glasses" in others else "no",
        beard="yes" if "a beard" in others else "no",
        shirt=told["shirt"],
        background=told["on"] or told["wall"] or told["plain"],
    )
    return face if all(getattr(face, name) in values for name, values in ATTRIBUTES.items()) else None
