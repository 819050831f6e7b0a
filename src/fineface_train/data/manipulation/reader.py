"""The layout of expression manipulation: a pickled list of images with their AUs, as GANimation and its followers keep
it.

    aus_dataset.pkl     [{"file_path": "imgs/0000001.jpg", "aus": array of n intensities}, ...], or another shape
    (entries.py)
    imgs/0000001.jpg    the images, anywhere below one folder

Which AUs the n are, and whether they count from 0 to 1 or to 5, the file does not say: the config does.
"""

import contextlib
import csv
import dataclasses
import logging
import os
import pickle
from pathlib import Path

import numpy as np

from fineface_train.aus import AUS, MAX_INTENSITY
from fineface_train.data.formats.csv_rows import find_columns, header, read_rows, without_repeats
from fineface_train.data.formats.folders import better_root, elsewhere, still_packed
from fineface_train.data.formats.image_names import find_images, tell, tell_unnamed
from fineface_train.data.intensities import rounded_off
from fineface_train.data.manipulation.config import SOURCE, ManipulationConfig
from fineface_train.data.manipulation.entries import PATH_KEYS, plain_name, read_entries
from fineface_train.data.table import SampleTable, hash_fraction
from fineface_train.files import replacing

logger = logging.getLogger(__name__)
KEY = "data.manipulation"
CAPTIONS = "captions.csv"
SKIP = "data.skip_broken=true"
NO_NUMBERS = "AUs are no numbers"
OPENFACE = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
"""AUs whose intensity OpenFace tells, in its order: all of ours are among them."""
HOW_TO_GET = (
    "It is a list of any images with their AUs: `write_manipulation` makes one. Without it, data=toyfacs draws data"
)


@dataclasses.dataclass(frozen=True)
class ManipulationCopy:
    """A list of images with AUs as it lies on disk."""

    config: ManipulationConfig
    labels: Path
    images: Path
    """The folder that the list's paths start from."""
    captions: Path | None


def read_manipulation(copy: ManipulationCopy, seed: int, *, skip_broken: bool = False) -> SampleTable:
    """Every image of the list, with our AUs on the 0-5 scale; a share, chosen by `seed` and the path, is validation.

    Entries of the vectors that are none of our AUs are left out. Raises ValueError that names the file and the entry
    (counted from 1) that cannot be read, and how many there are, and both lengths where a vector has not as many
    entries as `config.aus`.

    Args:
        skip_broken: leave out, and count, entries whose AUs are not numbers; rows of images that are missing stay in
            the table, for
            whoever decodes the images to drop, unless all are.
    """
    config, labels, captions = copy.config, copy.labels, copy.captions
    names, raw, numbers = _read_vectors(config, labels)
    counts, every = {"read": len(names)}, names
    empty = np.isnan(raw).any(axis=1)
    if empty.any() and skip_broken and not empty.all():
        counts[f"dropped: {NO_NUMBERS}"] = int(empty.sum())
        names, raw, numbers = (
            [name for name, gone in zip(names, empty, strict=True) if not gone],
            raw[~empty],
            numbers[~empty],
        )
    raw = _on_scale(config, labels, names, raw, numbers)

    assert config.aus is not None
    aus = np.zeros((len(names), len(AUS)))
    unknown = [au for au in AUS if au not in config.aus]
    for column, au in enumerate(AUS):
        if au not in unknown:
            aus[:, column] = raw[:, config.aus.index(au)] * (MAX_INTENSITY / config.scale)
    paths = _images(config, copy.images, names, every, labels, numbers, skip_broken=skip_broken)
    counts |= {f"AU{au} unknown, taken for 0": len(names) for au in unknown} | {"kept": len(names)}
    if unknown:
        logger.warning(
            "%s: AU%s of ours are not among %s.aus, and taken for 0 in every image",
            labels,
            ", AU".join(map(str, unknown)),
            KEY,
        )
    logger.info("%s: %s", SOURCE, ", ".join(f"{name} {count}" for name, count in counts.items()))
    ids = [f"{SOURCE}/{name}" for name in names]
    table = SampleTable.build(
        SOURCE,
        ids=ids,
        images=paths,
        captions=[config.caption] * len(names) if captions is None else _read_captions(captions, names),
        aus=np.clip(aus, 0, MAX_INTENSITY),  # rounding of the scale
        subjects=ids,
        splits=[
            "validation" if hash_fraction(seed, SOURCE, name) < config.validation_share else "train" for name in names
        ],
        aus_from=labels.name,
        caption_from=f"{KEY}.caption" if captions is None else captions.name,
    )
    return dataclasses.replace(table, counts={SOURCE: counts})


def check(copy: ManipulationCopy, *, skip_broken: bool = False) -> None:
    """That the list can be read, and its images are there. Raises ValueError as `read_manipulation` does."""
    read_manipulation(copy, 0, skip_broken=skip_broken)


def _read_vectors(config: ManipulationConfig, labels: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The paths, the vectors (N, number of AUs) and the number of each entry. Raises ValueError where they are not as
    `config.aus` says."""
    names, vectors, numbers = read_entries(labels)
    lengths = np.array([len(vector) for vector in vectors])
    usual = int(np.bincount(lengths).argmax())
    known = (
        f"OpenFace's {len(OPENFACE)} are [{','.join(map(str, OPENFACE))}], ours {len(AUS)} are "
        f"[{','.join(map(str, AUS))}]"
    )
    if config.aus is None:
        others = int((lengths != usual).sum())
        which = f"{usual} entries" + (f" ({others} of {len(lengths)} have another number)" if others else "")
        raise ValueError(
            f"{labels}: its vectors have {which}; say which AUs they are, in order: {KEY}.aus=[1,2,...] ({known})"
        )
    wrong = np.flatnonzero(lengths != len(config.aus))
    if len(wrong):
        where = f"{labels}, entry {numbers[wrong[0]]} ({names[wrong[0]]!r})"
        if len(wrong) == len(names) and (lengths == usual).all():
            remedy = f"all {len(names)} have {usual}: list their AUs in {KEY}.aus ({known})"
        else:
            remedy = (
                f"{len(wrong)} of {len(names)} have another length; remove them from the list, or list the "
                f"others' AUs in {KEY}.aus"
            )
        raise ValueError(
            f"{where}: aus has {lengths[wrong[0]]} entries, but {KEY}.aus lists {len(config.aus)} AUs; they must be as "
            f"many; {remedy}"
        )
    return names, np.stack(vectors), numbers


def _on_scale(
    config: ManipulationConfig, labels: Path, names: list[str], raw: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    """The vectors with what lies beyond 0..scale by rounding at its ends. Raises ValueError for what lies further, or
    is no number."""
    raw, beyond = rounded_off(raw, config.scale)
    outside = np.flatnonzero(~((raw >= 0) & (raw <= config.scale)).all(axis=1))  # NaN is outside
    if len(outside):
        value = next(number for number in raw[outside[0]] if not 0 <= number <= config.scale)
        where = f"{labels}, entry {numbers[outside[0]]} ({names[outside[0]]!r})"
        highest = np.nanmax(raw, initial=0)
        remedy = f"set {KEY}.scale to the number that is intensity 5" + (
            f" (the highest is {highest:g})" if highest > config.scale else ""
        )
        if np.isnan(value):
            remedy = (
                "no entry has AUs that are numbers: make the list again"
                if np.isnan(raw).any(axis=1).all()
                else f"{SKIP} leaves such entries out"
            )
        more = f" ({len(outside)} of {len(names)} entries hold such numbers)" if len(outside) > 1 else ""
        raise ValueError(f"{where}: aus holds {value:g}, outside 0..{config.scale:g}; {remedy}{more}")
    if beyond:
        logger.warning(
            "%s: %d AUs lie beyond 0..%g by rounding, and are taken for its ends", labels, beyond, config.scale
        )
    if raw.max() <= 1 < config.scale:
        shown = (
            " (all are 0 or 1, as if they told which AUs are shown and not how strongly)"
            if np.isin(raw, (0, 1)).all()
            else ""
        )
        logger.warning(
            "%s: no number is greater than %g%s; if they count from 0 to 1, set %s.scale=1",
            labels,
            raw.max(),
            shown,
            KEY,
        )
    return raw


def write_manipulation(table: SampleTable, path: Path, images: Path) -> None:
    """The images and AUs of `table` as such a list at `path`, with their captions in captions.csv beside it.

    Paths are relative to `images`, vectors are our 12 AUs on the 0-5 scale (float64). Raises ValueError for an image
    that does not lie below `images`.
    """
    root = images.absolute()
    outside = [image for image in table.frame["image"] if not Path(image).is_relative_to(root)]
    if outside:
        raise ValueError(f"{outside[0]}: lies outside {root}; give a folder that all images of the table lie in")
    names = [Path(image).relative_to(root).as_posix() for image in table.frame["image"]]
    entries = [
        {"file_path": name, "aus": vector} for name, vector in zip(names, table.aus().astype(np.float64), strict=True)
    ]
    with replacing(path.with_name(CAPTIONS)) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_path", "caption"), *zip(names, table.frame["caption"], strict=True)])
    with replacing(path) as partial, partial.open("wb") as binary:
        pickle.dump(entries, binary, protocol=4)


def input_files(copy: ManipulationCopy) -> list[Path]:
    """The list and the captions: the table changes only when one of them (or the config) does."""
    return [copy.labels] if copy.captions is None else [copy.labels, copy.captions]


def find_copy(config: ManipulationConfig) -> ManipulationCopy:
    """Look once where the list, its images and captions lie. Raises ValueError that says what is missing, and where it
    lies if it can be seen."""
    if not config.root:
        raise ValueError(
            f"{KEY}.root=null: set it, or the environment variable MANIPULATION_ROOT, to the folder that holds "
            f"{config.labels}. {HOW_TO_GET}"
        )
    root = Path(os.path.abspath(os.path.expanduser(config.root)))
    for name in ("labels", "images", "captions"):
        value = getattr(config, name)
        if value is not None and not (root / value).exists():
            remedy = _seen(root, name, value) or f"set {KEY}.root (or MANIPULATION_ROOT) and {KEY}.{name}."
            raise ValueError(f"{KEY}.{name}={value}: {root / value} does not exist; {remedy} {HOW_TO_GET}")
    return ManipulationCopy(
        config,
        root / config.labels,
        Path(os.path.normpath(root / config.images)),
        None if config.captions is None else root / config.captions,
    )


def _seen(root: Path, name: str, value: str) -> str:
    """Where `value` seems to lie instead, and what to set; "" where nothing is seen."""
    if Path(value).is_absolute():
        return ""
    if not root.is_dir():
        return f"{root} does not exist: set {KEY}.root (or MANIPULATION_ROOT)."
    if (better := better_root(root, value)) is not None:
        return f"{better} has it: set {KEY}.root (or MANIPULATION_ROOT) to {better}."
    if (found := elsewhere(root, value, folder=name == "images")) is not None:
        return f"{found} is there: set {KEY}.{name}={found.relative_to(root)}."
    return still_packed(root, value).strip()


def _images(
    config: ManipulationConfig,
    root: Path,
    names: list[str],
    every: list[str],
    labels: Path,
    numbers: np.ndarray,
    *,
    skip_broken: bool,
) -> list[str]:
    strip = plain_name(config.strip + "*")[:-1]  # a / at its end stays
    for number, name in zip(numbers, names, strict=True):
        if not name.startswith(strip):
            raise ValueError(
                f"{labels}, entry {number}: the path {name!r} does not start with {KEY}.strip={config.strip!r}"
            )
    rest = [name.removeprefix(strip) for name in names]
    paths = [Path(os.path.normpath(root / name)) for name in rest]
    for number, name, path in zip(numbers, names, paths, strict=True):
        if not path.is_relative_to(root):
            raise ValueError(
                f"{labels}, entry {number}: the path {name!r} leads out of {root}; images must lie below "
                f"it{_would_fit(root, rest, strip)}"
            )
    found = find_images(root, [path.relative_to(root).as_posix() for path in paths], f"{KEY}.images")
    if found.base == root and not found.prefix:
        paths, there = found.paths, found.there
        tell(found, root, f"{KEY}.images")
    else:
        there = np.zeros(len(paths), dtype=bool)
    if not there.all() and not (skip_broken and there.any()):
        first = paths[int(there.argmin())]
        remedy = (
            f"set {KEY}.images to the folder that the list's paths start from, and {KEY}.strip to what they have "
            f"too much at their start"
        )
        hint = f", or leave them out with {SKIP}" if there.any() else _would_fit(root, rest, strip)
        packed = "" if there.any() else f".{still_packed(root)}".rstrip(".")
        raise ValueError(
            f"{KEY}.images={root}: {(~there).sum()} of {len(paths)} images are missing, the first is {first}; "
            f"{remedy}{hint}{packed}"
        )
    tell_unnamed(found, [name.removeprefix(strip) for name in every], root, f"{KEY}.images", labels.name)
    return [str(path) for path in paths]


def _would_fit(root: Path, names: list[str], strip: str) -> str:
    """What to set so that these names find their images, where it can be seen."""
    with contextlib.suppress(ValueError):
        found = find_images(root, names, f"{KEY}.images")
        if found.there.any():
            return (
                f" ({KEY}.images={found.base} {KEY}.strip={strip}{found.prefix} finds {found.there.sum()} of "
                f"{len(names)})"
            )
    return ""


def _read_captions(path: Path, names: list[str]) -> list[str]:
    columns = header(path)
    column = next((key for key in PATH_KEYS if find_columns(columns, key)), None)
    if column is None or not find_columns(columns, "caption"):
        raise ValueError(f"{path}: has the columns {', '.join(columns)}; it needs 'caption', and 'file_path' or 'path'")
    rows = read_rows(path, [column, "caption"])
    images = rows[column].map(plain_name)
    rows = without_repeats(path, rows.assign(**{column: images}), column)
    captions = dict(zip(rows[column], rows["caption"], strict=True))
    without = [name for name in names if not captions.get(name, "").strip()]
    if without:
        raise ValueError(f"{path}: {len(without)} of {len(names)} images have no caption, the first is {without[0]!r}")
    return [captions[name] for name in names]
