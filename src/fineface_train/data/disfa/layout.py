"""Where DISFA's parts lie, in the spellings that its copies have: labels, frames or videos, captions (SPEC section
6)."""

import dataclasses
import enum
import fnmatch
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fineface_train.data.disfa.clues import DEEPEST, DISFA_PLUS, KEY, clue, plain, subject_of, trials_in
from fineface_train.data.formats.folders import children, is_litter, listing
from fineface_train.data.formats.video import FrameFormat
from fineface_train.data.table import VALIDATION_SHARE

logger = logging.getLogger(__name__)
HOW_TO_GET_CAPTIONS = (
    "disfa_captions.csv comes with FineFace's published code (https://github.com/tvaranka/fineface), not with DISFA; "
    "data.disfa.captions=null has BLIP-2 write captions"
)
HOW_TO_GET = (
    "DISFA is licensed: request it at http://mohammadmahoor.com/disfa/. Without it, data=toyfacs draws data "
    "in the same layout"
)
FOLDS: tuple[tuple[str, ...], ...] = (
    ("SN003", "SN004", "SN005", "SN007", "SN008", "SN017", "SN023", "SN025", "SN029"),
    ("SN006", "SN011", "SN012", "SN013", "SN018", "SN021", "SN024", "SN028", "SN031"),
    ("SN001", "SN002", "SN009", "SN010", "SN016", "SN026", "SN027", "SN030", "SN032"),
)
"""Test subjects of the three folds in AU detection papers, as in the published code of ME-GraphAU (Luo et al., IJCAI
2022): its folds 1, 2, 3."""
SUBJECTS: tuple[str, ...] = tuple(sorted(subject for fold in FOLDS for subject in fold))
"""DISFA's 27 subjects."""
VIDEO_SUFFIXES: tuple[str, ...] = (".avi", ".mp4", ".mov", ".mkv")
IMAGE_SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
FRAME_RATE = 20
"""Frames a second of DISFA's videos."""
MOST_AT_AN_END = 2
"""Frames that pictures or labels may have more at the start or the end, where it is known which; what differs more is
another recording."""
EVERYONE = "all"
SPAN = re.compile(rf"(SN\d+|{EVERYONE}):(-?\d+)\.\.(\d+)")
FLAT = "; a subject's files belong into a folder of its name, such as SN001/SN001_au1.txt"
AUTO = "auto"


class Camera(enum.Enum):
    """DISFA was filmed by two."""

    left = "left"
    right = "right"


class Mismatch(enum.Enum):
    """Where labels and images do not cover the same frames: an `error`, or the frames that they have in `common` are
    used, and the loss is told."""

    error = "error"
    common = "common"


@dataclasses.dataclass
class DisfaConfig:
    """Where DISFA lies and which of its frames are used. Paths are relative to `root` unless absolute; case, blanks, -
    and _ of a folder's name may differ."""

    root: str | None = None
    labels: str = "ActionUnit_Labels"
    images: str = "frames"
    """Folder of extracted frames."""
    videos: str | None = AUTO
    """Folder of videos, whose frames `prepare` extracts; "auto": where there is no folder `images`, one such as
    Videos_LeftCamera; null: none."""
    video_pattern: str = "*{subject}*"
    """Names of videos, without .avi or .mp4; * stands for anything. Those that name the other camera are left out."""
    camera: Camera = Camera.left
    frame_format: FrameFormat = FrameFormat.jpg
    """Of frames extracted from videos."""
    frame_quality: int = 95
    """Of jpg, 1 to 100."""
    captions: str | None = "disfa_captions.csv"
    """CSV with columns `subject`, `frame` (from 1) and `caption`; or with `caption` alone, in the order of subjects and
    frames."""
    image_pattern: str = "{subject}/{index:05d}.jpg"
    """Names below `images`. An index may have any number of digits."""
    first_index: int = 0
    """Number of a subject's first image below `images`."""
    first_label: int = 1
    """Number of a subject's first frame in its label files."""
    mismatch: Mismatch = Mismatch.error
    spans: list[str] = dataclasses.field(default_factory=list)
    """[SN001:2..4845]: the labels, from 1, of a subject's first and last picture, where numbers and clock do not tell;
    found by looking at both. `all:2..4845` is for each subject that has no span of its own and needs one."""
    subjects: list[str] | None = None
    """Only these, such as [SN001, SN002]; they must be there. null: all that are."""
    neutral_share: float = 0.1
    """Share of the frames without any AU that is kept."""
    min_side: int = 0
    """Subjects whose frames are narrower or lower than this many pixels are dropped."""
    fold: int | None = None
    """Test subjects are those of the literature's fold 0, 1 or 2; null: a share `test_share`, chosen by the seed."""
    test_share: float = 0.0
    validation_share: float = VALIDATION_SHARE
    """Of the subjects that are not for the test, chosen by data.seed, never trained on."""
    weight: float | None = None
    """Share of training examples, relative to the other sources; null: the number of its training rows."""

    def validate(self, key: str) -> None:
        if len(re.findall(r"\{index(?::0\d+d)?\}", self.image_pattern)) != 1 or "{subject}" not in self.image_pattern:
            raise ValueError(
                f"{key}.image_pattern={self.image_pattern!r}: must contain {{subject}}, and once {{index}} or "
                f"{{index:05d}}"
            )
        if "{subject}" not in self.video_pattern:
            raise ValueError(
                f"{key}.video_pattern={self.video_pattern!r}: must contain {{subject}}, as in LeftVideo{{subject}}_comp"
            )
        if not 1 <= self.frame_quality <= 100:
            raise ValueError(f"{key}.frame_quality={self.frame_quality}: must lie in 1..100")
        for name in ("first_index", "first_label", "min_side"):
            if getattr(self, name) < 0:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must not be negative")
        for subject in self.subjects or []:
            if subject_of(subject) != subject:
                raise ValueError(f"{key}.subjects: {subject!r} is no subject; they are called SN001 and so on")
        for told in self.spans:
            match = SPAN.fullmatch(told)
            named = match is not None and match[1] in (EVERYONE, subject_of(match[1]))
            if match is None or not named or abs(int(match[2]) - 1) > MOST_AT_AN_END or int(match[3]) <= int(match[2]):
                allowed = (
                    f"the labels of a subject's first and last picture, the first from {1 - MOST_AT_AN_END} to "
                    f"{1 + MOST_AT_AN_END}"
                )
                raise ValueError(
                    f"{key}.spans: {told!r}: must read like SN001:2..4845 or {EVERYONE}:2..4845, {allowed}"
                )
        if len({told.partition(":")[0] for told in self.spans}) < len(self.spans):
            raise ValueError(f"{key}.spans: {', '.join(self.spans)}: a subject has one span")
        for name in ("neutral_share", "test_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must be a share, from 0 to 1")
        if self.fold is not None and (self.fold not in range(len(FOLDS)) or self.test_share):
            raise ValueError(f"{key}.fold={self.fold}: must be 0, 1 or 2, with {key}.test_share=0; or null")


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
