"""The twelve Action Units (AUs): their order, names, ranges and text form.

Every AU vector in this project has shape (..., 12), follows the order of `AUS`, and holds FACS intensities in [0, 5]: 0
absent, 1 trace (A), 2 slight (B), 3 marked (C), 4 severe (D), 5 maximum (E).
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
    for place, numbers in _parse(text).items():
        if len(numbers) > 1:
            raise ValueError(
                f"aus: {AU_KEYS[place]} has a range, which only `fineface generate` draws; give one number"
            )
        if not allow_beyond_range and not 0 <= numbers[0] <= MAX_INTENSITY:
            raise ValueError(f"aus: {AU_KEYS[place]}={numbers[0]:g} lies outside 0..{MAX_INTENSITY:g}")
        values[place] = numbers[0]
    return values


def parse_au_range(text: str) -> tuple[list[float], list[float]]:
    """Read "AU12=0..5,AU6=2.5" into the 12 intensities where the ranges start and those where they end, alike but for
    AUs with a range.

    Any finite number passes. Raises ValueError as `parse_aus` does, and for a range from a number to itself.
    """
    first, last = [0.0] * AU_COUNT, [0.0] * AU_COUNT
    for place, numbers in _parse(text).items():
        if len(numbers) == 2 and numbers[0] == numbers[1]:
            raise ValueError(
                f"aus: {AU_KEYS[place]} goes from {numbers[0]:g} to itself; give one number, or two that differ"
            )
        first[place], last[place] = numbers[0], numbers[-1]
    return first, last


def _parse(text: str) -> dict[int, list[float]]:
    """Places in `AUS` and the number, or the two of a range, that each has in `text`."""
    found: dict[int, list[float]] = {}
    for part in filter(None, (piece.strip() for piece in re.split(r"[,;]", text))):
        match = re.fullmatch(r"(AU\s*\d+)\s*[=:]\s*([-+]?[0-9.eE+-]+)", part, flags=re.IGNORECASE)
        if match is None:
            raise ValueError(f"aus: cannot read {part!r}; write it like AU12=5,AU6=2.5, and a range like AU12=0..5")
        key = match[1].upper().replace(" ", "")
        if key not in AU_KEYS:
            near = difflib.get_close_matches(key, AU_KEYS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"aus: {key} is not one of {', '.join(AU_KEYS)}{hint}")
        if AU_KEYS.index(key) in found:
            raise ValueError(f"aus: {key} is given twice in {text!r}")
        if "..." in match[2]:  # to .5, or three dots for two
            raise ValueError(
                f"aus: {part!r} can be read in two ways; a range has two dots, and a fraction a 0 before its own: "
                f"{key}=0..5, {key}=0..0.5"
            )
        try:
            numbers = [float(number) + 0.0 for number in match[2].split("..", maxsplit=1)]  # -0 is 0
        except ValueError:
            raise ValueError(
                f"aus: {match[2]!r} is not a number in {part!r}; a range is written like {key}=0..5"
            ) from None
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"aus: {key}={match[2]} is not finite")
        found[AU_KEYS.index(key)] = numbers
    return found


def format_aus(values: Sequence[float]) -> str:
    """The inverse of `parse_aus`: "AU6=2.5,AU12=5"; "neutral" where every AU is 0."""
    return format_au_range(values, values)


def format_au_range(first: Sequence[float], last: Sequence[float]) -> str:
    """The inverse of `parse_au_range`."""
    numbers = [[_number(value) for value in dict.fromkeys(both)] for both in zip(first, last, strict=True)]
    parts = [f"{key}={'..'.join(said)}" for key, said in zip(AU_KEYS, numbers, strict=True) if said != ["0"]]
    return ",".join(parts) if parts else "neutral"


def _number(value: float) -> str:
    """In the fewest digits that give the same number again."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))


def au_steps(first: Sequence[float], last: Sequence[float], count: int) -> list[tuple[float, ...]]:
    """`count` vectors, two or more, in equal steps from `first` to `last`."""
    shares = [place / (count - 1) for place in range(count)]
    return [
        tuple(round(start + (end - start) * share, 9) for start, end in zip(first, last, strict=True))
        for share in shares
    ]


def describe_aus(values: Sequence[float], words: str = "{strength} {name}") -> str:
    """AUs in words, strongest first: "severe lip corner puller, slight cheek raiser"; "" for a neutral face."""
    return ", ".join(au_phrases(values, words))


def au_phrases(values: Sequence[float], words: str = "{strength} {name}") -> list[str]:
    """Each AU in words, strongest first; AUs that round to 0 are not said.

    `words` says one AU by {strength} ("severe"), {name} ("lip corner puller"), {au} ("AU12") and {intensity} ("4",
    rounded).
    """
    ranked = sorted(zip(values, AU_NAMES, AU_KEYS, strict=True), key=lambda one: -one[0])
    rounded = [(min(5, max(0, round(value))), name, key) for value, name, key in ranked]
    return [
        words.format(strength=STRENGTHS[level], name=name, au=key, intensity=level)
        for level, name, key in rounded
        if level > 0
    ]
