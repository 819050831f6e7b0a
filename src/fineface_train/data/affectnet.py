"""AffectNet on disk to a sample table: a metadata CSV and images, filtered and transformed as in SPEC sections 2 and 6."""

import dataclasses
import enum
import logging
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS, MAX_INTENSITY
from fineface_train.data.affectnet_metadata import FLAGS, is_official, read_metadata
from fineface_train.data.archives import extract, is_extracted
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.csv_rows import said
from fineface_train.data.intensities import Correction, Transform, fit_correction
from fineface_train.data.stages import Stages
from fineface_train.data.table import VALIDATION_SHARE, Reading, SampleTable, Sieve, hash_fraction

logger = logging.getLogger(__name__)
SOURCE = "affectnet"
KEY = "data.affectnet"
IMAGES = "images"
HOW_TO_GET = (
    "AffectNet is licensed: request it at http://mohammadmahoor.com/affectnet/, extract the manually annotated images, and put "
    "FineFace's affecnet_metadata.csv beside them. Without it, data=toyfacs draws data in the same layout"
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
    metadata: str = "affecnet_metadata.csv"
    """FineFace's CSV, or AffectNet's own (training.csv): which it is, its header tells."""
    images: str = IMAGES
    """Folder of the images, or the first volume of a RAR archive, which is extracted. Where there is no folder `images`, an archive is looked for."""
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
    low_cut: float = 1.0
    """Intensities below this become 0, on the 0-5 scale, after the transform."""
    correction: str | None = None
    """A correction.json of another `fineface prepare`: its curves and low cut, instead of `transform` and `low_cut` fitted to these images."""
    weight: float | None = None
    """Share of training examples, relative to the other sources; null: the number of its training rows."""

    def validate(self, key: str) -> None:
        if self.min_side < 0:
            raise ValueError(f"{key}.min_side={self.min_side}: must not be negative (pixels; 0 keeps all)")
        if self.min_height is not None and self.min_height < 0:
            raise ValueError(f"{key}.min_height={self.min_height}: must not be negative, or null")
        if not 0 <= self.total_threshold <= 12:
            raise ValueError(f"{key}.total_threshold={self.total_threshold}: must lie in 0..12 (twelve AUs on the 0-1 scale)")
        if not 0 <= self.low_cut <= MAX_INTENSITY:
            raise ValueError(f"{key}.low_cut={self.low_cut}: must lie in 0..{MAX_INTENSITY:g}")


def read_affectnet(config: AffectNetConfig, seed: int, stages: Stages, extracted: Path | None = None) -> Reading:
    """The images that pass all filters, with corrected AUs; a tenth, chosen by `seed` and the image's name, is validation.

    What the metadata tells is filtered by first, then what the images tell, the models last. Minima and maxima of the correction are taken over
    the rows that pass. Raises ValueError that names what is missing or cannot be read.

    Args:
        extracted: where `ensure_images` has put the images of an archive.
    """
    metadata_path, images_root = _paths(config)
    if images_root.is_file():
        if extracted is None:
            raise ValueError(f"{KEY}.images={config.images}: is an archive, and was not extracted")
        images_root = extracted
    _check_columns(config, metadata_path)
    sieve = Sieve(read_metadata(metadata_path))
    _by_metadata(sieve, config)
    if images_root == extracted:
        images_root = _top(extracted, sieve.rows["name"])
    sieve.rows = sieve.rows.assign(path=_existing_images(images_root, sieve.rows["name"].tolist(), metadata_path))
    _by_images(sieve, config, stages)
    rows, counts = sieve.rows, sieve.done()
    logger.info("%s: %s", SOURCE, ", ".join(f"{name} {count}" for name, count in counts.items()))
    if rows.empty:
        raise ValueError(f"{metadata_path}: no row passes the filters ({counts}); check {KEY}.min_side={config.min_side} and {KEY}.total_threshold")

    raw = rows[list(AU_KEYS)].to_numpy(dtype=float)
    correction = Correction.read(Path(config.correction)) if config.correction else fit_correction(raw, config.transform, config.low_cut)
    names = rows["name"].tolist()
    table = SampleTable.build(
        SOURCE,
        ids=[f"{SOURCE}/{name}" for name in names],
        images=rows["path"].tolist(),
        captions=rows["caption"].tolist(),
        aus=correction(raw),
        subjects=[f"{SOURCE}/{name}" for name in names],
        splits=["validation" if hash_fraction(seed, SOURCE, name) < VALIDATION_SHARE else "train" for name in names],
        aus_from=f"{metadata_path.name if config.aus is AusFrom.metadata else stages.annotator}, corrected ({config.correction or config.transform.value})",
        caption_from=metadata_path.name if config.captions is CaptionsFrom.metadata else rows["caption_from"].iloc[0],
    )
    before = pd.DataFrame(raw * MAX_INTENSITY, columns=list(AU_KEYS)).assign(id=table.frame["id"])
    return Reading(dataclasses.replace(table, counts={SOURCE: counts}), before, correction)


def _check_columns(config: AffectNetConfig, path: Path) -> None:
    """Raises ValueError, with the remedy, where the metadata does not hold what the config takes from it."""
    for key, chosen, other in (
        ("photo_filter", config.photo_filter is PhotoFilter.metadata, "blip2 (or none)"),
        ("aus", config.aus is AusFrom.metadata, "annotator"),
        ("captions", config.captions is CaptionsFrom.metadata, "blip2"),
    ):
        if chosen and is_official(path):
            raise ValueError(
                f"{KEY}.{key}=metadata: {path} is AffectNet's own file, which does not tell; set {KEY}.{key}={other}, as data=affectnet_official does"
            )


def _by_metadata(sieve: Sieve, config: AffectNetConfig) -> None:
    """Filter by what the metadata tells."""
    for flag in FLAGS if config.photo_filter is PhotoFilter.metadata else FLAGS[:1]:
        sieve.keep(sieve.rows[flag].to_numpy(dtype=bool), f"{flag} is false")
    if config.captions is CaptionsFrom.metadata:
        sieve.keep(said(sieve.rows["caption"]), "no caption")
    if "width" in sieve.rows:
        _by_size(sieve, config)
    if config.aus is AusFrom.metadata:
        _by_total(sieve, config)


def _by_images(sieve: Sieve, config: AffectNetConfig, stages: Stages) -> None:
    """Filter by what the images and the models tell, the cheapest first."""
    if "width" not in sieve.rows:
        sizes = stages.sizes(sieve.rows["path"].tolist())
        sieve.rows = sieve.rows.assign(width=sizes["width"].to_numpy(), height=sizes["height"].to_numpy())
        sieve.keep(sizes["fault"].isna().to_numpy(), "image cannot be read")
        _by_size(sieve, config)
    if config.photo_filter is PhotoFilter.blip2:
        sieve.keep_counted(*stages.photo_filter(sieve.rows["path"].tolist()))
    if config.aus is AusFrom.annotator:
        found = stages.aus(sieve.rows["path"].tolist())
        sieve.rows = sieve.rows.assign(**{key: found[key].to_numpy(dtype=float) / MAX_INTENSITY for key in AU_KEYS}, status=found["status"].to_numpy())
        for status, words in (("unreadable", "image cannot be read"), ("no_face", "the annotator found no face")):
            sieve.keep((sieve.rows["status"] != status).to_numpy(), words)
        _by_total(sieve, config)
    if config.captions is CaptionsFrom.blip2:
        sieve.caption(stages.captions(sieve.rows["path"].tolist()))


def _by_size(sieve: Sieve, config: AffectNetConfig) -> None:
    least = config.min_side, config.min_side if config.min_height is None else config.min_height
    sieve.keep(((sieve.rows["width"] >= least[0]) & (sieve.rows["height"] >= least[1])).to_numpy(), "under min_side")


def _by_total(sieve: Sieve, config: AffectNetConfig) -> None:
    sieve.keep(_passes_total(sieve.rows[list(AU_KEYS)].to_numpy(dtype=float), config), "low total")


def _passes_total(raw: np.ndarray, config: AffectNetConfig) -> np.ndarray:
    if config.total_filter is TotalFilter.sum:
        return raw.sum(axis=1) >= config.total_threshold
    return raw.max(axis=1) > config.total_threshold


def check(config: AffectNetConfig) -> None:
    """That metadata and images are there, and the metadata tells what the config takes from it. Raises ValueError."""
    metadata, _ = _paths(config)
    _check_columns(config, metadata)


def ensure_images(config: AffectNetConfig, folder: Path, crew: Crew = ALONE) -> None:
    """Extract the images into `folder`, as far as they are not there; nothing where AffectNet lies as a folder."""
    metadata, images = _paths(config)
    if images.is_file() and crew.index == 0:
        if not is_extracted(images, folder):
            read_metadata(metadata)  # its faults are told before hours of extraction
        extract(images, folder, progress=not crew.quiet)
    crew.wait()


def input_files(config: AffectNetConfig) -> list[Path]:
    """The metadata and the archive: the table changes only when one of them (or the config) does."""
    return [path for path in _paths(config) if path.is_file()]


def _paths(config: AffectNetConfig) -> tuple[Path, Path]:
    if config.root is None:
        raise ValueError(f"{KEY}.root=null: set it, or the environment variable AFFECTNET_ROOT, to the folder that holds {config.metadata}. {HOW_TO_GET}")
    root = Path(os.path.abspath(config.root))
    metadata, images = root / config.metadata, root / config.images
    if config.images == IMAGES and not images.exists():
        images = _only_archive(root) or images
    for name, path in (("metadata", metadata), ("images", images)):
        if not path.exists():
            where = f"{KEY}.{name}={getattr(config, name)}"
            raise ValueError(f"{where}: {path} does not exist; set {KEY}.root (or AFFECTNET_ROOT) and {KEY}.{name}. {HOW_TO_GET}")
    return metadata, images


def _only_archive(root: Path) -> Path | None:
    """The first volume of the only RAR archive in `root` or a folder in it. Raises ValueError where there are more."""
    found = sorted(path for pattern in ("*", "*/*") for path in root.glob(pattern) if _is_first_volume(path.name))
    if len(found) > 1:
        raise ValueError(f"{KEY}.images={IMAGES}: {root} has no such folder, and {len(found)} archives ({', '.join(map(str, found))}); name the one")
    return found[0] if found else None


def _is_first_volume(name: str) -> bool:
    """x.part01.rar, or x.rar, whose other volumes are x.r00 and so on."""
    found = re.search(r"(?:\.part(\d+))?\.rar$", name, re.IGNORECASE)
    return found is not None and int(found[1] or 1) == 1


def _top(extracted: Path, names: pd.Series) -> Path:
    """Where the list's names begin in an extracted archive: there, or in the only folder that it holds."""
    inside = [path for path in extracted.iterdir() if not path.name.startswith(".")]
    first = names.iloc[0] if len(names) else ""
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and not (extracted / first).exists() else extracted


def _existing_images(root: Path, names: list[str], metadata: Path) -> list[str]:
    outside = [name for name in names if not Path(os.path.normpath(root / name)).is_relative_to(root)]
    if outside:
        raise ValueError(f"{metadata}: ImageName={outside[0]!r} leads out of {root}; image names must lie below it")
    paths = [root / name for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"{KEY}.images={root}: {len(missing)} of {len(paths)} images are missing, the first is {missing[0]}")
    return [str(path) for path in paths]
