"""What an evaluation says about control, in words and with stated thresholds.

A slope alone hides much: an AU that does nothing when asked for 1 and everything when asked for 3 can have a slope of
1. Here each AU's whole response curve (`metrics.response_curve`) decides what is said of it.
"""

import dataclasses
import enum
import itertools
import math
from collections.abc import Sequence
from typing import Any

from fineface_train.aus import AU_KEYS
from fineface_train.reports.words import listed, number

STILL = 0.2
"""An AU that rises by less than this share of the strongest intensity asked for hardly moves."""
BEND = 0.15
"""An AU moves in proportion where its curve stays within this share of its whole rise from a straight line (asked for 1
of 5 it does at least a twentieth of all it can do, and at most 7 twentieths)."""
JUMP, WINDOW = 0.7, 2.0
"""An AU is on/off where its curve bends, and more than this share of its rise lies within so many points of requested
intensity (in proportion: 2 of 5 points make 0.4 of the rise)."""
WEAK, STRONG = 0.75, 1.25
"""An AU in proportion is too weak or too strong where it rises by less or more than these shares of what was asked."""
LEAK = 0.2
"""A leak is told from this many points of another AU on, for each point of the requested one."""
NAMED = 5
"""AUs of one kind that are named; more are counted."""
LEAKS = 3
"""Leaks told one by one."""
ASKED = (1.0, 3.0, 5.0)
"""Requested intensities whose mean readings stand in the headline."""


class Answer(enum.Enum):
    """How an AU follows what is asked of it; the value is what is said of one AU, and of several."""

    in_proportion = ("moves in proportion", "move in proportion")
    on_off = ("is on/off", "are on/off")
    bent = ("moves, but not in proportion", "move, but not in proportion")
    weak = ("is too weak", "are too weak")
    strong = ("is too strong", "are too strong")
    still = ("hardly moves", "hardly move")


@dataclasses.dataclass(frozen=True)
class Leak:
    """Points that `into` moves for each point that `asked` is asked for."""

    asked: str
    into: str
    slope: float


@dataclasses.dataclass(frozen=True)
class Asked:
    """What was read, on average over prompts, of all AUs that were asked for at one intensity."""

    intensity: float
    mean: float
    lowest: tuple[str, float]
    """(AU, its reading)."""
    highest: tuple[str, float]


def answer(curve: dict[str, Any]) -> Answer | None:
    """How an AU follows, from its response curve; None where it was asked for at fewer than two intensities."""
    both = zip(curve["requested"], curve["measured_mean"], strict=True)
    points = [(asked, read) for asked, read in both if read is not None]
    if len(points) < 3 or points[0][0] != 0:
        return None
    strongest, rise = points[-1][0], points[-1][1] - points[0][1]
    if rise < STILL * strongest:
        return Answer.still
    reached = [(asked, (read - points[0][1]) / rise) for asked, read in points]
    if max(abs(share - asked / strongest) for asked, share in reached) > BEND:
        return Answer.on_off if _jump(reached) > JUMP else Answer.bent
    if WEAK * strongest <= rise <= STRONG * strongest:
        return Answer.in_proportion
    return Answer.weak if rise < strongest else Answer.strong


def _jump(reached: Sequence[tuple[float, float]]) -> float:
    """The largest share of the rise within `WINDOW` points of requested intensity; straight lines join the points."""

    def share(asked: float) -> float:
        for (start, low), (end, high) in itertools.pairwise(reached):
            if start <= asked <= end:
                return low + (high - low) * (asked - start) / (end - start)
        return reached[-1][1]

    starts = [asked for asked, _ in reached] + [asked - WINDOW for asked, _ in reached if asked >= WINDOW]
    return max(share(start + WINDOW) - share(start) for start in starts)


def answers(metrics: dict[str, Any]) -> dict[str, Answer]:
    """How each AU follows that was asked for at two intensities or more."""
    curves = metrics.get("response_curve") or {}
    return {key: found for key, curve in curves.items() if (found := answer(curve)) is not None}


def leaks(metrics: dict[str, Any]) -> list[Leak]:
    """Leaks of one AU into another, the largest first."""
    rows = zip(AU_KEYS, metrics.get("leakage_matrix") or [], strict=False)
    found = [
        Leak(asked, into, slope)
        for asked, slopes in rows
        for into, slope in zip(AU_KEYS, slopes, strict=True)
        if into != asked and slope is not None
    ]
    return sorted(found, key=lambda leak: -abs(leak.slope))


def asked_and_read(metrics: dict[str, Any]) -> list[Asked]:
    """The readings at `ASKED` of those AUs that were asked for at this intensity alone; fewer where none was."""
    found = []
    for intensity in ASKED:
        read = [
            (key, value)
            for key, curve in (metrics.get("response_curve") or {}).items()
            for asked, value in zip(curve["requested"], curve["measured_mean"], strict=True)
            if asked == intensity and value is not None
        ]
        if read:
            ordered = sorted(read, key=lambda pair: pair[1])
            mean = math.fsum(value for _, value in read) / len(read)
            found.append(Asked(intensity, mean, ordered[0], ordered[-1]))
    return found


def miss(cells: dict[str, Any] | None) -> dict[str, float | None]:
    """The typical miss of a kind's numbers: the root mean squared error on the commanded AUs, in points of intensity,
    with its interval (low, high) and that of a judge that always says 0 (always_zero), where they are known."""
    error = (cells or {}).get("au_mse_active") or {}
    known = {part: error[part] for part in ("value", "low", "high", "always_zero") if part in error}
    return {part: None if value is None else math.sqrt(value) for part, value in known.items()}


def verdict(metrics: dict[str, Any]) -> list[str]:
    """Sentences: how many AUs move in proportion, which do not and how, what leaks, and the typical miss; none where
    metrics.json (an older one) has no response curves."""
    sentences = movement(metrics)
    if not sentences:
        return []
    sentences += _leaks_told(leaks(metrics))
    typical = miss(metrics.get("individual")).get("value")
    if typical is not None:
        sentences.append(f"The typical miss of the commanded AU is {number(typical)} points of 5 (RMSE).")
    return sentences


def movement(metrics: dict[str, Any]) -> list[str]:
    """Sentences: how many AUs move in proportion, which do not and how."""
    found = answers(metrics)
    if not found:
        return []
    good = sum(one is Answer.in_proportion for one in found.values())
    sentences = [f"{good or 'None'} of {len(found)} AUs {'moves' if good == 1 else 'move'} in proportion."]
    for one in Answer:
        keys = [key for key, own in found.items() if own is one]
        if keys and one is not Answer.in_proportion:
            who = listed(keys) if len(keys) <= NAMED else f"{len(keys)} AUs"
            sentences.append(f"{who} {one.value[len(keys) > 1]}.")
    return sentences


def _leaks_told(found: list[Leak]) -> list[str]:
    if not found:
        return []
    large = [leak for leak in found if abs(leak.slope) >= LEAK]
    if not large:
        most = found[0]
        return [
            f"No AU leaks {LEAK:g} or more into another (most: {most.asked} into {most.into}, {number(most.slope)})."
        ]
    sentences = [f"{leak.asked} leaks {number(leak.slope)} into {leak.into}." for leak in large[:LEAKS]]
    more = len(large) - LEAKS
    return sentences + ([f"There {'is' if more == 1 else 'are'} {more} more of {LEAK:g} or more."] if more > 0 else [])


def thresholds() -> list[str]:
    """What the words of `verdict` mean, as sentences for the page."""
    return [
        f"In proportion: the mean reading stays within {100 * BEND:g}% of the AU's whole rise from a straight line, "
        f"and the rise is {WEAK:g} to {STRONG:g} times what was asked.",
        f"On/off: the curve bends, and over {100 * JUMP:g}% of the rise lies within {WINDOW:g} points of intensity.",
        f"Hardly moves: the rise is under {100 * STILL:g}% of what was asked.",
        f"A leak: the points that another AU moves for each point asked, told from {LEAK:g} on.",
    ]
