"""DISFA's label files: a line `frame,intensity` for each frame, a file for each AU, with all that is wrong told at once."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fineface_train.aus import AUS, MAX_INTENSITY
from fineface_train.data.disfa_layout import subject_of

ENDS = " \t\r\n\x1a"
"""What may follow the last line: DOS ended text with a Ctrl-Z."""
SHOWN = 3
"""Lines of a file that are told one by one."""


@dataclasses.dataclass
class Findings:
    """What is unlike a whole copy, in words that name the file."""

    wrong: list[str] = dataclasses.field(default_factory=list)
    """What no setting lets pass: which intensity belongs to which frame is not sure."""
    unequal: list[str] = dataclasses.field(default_factory=list)
    """Frames that are there in one place and not in another; they may be left out (`mismatch=common`)."""


@dataclasses.dataclass
class SubjectLabels:
    """`frames`: columns `frame` (from 1) and one per AU number, the frames that all AUs have. `every`: those that some have, in order."""

    frames: pd.DataFrame
    every: list[int]
    findings: Findings

    @property
    def lost(self) -> int:
        """Number of frames that only some AUs have."""
        return len(self.every) - len(self.frames)


def read_subject(folder: Path, subject: str, first_label: int) -> SubjectLabels:
    """The labels of one subject. Nothing is raised for what the files hold; it is in the findings."""
    findings = Findings()
    columns: dict[int, pd.Series] = {}
    paths = _files(folder, subject, findings)
    for au, path in paths.items():
        columns[au], found = read_labels(path, first_label)
        findings.wrong += found.wrong
        findings.unequal += found.unequal
    missing = [au for au in AUS if au not in paths]
    if missing:
        names = ", ".join(f"{subject}_au{au}.txt" for au in missing)
        findings.wrong.append(f"{folder}: {names}: missing; a subject needs the labels of AUs {', '.join(map(str, AUS))}")
    if findings.wrong:
        return SubjectLabels(pd.DataFrame({"frame": []}), sorted(set().union(*(column.index for column in columns.values()))), findings)
    lengths = {paths[au].name: len(column) for au, column in columns.items()}
    if len(set(lengths.values())) > 1:
        (usual, count), *_ = Counter(lengths.values()).most_common()
        others = ", ".join(f"{name} {length}" for name, length in lengths.items() if length != usual)
        findings.unequal.append(f"{folder}: the label files disagree on the number of frames: {count} have {usual}, {others}")
    together = pd.DataFrame(columns).rename_axis("frame").sort_index()
    return SubjectLabels(together.dropna().reset_index(), together.index.tolist(), findings)


def read_labels(path: Path, first_label: int) -> tuple[pd.Series, Findings]:
    """Intensities in [0, 5] of one file by frame, counted from 1 whatever the file counts from; and what is wrong, with file and line.

    Comma, semicolon, blanks or a tab stand between the two; a byte order mark, any line ends and empty lines at the end are all the same.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").rstrip(ENDS).splitlines()
    except UnicodeDecodeError as error:
        return pd.Series(dtype=float), Findings(wrong=[f"{path}: is no UTF-8 text ({error.reason} at byte {error.start})"])
    if not lines:
        return pd.Series(dtype=float), Findings(wrong=[f"{path}: holds no frames"])
    wrong, gaps = [], []
    line_of: dict[int, int] = {}
    intensities: dict[int, float] = {}
    last = first_label - 1
    for line, text in enumerate(lines, start=1):
        where = f"line {line}: {text[:40]!r}: "
        frame, intensity = _parse(text)
        if frame is None or intensity is None:
            wrong.append(where + "must read frame,intensity")
            continue
        if frame < first_label:
            wrong.append(where + f"frames must count from {first_label}, by data.disfa.first_label")
        elif frame in line_of:
            wrong.append(where + f"frame {frame} stands in line {line_of[frame]} already")
        elif frame < last:
            wrong.append(where + f"frame {frame} comes after frame {last}")
        elif frame > last + 1:
            gaps.append(f"line {line}: {_frames(last + 1, frame - 1)} missing before it")
        if not 0 <= intensity <= MAX_INTENSITY:
            wrong.append(where + f"the intensity must lie in 0..{MAX_INTENSITY:g}")
        elif intensity != int(intensity):
            wrong.append(where + "the intensity must be a whole number, as DISFA's are")
        line_of.setdefault(frame, line)
        last = max(last, frame)
        intensities[frame - first_label + 1] = intensity
    told = [f"{path}, {fault}" for fault in shortened(wrong or gaps)]  # after a wrong line nobody knows what is missing
    return pd.Series(intensities, dtype=float), Findings(wrong=told) if wrong else Findings(unequal=told)


def shortened(faults: Sequence[str]) -> list[str]:
    """The first few, and how many more there are."""
    return [*faults[:SHOWN], *([f"and {len(faults) - SHOWN} more such lines"] if len(faults) > SHOWN else [])]


def _parse(text: str) -> tuple[int | None, float | None]:
    try:
        first, second = re.split(r"\s*[,;]\s*|\s+", text.strip())
        number, intensity = float(first), float(second)
        return (int(number) if number == int(number) else None), intensity
    except (ValueError, OverflowError):  # infinity is no frame
        return None, None


def _frames(first: int, last: int) -> str:
    return f"frame {first} is" if first == last else f"frames {first} to {last} are"


def _files(folder: Path, subject: str, findings: Findings) -> dict[int, Path]:
    """By AU, in the spellings SN001_au1.txt, SN001_AU01.TXT and au1.txt."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(.*?)[ _-]?au[ _-]?0*(\d+)\.txt", path.name, flags=re.IGNORECASE)
        if match is None or path.name.startswith(".") or int(match[2]) not in AUS:
            continue
        au = int(match[2])
        if match[1] and subject_of(match[1]) != subject:
            findings.wrong.append(f"{path}: is not of {subject}, in whose folder it lies")
        elif au in found:
            findings.wrong.append(f"{folder}: {found[au].name} and {path.name} are both AU {au}")
        else:
            found[au] = path
    return {au: found[au] for au in AUS if au in found}
