"""Where AffectNet's parts lie, and what is taken from which: metadata, images as a folder or an archive."""

import contextlib
import dataclasses
import logging
import os
import re
from pathlib import Path

from fineface_train.data.affectnet.config import FINEFACE_METADATA, IMAGES, AffectNetConfig
from fineface_train.data.affectnet.edition_2021 import ANNOTATIONS, EXPRESSION, expression_files, find_annotations
from fineface_train.data.formats.csv_rows import find_columns, header
from fineface_train.data.formats.folders import (
    PACKED,
    below,
    better_root,
    children,
    elsewhere,
    is_litter,
    listing,
    still_packed,
    unpacking,
)

logger = logging.getLogger(__name__)
KEY = "data.affectnet"
SHOWN = 3
VALIDATION = "validation.csv"
FINEFACE_NAME, OFFICIAL_NAME = "ImageName", "subDirectory_filePath"
"""Columns that tell whose list it is."""
OFFICIAL = "AffectNet's own list"
LISTS = {FINEFACE_NAME: "FineFace's metadata", OFFICIAL_NAME: OFFICIAL}
HOW_TO_GET = (
    "AffectNet is licensed: request it at http://mohammadmahoor.com/affectnet/. Without it, data=toyfacs "
    "draws data in the same layout"
)
HOW_TO_GET_METADATA = (
    f"{FINEFACE_METADATA} comes with FineFace's published code (https://github.com/tvaranka/fineface), not with "
    f"AffectNet. AffectNet's own list, "
    "Manually_Annotated_file_lists/training.csv, does without it: data=affectnet_official"
)


@dataclasses.dataclass(frozen=True)
class AffectNetCopy:
    """A copy of AffectNet as it lies on disk."""

    config: AffectNetConfig
    metadata: Path
    """The list, or the folder of `annotations`."""
    annotations: tuple[Path, ...]
    """The expression of each image, in the copies since 2021; empty where there is a list."""
    images: Path
    """The folder of images, or the first volume of their archive."""


def find_copy(config: AffectNetConfig) -> AffectNetCopy:
    """Look once where metadata and images lie. Raises ValueError that says what is missing, and where it lies if it can
    be seen."""
    if not config.root:
        raise ValueError(
            f"{KEY}.root=null: set it, or the environment variable AFFECTNET_ROOT, to the folder that holds "
            f"{config.metadata}. {HOW_TO_GET}"
        )
    root = Path(os.path.abspath(os.path.expanduser(config.root)))
    if not root.is_dir():
        fault = f"is a file; unpack it (`{unpacking(root)}`)" if root.is_file() else "does not exist"
        raise ValueError(
            f"{KEY}.root={config.root}: {root} {fault}; set {KEY}.root (or AFFECTNET_ROOT) to what holds "
            f"{config.metadata}. {HOW_TO_GET}"
        )
    metadata, images = root / config.metadata, root / config.images
    if not images.exists() and images.suffix.lower() != ".rar":
        images = _only_archive(root, config.images) or images
    for name, path in (("metadata", metadata), ("images", images)):
        if not path.exists():
            where = f"{KEY}.{name}={getattr(config, name)}"
            how = HOW_TO_GET_METADATA if path.name == FINEFACE_METADATA else HOW_TO_GET
            seen = _seen(config, root, name)
            how = how if not seen or how == HOW_TO_GET_METADATA else ""
            remedy = seen or f"set {KEY}.root (or AFFECTNET_ROOT) and {KEY}.{name}."
            raise ValueError(f"{where}: {path} does not exist; {remedy} {root} holds {listing(root)}. {how}".strip())
    if images.is_file() and images.suffix.lower() in PACKED and images.suffix.lower() != ".rar":
        raise ValueError(
            f"{KEY}.images={config.images}: is still packed: unpack it (`{unpacking(images)}`), and give the folder; "
            f"RAR alone is read as it is"
        )
    return AffectNetCopy(config, metadata, _annotations(metadata) if metadata.is_dir() else (), images)


def _annotations(folder: Path) -> tuple[Path, ...]:
    files = expression_files(folder)
    if not files:
        inside = find_annotations(folder)
        remedy = (
            f"give {inside}"
            if inside is not None
            else f"give a CSV, or the folder {ANNOTATIONS} with *{EXPRESSION} of AffectNet's copies since 2021"
        )
        raise ValueError(f"{KEY}.metadata: {folder} is a folder; {remedy}")
    return tuple(files)


def _seen(config: AffectNetConfig, root: Path, name: str) -> str:
    """Where `name` (metadata or images) seems to lie instead, and what to set, in a sentence; "" where nothing is
    seen."""
    wanted: str = getattr(config, name)
    if (annotations := find_annotations(root)) is not None and name == "metadata":
        part, usual = annotations.parent, annotations.parent.name == "train_set"
        sides = [
            f"{KEY}.{key}={(part / name).relative_to(root)}"
            for key, name in (("metadata", ANNOTATIONS), ("images", IMAGES))
        ]
        where = (
            "" if usual and part.parent == root else f" {KEY}.root={part.parent}" if usual else f" {' '.join(sides)}"
        )
        return (
            f"this is AffectNet as it is sent since 2021 ({annotations} holds *{EXPRESSION}, and no list): "
            f"`data=affectnet_2021{where}` reads it."
        )
    better = better_root(root, wanted)
    if better is not None and not Path(wanted).is_absolute():
        return f"{better} has it: set {KEY}.root (or AFFECTNET_ROOT) to {better}."
    if (found := elsewhere(root, wanted, folder=name == IMAGES)) is not None:
        return f"{found} is there: set {KEY}.{name}={found.relative_to(root)}."
    told = still_packed(root, wanted).strip()
    lists = _lists(root) if name == "metadata" else []
    if lists:
        known = "; ".join(f"{path} is {what}" for path, what in lists[:SHOWN])
        choices = " or ".join(f"{KEY}.metadata={path.relative_to(root)}" for path, _ in lists[:SHOWN])
        official = any(what == OFFICIAL for _, what in lists)
        told = f"{known}: set {choices}{' with data=affectnet_official' if official else ''}. {told}".strip()
    return told


def _lists(root: Path) -> list[tuple[Path, str]]:
    """CSV files in `root` or below that are lists of AffectNet's, and whose."""
    found = []
    for path in [path for folder in below(root) for path in folder.glob("*.csv") if not is_litter(path.name)]:
        with contextlib.suppress(ValueError, OSError):  # another file of somebody's
            names = header(path)
            kind = next((what for column, what in LISTS.items() if find_columns(names, column)), None)
            found += [(path, kind)] if kind else []
    return found


def tell_other_lists(metadata: Path) -> None:
    """Tells of AffectNet's own validation images beside the list that is read: validation.csv, or val_set."""
    other = (
        metadata.parent.with_name("val_set") / metadata.name if metadata.is_dir() else metadata.with_name(VALIDATION)
    )
    if other != metadata and other.exists():
        share = f"validation is {KEY}.validation_share of the images in {metadata}"
        logger.info("%s: is not read: %s; to prepare it instead, name it in %s.metadata", other, share, KEY)


def _only_archive(root: Path, images: str) -> Path | None:
    """The first volume of the only RAR archive in `root` or a folder in it. Raises ValueError where there are more."""
    folders = [root, *(path for path in children(root) if path.is_dir())]
    found = sorted(path for folder in folders for path in children(folder) if _is_first_volume(path.name))
    if len(found) > 1:
        raise ValueError(
            f"{KEY}.images={images}: {root} has no such folder, and {len(found)} archives "
            f"({', '.join(map(str, found))}); name the one"
        )
    return found[0] if found else None


def _is_first_volume(name: str) -> bool:
    """x.part01.rar, or x.rar, whose other volumes are x.r00 and so on."""
    found = re.search(r"(?:\.part(\d+))?\.rar$", name, re.IGNORECASE)
    return found is not None and int(found[1] or 1) == 1
