"""The layout of expression manipulation: a pickled list of images with their AUs, as GANimation and its followers keep it.

    aus_dataset.pkl     [{"file_path": "imgs/0000001.jpg", "aus": array of n intensities}, ...]; "path" for "file_path" in some copies
    imgs/0000001.jpg    the images, anywhere below one folder

Which AUs the n are, and whether they count from 0 to 1 or to 5, the file does not say: the config does.
"""

import csv
import dataclasses
import enum
import logging
import os
import pickle
import posixpath
from pathlib import Path
from typing import Any

import numpy as np

from fineface_train.aus import AUS, MAX_INTENSITY
from fineface_train.data.csv_rows import header, read_rows, without_repeats
from fineface_train.data.plain_pickle import Array, read_plain_pickle
from fineface_train.data.table import VALIDATION_SHARE, SampleTable, hash_fraction
from fineface_train.files import replacing

logger = logging.getLogger(__name__)
SOURCE = "manipulation"
KEY = "data.manipulation"
PATH_KEYS = ("file_path", "path")
CAPTIONS = "captions.csv"
OPENFACE = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
"""AUs whose intensity OpenFace tells, in its order: all of ours are among them."""
HOW_TO_GET = "It is a list of any images with their AUs: `write_manipulation` makes one. Without it, data=toyfacs draws data"


class Missing(enum.Enum):
    """AUs of ours that the file does not tell: `refuse` it, or take them for `zero`, which is a guess that the adapter then learns."""

    refuse = "refuse"
    zero = "zero"


@dataclasses.dataclass
class ManipulationConfig:
    """Where the list lies and what its numbers are. Paths are relative to `root` unless absolute."""

    root: str | None = None
    labels: str = "aus_dataset.pkl"
    images: str = "."
    """Folder that the paths in the list start from."""
    strip: str = ""
    """Taken off the start of every path in the list before it is looked for below `images`, such as imgs/. Paths and this may be written with \\ or ./."""
    aus: list[int] | None = None
    """The AU number of each entry of a vector, in order."""
    missing: Missing = Missing.refuse
    scale: float = MAX_INTENSITY
    """The number in the list that is intensity 5: 5, or 1 where the list counts from 0 to 1."""
    captions: str | None = None
    """CSV with columns `file_path` (or `path`, as in the list) and `caption`; null: every image has `caption`."""
    caption: str = "a photo of a person"
    validation_share: float = VALIDATION_SHARE
    """Of the images, chosen by data.seed, never trained on."""
    weight: float | None = None
    """Share of training examples, relative to the other sources; null: the number of its training rows."""

    def validate(self, key: str) -> None:
        if self.aus is not None and (len(set(self.aus)) != len(self.aus) or not self.aus or min(self.aus) < 1):
            raise ValueError(f"{key}.aus={self.aus}: must list AU numbers (1, 2, 4, ...), each once")
        unknown = [au for au in AUS if self.aus is not None and au not in self.aus]
        if unknown and self.missing is Missing.refuse:
            raise ValueError(
                f"{key}.aus={self.aus}: AU{', AU'.join(map(str, unknown))} of ours are unknown in these labels, and unknown is not 0; "
                f"use labels that tell all of {', '.join(map(str, AUS))}, or say that you take them for 0: {key}.missing=zero"
            )
        if not 0 < self.scale <= 100:
            raise ValueError(f"{key}.scale={self.scale}: must be the number that means intensity 5, such as 5 or 1")
        if self.captions is None and not self.caption.strip():
            raise ValueError(f"{key}.caption is empty: set it, or {key}.captions to a CSV")


def read_manipulation(config: ManipulationConfig, seed: int) -> SampleTable:
    """Every image of the list, with our AUs on the 0-5 scale; a share, chosen by `seed` and the path, is validation.

    Entries of the vectors that are none of our AUs are left out. Raises ValueError that names the file and the entry (counted from 1)
    that cannot be read, and both lengths where a vector has not as many entries as `config.aus`.
    """
    labels, images, captions = _paths(config)
    names, vectors = _read_entries(labels)
    lengths = np.array([len(vector) for vector in vectors])
    if config.aus is None:
        known = f"OpenFace's {len(OPENFACE)} are [{','.join(map(str, OPENFACE))}], ours {len(AUS)} are [{','.join(map(str, AUS))}]"
        raise ValueError(f"{labels}: its vectors have {lengths[0]} entries; say which AUs they are, in order: {KEY}.aus=[1,2,...] ({known})")
    wrong = np.flatnonzero(lengths != len(config.aus))
    if len(wrong):
        where = f"{labels}, entry {wrong[0] + 1} ({names[wrong[0]]!r})"
        raise ValueError(f"{where}: aus has {lengths[wrong[0]]} entries, but {KEY}.aus lists {len(config.aus)} AUs; they must be as many")
    raw = np.stack(vectors)
    outside = np.flatnonzero(~((raw >= 0) & (raw <= config.scale)).all(axis=1))  # NaN is outside
    if len(outside):
        value = next(number for number in raw[outside[0]] if not 0 <= number <= config.scale)
        where = f"{labels}, entry {outside[0] + 1} ({names[outside[0]]!r})"
        raise ValueError(f"{where}: aus holds {value:g}, outside 0..{config.scale:g}; set {KEY}.scale to the number that is intensity 5")
    if raw.max() <= 1 < config.scale:
        logger.warning("%s: no number is greater than %g; if they count from 0 to 1, set %s.scale=1", labels, raw.max(), KEY)

    aus = np.zeros((len(names), len(AUS)))
    unknown = [au for au in AUS if au not in config.aus]
    for column, au in enumerate(AUS):
        if au not in unknown:
            aus[:, column] = raw[:, config.aus.index(au)] * (MAX_INTENSITY / config.scale)
    counts = {"read": len(names)} | {f"AU{au} unknown, taken for 0": len(names) for au in unknown} | {"kept": len(names)}
    if unknown:
        logger.warning("%s: AU%s of ours are not among %s.aus, and taken for 0 in every image", labels, ", AU".join(map(str, unknown)), KEY)
    logger.info("%s: %s", SOURCE, ", ".join(f"{name} {count}" for name, count in counts.items()))
    ids = [f"{SOURCE}/{name}" for name in names]
    table = SampleTable.build(
        SOURCE,
        ids=ids,
        images=_existing_images(config, images, names, labels),
        captions=[config.caption] * len(names) if captions is None else _read_captions(captions, names),
        aus=np.clip(aus, 0, MAX_INTENSITY),  # rounding of the scale
        subjects=ids,
        splits=["validation" if hash_fraction(seed, SOURCE, name) < config.validation_share else "train" for name in names],
        aus_from=labels.name,
        caption_from=f"{KEY}.caption" if captions is None else captions.name,
    )
    return dataclasses.replace(table, counts={SOURCE: counts})


def write_manipulation(table: SampleTable, path: Path, images: Path) -> None:
    """The images and AUs of `table` as such a list at `path`, with their captions in captions.csv beside it.

    Paths are relative to `images`, vectors are our 12 AUs on the 0-5 scale (float64). Raises ValueError for an image that does not lie
    below `images`.
    """
    root = images.absolute()
    outside = [image for image in table.frame["image"] if not Path(image).is_relative_to(root)]
    if outside:
        raise ValueError(f"{outside[0]}: lies outside {root}; give a folder that all images of the table lie in")
    names = [Path(image).relative_to(root).as_posix() for image in table.frame["image"]]
    entries = [{"file_path": name, "aus": vector} for name, vector in zip(names, table.aus().astype(np.float64), strict=True)]
    with replacing(path.with_name(CAPTIONS)) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_path", "caption"), *zip(names, table.frame["caption"], strict=True)])
    with replacing(path) as partial, partial.open("wb") as binary:
        pickle.dump(entries, binary, protocol=4)


def input_files(config: ManipulationConfig) -> list[Path]:
    """The list and the captions: the table changes only when one of them (or the config) does."""
    labels, _, captions = _paths(config)
    return [labels] if captions is None else [labels, captions]


def _paths(config: ManipulationConfig) -> tuple[Path, Path, Path | None]:
    if not config.root:
        raise ValueError(f"{KEY}.root=null: set it, or the environment variable MANIPULATION_ROOT, to the folder that holds {config.labels}. {HOW_TO_GET}")
    root = Path(os.path.abspath(os.path.expanduser(config.root)))
    for name in ("labels", "images", "captions"):
        value = getattr(config, name)
        if value is not None and not (root / value).exists():
            raise ValueError(f"{KEY}.{name}={value}: {root / value} does not exist; set {KEY}.root (or MANIPULATION_ROOT) and {KEY}.{name}. {HOW_TO_GET}")
    return root / config.labels, Path(os.path.normpath(root / config.images)), None if config.captions is None else root / config.captions


def _read_entries(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """The paths, each spelled in one way, and the vectors as they are; every path is there once."""
    value = read_plain_pickle(path)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{path}: holds {'an empty list' if value == [] else f'a {type(value).__name__}'}; it must be a list of dictionaries")
    names, vectors = [], []
    first: dict[str, int] = {}
    for number, entry in enumerate(value, start=1):
        where = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: is a {type(entry).__name__}; it must be a dictionary with 'file_path' (or 'path') and 'aus'")
        given = {_plain(entry[key]) for key in PATH_KEYS if isinstance(entry.get(key), str)}
        if len(given) != 1 or "" in given or "aus" not in entry:
            keys = ", ".join(map(repr, list(entry)[:8]))
            raise ValueError(f"{where}: has {keys or 'no keys'}; it must have 'aus' and one path as text, 'file_path' or 'path'")
        (name,) = given
        if name in first:
            raise ValueError(f"{where}: the image {name!r} is entry {first[name]} too; remove one of them")
        first[name] = number
        names.append(name)
        vectors.append(_vector(entry["aus"], where))
    return names, vectors


def _plain(name: str) -> str:
    """A path in the one spelling that it is known by: / for \\, without ./ and the like; "" stays."""
    return posixpath.normpath(name.replace("\\", "/")) if name else ""


def _vector(value: Any, where: str) -> np.ndarray:
    if isinstance(value, Array):
        vector = value.values
    elif isinstance(value, list | tuple) and all(isinstance(number, int | float) for number in value):
        try:
            vector = np.array(value, dtype=np.float64)
        except OverflowError:
            raise ValueError(f"{where}: aus holds a number that is too large") from None
    else:
        raise ValueError(f"{where}: aus is a {type(value).__name__}; it must be an array or a list of numbers")
    if vector.ndim != 1:
        raise ValueError(f"{where}: aus has the shape {vector.shape}; it must be one row of numbers")
    return vector.astype(np.float64)


def _existing_images(config: ManipulationConfig, root: Path, names: list[str], labels: Path) -> list[str]:
    strip = _plain(config.strip + "*")[:-1]  # a / at its end stays
    for number, name in enumerate(names, start=1):
        if not name.startswith(strip):
            raise ValueError(f"{labels}, entry {number}: the path {name!r} does not start with {KEY}.strip={config.strip!r}")
        if not Path(os.path.normpath(root / name.removeprefix(strip))).is_relative_to(root):
            raise ValueError(f"{labels}, entry {number}: the path {name!r} leads out of {root}; images must lie below it")
    paths = [root / name.removeprefix(strip) for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        remedy = f"set {KEY}.images to the folder that the list's paths start from, and {KEY}.strip to what they have too much at their start"
        raise ValueError(f"{KEY}.images={root}: {len(missing)} of {len(paths)} images are missing, the first is {missing[0]}; {remedy}")
    return [str(path) for path in paths]


def _read_captions(path: Path, names: list[str]) -> list[str]:
    columns = header(path)
    column = next((key for key in PATH_KEYS if key in columns), None)
    if column is None or "caption" not in columns:
        raise ValueError(f"{path}: has the columns {', '.join(columns)}; it needs 'caption', and 'file_path' or 'path'")
    rows = read_rows(path, [column, "caption"])
    images = rows[column].map(_plain)
    rows = without_repeats(path, rows.assign(**{column: images}), column)
    captions = dict(zip(rows[column], rows["caption"], strict=True))
    without = [name for name in names if not captions.get(name, "").strip()]
    if without:
        raise ValueError(f"{path}: {len(without)} of {len(names)} images have no caption, the first is {without[0]!r}")
    return [captions[name] for name in names]
