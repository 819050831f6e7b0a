"""Where AffectNet's parts lie, and what is taken from which: metadata, images as a folder or an archive (SPEC section 6)."""

import contextlib
import dataclasses
import enum
import os
import re
import unicodedata
from pathlib import Path

from fineface_train.aus import MAX_INTENSITY
from fineface_train.data.folders import children, listing
from fineface_train.data.intensities import POWERS, Transform
from fineface_train.data.table import VALIDATION_SHARE

KEY = "data.affectnet"
IMAGES = "images"
SAMPLED, DEEPEST = 20, 2
"""Names that tell where images lie, and how many folders below the one that is given."""
HOW_TO_GET = "AffectNet is licensed: request it at http://mohammadmahoor.com/affectnet/. Without it, data=toyfacs draws data in the same layout"
FINEFACE_METADATA = "affecnet_metadata.csv"
HOW_TO_GET_METADATA = (
    f"{FINEFACE_METADATA} comes with FineFace's published code (https://github.com/tvaranka/fineface), not with AffectNet. AffectNet's own list, "
    "Manually_Annotated_file_lists/training.csv, does without it: data=affectnet_official"
)


class TotalFilter(enum.Enum):
    """What of a row's raw AUs must exceed the threshold: their `sum` (paper) or their `max` (published code)."""

    sum = "sum"
    max = "max"


class PhotoFilter(enum.Enum):
    """Who says what is a photograph: the columns `IsPhoto` and `IsReal` of the `metadata`, `blip2`'s answers (data.blip2), or nobody (`none`)."""

    metadata = "metadata"
    blip2 = "blip2"
    none = "none"


class AusFrom(enum.Enum):
    """Who says the AUs: the metadata's columns, or data.annotate."""

    metadata = "metadata"
    annotator = "annotator"


class CaptionsFrom(enum.Enum):
    """Who says the captions: the metadata's column, or data.blip2."""

    metadata = "metadata"
    blip2 = "blip2"


@dataclasses.dataclass
class AffectNetConfig:
    """Where AffectNet lies and which of its images are used. Paths are relative to `root` unless absolute."""

    root: str | None = None
    metadata: str = FINEFACE_METADATA
    """FineFace's CSV, or AffectNet's own (training.csv): which it is, its header tells."""
    images: str = IMAGES
    """Folder of the images, or the first volume of a RAR archive, which is extracted. Where there is no such folder, an archive is looked for."""
    photo_filter: PhotoFilter = PhotoFilter.metadata
    aus: AusFrom = AusFrom.metadata
    captions: CaptionsFrom = CaptionsFrom.metadata
    min_side: int = 512
    """Least width and height in pixels, by the metadata or, where it does not tell, the images."""
    min_height: int | None = None
    """Another least height; null: `min_side`. The published code asks for 513."""
    total_filter: TotalFilter = TotalFilter.sum
    total_threshold: float = 0.2
    """On the metadata's 0-1 scale: rows below it (sum), or not above it (max), are dropped."""
    transform: Transform = Transform.paper
    powers: dict[str, float] = dataclasses.field(default_factory=lambda: dict(POWERS))
    """By AU: what raw intensities (0-1) are raised to before they are stretched to 0..5; those of 1 are taken as they are."""
    low_cut: float = 1.0
    """Intensities below this become 0, on the 0-5 scale, after the transform."""
    correction: str | None = None
    """A correction.json of another `fineface prepare`: its curves and low cut, instead of `transform` and `low_cut` fitted to these images."""
    validation_share: float = VALIDATION_SHARE
    """Of the images, chosen by data.seed, never trained on."""
    weight: float | None = None
    """Share of training examples, relative to the other sources; null: the number of its training rows."""

    def validate(self, key: str) -> None:
        if self.min_side < 0:
            raise ValueError(f"{key}.min_side={self.min_side}: must not be negative (pixels; 0 keeps all)")
        if self.min_height is not None and self.min_height < 0:
            raise ValueError(f"{key}.min_height={self.min_height}: must not be negative, or null")
        if not 0 <= self.total_threshold <= 12:
            raise ValueError(f"{key}.total_threshold={self.total_threshold}: must lie in 0..12 (twelve AUs on the 0-1 scale)")
        for name, power in self.powers.items():
            if not 0 < power <= 10:
                raise ValueError(f"{key}.powers.{name}={power}: must lie above 0 and up to 10 (1 takes the AU as it is)")
        if not 0 <= self.low_cut <= MAX_INTENSITY:
            raise ValueError(f"{key}.low_cut={self.low_cut}: must lie in 0..{MAX_INTENSITY:g}")


def paths_of(config: AffectNetConfig) -> tuple[Path, Path]:
    """Of the metadata, and of the images' folder or archive. Raises ValueError that says what is missing."""
    if not config.root:
        raise ValueError(f"{KEY}.root=null: set it, or the environment variable AFFECTNET_ROOT, to the folder that holds {config.metadata}. {HOW_TO_GET}")
    root = Path(os.path.abspath(os.path.expanduser(config.root)))
    if not root.is_dir():
        raise ValueError(f"{KEY}.root={config.root}: {root} does not exist; set {KEY}.root (or AFFECTNET_ROOT) to what holds {config.metadata}. {HOW_TO_GET}")
    metadata, images = root / config.metadata, root / config.images
    if not images.exists() and images.suffix.lower() != ".rar":
        images = _only_archive(root, config.images) or images
    for name, path in (("metadata", metadata), ("images", images)):
        if not path.exists():
            where = f"{KEY}.{name}={getattr(config, name)}"
            how = HOW_TO_GET_METADATA if path.name == FINEFACE_METADATA else HOW_TO_GET
            raise ValueError(f"{where}: {path} does not exist; set {KEY}.root (or AFFECTNET_ROOT) and {KEY}.{name}. {root} holds {listing(root)}. {how}")
    return metadata, images


def _only_archive(root: Path, images: str) -> Path | None:
    """The first volume of the only RAR archive in `root` or a folder in it. Raises ValueError where there are more."""
    folders = [root, *(path for path in children(root) if path.is_dir())]
    found = sorted(path for folder in folders for path in children(folder) if _is_first_volume(path.name))
    if len(found) > 1:
        raise ValueError(f"{KEY}.images={images}: {root} has no such folder, and {len(found)} archives ({', '.join(map(str, found))}); name the one")
    return found[0] if found else None


def _is_first_volume(name: str) -> bool:
    """x.part01.rar, or x.rar, whose other volumes are x.r00 and so on."""
    found = re.search(r"(?:\.part(\d+))?\.rar$", name, re.IGNORECASE)
    return found is not None and int(found[1] or 1) == 1


def base_of(root: Path, names: list[str]) -> Path:
    """Where the list's names begin: `root`, the folder that it lies in, or one of those in it, as unpacking often adds one or two.

    Raises ValueError where several folders have them: two copies, or one in parts.
    """
    sample = names[:: max(1, len(names) // SAMPLED)]
    level = [root]
    for depth in range(DEEPEST + 1):
        fitting = [folder for folder in level if any(is_image(image_path(folder, name)) for name in sample)]
        if len(fitting) > 1:
            raise ValueError(
                f"{KEY}.images={root}: the list's names begin in {len(fitting)} folders ({', '.join(map(str, fitting[:3]))}); set {KEY}.images to the one "
                "that is meant or, if they are parts of one copy, put what they hold into one folder"
            )
        if fitting:
            return fitting[0]
        if depth == 0 and any(is_image(image_path(root.parent, name)) for name in sample):
            return root.parent
        level = [path for folder in level for path in children(folder) if path.is_dir()]
    return root


def image_path(folder: Path, name: str) -> Path:
    """The image of this name, also where the file's name has its accents in the other of Unicode's two forms, as copies from a Mac have."""
    path = folder / name
    if not name.isascii() and not is_image(path):
        others = (folder / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
        return next((other for other in others if is_image(other)), path)
    return path


def is_image(path: Path) -> bool:
    """Whether a file lies there; none can under a name that is too long."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False
