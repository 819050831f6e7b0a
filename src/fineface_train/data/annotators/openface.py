"""AUs that OpenFace 2 has written: of its 17 intensities our 12, and from its confidence whether there was a face.

`FaceLandmarkImg -fdir IMAGES -out_dir FOLDER -aus -2Dfp` writes for each image that it can open NAME_of_details.txt,
and NAME.csv with a row for each face, if it finds any. Some builds put blanks after the commas.
(github.com/TadasBaltrusaitis/OpenFace/wiki/Output-Format)
"""

import collections
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fineface_train.aus import AU_KEYS, AUS, MAX_INTENSITY
from fineface_train.data.annotators.config import OpenFaceConfig
from fineface_train.data.formats.csv_rows import read_whole_rows
from fineface_train.data.formats.folders import still_packed
from fineface_train.data.intensities import rounded_off
from fineface_train.data.per_image import Row
from fineface_train.files import hash_of_files

logger = logging.getLogger(__name__)
COLUMNS = tuple(f"AU{au:02d}_r" for au in AUS)
LANDMARKS = 68
DETAILS = "_of_details"
HOW_TO_MAKE = "`FaceLandmarkImg -fdir IMAGES -out_dir FOLDER -aus -2Dfp`"

NO_NUMBER = re.compile(r"[-+]?(?:nan(?:\(\w*\))?|inf|infinity|1\.#\w+)", re.IGNORECASE)
"""What C++ writes for no number, or none that ends: nan, -nan(ind), inf, -1.#IND."""
EMPTY = (
    "files are empty, and taken for images without a face; if OpenFace was stopped or its disk was full, remove "
    "them and let it read these images again"
)
UNSURE = "faces have no number for their confidence, and are taken for none"
ROUNDED = "AUs lie beyond 0..{scale:g} by rounding, and are taken for its ends"


def read_openface(paths: Sequence[str], config: OpenFaceConfig, key: str, scale: float = MAX_INTENSITY) -> list[Row]:
    """A row for each image, as an `Annotator` gives them; an image that OpenFace opened and wrote no faces of is
    `no_face`.

    What is beyond 0..`scale` by rounding is taken for its ends, which is told; and so are empty files, and faces that
    are not sure (not a number). Raises ValueError for images that it has not seen, for two images with one file, and,
    naming file and line, for what cannot be right: the first of all files that are wrong, and how many there are.
    """
    root = _folder(config, key)
    files: dict[str, list[Path]] = defaultdict(list)
    for output in _outputs(root):
        start = output.parent / output.stem.removesuffix(DETAILS)
        if start not in files[start.name]:
            files[start.name].append(start)
    rows: list[Row] = []
    owners: dict[Path, Path] = {}
    unseen: list[Path] = []
    faults: list[str] = []
    notes: collections.Counter[str] = collections.Counter()
    for image in map(Path, paths):
        place = _place(image, files.get(image.stem, []), root)
        if place is None:
            unseen.append(image)
        elif owners.setdefault(place, image) != image:
            raise ValueError(
                f"{place}.csv: of {owners[place]} or of {image}? Let OpenFace write into subfolders named as the "
                f"images'"
            )
        else:
            try:
                rows.append(_read(place, config.min_confidence, scale, notes))
            except ValueError as fault:
                faults.append(str(fault))
    if faults:
        more = f" ({len(faults)} of {len(paths)} files cannot be used, this is the first)" if len(faults) > 1 else ""
        raise ValueError(f"{faults[0]}{more}")
    if unseen:
        raise ValueError(
            f"{key}.folder={config.folder}: OpenFace has not seen {len(unseen)} of {len(paths)} images, the first is "
            f"{unseen[0]}; {HOW_TO_MAKE}"
        )
    for note, count in (+notes).items():
        logger.warning("%s.folder=%s: %d %s", key, config.folder, count, note)
    return rows


def stamp(config: OpenFaceConfig, key: str) -> str:
    """A hash over name, size and time of all that OpenFace wrote. Raises ValueError where there is nothing."""
    root = _folder(config, key)
    outputs = _outputs(root)
    if not outputs:
        raise ValueError(
            f"{key}.folder={config.folder}: holds nothing that OpenFace wrote (NAME.csv, "
            f"NAME{DETAILS}.txt).{still_packed(root)} {HOW_TO_MAKE} writes it"
        )
    return hash_of_files(outputs, root)


def _folder(config: OpenFaceConfig, key: str) -> Path:
    if config.folder is None or not Path(config.folder).is_dir():
        raise ValueError(
            f"{key}.folder={config.folder}: is no folder; give the one that OpenFace wrote to, with {HOW_TO_MAKE}"
        )
    return Path(config.folder).absolute()


def _outputs(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix == ".csv" or path.name.endswith(f"{DETAILS}.txt"))


def _place(image: Path, candidates: list[Path], root: Path) -> Path | None:
    """Where the files of an image are, without their endings: in folders named as its own, as far down as there are
    such."""
    folders = image.absolute().parent.parts
    fitting = [
        place
        for place in candidates
        if not (below := place.parent.relative_to(root).parts) or folders[-len(below) :] == below
    ]
    return max(fitting, key=lambda place: len(place.parts), default=None)


def _read(place: Path, min_confidence: float, scale: float, notes: "collections.Counter[str]") -> Row:
    path = place.with_name(f"{place.name}.csv")
    nobody: Row = {"status": "no_face"} | dict.fromkeys(AU_KEYS)
    if not path.is_file():
        return nobody
    if not path.stat().st_size:
        notes[EMPTY] += 1
        return nobody
    faces = _faces(path)
    frames = {face.get("frame") for _, face in faces}
    if len(frames) > 1:
        raise ValueError(
            f"{path}: has {len(frames)} frames, so it is of a video; {HOW_TO_MAKE} writes a file for each image"
        )
    sure = [(where, face) for where, face in faces if _counts(where, face, min_confidence, notes)]
    if not sure:
        return nobody
    largest = 0 if len(sure) == 1 else int(np.argmax([_area(*one) for one in sure]))
    aus = [_aus(*one, scale, used=place == largest) for place, one in enumerate(sure)]
    found, beyond = aus[largest]
    notes[ROUNDED.format(scale=scale)] += beyond
    return {"status": "ok" if len(sure) == 1 else "several_faces"} | found


def _faces(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The cells of each face, by column, and where they stand. Raises ValueError where they are not what OpenFace
    writes."""
    missing, cut = f"write them with {HOW_TO_MAKE}", "if OpenFace was stopped there, let it read the image again"
    rows = read_whole_rows(path, ("confidence", *COLUMNS), missing=missing, cut=cut)
    return [(where, {name: cell.strip() for name, cell in row.items()}) for where, row in rows]


def _counts(where: str, face: dict[str, str], min_confidence: float, notes: "collections.Counter[str]") -> bool:
    """Whether OpenFace says that it is a face, and is sure enough; what else it wrote of one that is none does not
    matter."""
    if (
        "success" in face
        and NO_NUMBER.fullmatch(face["success"]) is None
        and _number(where, "success", face, 0, 1) == 0
    ):
        return False
    if NO_NUMBER.fullmatch(face["confidence"]):
        notes[UNSURE] += 1
        return False
    return _number(where, "confidence", face, 0, 1) >= min_confidence and (
        "success" not in face or _number(where, "success", face, 0, 1) == 1
    )


def _aus(where: str, face: dict[str, str], scale: float, *, used: bool) -> tuple[Row, int]:
    """Our twelve, on `scale`, and how many were beyond it by rounding. What is no number matters in the face that is
    `used` only."""
    values = np.array([_float(face[column]) for column in COLUMNS])
    ends, beyond = rounded_off(values, scale)
    fine = (ends >= 0) & (ends <= scale)
    wrong = [
        column
        for column, good in zip(COLUMNS, fine, strict=True)
        if not good and (used or not NO_NUMBER.fullmatch(face[column]))
    ]
    if wrong:
        other = (
            "; where 5 is not the strongest, data.annotate.scale says what is" if _float(face[wrong[0]]) > scale else ""
        )
        raise ValueError(f"{where}: {wrong[0]}={face[wrong[0]]!r} is no number in 0..{scale:g}{other}")
    return dict(zip(AU_KEYS, ends.tolist(), strict=True)), beyond


def _area(where: str, face: dict[str, str]) -> float:
    """Area of the box around a face's landmarks, in square pixels."""
    if "x_0" not in face:
        raise ValueError(
            f"{where}: which of several faces is the largest, only landmarks tell; write them with {HOW_TO_MAKE}"
        )
    sides = [[_number(where, f"{axis}_{index}", face, -1e6, 1e6) for index in range(LANDMARKS)] for axis in "xy"]
    return float((max(sides[0]) - min(sides[0])) * (max(sides[1]) - min(sides[1])))


def _number(where: str, column: str, face: dict[str, str], low: float, high: float) -> float:
    value = _float(face.get(column, ""))
    if not low <= value <= high:
        raise ValueError(f"{where}: {column}={face.get(column)!r} is no number in {low:g}..{high:g}")
    return value


def _float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
