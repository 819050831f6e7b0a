"""DISFA on disk to a sample table: label text files per AU, extracted frames, captions (SPEC section 6)."""

import dataclasses
import logging
import math
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.aus import AUS, MAX_INTENSITY
from fineface_train.data.images import image_size
from fineface_train.data.table import VALIDATION_SHARE, SampleTable, hash_fraction
from fineface_train.files import read_csv

logger = logging.getLogger(__name__)
SOURCE = "disfa"
KEY = "data.disfa"
HOW_TO_GET = "DISFA is licensed: request it at http://mohammadmahoor.com/disfa/. Without it, data=toyfacs draws data in the same layout"


@dataclasses.dataclass
class DisfaConfig:
    """Where DISFA lies and which of its frames are used. Paths are relative to `root` unless absolute."""

    root: str | None = None
    labels: str = "ActionUnit_Labels"
    images: str = "frames"
    captions: str = "disfa_captions.csv"
    """CSV with columns `subject`, `frame` (from 1) and `caption`; or with `caption` alone, in the order of subjects and frames."""
    image_pattern: str = "{subject}/{index:05d}.jpg"
    first_index: int = 0
    """Number of a subject's first image; its labels count from 1."""
    neutral_share: float = 0.1
    """Share of the frames without any AU that is kept."""
    min_side: int = 0
    """Subjects whose frames are narrower or lower than this many pixels are dropped."""
    weight: float | None = None
    """Share of training examples, relative to the other sources; null: the number of its training rows."""

    def validate(self, key: str) -> None:
        if not re.search(r"\{index(:0\d+d)?\}", self.image_pattern) or "{subject}" not in self.image_pattern:
            raise ValueError(f"{key}.image_pattern={self.image_pattern!r}: must contain {{subject}} and {{index}} or {{index:05d}}")
        if self.first_index < 0:
            raise ValueError(f"{key}.first_index={self.first_index}: must not be negative")
        if not 0 <= self.neutral_share <= 1:
            raise ValueError(f"{key}.neutral_share={self.neutral_share}: must be a share, from 0 to 1")
        if self.min_side < 0:
            raise ValueError(f"{key}.min_side={self.min_side}: must not be negative (pixels; 0 keeps all)")
        if self.weight is not None and self.weight < 0:
            raise ValueError(f"{key}.weight={self.weight}: must not be negative, or null")


def read_disfa(config: DisfaConfig, seed: int) -> SampleTable:
    """Every frame with an AU, and a share of those without, chosen by `seed`; a tenth of the subjects are validation.

    Labels, images and captions are joined by (subject, frame). Raises ValueError that names what is missing, and both
    counts where labels and images (or labels of one subject) disagree.
    """
    labels_root, images_root, captions_path = _paths(config)
    subjects = sorted(path.name for path in labels_root.iterdir() if path.is_dir())
    if not subjects:
        raise ValueError(f"{KEY}.labels={labels_root}: holds no folder per subject such as SN001")
    parts = []
    for subject in subjects:
        labels = _read_subject(labels_root / subject, subject)
        images = _images(config, images_root, subject, len(labels))
        parts.append(labels.assign(subject=subject, image=[str(images_root / images[frame - 1]) for frame in labels["frame"]]))
    frames = _join_captions(pd.concat(parts, ignore_index=True), captions_path)
    counts = {"read": len(frames)}

    first = frames.drop_duplicates("subject")
    large = {subject for subject, image in zip(first["subject"], first["image"], strict=True) if min(image_size(image)) >= config.min_side}
    frames, counts["dropped: subject's frames under min_side"] = _keep(frames, frames["subject"].isin(large).to_numpy())
    neutral = (frames[list(AUS)] == 0).all(axis=1).to_numpy()
    lucky = [hash_fraction(seed, SOURCE, subject, frame) < config.neutral_share for subject, frame in zip(frames["subject"], frames["frame"], strict=True)]
    frames, counts["dropped: no AU"] = _keep(frames, ~neutral | np.array(lucky, dtype=bool))
    counts["kept"] = len(frames)
    logger.info("%s: %s", SOURCE, ", ".join(f"{name} {count}" for name, count in counts.items()))

    validation = _validation_subjects(subjects, seed)
    table = SampleTable.build(
        SOURCE,
        ids=[f"{SOURCE}/{subject}/{frame:05d}" for subject, frame in zip(frames["subject"], frames["frame"], strict=True)],
        images=frames["image"].tolist(),
        captions=frames["caption"].tolist(),
        aus=frames[list(AUS)].to_numpy(),
        subjects=[f"{SOURCE}/{subject}" for subject in frames["subject"]],
        splits=["validation" if subject in validation else "train" for subject in frames["subject"]],
        aus_from=config.labels,
        caption_from=captions_path.name,
    )
    return dataclasses.replace(table, counts={SOURCE: counts})


def input_files(config: DisfaConfig) -> list[Path]:
    """The label files and the captions: the table changes only when one of them (or the config) does."""
    labels_root, _, captions_path = _paths(config)
    return [*sorted(labels_root.glob("*/*.txt")), captions_path]


def _paths(config: DisfaConfig) -> tuple[Path, Path, Path]:
    if config.root is None:
        raise ValueError(f"{KEY}.root=null: set it, or the environment variable DISFA_ROOT, to the folder that holds {config.labels}. {HOW_TO_GET}")
    root = Path(config.root).absolute()
    for name in ("labels", "images", "captions"):
        path = root / getattr(config, name)
        if not path.exists():
            where = f"{KEY}.{name}={getattr(config, name)}"
            raise ValueError(f"{where}: {path} does not exist; set {KEY}.root (or DISFA_ROOT) and {KEY}.{name}. {HOW_TO_GET}")
    return root / config.labels, root / config.images, root / config.captions


def _read_subject(folder: Path, subject: str) -> pd.DataFrame:
    """Columns `frame` and one per AU number, a row per frame 1, 2, ..., n."""
    columns: dict[int, np.ndarray] = {}
    for au in AUS:
        path = folder / f"{subject}_au{au}.txt"
        if not path.is_file():
            raise ValueError(f"{path}: missing; a subject needs the labels of AUs {', '.join(map(str, AUS))}")
        columns[au] = _read_labels(path)
    lengths = {au: len(column) for au, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{subject}_au{au}.txt {length}" for au, length in lengths.items())
        raise ValueError(f"{folder}: the label files disagree on the number of frames: {shown}")
    labels = pd.DataFrame(columns)
    labels.insert(0, "frame", np.arange(1, len(labels) + 1))
    return labels


def _read_labels(path: Path) -> np.ndarray:
    """Intensities (n,) of frames 1..n. Raises ValueError that names file and line."""
    intensities: list[float] = []
    for number, line in enumerate(path.read_text().rstrip().splitlines(), start=1):
        first, _, second = line.partition(",")
        try:
            frame, intensity = int(first), float(second)
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line!r}: must read frame,intensity") from None
        if frame != number:
            raise ValueError(f"{path}, line {number}: {line!r}: frames must count 1, 2, 3, ...")
        if not 0 <= intensity <= MAX_INTENSITY:
            raise ValueError(f"{path}, line {number}: {line!r}: the intensity must lie in 0..{MAX_INTENSITY:g}")
        intensities.append(intensity)
    if not intensities:
        raise ValueError(f"{path}: holds no frames")
    return np.array(intensities)


def _images(config: DisfaConfig, root: Path, subject: str, count: int) -> list[str]:
    """Image paths of frames 1..count, relative to `root`, after comparing their number with the labels'."""
    names = [config.image_pattern.format(subject=subject, index=config.first_index + offset) for offset in range(count)]
    folder = (root / names[0]).parent
    before, after = re.split(r"\{index[^}]*\}", Path(config.image_pattern).name, maxsplit=1)
    numbered = re.compile(re.escape(before.format(subject=subject)) + r"\d+" + re.escape(after.format(subject=subject)))
    found = {name for name in (os.listdir(folder) if folder.is_dir() else []) if numbered.fullmatch(name)}
    missing = [name for name in names if Path(name).name not in found]
    if missing or len(found) != count:
        detail = f"{missing[0]} is missing" if missing else "there are images beyond the last label"
        raise ValueError(
            f"{folder}: {len(found)} images, but the labels of {subject} have {count} frames ({detail}); "
            f"check {KEY}.images, {KEY}.image_pattern={config.image_pattern!r} and {KEY}.first_index={config.first_index}, "
            "extract the frames again, or remove what is surplus"
        )
    return names


def _join_captions(frames: pd.DataFrame, path: Path) -> pd.DataFrame:
    captions = read_csv(path, {"subject": str, "caption": str})
    if "caption" not in captions:
        raise ValueError(f"{path}: has no column 'caption', only {', '.join(captions.columns)}")
    if not {"subject", "frame"} <= set(captions.columns):
        if len(captions) != len(frames):
            raise ValueError(f"{path}: {len(captions)} captions in row order, but the labels have {len(frames)} frames; add columns subject and frame")
        return frames.assign(caption=captions["caption"].to_numpy())
    twice = captions.duplicated(["subject", "frame"])
    if twice.any():
        row = captions[twice].iloc[0]
        raise ValueError(f"{path}: subject {row['subject']}, frame {row['frame']} occurs twice")
    joined = frames.merge(captions[["subject", "frame", "caption"]], on=["subject", "frame"], how="left")
    without = joined["caption"].isna()
    if without.any():
        row = joined[without].iloc[0]
        raise ValueError(f"{path}: {int(without.sum())} of {len(joined)} labelled frames have no caption, the first is {row['subject']}, frame {row['frame']}")
    return joined


def _keep(frames: pd.DataFrame, kept: np.ndarray) -> tuple[pd.DataFrame, int]:
    return frames[kept], int((~kept).sum())


def _validation_subjects(subjects: list[str], seed: int) -> set[str]:
    """A tenth of the subjects, rounded up; none of a single one."""
    ranked = sorted(subjects, key=lambda subject: hash_fraction(seed, SOURCE, subject))
    return set(ranked[: math.ceil(VALIDATION_SHARE * len(ranked))]) if len(ranked) > 1 else set()
