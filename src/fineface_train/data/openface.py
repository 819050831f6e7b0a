"""AUs that OpenFace 2 has written: of its 17 intensities our 12, and from its confidence whether there was a face.

`FaceLandmarkImg -fdir IMAGES -out_dir FOLDER -aus -2Dfp` writes for each image that it can open NAME_of_details.txt, and NAME.csv with a row for each
face, if it finds any. Some builds put blanks after the commas. (github.com/TadasBaltrusaitis/OpenFace/wiki/Output-Format)
"""

import csv
import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from fineface_train.aus import AU_KEYS, AUS
from fineface_train.data.annotator import intensity
from fineface_train.data.per_image import Row

COLUMNS = tuple(f"AU{au:02d}_r" for au in AUS)
LANDMARKS = 68
DETAILS = "_of_details"
HOW_TO_MAKE = "`FaceLandmarkImg -fdir IMAGES -out_dir FOLDER -aus -2Dfp`"


@dataclasses.dataclass
class OpenFaceConfig:
    """Where OpenFace wrote, and what counts as a face."""

    folder: str | None = None
    """With NAME.csv and NAME_of_details.txt for each image, in subfolders named as the images' where names repeat."""
    min_confidence: float = 0.7
    """Of a face, in [0, 1]; what OpenFace is less sure of is none."""

    def validate(self, key: str) -> None:
        """Raise ValueError, naming the full key, for a value out of range."""
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"{key}.min_confidence={self.min_confidence}: must lie in 0..1")


def read_openface(paths: Sequence[str], config: OpenFaceConfig, key: str) -> list[Row]:
    """A row for each image, as an `Annotator` gives them; an image that OpenFace opened and wrote no faces of is `no_face`.

    Raises ValueError for images that it has not seen, for two images with one file, and, naming file and line, for what cannot be right.
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
    for image in map(Path, paths):
        place = _place(image, files.get(image.stem, []), root)
        if place is None:
            unseen.append(image)
        elif owners.setdefault(place, image) != image:
            raise ValueError(f"{place}.csv: of {owners[place]} or of {image}? Let OpenFace write into subfolders named as the images'")
        else:
            rows.append(_read(place, config.min_confidence))
    if unseen:
        raise ValueError(f"{key}.folder={config.folder}: OpenFace has not seen {len(unseen)} of {len(paths)} images, the first is {unseen[0]}; {HOW_TO_MAKE}")
    return rows


def stamp(config: OpenFaceConfig, key: str) -> str:
    """A hash over name, size and time of all that OpenFace wrote."""
    root = _folder(config, key)
    stats = ((path, path.stat()) for path in _outputs(root))
    return hashlib.sha256("\n".join(f"{path.relative_to(root)}|{stat.st_size}|{stat.st_mtime_ns}" for path, stat in stats).encode()).hexdigest()[:16]


def _folder(config: OpenFaceConfig, key: str) -> Path:
    if config.folder is None or not Path(config.folder).is_dir():
        raise ValueError(f"{key}.folder={config.folder}: is no folder; give the one that OpenFace wrote to, with {HOW_TO_MAKE}")
    return Path(config.folder).absolute()


def _outputs(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix == ".csv" or path.name.endswith(f"{DETAILS}.txt"))


def _place(image: Path, candidates: list[Path], root: Path) -> Path | None:
    """Where the files of an image are, without their endings: in folders named as its own, as far down as there are such."""
    folders = image.absolute().parent.parts
    fitting = [place for place in candidates if not (below := place.parent.relative_to(root).parts) or folders[-len(below) :] == below]
    return max(fitting, key=lambda place: len(place.parts), default=None)


def _read(place: Path, min_confidence: float) -> Row:
    path = place.with_name(f"{place.name}.csv")
    nobody: Row = {"status": "no_face"} | dict.fromkeys(AU_KEYS)
    if not path.is_file():
        return nobody
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [column.strip() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            faces = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as CSV ({error})") from error
    missing = [column for column in ("confidence", *COLUMNS) if column not in columns]
    if missing:
        raise ValueError(f"{path}: columns missing: {', '.join(missing)}; write them with {HOW_TO_MAKE}")
    if "frame" in columns and len(faces) > 1:
        raise ValueError(f"{path}: has {len(faces)} frames, so it is of a video; {HOW_TO_MAKE} writes a file for each image")
    found = []
    for number, face in enumerate(faces, start=2):
        where = f"{path}, line {number}"
        if None in face or None in face.values():
            raise ValueError(f"{where}: more or fewer cells than columns")
        confidence = _number(where, "confidence", face, 0, 1)
        aus = {key: intensity(where, column, face[column]) for key, column in zip(AU_KEYS, COLUMNS, strict=True)}
        if confidence >= min_confidence and ("success" not in face or _number(where, "success", face, 0, 1) == 1):
            found.append((where, face, aus))
    if len(found) < 2:
        return {"status": "ok"} | found[0][2] if found else nobody
    return {"status": "several_faces"} | max(found, key=lambda one: _area(*one[:2]))[2]


def _area(where: str, face: dict[str, str]) -> float:
    """Of the box around a face's landmarks, in square pixels."""
    if "x_0" not in face:
        raise ValueError(f"{where}: which of several faces is the largest, only landmarks tell; write them with {HOW_TO_MAKE}")
    sides = [[_number(where, f"{axis}_{index}", face, -1e6, 1e6) for index in range(LANDMARKS)] for axis in "xy"]
    return float((max(sides[0]) - min(sides[0])) * (max(sides[1]) - min(sides[1])))


def _number(where: str, column: str, face: dict[str, str], low: float, high: float) -> float:
    try:
        value = float(face[column])
    except (KeyError, ValueError):
        value = float("nan")
    if not low <= value <= high:
        raise ValueError(f"{where}: {column}={face.get(column)!r} is no number in {low:g}..{high:g}")
    return value
