"""DISFA on disk to a sample table: label text files per AU, frames or videos, captions (SPEC section 6).

All faults of all subjects are found before anything is refused, so that a copy is mended once.
"""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from fineface_train.aus import AUS
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.csv_rows import header, read_rows, refuse, said
from fineface_train.data.disfa_images import images_of_frames
from fineface_train.data.disfa_labels import SubjectLabels, read_subject
from fineface_train.data.disfa_layout import (
    FOLDS,
    KEY,
    SUBJECTS,
    DisfaConfig,
    captions_file,
    image_folders,
    label_folders,
    subject_of,
    video_files,
)
from fineface_train.data.images import image_size
from fineface_train.data.stages import Stages
from fineface_train.data.table import VALIDATION_SHARE, Reading, SampleTable, Sieve, hash_fraction
from fineface_train.data.video import extract_videos

logger = logging.getLogger(__name__)
SOURCE = "disfa"
FRAMES_TRIED = 10
NUMBERED = r"^(?:(?:.*\D)?(\d+)\.[A-Za-z]\w*|(?:[^\s.:]*\D)?(\d+))$"
"""Names that end in a number: SN001/00019.png, SN001_00019."""
UNNAMED = "(no name)"
REMEDY = "add columns subject and frame, or leave caption alone, in the labels' order"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class DisfaFrames:
    """The frames to use, before they have captions."""

    frame: pd.DataFrame
    """Columns `subject`, `frame` (from 1), `image` (absolute path), `split`, one per AU number, and `row`: its place among all labelled frames."""
    labelled: pd.DataFrame
    """Columns `subject` and `frame` of each frame with labels, used or not."""
    chosen: bool
    """Whether `data.disfa.subjects` leaves out other subjects."""
    counts: dict[str, int]


def check(config: DisfaConfig) -> None:
    """That labels, images or videos, and captions are there. Raises ValueError; what is wrong in the labels is told later, with the images."""
    input_files(config)
    if (path := captions_file(config)) is not None:
        _caption_columns(path)


def ensure_frames(config: DisfaConfig, folder: Path, crew: Crew = ALONE) -> None:
    """Extract the videos' frames into `folder`/SN001 and so on, as far as they are not there; nothing where DISFA lies as frames."""
    videos = video_files(config)
    if videos is not None:
        extract_videos(_chosen(config, videos), folder, config.frame_format, config.frame_quality, crew)


def read_disfa(config: DisfaConfig, seed: int, stages: Stages, extracted: Path | None = None) -> Reading:
    """Every frame with an AU and a share of those without, chosen by `seed`, with captions from the CSV or, where that is null, by BLIP-2; see
    `read_frames`.
    """
    frames = read_frames(config, seed, extracted)
    path = captions_file(config)
    if path is not None:
        return Reading(_table(frames, read_captions(path, frames), config.labels, path.name))
    sieve = Sieve(frames.frame)
    sieve.caption(stages.captions(frames.frame["image"].tolist()))
    kept = dataclasses.replace(frames, frame=sieve.rows, counts=frames.counts | sieve.done() | {"read": frames.counts["read"]})
    return Reading(_table(kept, sieve.rows["caption"].tolist(), config.labels, str(sieve.rows["caption_from"].iloc[0])))


def read_frames(config: DisfaConfig, seed: int, extracted: Path | None = None) -> DisfaFrames:
    """Labels and images joined by (subject, frame), thinned and split by subject.

    Args:
        extracted: where `ensure_frames` has put the frames of videos.
    Raises:
        ValueError: what is missing, or every subject's faults; with `mismatch=common`, frames that only labels or only images have
            are left out, counted and logged instead.
    """
    labels = _read_labels(config)
    images = images_of_frames(config, labels, extracted)
    counts = {"read": sum(len(each.frames) + each.lost for each in labels.values())}
    counts |= {f"dropped: not in all label files, {subject}": each.lost for subject, each in labels.items() if each.lost}
    parts = []
    for subject, each in labels.items():
        joined = each.frames.assign(subject=subject, image=each.frames["frame"].map(images[subject]))
        missing = int(joined["image"].isna().sum())
        counts |= {f"dropped: no image, {subject}": missing} if missing else {}
        parts.append(joined)
    frames = pd.concat(parts, ignore_index=True)
    frames["row"] = np.arange(len(frames))
    labelled, frames = frames[["subject", "frame"]], frames[frames["image"].notna()]
    if frames.empty:
        raise ValueError(f"{KEY}: no labelled frame has an image")

    large = {subject for subject, images in frames.groupby("subject")["image"] if _is_large(images.tolist(), config.min_side)}
    frames, counts["dropped: subject's frames under min_side"] = _keep(frames, frames["subject"].isin(large).to_numpy())
    neutral = (frames[list(AUS)] == 0).all(axis=1).to_numpy()
    lucky = [hash_fraction(seed, SOURCE, subject, frame) < config.neutral_share for subject, frame in zip(frames["subject"], frames["frame"], strict=True)]
    frames, counts["dropped: no AU"] = _keep(frames, ~neutral | np.array(lucky, dtype=bool))
    counts["kept"] = len(frames)
    logger.info("%s: %s", SOURCE, ", ".join(f"{name} {count}" for name, count in counts.items()))
    if frames.empty:
        dropped = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"{KEY}: no frame is left ({dropped}); lower {KEY}.min_side={config.min_side} or raise {KEY}.neutral_share={config.neutral_share:g}")
    split = splits(list(frames["subject"].unique()), config, seed)
    return DisfaFrames(frames.assign(split=frames["subject"].map(split)), labelled, config.subjects is not None, counts)


def _table(frames: DisfaFrames, captions: Sequence[str], aus_from: str, caption_from: str) -> SampleTable:
    """The sample table of these frames, with a caption each, in their order."""
    frame = frames.frame
    table = SampleTable.build(
        SOURCE,
        ids=[f"{SOURCE}/{subject}/{number:05d}" for subject, number in zip(frame["subject"], frame["frame"], strict=True)],
        images=frame["image"].tolist(),
        captions=list(captions),
        aus=frame[list(AUS)].to_numpy(),
        subjects=[f"{SOURCE}/{subject}" for subject in frame["subject"]],
        splits=frame["split"].tolist(),
        aus_from=aus_from,
        caption_from=caption_from,
    )
    return dataclasses.replace(table, counts={SOURCE: frames.counts})


def read_captions(path: Path, frames: DisfaFrames) -> list[str]:
    """The CSV's caption of each frame, joined by (subject, frame), or by the place among all labelled frames where it has no such columns.

    Rows of frames without labels are counted in a warning. Where the place decides, another column that tells subjects must tell those of the
    labels, and one that numbers each subject's rows (a frame, a file's name, an index) must rise with its frames. Raises ValueError that names the
    file, and the line or frame.
    """
    columns = _caption_columns(path)
    if "frame" not in columns:
        return _by_place(path, columns, frames)
    captions = read_rows(path, list(columns.values())).set_axis(list(columns), axis=1)
    keys = pd.DataFrame({"subject": captions["subject"].map(subject_of), "frame": pd.to_numeric(captions["frame"], errors="coerce")})
    refuse(path, captions["subject"], keys["subject"].notna().to_numpy(), "must read like SN001")
    remedy = "; add 1 to every frame if the first is 0" if (keys["frame"] == 0).any() else ""
    refuse(path, captions["frame"], (keys["frame"] >= 1).to_numpy(), f"must be a number, counted from 1 as the labels' are{remedy}")
    if (twice := keys.duplicated()).any():
        first = keys[twice].iloc[0]
        raise ValueError(f"{path}, line {keys.index[twice][0]}: subject {first['subject']}, frame {first['frame']:g} occurs twice")
    _warn_of_strangers(path, keys, frames)
    joined = frames.frame[["subject", "frame"]].merge(keys.assign(caption=captions["caption"]), on=["subject", "frame"], how="left")
    return _filled(path, joined["caption"], frames)


def _warn_of_strangers(path: Path, keys: pd.DataFrame, frames: DisfaFrames) -> None:
    """Tell how many rows are of frames without labels; subjects that were left out on purpose are none."""
    strange = ~pd.MultiIndex.from_frame(keys).isin(pd.MultiIndex.from_frame(frames.labelled))
    if frames.chosen:
        strange &= keys["subject"].isin(frames.labelled["subject"]).to_numpy()
    if strange.any():
        line, first = keys.index[strange][0], keys[strange].iloc[0]
        where = f"line {line}: {first['subject']}, frame {first['frame']:g}"
        logger.warning("%s: %d of %d captions are of frames without labels, and not used; the first is in %s", path, strange.sum(), len(keys), where)


def _caption_columns(path: Path) -> dict[str, str]:
    """The file's names of the columns `caption` and, if it has both, `subject` and `frame`, whatever their case. Raises ValueError."""
    names = {name.lower(): name for name in header(path)}
    if "caption" not in names:
        raise ValueError(f"{path}: columns missing: caption; it has {', '.join(names.values()) or 'nothing'}")
    if "frame" in names and "subject" not in names:
        raise ValueError(f"{path}: has a column {names['frame']} but none that is called subject; add it, or leave caption alone, in the labels' order")
    return {name: names[name] for name in (("caption", "subject", "frame") if "frame" in names else ("caption",))}


def _by_place(path: Path, columns: dict[str, str], frames: DisfaFrames) -> list[str]:
    """Captions in the order of all labelled frames. Raises ValueError where another column says that this is not the file's order."""
    others = [name for name in header(path) if name != columns["caption"]]
    if others.count("") > 1:
        raise ValueError(f"{path}, line 1: {others.count('')} columns have no name, so that what they tell of the captions' order is not known; {REMEDY}")
    captions = read_rows(path, [columns["caption"]], others)
    if len(captions) != len(frames.labelled):
        raise ValueError(f"{path}: {len(captions)} captions in row order, but the labels have {len(frames.labelled)} frames; add columns subject and frame")
    for name in others:
        values = captions[name].rename(name or UNNAMED)
        told = values.map(subject_of)
        if told.notna().all():
            right = told.to_numpy() == frames.labelled["subject"].to_numpy()
            refuse(path, values, right, "the labels' frame at this place is of another subject; add columns subject and frame")
        if (number := _numbers(values)) is not None:
            refuse(path, values, _in_order(number, frames.labelled), f"does not follow the labels' frames, which rise within each subject; {REMEDY}")
    if others:
        logger.info("%s: captions are taken in row order; %s not used", path, ", ".join(name or UNNAMED for name in others))
    return _filled(path, captions[columns["caption"]].iloc[frames.frame["row"]], frames)


def _numbers(values: pd.Series) -> np.ndarray | None:
    """The number that each value is, or ends in before its suffix as a name of an image does; None if not every one is a whole number."""
    found = pd.to_numeric(values, errors="coerce")
    if found.isna().all():
        found = pd.to_numeric(values.str.extract(NUMBERED).bfill(axis=1)[0], errors="coerce")
    return found.to_numpy() if (found % 1 == 0).all() else None


def _in_order(number: np.ndarray, labelled: pd.DataFrame) -> np.ndarray:
    """Which rows (N,) of a column are where their number belongs, if it numbers frames: all rows do if it seems to number nothing.

    It does if its numbers are all together those of the labels' frames, from whatever base, or if none occurs twice within a subject's labels.
    """
    frame = labelled["frame"].to_numpy()
    from_base, wanted = number - number.min(), frame - frame.min()
    if np.array_equal(np.sort(from_base), np.sort(wanted)):
        return from_base == wanted
    places = pd.DataFrame({"subject": labelled["subject"], "number": number})
    if places.duplicated().any():
        return np.ones(len(number), dtype=bool)
    return ~(places.groupby("subject")["number"].diff() < 0).to_numpy()


def splits(subjects: Sequence[str], config: DisfaConfig, seed: int) -> dict[str, str]:
    """Each subject's split: test by the fold or by share, and a tenth of the others (rounded up; none of a single one) validation.

    Raises ValueError where nobody is left to train on.
    """
    ranked = sorted(subjects, key=lambda subject: hash_fraction(seed, SOURCE, subject))
    if config.fold is not None:
        unknown = [subject for subject in ranked if subject not in SUBJECTS]
        if unknown:
            raise ValueError(f"{KEY}.fold={config.fold}: {', '.join(unknown)} are in no fold; set {KEY}.fold=null, or leave them out with {KEY}.subjects")
        test = {subject for subject in ranked if subject in FOLDS[config.fold]}
    else:
        test = set(ranked[len(ranked) - math.ceil(config.test_share * len(ranked)) :])
    others = [subject for subject in ranked if subject not in test]
    if not others:
        key = f"{KEY}.test_share={config.test_share:g}" if config.fold is None else f"{KEY}.fold={config.fold}"
        remedy = "lower it" if config.fold is None else "take another, or more subjects"
        raise ValueError(f"{key}: all {len(ranked)} subjects with frames are for the test ({', '.join(sorted(test))}) and none is left to train on; {remedy}")
    validation = set(others[: math.ceil(VALIDATION_SHARE * len(others))]) if len(others) > 1 else set()
    return {subject: "test" if subject in test else "validation" if subject in validation else "train" for subject in subjects}


def input_files(config: DisfaConfig) -> list[Path]:
    """Labels, captions, and videos or folders of images: the table changes only when one of them (or the config) does."""
    videos, captions = video_files(config), captions_file(config)
    labels = [path for folder in _chosen(config, label_folders(config)).values() for path in sorted(folder.iterdir()) if path.is_file()]
    pictures = image_folders(config) if videos is None else list(_chosen(config, videos).values())
    return [*labels, *([captions] if captions else []), *pictures]


def _read_labels(config: DisfaConfig) -> dict[str, SubjectLabels]:
    folders = label_folders(config)
    if not folders:
        raise ValueError(f"{KEY}.labels={config.labels}: holds no folder per subject such as SN001")
    if config.subjects is None:
        absent = [subject for subject in SUBJECTS if subject not in folders]
        strange = [subject for subject in folders if subject not in SUBJECTS]
        if absent:
            logger.warning("%s: labels of %d of its %d subjects are missing: %s", SOURCE, len(absent), len(SUBJECTS), ", ".join(absent))
        if strange:
            logger.warning("%s: not among its subjects, but read: %s", SOURCE, ", ".join(strange))
    return {subject: read_subject(folder, subject, config.first_label) for subject, folder in _chosen(config, folders).items()}


def _chosen(config: DisfaConfig, of_subject: dict[str, T]) -> dict[str, T]:
    """Those of `subjects`. Raises ValueError that names who is missing."""
    if config.subjects is None:
        return of_subject
    missing = [subject for subject in config.subjects if subject not in of_subject]
    if missing:
        raise ValueError(f"{KEY}.subjects: {', '.join(missing)} named, but not there; there are {', '.join(of_subject) or 'none'}")
    return {subject: of_subject[subject] for subject in sorted(config.subjects)}


def _filled(path: Path, captions: pd.Series, frames: DisfaFrames) -> list[str]:
    """Raises ValueError for frames without a caption."""
    without = captions.isna().to_numpy() | ~said(captions)
    if without.any():
        row = frames.frame.iloc[int(without.argmax())]
        raise ValueError(f"{path}: {without.sum()} of {len(captions)} frames have no caption, the first is {row['subject']}, frame {row['frame']}")
    return captions.tolist()


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
