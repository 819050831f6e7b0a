"""DISFA's label files: a line `frame,intensity` for each frame, a file for each AU, with all that is wrong told at
once."""

import codecs
import dataclasses
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from fineface_train.aus import AUS, MAX_INTENSITY
from fineface_train.data.disfa.clues import KEY, subject_of
from fineface_train.data.disfa.faults import Fault, Findings
from fineface_train.data.formats.folders import listing

ENDS = " \t\r\n\x1a"
"""What may follow the last line: DOS ended text with a Ctrl-Z."""
BETWEEN = r"\s*[,;]\s*|\s+"
"""What stands between frame and intensity."""
ADD_NUMBERS = (
    "; DISFA's own files tell each frame's number. Get those; or, if line 1 is the first frame and none is left out, "
    "number them: "
    "awk '{print NR \",\" $1}' FILE > NEW"
)


@dataclasses.dataclass
class SubjectLabels:
    """`frames`: columns `frame` (from 1) and one per AU number, the frames that all AUs have. `every`: those that some
    have, in order."""

    frames: pd.DataFrame
    every: list[int]
    findings: Findings

    @property
    def lost(self) -> int:
        """Number of frames that only some AUs have."""
        return len(self.every) - len(self.frames)

    @property
    def count(self) -> int:
        """Frames that the labels count, by their numbers: also those that they leave out."""
        return self.every[-1] if self.every else 0


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
        needed = f"a subject needs the labels of AUs {', '.join(map(str, AUS))}; the folder holds {listing(folder)}"
        findings.wrong.append(Fault(f"{folder}: {names}: missing; {needed}", f"missing: {missing}"))
    if findings.wrong:
        return SubjectLabels(
            pd.DataFrame({"frame": []}), sorted(set().union(*(column.index for column in columns.values()))), findings
        )
    lengths = {paths[au].name: len(column) for au, column in columns.items()}
    if len(set(lengths.values())) > 1:
        (usual, count), *_ = Counter(lengths.values()).most_common()
        others = ", ".join(f"{name} {length}" for name, length in lengths.items() if length != usual)
        findings.unequal.append(
            Fault(f"{folder}: the label files disagree on the number of frames: {count} have {usual}, {others}")
        )
    together = pd.DataFrame(columns).rename_axis("frame").sort_index()
    return SubjectLabels(together.dropna().reset_index(), together.index.tolist(), findings)


def read_labels(path: Path, first_label: int) -> tuple[pd.Series, Findings]:
    """Intensities in [0, 5] of one file by frame, counted from 1 whatever the file counts from; and what is wrong, with
    file and line.

    Comma, semicolon, blanks or a tab stand between the two, either may be in quotes; UTF-8 or UTF-16, a byte order
    mark, any line ends, a first line that names the columns and empty lines at the end are all the same.
    """
    try:
        lines = _text(path.read_bytes()).rstrip(ENDS).splitlines()
    except UnicodeDecodeError as error:
        text = (
            f"{path}: is no {error.encoding.upper().removesuffix('-LE').removesuffix('-BE')} text ({error.reason} "
            f"at byte {error.start})"
        )
        return pd.Series(dtype=float), Findings(wrong=[Fault(text, "text", "; save it as plain text, in UTF-8")])
    wrong: dict[str, list[str]] = {}
    gaps: list[str] = []
    line_of: dict[int, int] = {}
    intensities: dict[int, float] = {}
    last, early = first_label - 1, False
    headed = bool(lines) and _is_header(lines[0])
    for line, text in enumerate(lines[headed:], start=1 + headed):
        where = f"line {line}: {text[:40]!r}: "
        frame, intensity = _parse(text)
        if frame is None or intensity is None:
            single = intensity is not None and len(_words(text)) == 1
            wrong.setdefault("column" if single else "line", []).append(where + "must read frame,intensity")
            continue
        if frame < first_label:
            wrong.setdefault(f"from {frame}" if not line_of else "below", []).append(
                where + f"frames must count from {first_label}, by {KEY}.first_label"
            )
        elif frame in line_of:
            wrong.setdefault("twice", []).append(where + f"frame {frame} stands in line {line_of[frame]} already")
        elif frame < last:
            wrong.setdefault("order", []).append(where + f"frame {frame} comes after frame {last}")
        elif frame > last + 1:
            gaps.append(f"line {line}: {_frames(last + 1, frame - 1)} missing before it")
            early = early or (frame == 1 and not line_of)
        if not 0 <= intensity <= MAX_INTENSITY:
            wrong.setdefault("range", []).append(where + f"the intensity must lie in 0..{MAX_INTENSITY:g}")
        elif intensity != int(intensity):
            wrong.setdefault("whole", []).append(where + "the intensity must be a whole number, as DISFA's are")
        line_of.setdefault(frame, line)
        last = max(last, frame)
        intensities[frame - first_label + 1] = intensity
    if not line_of and not wrong:
        return pd.Series(dtype=float), Findings(
            wrong=[Fault(f"{path}: holds no frames", "empty", "; get whole copies of such files")]
        )
    labels = pd.Series(intensities, dtype=float)
    if wrong:  # after a wrong line nobody knows what is missing
        return labels, Findings(wrong=[_fault(path, cause, told) for cause, told in wrong.items()])
    return labels, Findings(unequal=[_fault(path, "from 1" if early else f"gaps: {gaps}", gaps)] if gaps else [])


def _fault(path: Path, cause: str, told: list[str]) -> Fault:
    """One for all lines of a file with the same cause."""
    more = (
        f" (and {len(told) - 1} more such lines)"
        if len(told) > 2
        else " (and 1 more such line)"
        if len(told) == 2
        else ""
    )
    remedy = ADD_NUMBERS if cause == "column" else ""
    common = f"; {KEY}.first_label={cause.removeprefix('from ')} would fit" if cause.startswith("from ") else ""
    return Fault(f"{path}, {told[0]}{more}", cause, remedy, common)


def _text(data: bytes) -> str:
    """What a file says, in UTF-8 or UTF-16. Raises UnicodeDecodeError."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    zeros = [place for place, byte in enumerate(data[:2]) if byte == 0]
    return data.decode("utf-16-le" if zeros == [1] else "utf-16-be" if zeros == [0] else "utf-8-sig")


def _is_header(line: str) -> bool:
    """Whether a line names columns: several words, and nothing that is a number."""
    words = re.split(r"[,;\t]", line) if re.search(r"[,;\t]", line) else _words(line)
    words = [word.strip(" \"'") for word in words]
    return len(words) > 1 and any(word[:1].isalpha() for word in words) and all(_number(word) is None for word in words)


def _words(line: str) -> list[str]:
    """What stands between separators, without quotes; separators at the end are empty cells of a spreadsheet."""
    return [word.strip("\"'") for word in re.split(BETWEEN, line.strip().rstrip(",; \t"))]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parse(text: str) -> tuple[int | None, float | None]:
    """Frame and intensity of a line; of a line with one number, that alone as the intensity."""
    numbers = [_number(word) for word in _words(text)]
    if len(numbers) == 1:
        return None, numbers[0]
    if len(numbers) != 2 or numbers[0] is None or not numbers[0].is_integer():
        return None, None
    return int(numbers[0]), numbers[1]


def _frames(first: int, last: int) -> str:
    return f"frame {first} is" if first == last else f"frames {first} to {last} are"


def _files(folder: Path, subject: str, findings: Findings) -> dict[int, Path]:
    """By AU, in the spellings SN001_au1.txt, SN001_AU01.TXT and au1.txt."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(.*?)[ _-]?au[ _-]?0*(\d+)\.(txt|csv)", path.name, flags=re.IGNORECASE)
        if match is None or path.name.startswith(".") or int(match[2]) not in AUS:
            continue
        au = int(match[2])
        if match[1] and subject_of(match[1]) != subject:
            findings.wrong.append(Fault(f"{path}: is not of {subject}, in whose folder it lies", "stranger"))
        elif au in found:
            findings.wrong.append(Fault(f"{folder}: {found[au].name} and {path.name} are both AU {au}", "both"))
        else:
            found[au] = path
    return {au: found[au] for au in AUS if au in found}
