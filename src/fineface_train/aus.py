"""The twelve Action Units (AUs): their order, names, ranges and text form.

Every AU vector in this project has shape (..., 12), follows the order of `AUS`, and holds FACS
intensities in [0, 5]: 0 absent, 1 trace (A), 2 slight (B), 3 marked (C), 4 severe (D), 5 maximum (E).
"""

import difflib
import math
import re
from collections.abc import Sequence

AUS: tuple[int, ...] = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
AU_NAMES: tuple[str, ...] = (
    "inner brow raiser",
    "outer brow raiser",
    "brow lowerer",
    "upper lid raiser",
    "cheek raiser",
    "nose wrinkler",
    "lip corner puller",
    "lip corner depressor",
    "chin raiser",
    "lip stretcher",
    "lips part",
    "jaw drop",
)
AU_KEYS: tuple[str, ...] = tuple(f"AU{au}" for au in AUS)
AU_COUNT = len(AUS)
MAX_INTENSITY = 5.0
STRENGTHS: tuple[str, ...] = ("no", "trace", "slight", "marked", "severe", "maximum")


def parse_aus(text: str, *, allow_beyond_range: bool = False) -> list[float]:
    """Read "AU12=5,AU6=2.5" into a list of 12 intensities in the order of `AUS`.

    AUs not named are 0; an empty text is the neutral face. With `allow_beyond_range` values outside [0, 5] pass
    (generation extrapolates on purpose: paper, figure 5). Raises ValueError that names the part it cannot read.
    """
    values = [0.0] * AU_COUNT
    seen: set[str] = set()
    for part in filter(None, (piece.strip() for piece in re.split(r"[,;]", text))):
        match = re.fullmatch(r"(AU\s*\d+)\s*[=:]\s*([-+]?[0-9.eE+-]+)", part, flags=re.IGNORECASE)
        if match is None:
            raise ValueError(f"aus: cannot read {part!r}; write it like AU12=5,AU6=2.5")
        key = match[1].upper().replace(" ", "")
        if key not in AU_KEYS:
            near = difflib.get_close_matches(key, AU_KEYS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"aus: {key} is not one of {', '.join(AU_KEYS)}{hint}")
        if key in seen:
            raise ValueError(f"aus: {key} is given twice in {text!r}")
        seen.add(key)
        try:
            value = float(match[2])
        except ValueError:
            raise ValueError(f"aus: {match[2]!r} is not a number in {part!r}") from None
        if not math.isfinite(value):
            raise ValueError(f"aus: {key}={match[2]} is not finite")
        if not allow_beyond_range and not 0 <= value <= MAX_INTENSITY:
            raise ValueError(f"aus: {key}={value:g} lies outside 0..{MAX_INTENSITY:g}")
        values[AU_KEYS.index(key)] = value
    return values


def format_aus(values: list[float]) -> str:
    """The inverse of `parse_aus`: "AU6=2.5,AU12=5"; "neutral" where every AU is 0."""
    parts = [f"{key}={value:g}" for key, value in zip(AU_KEYS, values, strict=True) if value != 0]
    return ",".join(parts) if parts else "neutral"


def describe_aus(values: Sequence[float], words: str = "{strength} {name}") -> str:
    """AUs in words, strongest first: "severe lip corner puller, slight cheek raiser"; "" for a neutral face."""
    return ", ".join(au_phrases(values, words))


def au_phrases(values: Sequence[float], words: str = "{strength} {name}") -> list[str]:
    """Each AU in words, strongest first; AUs that round to 0 are not said.

    `words` says one AU by {strength} ("severe"), {name} ("lip corner puller"), {au} ("AU12") and {intensity} ("4", rounded).
    """
    ranked = sorted(zip(values, AU_NAMES, AU_KEYS, strict=True), key=lambda one: -one[0])
    rounded = [(min(5, max(0, round(value))), name, key) for value, name, key in ranked]
    return [words.format(strength=STRENGTHS[level], name=name, au=key, intensity=level) for level, name, key in rounded if level > 0]
