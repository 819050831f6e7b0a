"""DISFA on disk to a sample table: label text files per AU, frames or videos, captions.

All faults of all subjects are found before anything is refused, so that a copy is mended once.
"""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.aus import AUS
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.disfa.captions import DisfaFrames, read_captions
from fineface_train.data.disfa.clues import KEY
from fineface_train.data.disfa.config import FOLDS, SOURCE, DisfaConfig
from fineface_train.data.disfa.faults import refuse
from fineface_train.data.disfa.frames import image_folders
from fineface_train.data.disfa.images import images_of_frames
from fineface_train.data.disfa.labels import SubjectLabels, read_subject
from fineface_train.data.disfa.layout import SUBJECTS, DisfaCopy
from fineface_train.data.formats.images import image_size
from fineface_train.data.formats.video import Extraction, extract_videos, extraction_to_come
from fineface_train.data.peaks import find_peaks
from fineface_train.data.stages import Stages
from fineface_train.data.table import Reading, SampleTable, Sieve, hash_fraction

logger = logging.getLogger(__name__)
FRAMES_TRIED = 10


def check_labels(copy: DisfaCopy) -> None:
    """That the label files can be used, as far as they tell by themselves. Raises ValueError with every subject's
    faults."""
    findings = {subject: each.findings for subject, each in _read_labels(copy, silent=True).items()}
    refuse(findings, copy.config.mismatch)


def ensure_frames(copy: DisfaCopy, folder: Path, crew: Crew = ALONE) -> None:
    """Extract the videos' frames into `folder`/SN001 and so on, as far as they are not there; nothing where DISFA lies
    as frames."""
    if copy.videos is not None:
        config = copy.config
        extract_videos(copy.chosen(copy.videos), folder, config.frame_format, config.frame_quality, crew)


def frames_to_come(copy: DisfaCopy, folder: Path, processes: int) -> Extraction:
    """What `ensure_frames` with so many processes would take."""
    if copy.videos is None:
        return Extraction(0, 0, 0.0)
    config = copy.config
    videos = copy.chosen(copy.videos)
    return extraction_to_come(videos, folder, config.frame_format, config.frame_quality, processes)


def rows_to_expect(copy: DisfaCopy) -> int:
    """About how many rows the table will have, by the label files: frames with an AU, and a share of the others. Raises
    ValueError for files that cannot be read."""
    labels = [each.frames for each in _read_labels(copy, silent=True).values()]
    active = sum(int((frames[list(AUS)] != 0).any(axis=1).sum()) for frames in labels)
    return active + int(copy.config.neutral_share * (sum(map(len, labels)) - active))


def read_disfa(copy: DisfaCopy, seed: int, stages: Stages, extracted: Path | None = None) -> Reading:
    """Every frame with an AU and a share of those without, chosen by `seed`, with captions from the CSV or, where that
    is null, by BLIP-2; see `read_frames`.
    """
    frames, labels = read_frames(copy, seed, extracted), copy.config.labels
    if copy.captions is not None:
        captions = read_captions(copy.captions, frames)
        return Reading(_table(frames, captions, labels, copy.captions.name), peaks=frames.peaks)
    sieve = Sieve(frames.frame.assign(path=frames.frame["image"]))
    sieve.caption(stages.captions(frames.frame["image"].tolist()), skip_broken=stages.skip_broken)
    kept = dataclasses.replace(
        frames, frame=sieve.rows, counts=frames.counts | sieve.done() | {"read": frames.counts["read"]}
    )
    table = _table(kept, sieve.rows["caption"].tolist(), labels, str(sieve.rows["caption_from"].iloc[0]))
    return Reading(table, dropped=tuple(sieve.dropped), peaks=frames.peaks)


def read_frames(copy: DisfaCopy, seed: int, extracted: Path | None = None) -> DisfaFrames:
    """Labels and images joined by (subject, frame), thinned and split by subject.

    Args:
        extracted: where `ensure_frames` has put the frames of videos.
    Raises:
        ValueError: what is missing, or every subject's faults; with `mismatch=common`, frames that only labels or only
            images have are left out, counted and logged instead.
    """
    copy.check()
    config, labels = copy.config, _read_labels(copy)
    images = images_of_frames(copy, labels, extracted)
    counts = {"read": sum(len(each.frames) + each.lost for each in labels.values())}
    counts |= {
        f"dropped: not in all label files, {subject}": each.lost for subject, each in labels.items() if each.lost
    }
    parts = []
    for subject, each in labels.items():
        joined = each.frames.assign(subject=subject, image=each.frames["frame"].map(images[subject]))
        missing = int(joined["image"].isna().sum())
        counts |= {f"dropped: no image, {subject}": missing} if missing else {}
        parts.append(joined)
    everything = pd.concat(parts, ignore_index=True)
    frames = everything[everything["image"].notna()]
    if frames.empty:
        raise ValueError(f"{KEY}: no labelled frame has an image")

    large = {
        subject for subject, images in frames.groupby("subject")["image"] if _is_large(images.tolist(), config.min_side)
    }
    frames, counts["dropped: subject's frames under min_side"] = _keep(frames, frames["subject"].isin(large).to_numpy())
    peaks = find_peaks(everything[everything["subject"].isin(large)])
    neutral = (frames[list(AUS)] == 0).all(axis=1).to_numpy()
    lucky = [
        hash_fraction(seed, SOURCE, subject, frame) < config.neutral_share
        for subject, frame in zip(frames["subject"], frames["frame"], strict=True)
    ]
    frames, counts["dropped: no AU"] = _keep(frames, ~neutral | np.array(lucky, dtype=bool))
    counts["kept"] = len(frames)
    logger.info("%s: %s", SOURCE, ", ".join(f"{name} {count}" for name, count in counts.items()))
    if frames.empty:
        dropped = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(
            f"{KEY}: no frame is left ({dropped}); lower {KEY}.min_side={config.min_side} or raise "
            f"{KEY}.neutral_share={config.neutral_share:g}"
        )
    split = splits(list(frames["subject"].unique()), config, seed)
    chosen, everyone = config.subjects is not None, None
    if chosen and copy.by_place:
        every = dataclasses.replace(copy, config=dataclasses.replace(config, subjects=None))
        everyone = _labelled(_read_labels(every, silent=True))
    return DisfaFrames(
        frames.assign(split=frames["subject"].map(split)), _labelled(labels), chosen, everyone, counts, peaks
    )


def _labelled(labels: dict[str, SubjectLabels]) -> pd.DataFrame:
    """Columns `subject` and `frame` of each frame with labels of any AU, in order."""
    return pd.DataFrame(
        [(subject, frame) for subject, each in labels.items() for frame in each.every], columns=["subject", "frame"]
    )


def _table(frames: DisfaFrames, captions: Sequence[str], aus_from: str, caption_from: str) -> SampleTable:
    """The sample table of these frames, with a caption each, in their order."""
    frame = frames.frame
    table = SampleTable.build(
        SOURCE,
        ids=[
            f"{SOURCE}/{subject}/{number:05d}" for subject, number in zip(frame["subject"], frame["frame"], strict=True)
        ],
        images=frame["image"].tolist(),
        captions=list(captions),
        aus=frame[list(AUS)].to_numpy(),
        subjects=[f"{SOURCE}/{subject}" for subject in frame["subject"]],
        splits=frame["split"].tolist(),
        aus_from=aus_from,
        caption_from=caption_from,
    )
    return dataclasses.replace(table, counts={SOURCE: frames.counts})


def splits(subjects: Sequence[str], config: DisfaConfig, seed: int) -> dict[str, str]:
    """Each subject's split: test by the fold or by share, and `validation_share` of the others (rounded up; none of a
    single one) validation."""
    ranked = sorted(subjects, key=lambda subject: hash_fraction(seed, SOURCE, subject))
    if config.fold is not None:
        unknown = [subject for subject in ranked if subject not in SUBJECTS]
        if unknown:
            raise ValueError(
                f"{KEY}.fold={config.fold}: {', '.join(unknown)} are in no fold; set {KEY}.fold=null, or leave them "
                f"out with {KEY}.subjects"
            )
        test = {subject for subject in ranked if subject in FOLDS[config.fold]}
    else:
        test = set(ranked[len(ranked) - math.ceil(config.test_share * len(ranked)) :])
    others = [subject for subject in ranked if subject not in test]
    validation = set(others[: math.ceil(config.validation_share * len(others))]) if len(others) > 1 else set()
    return {
        subject: "test" if subject in test else "validation" if subject in validation else "train"
        for subject in subjects
    }


def input_files(copy: DisfaCopy) -> list[Path]:
    """Labels, captions, and videos or folders of images: the table changes only when one of them (or the config)
    does."""
    folders = copy.labels if copy.by_place else copy.chosen(copy.labels)  # a place is one among all subjects' frames
    labels = [path for folder in folders.values() for path in sorted(folder.iterdir()) if path.is_file()]
    captions = [copy.captions] if copy.captions is not None else []
    videos = list(copy.chosen(copy.videos).values()) if copy.videos is not None else []
    pictures = image_folders(copy.images, copy.config.image_pattern) if copy.images is not None else []
    return [*labels, *captions, *videos, *pictures]


def _read_labels(copy: DisfaCopy, *, silent: bool = False) -> dict[str, SubjectLabels]:
    if copy.config.subjects is None and not silent:
        absent = [subject for subject in SUBJECTS if subject not in copy.labels]
        strange = [subject for subject in copy.labels if subject not in SUBJECTS]
        if absent:
            logger.warning(
                "%s: labels of %d of its %d subjects are missing: %s",
                SOURCE,
                len(absent),
                len(SUBJECTS),
                ", ".join(absent),
            )
        if strange:
            logger.warning("%s: not among its subjects, but read: %s", SOURCE, ", ".join(strange))
    return {
        subject: read_subject(folder, subject, copy.config.first_label)
        for subject, folder in copy.chosen(copy.labels).items()
    }


def _is_large(images: Sequence[str], min_side: int) -> bool:
    """Whether a subject's frames are, by the first that can be read. Raises ValueError where none of some can."""
    fault = None
    for image in images[:FRAMES_TRIED] if min_side else ():
        try:
            return min(image_size(image)) >= min_side
        except ValueError as error:
            fault = error
    if fault is not None:
        raise fault
    return True


def _keep(frames: pd.DataFrame, kept: np.ndarray) -> tuple[pd.DataFrame, int]:
    return frames[kept], int((~kept).sum())
