"""What can be seen of a copy of DISFA that does not lie where it is looked for, and how subjects are told by names."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fineface_train.data.formats.folders import children, is_litter

KEY = "data.disfa"
DEEPEST = 3
"""Folders below the one that is named that are looked into."""
PACKED: tuple[str, ...] = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")
TRIAL = re.compile(r"^[A-Z]\d+_.*Tr(ai|ia)l[ _-]?No", flags=re.IGNORECASE)
DISFA_PLUS = (
    "DISFA+, another data set: posed expressions in trials, with labels such as Labels/SN001/A1_AU1_TrailNo_1/AU1.txt "
    "of lines `000.jpg 0`. "
    "It is not read; DISFA has ActionUnit_Labels/SN001/SN001_au1.txt and a video of each subject"
)
LABELS = re.compile(r"au[ _-]?\d+\.txt$", flags=re.IGNORECASE)


def subject_of(name: str) -> str | None:
    """ "SN001" of any name that holds it, such as sn1, SN001_comp or LeftVideoSN001; None if it holds none, or two."""
    numbers = {int(number) for number in re.findall(r"SN[ _-]?(\d+)", name, flags=re.IGNORECASE)}
    return f"SN{numbers.pop():03d}" if len(numbers) == 1 else None


def plain(name: str) -> str:
    return re.sub(r"[ _-]", "", name).lower()


def clue(folder: Path, wanted: dict[str, str]) -> str:
    """What can be seen of why nothing in `folder` has a name of `wanted`: still packed, a folder higher or lower,
    DISFA+; "" where nothing is.

    Args:
        wanted: name to the key that gives it.
    """
    keys = {plain(name): key for name, key in wanted.items()}
    packed = [path.name for path in children(folder) if path.suffix.lower() in PACKED and not path.is_dir()]
    if mine := [name for name in packed if plain(name.split(".")[0]) in keys]:
        return (
            f"; {listed(mine)} {'is' if len(mine) == 1 else 'are'} still packed: unpack "
            f"{'it' if len(mine) == 1 else 'them'} there"
        )
    below = list(_below(folder, DEEPEST))
    if (trial := next(filter(None, map(trials_in, (folder, *below))), None)) is not None:
        return f"; {trial} is a trial of {DISFA_PLUS}"
    for path in below:
        if (key := keys.get(plain(path.name))) == "labels":
            return f"; {path} is it: set {KEY}.root={path.parent}"
        if key:
            return f"; {path} is it: set {KEY}.{key}={path.relative_to(folder)}"
    for path in folder.parents if "labels" in keys.values() else ():
        if any(keys.get(plain(child.name)) for child in _folders(path)):
            return f"; {path} holds it: set {KEY}.root={path}"
    for path in (folder, *below) if "labels" in keys.values() else ():
        if any(
            LABELS.search(child.name)
            for subject in _folders(path)[:1]
            if subject_of(subject.name)
            for child in children(subject)
        ):
            return f"; {path} holds such files: set {KEY}.labels={path.relative_to(folder)}"
    return (
        f"; {listed(packed)} {'is' if len(packed) == 1 else 'are'} still packed: unpack what holds it" if packed else ""
    )


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def trials_in(folder: Path) -> Path | None:
    """A folder such as SN001/A1_AU1_TrailNo_1 in `folder`, by which DISFA+ is known; None if there is none."""
    subjects = [path for path in _folders(folder) if subject_of(path.name)]
    return next((path for subject in subjects[:1] for path in _folders(subject) if TRIAL.search(path.name)), None)


def _folders(folder: Path) -> list[Path]:
    """The folders in `folder`, as far as it may be looked into."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if not is_litter(entry.name) and entry.is_dir())


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """The folders in `folder`, then those in these, and so on; not those in a subject's."""
    level = [folder]
    for _ in range(depth):
        level = [path for parent in level for path in _folders(parent) if not subject_of(path.name)]
        yield from level
