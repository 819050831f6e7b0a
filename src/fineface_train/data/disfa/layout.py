"""Where DISFA's parts lie, in the spellings that its copies have: labels, frames or videos, captions."""

import contextlib
import dataclasses
import fnmatch
import functools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from fineface_train.data.disfa.captions import in_row_order
from fineface_train.data.disfa.clues import DISFA_PLUS, KEY, clue, plain, subject_of, trials_in
from fineface_train.data.disfa.config import AUTO, FOLDS, Camera, DisfaConfig
from fineface_train.data.formats.folders import children, listing

logger = logging.getLogger(__name__)
T = TypeVar("T")
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
MOST_AT_AN_END = 2
"""Frames that pictures or labels may have more at the start or the end, where it is known which; what differs more is
another recording."""
FLAT = "; a subject's files belong into a folder of its name, such as SN001/SN001_au1.txt"


@dataclasses.dataclass(frozen=True)
class DisfaCopy:
    """A copy of DISFA as it lies on disk."""

    config: DisfaConfig
    labels: dict[str, Path]
    """Folder of label files of each subject, also of those that `config.subjects` leaves out."""
    videos: dict[str, Path] | None
    """The video of each subject, so too; None where pictures lie as files."""
    images: Path | None
    """The folder of pictures; None where they are extracted from videos."""
    captions: Path | None
    """None where captions are to be made."""
    by_place: bool
    """Whether a caption's place among all labelled frames tells its frame."""
    faults: tuple[str, ...]
    """What else is missing or ambiguous, each in words with its remedy; what it is about is empty or None above."""

    def chosen(self, of_subject: dict[str, T]) -> dict[str, T]:
        """Those of `config.subjects`. Raises ValueError that names who is missing."""
        return _chosen(self.config, of_subject)

    def check(self) -> None:
        """Raises ValueError with the first of the `faults`."""
        if self.faults:
            raise ValueError(self.faults[0])


def find_copy(config: DisfaConfig) -> DisfaCopy:
    """Look once where all parts of DISFA lie. Raises ValueError where there are no labels at all; what else is missing
    is among the copy's `faults`."""
    root = _Root(config)
    labels = _label_folders(root)
    faults: list[str] = []
    videos, images, captions, by_place = None, None, None, False
    with _among(faults):
        videos = _video_files(root)
        images = _images_root(root) if videos is None else None
    with _among(faults):
        captions = _captions_file(root)
        by_place = captions is not None and in_row_order(captions)
    for of_subject in (labels, videos) if videos is not None else (labels,):
        with _among(faults):
            _chosen(config, of_subject)
    return DisfaCopy(config, labels, videos, images, captions, by_place, tuple(dict.fromkeys(faults)))


@contextlib.contextmanager
def _among(faults: list[str]) -> Iterator[None]:
    """A ValueError within becomes one of the `faults`, so that the others are seen too."""
    try:
        yield
    except ValueError as error:
        faults.append(str(error))


def _chosen(config: DisfaConfig, of_subject: dict[str, T]) -> dict[str, T]:
    if config.subjects is None:
        return of_subject
    missing = [subject for subject in config.subjects if subject not in of_subject]
    if missing:
        raise ValueError(
            f"{KEY}.subjects: {', '.join(missing)} named, but not there; there are {', '.join(of_subject) or 'none'}"
        )
    return {subject: of_subject[subject] for subject in sorted(config.subjects)}


class _Root:
    """The folder `config.root`, listed once. Raises ValueError where there is none."""

    def __init__(self, config: DisfaConfig) -> None:
        self.config = config
        if not config.root:
            raise ValueError(
                f"{KEY}.root=null: set it, or the environment variable DISFA_ROOT, to the folder that holds "
                f"{config.labels}. {HOW_TO_GET}"
            )
        self.path = Path(config.root).expanduser().absolute()
        if self.path.is_file():
            raise ValueError(
                f"{KEY}.root={config.root}: {self.path} is a file; unpack it, and give the folder that holds "
                f"{config.labels}"
            )
        if not self.path.is_dir():
            raise ValueError(
                f"{KEY}.root={config.root}: {self.path} does not exist; set {KEY}.root (or DISFA_ROOT) to what holds "
                f"{config.labels}. {HOW_TO_GET}"
            )

    @functools.cached_property
    def children(self) -> list[Path]:
        return children(self.path)

    def find(self, name: str) -> Path | None:
        """`name` below it, or what differs only in case, blanks, - and _. Raises ValueError if there are two of
        these."""
        path = self.path / name
        if path.exists():
            return path
        beside = self.children if path.parent == self.path else children(path.parent) if path.parent.is_dir() else []
        alike = [other for other in beside if plain(other.name) == plain(path.name)]
        if len(alike) > 1:
            raise ValueError(
                f"{self.path}: {' and '.join(path.name for path in alike)} could both be {name}; say which in {KEY}, "
                f"or remove one"
            )
        return alike[0] if alike else None


def _label_folders(root: _Root) -> dict[str, Path]:
    config, folder = root.config, root.find(root.config.labels)
    if folder is None:
        raise _missing(root, "labels")
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


def _video_files(root: _Root) -> dict[str, Path] | None:
    """None if pictures are read from the folder `images`."""
    config = root.config
    frames = root.find(config.images)
    if config.videos is None or (
        config.videos == AUTO and frames is not None and (not frames.is_dir() or children(frames))
    ):
        return None
    folder = (
        next(filter(None, (root.find(name) for name in _video_folders(config.camera))), None)
        if config.videos == AUTO
        else root.find(config.videos)
    )
    if folder is None:
        raise _missing(root, "images" if config.videos == AUTO else "videos")
    other = _other(config.camera)
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


def _images_root(root: _Root) -> Path:
    folder = root.find(root.config.images)
    if folder is None:
        raise _missing(root, "images")
    return _unpacked(folder)


def _captions_file(root: _Root) -> Path | None:
    if root.config.captions is None:
        return None
    path = root.find(root.config.captions)
    if path is None:
        raise _missing(root, "captions")
    return path


def _missing(root: _Root, name: str) -> ValueError:
    config, value = root.config, getattr(root.config, name)
    what = f"{KEY}.{name}={value}: {root.path / value} does not exist"
    wanted = {value: name}
    if name == "images" and config.videos == AUTO:
        what += ", nor does a folder of videos such as Videos_LeftCamera"
        wanted |= dict.fromkeys(_video_folders(config.camera), "videos")
    how = HOW_TO_GET_CAPTIONS if name == "captions" else HOW_TO_GET
    seen = clue(root.path, wanted)
    other = _other(config.camera)
    names = (
        [name for name in _video_folders(other) if other.value in name]
        if name == "images" and config.videos == AUTO and not seen
        else []
    )
    if (folder := next(filter(None, map(root.find, names)), None)) is not None:
        seen = f"; {folder} holds the {other.value} camera's: set {KEY}.camera={other.value} to take it"
    return ValueError(
        f"{what}{seen or f'; set {KEY}.root (or DISFA_ROOT) and {KEY}.{name}'}. {root.path} holds "
        f"{listing(root.path)}.{'' if seen else f' {how}'}"
    )


def _other(camera: Camera) -> Camera:
    return Camera.right if camera is Camera.left else Camera.left


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
