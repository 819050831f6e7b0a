"""What is unlike a whole copy of DISFA, told for all subjects at once, and one cause in many files once."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence

from fineface_train.data.disfa.clues import KEY
from fineface_train.data.disfa.config import Mismatch

logger = logging.getLogger(__name__)
SHOWN = 5
"""Faults that an error names; if there are more, the log has all."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault, in words that name the file."""

    text: str
    cause: str = ""
    """What faults share that have one cause; "" for one of its own."""
    remedy: str = ""
    """What to do about the cause."""
    common: str = ""
    """What to do where every subject has it."""
    look: str = ""
    """What to look at, of this subject: told behind the text, and of others with the same cause in the log."""


@dataclasses.dataclass
class Findings:
    """What is unlike a whole copy."""

    wrong: list[Fault] = dataclasses.field(default_factory=list)
    """What no setting lets pass: which intensity or which picture belongs to which frame is not sure."""
    unequal: list[Fault] = dataclasses.field(default_factory=list)
    """Frames that are there in one place and not in another; they may be left out (`mismatch=common`)."""


def told(faults: Sequence[tuple[str, Fault]], subjects: int, *, remedies: bool = True) -> list[str]:
    """Each cause once, by the first of its faults, with how often it occurs and what to do.

    Args:
        faults: (subject, fault) of each.
        subjects: how many there are, with and without faults.
        remedies: whether to say what to do.
    """
    causes: dict[object, list[tuple[str, Fault]]] = {}
    for place, (subject, fault) in enumerate(faults):
        causes.setdefault(fault.cause or place, []).append((subject, fault))
    words: list[str] = []
    for those in reversed(causes.values()):
        first, whose = those[0][1], {subject for subject, _ in those}
        again = (
            f" (the same in {len(those)} files of {len(whose)} subjects)"
            if len(those) > len(whose)
            else f" (alike with {len(whose)} subjects)"
        )
        remedy = first.common if len(whose) == subjects and first.common else first.remedy
        said = not remedies or any(text.endswith(remedy) for text in words)  # behind the last fault that it is for
        words.append(first.text + first.look + (again if len(those) > 1 else "") + ("" if said else remedy))
    return words[::-1]


def refuse(findings: dict[str, Findings], mismatch: Mismatch, hint: str = "", *, filmed: bool = False) -> None:
    """Raise ValueError if there are faults that may not pass, with those of all subjects; the log has those that the
    error has no room for.

    Args:
        hint: what is wrong with all images, if something is.
        filmed: whether the images are videos' frames.
    """
    wrong = any(found.wrong for found in findings.values())
    passing = mismatch is Mismatch.common and not hint
    faulty = {
        subject: found
        for subject, found in sorted(findings.items())
        if found.wrong or (found.unequal and not (wrong and passing))
    }
    if not faulty or (passing and not wrong):
        return
    listed = [(subject, fault) for subject, found in faulty.items() for fault in found.wrong]
    if not (wrong and passing):
        listed += [(subject, fault) for subject, found in faulty.items() for fault in found.unequal]
    faults = told(listed, len(findings), remedies=not hint)
    everyone = len({subject for subject, _ in listed}) == len(findings)
    helped = all(fault.remedy or (fault.common and everyone) for _, fault in listed)
    for fault in faults if len(faults) > SHOWN else ():
        logger.warning("disfa: %s", fault)
    causes = Counter(each.cause for _, each in listed)
    for subject, each in listed:
        if each.look and causes[each.cause] > 1:
            logger.warning("disfa: %s%s", subject, each.look)
    check = "" if filmed else f"check {KEY}.first_index and {KEY}.image_pattern, "
    common = f"; mend the copy, {check}or use what labels and images have in common: {KEY}.mismatch=common"
    otherwise = "" if helped else f"; mend the copy, or leave such subjects out with {KEY}.subjects"
    remedy = hint or (otherwise if wrong else common)
    shown = "; ".join(faults[:SHOWN]) + (f"; and {len(faults) - SHOWN} more, told above" if len(faults) > SHOWN else "")
    raise ValueError(f"{KEY}: {len(faulty)} of {len(findings)} subjects are not as they should be: {shown}{remedy}")
