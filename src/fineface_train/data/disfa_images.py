"""Which image belongs to which of DISFA's labelled frames, and what is wrong between the two."""

import logging
from pathlib import Path

from fineface_train.data.disfa_labels import Findings, SubjectLabels
from fineface_train.data.disfa_layout import KEY, DisfaConfig, Mismatch, image_files, images_root, unfit_image, video_files
from fineface_train.data.video import Extracted, read_extracted

logger = logging.getLogger(__name__)
SHOWN = 5
"""Faults that an error names; if there are more, the log has all."""


def images_of_frames(config: DisfaConfig, labels: dict[str, SubjectLabels], extracted: Path | None) -> dict[str, dict[int, str]]:
    """Image of each frame (from 1) of each subject; raises every fault of labels and images."""
    videos = video_files(config)
    findings = {subject: each.findings for subject, each in labels.items()}
    images: dict[str, dict[int, str]] = {subject: {} for subject in labels}
    if videos is None:
        files = image_files(config)
        others, hint = set(files), _hint(config, files)
        for subject, each in labels.items():
            images[subject] = _numbered(config, subject, each, files.get(subject, {}), findings[subject])
    else:
        assert extracted is not None, "videos are extracted before they are read"
        others, hint = set(videos), ""
        for subject, each in labels.items():
            if subject in videos:
                images[subject] = _from_video(each, videos[subject], read_extracted(extracted / subject), findings[subject])
            else:
                folder = next(iter(videos.values())).parent
                findings[subject].unequal.append(f"{subject}: no video of it in {folder}, but labels of {len(each.frames)} frames")
    for subject, each in labels.items():
        if videos is not None and subject not in videos:
            continue
        otherwise = _otherwise(config, subject) if videos is None and others and not images[subject] else ""
        _compare(subject, each, images[subject], findings[subject], otherwise)
    if config.subjects is None:
        for subject in sorted(others - set(labels)):
            findings[subject] = Findings(unequal=[f"{subject}: has images, but no labels"])
    refuse(findings, config.mismatch, hint, filmed=videos is not None)
    for _, found in sorted(findings.items()):
        for fault in found.unequal:
            logger.warning("disfa: %s", fault)
    return images


def _hint(config: DisfaConfig, files: dict[str, dict[int, list[Path]]]) -> str:
    """What is wrong with the numbering or the names of all images, "" for nothing."""
    if not files:
        fits, root = f"; {KEY}.image_pattern={config.image_pattern!r} fits no file", images_root(config)
        if (found := unfit_image(config)) is None:
            return f"{fits}; there are none in {root}"
        name, pattern = found
        would = f"{KEY}.image_pattern={pattern!r} would" if pattern else "images are told by a subject such as SN001 and a number"
        return f"{fits}, such as {name} in {root}; {would}"
    lowest = min(min(numbers) for numbers in files.values())
    return f"; no subject has an image {config.first_index}: {KEY}.first_index={lowest} would fit" if lowest > config.first_index else ""


def _otherwise(config: DisfaConfig, subject: str) -> str:
    """What the files are called of a subject of whom none fits, "" if there are none."""
    found = unfit_image(config, subject)
    return f"; {KEY}.image_pattern={config.image_pattern!r} does not fit its {found[0]}: rename, move or convert its images" if found else ""


def _numbered(config: DisfaConfig, subject: str, labels: SubjectLabels, files: dict[int, list[Path]], findings: Findings) -> dict[int, str]:
    """Frame to image, by the number in its name; a base that cannot be right is a fault, and so is one that may be wrong: numbers without a gap
    that begin later than the others', or that begin just one later, which is the other base or the first image lost.
    """
    for number, paths in files.items():
        if len(paths) > 1:
            findings.wrong.append(f"{paths[0]} and {paths[1].name}: both are image {number}")
    if files and not labels.frames.empty:
        first, low, high, count = config.first_index, min(files), max(files), int(labels.frames["frame"].max())
        last, whole = first + count - 1, len(files) == high - low + 1
        if low < first or (low > first and (whole or low == first + 1 or high > last)):
            either = f"; numbered from {low}, or image {first} is missing: put it there, renumber, or leave {subject} out with {KEY}.subjects"
            findings.wrong.append(
                f"{files[low][0].parent}: images are numbered {low} to {high}, but {count} labelled frames with {KEY}.first_index={first} "
                f"are {first} to {last}{either if low == first + 1 and high <= last else ''}"
            )
    return {number - config.first_index + 1: str(paths[0]) for number, paths in files.items()}


def _from_video(labels: SubjectLabels, video: Path, extracted: Extracted, findings: Findings) -> dict[int, str]:
    count = 0 if labels.frames.empty else int(labels.frames["frame"].max())
    if remarks := extracted.remarks():
        said = f"{video}: {'; '.join(remarks)}"
        if extracted.fault:
            findings.wrong.append(said)
        elif extracted.uneven and extracted.decoded != count:
            findings.wrong.append(f"{said}; which of its {extracted.decoded} frames belongs to which of {count} labels is not sure")
        elif extracted.decoded == count and not extracted.damaged:
            logger.warning("disfa: %s; its %d frames are as many as the labels, and are counted in their order", said, count)
        else:
            findings.unequal.append(said)
    return {place + 1: str(path) for place, path in extracted.places(count).items()}


def _compare(subject: str, labels: SubjectLabels, images: dict[int, str], findings: Findings, otherwise: str) -> None:
    labelled = set(labels.frames["frame"])
    missing, surplus = sorted(labelled - set(images)), sorted(set(images) - labelled)
    if findings.wrong or not (missing or surplus):
        return
    details = [f"without an image: {len(missing)}, from frame {missing[0]}"] if missing else []
    details += [f"without a label: {len(surplus)}, from {images[surplus[0]]}"] if surplus else []
    findings.unequal.append(f"{subject}: {len(images)} images, but the labels have {len(labelled)} frames ({', '.join(details)}){otherwise}")


def refuse(findings: dict[str, Findings], mismatch: Mismatch, hint: str = "", *, filmed: bool = False) -> None:
    """Raise ValueError if there are faults that may not pass, with those of all subjects; the log has those that the error has no room for.

    Args:
        hint: what is wrong with all images, if something is.
        filmed: whether the images are videos' frames.
    """
    wrong = any(found.wrong for found in findings.values())
    passing = mismatch is Mismatch.common and not hint
    faulty = [found for _, found in sorted(findings.items()) if found.wrong or (found.unequal and not (wrong and passing))]
    faults = [fault for found in faulty for fault in found.wrong] + [fault for found in faulty for fault in found.unequal]
    if not faults or (passing and not wrong):
        return
    for fault in faults if len(faults) > SHOWN else ():
        logger.warning("disfa: %s", fault)
    check = "" if filmed else f"check {KEY}.first_index and {KEY}.image_pattern, "
    common = f"; mend the copy, {check}or use what labels and images have in common: {KEY}.mismatch=common"
    remedy = hint or (f"; mend the copy, or leave such subjects out with {KEY}.subjects" if wrong else common)
    shown = "; ".join(faults[:SHOWN]) + (f"; and {len(faults) - SHOWN} more, told above" if len(faults) > SHOWN else "")
    raise ValueError(f"{KEY}: {len(faulty)} of {len(findings)} subjects are not as they should be: {shown}{remedy}")
