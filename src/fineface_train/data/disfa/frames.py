"""How DISFA's pictures are called where they lie as files: by a subject and a number, as `image_pattern` says."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fineface_train.data.disfa.clues import DEEPEST, subject_of
from fineface_train.data.formats.folders import children, is_litter

IMAGE_SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def image_folders(root: Path, image_pattern: str) -> list[Path]:
    """The folder of pictures and the folders in it down to those that `image_pattern` puts pictures into: the time of
    one changes when a file comes or goes."""
    level = [root]
    found = list(level)
    for _ in range(image_pattern.count("/")):
        level = [path for folder in level for path in children(folder) if path.is_dir()]
        found += level
    return found


def image_files(root: Path, image_pattern: str) -> dict[str, dict[int, list[Path]]]:
    """Files of each subject by their number, below the folder of pictures, that `image_pattern` fits."""
    images: dict[str, dict[int, list[Path]]] = {}
    pattern = _compiled(image_pattern)
    for name in _names(root, image_pattern.count("/")):
        if (match := pattern.fullmatch(name)) is not None:
            subject = subject_of(match["subject"])
            assert subject is not None
            images.setdefault(subject, {}).setdefault(int(match["index"]), []).append(root / name)
    return images


def unfit_image(root: Path, image_pattern: str, subject: str | None = None) -> tuple[str, str | None] | None:
    """A file below the folder of pictures, of this subject, that `image_pattern` does not fit, and a pattern that
    would; None if there is none.

    Files for which there is such a pattern go before others.
    """
    pattern, other = _compiled(image_pattern), None
    for name in (name for depth in range(DEEPEST + 1) for name in _names(root, depth)):
        if subject in (None, subject_of(name)) and pattern.fullmatch(name) is None:
            if fitting := _pattern_of(name):
                return name, fitting
            other = other or name
    return (other, None) if other else None


def _pattern_of(name: str) -> str | None:
    """The `image_pattern` of images that are called like this one; None if it tells no subject or no number."""
    match = re.fullmatch(r"(.*\D)(\d+)(\D*)", name)
    if match is None or Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        return None
    start, number, end = match.groups()
    index = f"{{index:0{len(number)}d}}" if len(number) > 1 else "{index}"
    pattern = re.sub(r"SN\d+", "{subject}", start, flags=re.IGNORECASE) + index + end
    return pattern if "{subject}" in pattern and _compiled(pattern).fullmatch(name) else None


def _compiled(pattern: str) -> re.Pattern[str]:
    """Names with a subject (the same wherever it stands) and an index."""
    text = ""
    for part in re.split(r"(\{subject\}|\{index[^}]*\})", pattern):
        if part == "{subject}":
            text += "(?P=subject)" if "?P<subject>" in text else r"(?P<subject>SN\d+)"
        else:
            text += r"(?P<index>\d+)" if part.startswith("{index") else re.escape(part)
    return re.compile(text, re.IGNORECASE)


def _names(folder: Path, depth: int, prefix: str = "") -> Iterator[str]:
    """Names of the files `depth` folders below `folder`, sorted."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if is_litter(entry.name):
            continue
        if depth and entry.is_dir():
            yield from _names(Path(entry.path), depth - 1, f"{prefix}{entry.name}/")
        elif not depth and entry.is_file():
            yield prefix + entry.name
