"""Where DISFA's parts lie, in the spellings that its copies have: labels, frames or videos, captions (SPEC section
6)."""

import fnmatch
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fineface_train.data.disfa.clues import DEEPEST, DISFA_PLUS, KEY, clue, plain, subject_of, trials_in
from fineface_train.data.disfa.config import AUTO, EVERYONE, FOLDS, SPAN, Camera, DisfaConfig
from fineface_train.data.formats.folders import children, is_litter, listing

logger = logging.getLogger(__name__)
HOW_TO_GET_CAPTIONS = (
    "disfa_captions.csv comes with FineFace's published code (https://github.com/tvaranka/fineface), not with DISFA; "
    "data.disfa.captions=null has BLIP-2 write captions"
)
HOW_TO_GET = (
    "DISFA is licensed: request it at http://mohammadmahoor.com/disfa/. Without it, data=toyfacs draws data "
    "in the same layout"
)
SUBJECTS: tuple[str, ...] = tuple(sorted(subject for fold in FOLDS for subject in fold))
"""DISFA's 27 subjects."""
VIDEO_SUFFIXES: tuple[str, ...] = (".avi", ".mp4", ".mov", ".mkv")
IMAGE_SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
FRAME_RATE = 20
"""Frames a second of DISFA's videos."""
FLAT = "; a subject's files belong into a folder of its name, such as SN001/SN001_au1.txt"


def span_of(config: DisfaConfig, subject: str, *, plain: bool) -> tuple[int, int] | None:
    """The labels of a subject's first and last picture, if `spans` tell them; what they tell of all matters only where
    nothing else does (not `plain`)."""
    told = {
        match[1]: (int(match[2]), int(match[3])) for match in map(SPAN.fullmatch, config.spans) if match is not None
    }
    return told.get(subject, None if plain else told.get(EVERYONE))


def label_folders(config: DisfaConfig) -> dict[str, Path]:
    """Folder of label files of each subject. Raises ValueError that says what is missing, or what two folders claim to
    be."""
    root = _root(config)
    folder = _find(root, config.labels)
    if folder is None:
        raise _missing(config, "labels", root)
    if not folder.is_dir():
        raise ValueError(f"{KEY}.labels={config.labels}: {folder} is a file; give the unpacked folder")
    folder = _unpacked(folder)
    if (trial := trials_in(folder)) is not None:
        raise ValueError(f"{KEY}.labels={config.labels}: {trial} is a trial of {DISFA_PLUS}")
    folders = _by_subject([path for path in children(folder) if path.is_dir()], "labels")
    if not folders:
        raise ValueError(
            f"{KEY}.labels={config.labels}: {folder} holds no folder per subject such as SN001, but "
            f"{listing(folder)}{clue(folder, {}) or FLAT}"
        )
    return folders


def video_files(config: DisfaConfig) -> dict[str, Path] | None:
    """The video of each subject; None if frames are read from the folder `images`. Raises ValueError that says what is
    missing."""
    root = _root(config)
    frames = _find(root, config.images)
    if config.videos is None or (
        config.videos == AUTO and frames is not None and (not frames.is_dir() or children(frames))
    ):
        return None
    folder = (
        next(filter(None, (_find(root, name) for name in _video_folders(config.camera))), None)
        if config.videos == AUTO
        else _find(root, config.videos)
    )
    if folder is None:
        raise _missing(config, "images" if config.videos == AUTO else "videos", root)
    other = Camera.right if config.camera is Camera.left else Camera.left
    files = [
        path
        for path in children(_unpacked(folder))
        if path.suffix.lower() in VIDEO_SUFFIXES and other.value not in path.stem.lower()
    ]
    wanted = fnmatch.translate(config.video_pattern.lower().replace("{subject}", "sn*"))
    videos = _by_subject([path for path in files if re.fullmatch(wanted, path.stem.lower())], "videos")
    if not videos:
        raise ValueError(
            f"{KEY}.videos={folder}: holds no video of the {config.camera.value} camera that "
            f"{KEY}.video_pattern={config.video_pattern!r} fits; "
            f"it holds {listing(folder)}{clue(folder, {})} (read are {', '.join(VIDEO_SUFFIXES)}, not in folders of "
            f"their own; "
            f"{KEY}.camera={other.value} takes the other's)"
        )
    return videos


def image_files(config: DisfaConfig) -> dict[str, dict[int, list[Path]]]:
    """Files of each subject by their number, below `images`, that `image_pattern` fits."""
    root = images_root(config)
    images: dict[str, dict[int, list[Path]]] = {}
    pattern = _compiled(config.image_pattern)
    for name in _names(root, config.image_pattern.count("/")):
        if (match := pattern.fullmatch(name)) is not None:
            subject = subject_of(match["subject"])
            assert subject is not None
            images.setdefault(subject, {}).setdefault(int(match["index"]), []).append(root / name)
    return images


def unfit_image(config: DisfaConfig, subject: str | None = None) -> tuple[str, str | None] | None:
    """A file below `images`, of this subject, that `image_pattern` does not fit, and a pattern that would; None if
    there is none.

    Files for which there is such a pattern go before others.
    """
    root, pattern, other = images_root(config), _compiled(config.image_pattern), None
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


def images_root(config: DisfaConfig) -> Path:
    """The folder `images`. Raises ValueError if there is none."""
    folder = _find(_root(config), config.images)
    if folder is None:
        raise _missing(config, "images", _root(config))
    return _unpacked(folder)


def image_folders(config: DisfaConfig) -> list[Path]:
    """`images` and the folders in it down to those that `image_pattern` puts images into: the time of one changes when
    a file comes or goes."""
    level = [images_root(config)]
    found = list(level)
    for _ in range(config.image_pattern.count("/")):
        level = [path for folder in level for path in children(folder) if path.is_dir()]
        found += level
    return found


def captions_file(config: DisfaConfig) -> Path | None:
    """None if captions are to be made. Raises ValueError if the file is not there."""
    if config.captions is None:
        return None
    path = _find(_root(config), config.captions)
    if path is None:
        raise _missing(config, "captions", _root(config))
    return path


def _root(config: DisfaConfig) -> Path:
    if not config.root:
        raise ValueError(
            f"{KEY}.root=null: set it, or the environment variable DISFA_ROOT, to the folder that holds "
            f"{config.labels}. {HOW_TO_GET}"
        )
    root = Path(config.root).expanduser().absolute()
    if root.is_file():
        raise ValueError(
            f"{KEY}.root={config.root}: {root} is a file; unpack it, and give the folder that holds {config.labels}"
        )
    if not root.is_dir():
        raise ValueError(
            f"{KEY}.root={config.root}: {root} does not exist; set {KEY}.root (or DISFA_ROOT) to what holds "
            f"{config.labels}. {HOW_TO_GET}"
        )
    return root


def _missing(config: DisfaConfig, name: str, root: Path) -> ValueError:
    value = getattr(config, name)
    what = f"{KEY}.{name}={value}: {root / value} does not exist"
    wanted = {value: name}
    if name == "images" and config.videos == AUTO:
        what += ", nor does a folder of videos such as Videos_LeftCamera"
        wanted |= dict.fromkeys(_video_folders(config.camera), "videos")
    how = HOW_TO_GET_CAPTIONS if name == "captions" else HOW_TO_GET
    seen = clue(root, wanted)
    other = Camera.right if config.camera is Camera.left else Camera.left
    names = (
        [name for name in _video_folders(other) if other.value in name]
        if name == "images" and config.videos == AUTO and not seen
        else []
    )
    if (folder := next(filter(None, (_find(root, one) for one in names)), None)) is not None:
        seen = f"; {folder} holds the {other.value} camera's: set {KEY}.camera={other.value} to take it"
    return ValueError(
        f"{what}{seen or f'; set {KEY}.root (or DISFA_ROOT) and {KEY}.{name}'}. {root} holds "
        f"{listing(root)}.{'' if seen else f' {how}'}"
    )


def _find(root: Path, name: str) -> Path | None:
    """`root`/`name`, or the one whose name differs only in case, blanks, - and _. Raises ValueError if there are two of
    these."""
    if (root / name).exists():
        return root / name
    parent = (root / name).parent
    alike = [path for path in children(parent) if plain(path.name) == plain(Path(name).name)] if parent.is_dir() else []
    if len(alike) > 1:
        raise ValueError(
            f"{root}: {' and '.join(path.name for path in alike)} could both be {name}; say which in {KEY}, or remove "
            f"one"
        )
    return alike[0] if alike else None


def _video_folders(camera: Camera) -> list[str]:
    """Names that copies of DISFA have; its own are Videos_LeftCamera and Video_RightCamera."""
    side = camera.value
    return [
        f"videos_{side}_camera",
        f"video_{side}_camera",
        f"{side}_video",
        f"{side}_videos",
        f"{side}_camera",
        f"videos_{side}",
        f"video_{side}",
        "videos",
    ]


def _unpacked(folder: Path) -> Path:
    """Unpacking an archive often puts a folder into one of the same name."""
    held = children(folder)
    inside = [path for path in held if path.is_dir()]
    if len(inside) == 1 and subject_of(inside[0].name) is None and not any(subject_of(path.name) for path in held):
        return _unpacked(inside[0])
    return folder


def _by_subject(paths: list[Path], what: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        subject = subject_of(path.name)
        if subject is None:
            logger.warning("disfa: %s ignored: its name holds no subject such as SN001", path)
        elif subject in found:
            raise ValueError(
                f"{path.parent}: {found[subject].name} and {path.name} are both {what} of {subject}; remove one"
            )
        else:
            found[subject] = path
    return dict(sorted(found.items()))


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
