"""AffectNet on disk to a sample table: a metadata CSV and images, filtered and transformed as in the paper (FineFace,
arXiv 2407.20175)."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS, MAX_INTENSITY
from fineface_train.data.affectnet.config import (
    SOURCE,
    AffectNetConfig,
    AusFrom,
    CaptionsFrom,
    PhotoFilter,
    TotalFilter,
)
from fineface_train.data.affectnet.edition_2021 import read_annotations
from fineface_train.data.affectnet.layout import KEY, AffectNetCopy, tell_other_lists
from fineface_train.data.affectnet.metadata import FLAGS, is_official, read_metadata
from fineface_train.data.annotators.blip2 import photo_filter
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.formats import archives
from fineface_train.data.formats.csv_rows import said
from fineface_train.data.formats.folders import listing, still_packed
from fineface_train.data.formats.image_names import is_absolute, is_image, locate, tell_unnamed
from fineface_train.data.intensities import Correction, fit_correction
from fineface_train.data.stages import Stages
from fineface_train.data.table import Reading, SampleTable, Sieve, hash_fraction

logger = logging.getLogger(__name__)
CORRECTION = "correction.json"
"""File of a prepared folder with the curves that its AUs went through."""
SIZES_LOOKED_AT = 200


def read_affectnet(copy: AffectNetCopy, seed: int, stages: Stages, extracted: Path | None = None) -> Reading:
    """The images that pass all filters, with corrected AUs; a share, chosen by `seed` and the image's name, is
    validation.

    What the metadata tells is filtered by first, then what the images tell, the models last. Minima and maxima of the
    correction are taken over the rows that pass. Raises ValueError that names what is missing or cannot be read.

    Args:
        extracted: where `ensure_images` has put the images of an archive.
    """
    config, metadata_path, images = copy.config, copy.metadata, copy.images
    if images.is_file():
        if extracted is None:
            raise ValueError(f"{KEY}.images={config.images}: is an archive, and was not extracted")
        images = extracted
    _check_columns(copy)
    tell_other_lists(metadata_path)
    sieve = Sieve(_listed(copy))
    every = sieve.rows["name"].tolist()
    _by_metadata(sieve, config)
    _find_images(sieve, images, every, metadata_path, skip_broken=stages.skip_broken, told=stages.crew.index == 0)
    _by_images(sieve, config, stages)
    rows, counts = sieve.rows, sieve.done()
    logger.info("%s: %s", SOURCE, ", ".join(f"{name} {count}" for name, count in counts.items()))
    if rows.empty:
        raise ValueError(
            f"{metadata_path}: no row passes the filters ({counts}); check {KEY}.min_side={config.min_side} and "
            f"{KEY}.total_threshold"
        )

    raw = rows[list(AU_KEYS)].to_numpy(dtype=float)
    correction = _given_correction(config) or fit_correction(raw, config.transform, config.low_cut, config.powers)
    names = rows["name"].tolist()
    table = SampleTable.build(
        SOURCE,
        ids=[f"{SOURCE}/{name}" for name in names],
        images=rows["path"].tolist(),
        captions=rows["caption"].tolist(),
        aus=correction(raw),
        subjects=[f"{SOURCE}/{name}" for name in names],
        splits=[
            "validation" if hash_fraction(seed, SOURCE, name) < config.validation_share else "train" for name in names
        ],
        aus_from=f"{metadata_path.name if config.aus is AusFrom.metadata else stages.annotator}, corrected "
        f"({config.correction or config.transform.value})",
        caption_from=metadata_path.name if config.captions is CaptionsFrom.metadata else rows["caption_from"].iloc[0],
    )
    before = pd.DataFrame(raw * MAX_INTENSITY, columns=list(AU_KEYS)).assign(id=table.frame["id"])
    return Reading(dataclasses.replace(table, counts={SOURCE: counts}), before, correction, tuple(sieve.dropped))


def _listed(copy: AffectNetCopy, *, tell: bool = True) -> pd.DataFrame:
    """A row per image of the metadata, as `read_metadata` gives them."""
    if copy.annotations:
        return read_annotations(copy.annotations)
    return read_metadata(copy.metadata, _flags(copy.config), copy.config.scale, tell=tell)


def _check_columns(copy: AffectNetCopy) -> None:
    """Raises ValueError, with the remedy, where the metadata does not hold what the config takes from it."""
    config, path = copy.config, copy.metadata
    if not copy.annotations and not is_official(path):
        return
    for key, chosen, other in (
        ("photo_filter", config.photo_filter is PhotoFilter.metadata, "blip2 (or none)"),
        ("aus", config.aus is AusFrom.metadata, "annotator"),
        ("captions", config.captions is CaptionsFrom.metadata, "blip2"),
    ):
        if chosen:
            raise ValueError(
                f"{KEY}.{key}=metadata: {path} is AffectNet's own file, which does not tell; set {KEY}.{key}={other}, "
                f"as data=affectnet_official does"
            )


def _by_metadata(sieve: Sieve, config: AffectNetConfig) -> None:
    """Filter by what the metadata tells."""
    for flag in _flags(config):
        sieve.keep(sieve.rows[flag].to_numpy(dtype=bool), f"{flag} is false")
    if config.captions is CaptionsFrom.metadata:
        sieve.keep(said(sieve.rows["caption"]), "no caption")
    if "width" in sieve.rows:
        _by_size(sieve, config)
    if config.aus is AusFrom.metadata:
        _by_total(sieve, config)


def _flags(config: AffectNetConfig) -> tuple[str, ...]:
    """The metadata's columns that must be true of a row."""
    return FLAGS if config.photo_filter is PhotoFilter.metadata else FLAGS[:1]


def _by_images(sieve: Sieve, config: AffectNetConfig, stages: Stages) -> None:
    """Filter by what the images and the models tell, the cheapest first; what nothing is left for is not asked."""
    if "width" in sieve.rows:
        _check_sizes(sieve, config, stages)
    else:
        sizes = stages.sizes(_paths(sieve))
        sieve.rows = sieve.rows.assign(width=sizes["width"].to_numpy(), height=sizes["height"].to_numpy())
        sieve.keep_readable(_paths(sieve), sizes["fault"].tolist(), skip_broken=stages.skip_broken)
        _by_size(sieve, config)
    if config.photo_filter is PhotoFilter.blip2 and len(sieve.rows):
        answered = stages.answers(_paths(sieve))
        sieve.keep_readable(_paths(sieve), answered["fault"].tolist(), skip_broken=stages.skip_broken)
        sieve.keep_counted(*photo_filter(stages.blip2, answered[answered["fault"] == ""]))
    if config.aus is AusFrom.annotator and len(sieve.rows):
        found = stages.aus(_paths(sieve))
        sieve.rows = sieve.rows.assign(
            **{key: found[key].to_numpy(dtype=float) / MAX_INTENSITY for key in AU_KEYS},
            status=found["status"].to_numpy(),
        )
        faults = [
            f"{path}: cannot be read by the annotator" if status == "unreadable" else ""
            for path, status in zip(found["path"], found["status"], strict=True)
        ]
        sieve.keep_readable(_paths(sieve), faults, skip_broken=stages.skip_broken)
        sieve.keep((sieve.rows["status"] != "no_face").to_numpy(), "the annotator found no face")
        _by_total(sieve, config)
    if config.captions is CaptionsFrom.blip2 and len(sieve.rows):
        sieve.caption(stages.captions(_paths(sieve)), skip_broken=stages.skip_broken)
    if stages.skip_broken:
        sieve.keep_readable(_paths(sieve), stages.faults(_paths(sieve)), skip_broken=True)


def _paths(sieve: Sieve) -> list[str]:
    paths: list[str] = sieve.rows["path"].tolist()
    return paths


def _check_sizes(sieve: Sieve, config: AffectNetConfig, stages: Stages) -> None:
    """Warns of images that are, by a sample, smaller than the config wants though the metadata says otherwise: a copy
    that was scaled down."""
    paths = _paths(sieve)[:: max(1, len(sieve.rows) // SIZES_LOOKED_AT)]
    sizes = stages.sizes(paths)
    least = least_size(config)
    small = ((sizes["fault"] == "") & ((sizes["width"] < least[0]) | (sizes["height"] < least[1]))).to_numpy()
    if small.any() and not stages.crew.silent:
        first = int(small.argmax())
        logger.warning(
            "%s: %d of %d images looked at are smaller than %s says and %s.min_side=%d wants, such as %s (%d x %d "
            "pixels): a copy that was scaled down? "
            "They are used as they are",
            *(
                SOURCE,
                int(small.sum()),
                len(paths),
                config.metadata,
                KEY,
                config.min_side,
                paths[first],
                sizes["width"][first],
                sizes["height"][first],
            ),
        )


def least_size(config: AffectNetConfig) -> tuple[int, int]:
    """Least width and height of an image, in pixels."""
    return config.min_side, config.min_side if config.min_height is None else config.min_height


def _by_size(sieve: Sieve, config: AffectNetConfig) -> None:
    least = least_size(config)
    sieve.keep(((sieve.rows["width"] >= least[0]) & (sieve.rows["height"] >= least[1])).to_numpy(), "under min_side")


def _by_total(sieve: Sieve, config: AffectNetConfig) -> None:
    sieve.keep(_passes_total(sieve.rows[list(AU_KEYS)].to_numpy(dtype=float), config), "low total")


def _passes_total(raw: np.ndarray, config: AffectNetConfig) -> np.ndarray:
    if config.total_filter is TotalFilter.sum:
        return raw.sum(axis=1) >= config.total_threshold
    return raw.max(axis=1) > config.total_threshold


def check(copy: AffectNetCopy) -> None:
    """That the metadata tells what the config takes from it. Raises ValueError."""
    _check_columns(copy)
    _given_correction(copy.config)


def check_list(copy: AffectNetCopy, *, images: bool = False, skip_broken: bool = False) -> None:
    """That every line of the metadata can be used and, with `images`, that those of a folder are there by their names.
    Raises ValueError."""
    sieve = Sieve(_listed(copy, tell=images))
    if images and copy.images.is_dir():
        every = sieve.rows["name"].tolist()
        _by_metadata(sieve, copy.config)
        _find_images(sieve, copy.images, every, copy.metadata, skip_broken=skip_broken, told=True)


def _given_correction(config: AffectNetConfig) -> Correction | None:
    """What `correction` names, if it names something. Raises ValueError, naming the key."""
    if config.correction is None:
        return None
    path = Path(config.correction).expanduser()
    if not path.is_file():
        raise ValueError(
            f"{KEY}.correction={config.correction}: {path.absolute()} does not exist; give the {CORRECTION} of another "
            f"`fineface prepare`, or null"
        )
    return Correction.read(path)


def check_archive(copy: AffectNetCopy) -> None:
    """That the archive's volumes are whole and can be unpacked, where there is one. Raises ValueError."""
    if copy.images.is_file():
        archives.check(copy.images)


def ensure_images(copy: AffectNetCopy, folder: Path, crew: Crew = ALONE) -> None:
    """Extract the images into `folder`, as far as they are not there; nothing where AffectNet lies as a folder."""
    if copy.images.is_file():
        crew.first(lambda: archives.extract(copy.images, folder, progress=not crew.quiet))


def bytes_to_come(copy: AffectNetCopy, folder: Path) -> int:
    """Bytes that `ensure_images` would write."""
    return archives.bytes_to_come(copy.images, folder) if copy.images.is_file() else 0


def rows_to_expect(copy: AffectNetCopy) -> int:
    """The most rows that the table can have: those of the list."""
    return len(_listed(copy, tell=False))


def input_files(copy: AffectNetCopy) -> list[Path]:
    """The metadata, the archive and the correction: the table changes only when one of them, an image or the config
    does."""
    given = [Path(copy.config.correction).expanduser()] if copy.config.correction else []
    return [path for path in (copy.metadata, copy.images, *given, *copy.annotations) if path.is_file()]


def _find_images(sieve: Sieve, root: Path, every: list[str], metadata: Path, *, skip_broken: bool, told: bool) -> None:
    """Give the rows the paths of their images, and tell what images no row is of. Raises ValueError where images are
    missing, unless these are to be skipped; and where all are.

    Args:
        every: names of all rows, also of those that were dropped before.
    """
    if sieve.rows.empty:
        sieve.rows = sieve.rows.assign(path="")
        return
    key = f"{KEY}.images"
    located = locate(root, sieve.rows["name"].tolist(), key)
    paths, there = located.paths, located.there
    if not there.all() and not (skip_broken and there.any()):
        first = paths[int(there.argmin())]
        hint = _hint(root, first, there)
        if is_absolute(located.names[0]):
            hint = (
                f"; the list's names start at another machine's root, with not one folder before all of them that "
                f"{root} is: cut it off in the list"
            )
        raise ValueError(
            f"{key}={root}: {(~there).sum()} of {len(paths)} images are missing, the first is {first}{hint}"
        )
    if told:
        tell_unnamed(located, every, root, key, metadata.name)
    sieve.rows = sieve.rows.assign(name=located.names, path=[str(path) for path in paths])
    if not there.all():
        lost = [str(path) for path in paths if not is_image(path)]
        if told:
            logger.warning(
                "%s=%s: %d of %d images are missing, and skipped, such as %s",
                key,
                root,
                len(lost),
                len(paths),
                ", ".join(lost[:3]),
            )
        sieve.keep(there, "image is missing")


def _hint(root: Path, first: Path, there: np.ndarray) -> str:
    """What is to be seen where the first missing image should be, and the remedy."""
    alike = (
        sorted(path.name for path in first.parent.glob("*") if path.stem.lower() == first.stem.lower())
        if first.parent.is_dir()
        else []
    )
    seen = f"; {first.parent} has {', '.join(alike[:3])}" if alike else ""
    if there.any():
        return f"{seen}; data.skip_broken=true leaves them out"
    return (
        f"{seen};{still_packed(root)} set {KEY}.images to the folder that the list's names begin in; {root} holds "
        f"{listing(root)}"
    )
