"""Which image belongs to which of DISFA's labelled frames, and what is wrong between the two."""

import filecmp
import logging
from pathlib import Path

import numpy as np

from fineface_train.data.disfa.clues import KEY
from fineface_train.data.disfa.config import EVERYONE, MOST_AT_AN_END, SPAN, DisfaConfig
from fineface_train.data.disfa.faults import Fault, Findings, refuse, told
from fineface_train.data.disfa.frames import image_files, unfit_image
from fineface_train.data.disfa.labels import SubjectLabels
from fineface_train.data.disfa.layout import DisfaCopy
from fineface_train.data.formats.recording import telling
from fineface_train.data.formats.video import Extracted, read_extracted

logger = logging.getLogger(__name__)
FRAME_RATE = 20
"""Frames a second of DISFA's videos."""
USUAL_RATES = (5, 10, 12, 12.5, 15, 24, 25, 30, 40, 50, 60)
ANEW = f"; get the pictures as DISFA has them, or leave such subjects out with {KEY}.subjects"
LOOK = (
    f"{ANEW}; or look where labels change at once, early and late, and if the pictures are whole between, say which "
    f"labels a subject's first and last "
    f"picture have, counted from 1: {KEY}.spans=[SUBJECT:FIRST..LAST], where SUBJECT is such as SN001, or all if you "
    f"looked and they are all alike"
)
NOBODY_KNOWS = "whether the first, the last or one between is missing or too many, nothing tells"


def images_of_frames(
    copy: DisfaCopy, labels: dict[str, SubjectLabels], extracted: Path | None
) -> dict[str, dict[int, str]]:
    """Image of each frame (from 1) of each subject; raises every fault of labels and images."""
    config, videos = copy.config, copy.videos
    findings = {subject: each.findings for subject, each in labels.items()}
    images: dict[str, dict[int, str]] = {subject: {} for subject in labels}
    if videos is None:
        assert copy.images is not None, "a copy is checked before it is read"
        files = image_files(copy.images, config.image_pattern)
        others, hint = set(files), _hint(config, copy.images, files, labels)
        for subject, each in labels.items():
            images[subject] = _numbered(config, subject, each, files.get(subject, {}), findings[subject])
    else:
        assert extracted is not None, "videos are extracted before they are read"
        others, hint = set(videos), ""
        most = max(each.count for each in labels.values())
        for subject, each in labels.items():
            if subject in videos:
                images[subject] = _from_video(
                    config, subject, each, most, videos[subject], read_extracted(extracted / subject), findings[subject]
                )
            else:
                folder = next(iter(videos.values())).parent
                findings[subject].unequal.append(
                    Fault(f"{subject}: no video of it in {folder}, but labels of {len(each.frames)} frames")
                )
    for subject, each in labels.items():
        if videos is not None and subject not in videos:
            continue
        otherwise = ""
        if copy.images is not None and others and not images[subject]:
            otherwise = _otherwise(config, copy.images, subject)
        _compare(subject, each, images[subject], findings[subject], otherwise)
    if config.subjects is None:
        for subject in sorted(others - set(labels)):
            findings[subject] = Findings(unequal=[Fault(f"{subject}: has images, but no labels")])
    refuse(findings, config.mismatch, hint, filmed=videos is not None)
    for fault in told(
        [(subject, fault) for subject, found in sorted(findings.items()) for fault in found.unequal], len(findings)
    ):
        logger.warning("disfa: %s", fault)
    return images


def _hint(
    config: DisfaConfig, root: Path, files: dict[str, dict[int, list[Path]]], labels: dict[str, SubjectLabels]
) -> str:
    """What is wrong with the numbering or the names of all images, "" for nothing."""
    if not files:
        fits = f"; {KEY}.image_pattern={config.image_pattern!r} fits no file"
        if (found := unfit_image(root, config.image_pattern)) is None:
            return f"{fits}; there are none in {root}"
        name, pattern = found
        would = (
            f"{KEY}.image_pattern={pattern!r} would"
            if pattern
            else "images are told by a subject such as SN001 and a number"
        )
        return f"{fits}, such as {name} in {root}; {would}"
    base = min(min(numbers) for numbers in files.values())
    counts = {subject: each.count for subject, each in labels.items() if subject in files}
    fitting = sum(
        min(files[subject]) == base and max(files[subject]) == base + count - 1 for subject, count in counts.items()
    )
    if base == config.first_index or 2 * fitting <= len(counts):
        return ""
    none = f"no subject has an image {config.first_index}" if base > config.first_index else f"there are images {base}"
    return (
        f"; {none}: {KEY}.first_index={base} would "
        f"fit{'' if fitting == len(counts) else f' {fitting} of {len(counts)} subjects'}"
    )


def _otherwise(config: DisfaConfig, root: Path, subject: str) -> str:
    """What the files are called of a subject of whom none fits, "" if there are none."""
    found = unfit_image(root, config.image_pattern, subject)
    return (
        f"; {KEY}.image_pattern={config.image_pattern!r} does not fit its {found[0]}: rename, move or convert its "
        f"images"
        if found
        else ""
    )


def span_of(config: DisfaConfig, subject: str, *, plain: bool) -> tuple[int, int] | None:
    """The labels of a subject's first and last picture, if `spans` tell them; what they tell of all matters only where
    nothing else does (not `plain`)."""
    told = {
        match[1]: (int(match[2]), int(match[3])) for match in map(SPAN.fullmatch, config.spans) if match is not None
    }
    return told.get(subject, None if plain else told.get(EVERYONE))


def _numbered(
    config: DisfaConfig, subject: str, labels: SubjectLabels, files: dict[int, list[Path]], findings: Findings
) -> dict[int, str]:
    """Frame to image, by the number in its name.

    The numbers are taken for the labels' only if the first and the last are; between them images may be missing. Where
    an end differs nobody knows from the numbers alone whether images are lost there, were numbered anew or taken out at
    another rate: a fault, unless `spans` tells.
    """
    for number, paths in files.items():
        if len(paths) > 1:
            findings.wrong.append(Fault(f"{paths[0]} and {paths[1].name}: both are image {number}"))
    if not files:
        return {}
    low, high, count = min(files), max(files), labels.count
    numbered = (low - config.first_index, high - config.first_index) == (0, count - 1)
    repeated = _repeated({number: paths[0] for number, paths in files.items()})
    span = span_of(config, subject, plain=numbered and not repeated)
    begin = low - config.first_index + 1 if span is None else span[0]
    known = numbered if span is None else _holds(span, high - low + 1, count)
    if not (known or labels.frames.empty):
        findings.wrong.append(_misnumbered(config, labels, files))
    if repeated and not findings.wrong:
        said = (
            f"{files[low][0].parent}: images that repeat the one before: {len(repeated)}, the first is "
            f"{files[repeated[0]][0].name}"
        )
        if span is None:
            findings.wrong.append(_repeats(said, labels))
        else:
            findings.unequal.append(Fault(said))
    return {number - low + begin: str(paths[0]) for number, paths in files.items() if number not in repeated}


def _holds(span: tuple[int, int], extent: int, count: int) -> bool:
    """Whether pictures that extend so far can have these labels at their ends, and have hardly more or fewer than there
    are."""
    return span[1] - span[0] + 1 == extent and abs(span[1] - count) <= MOST_AT_AN_END


def _misnumbered(config: DisfaConfig, labels: SubjectLabels, files: dict[int, list[Path]]) -> Fault:
    """Images whose first or last number is not that of the labels."""
    first, low, high, count = config.first_index, min(files), max(files), labels.count
    last = first + count - 1
    look = ""
    text = (
        f"{files[low][0].parent}: images are numbered {low} to {high}, but {count} labelled frames with "
        f"{KEY}.first_index={first} are {first} to {last}"
    )
    extent = high - low + 1
    near = abs(extent - count) <= MOST_AT_AN_END
    if extent == count:
        text += f"; they begin at {low}, and are as many: renumber them"
    elif low == first + 1 and high <= last:
        text += f"; numbered from {low}, or image {first} is missing: put it there, or renumber"
    elif near:
        text += f"; {NOBODY_KNOWS}"
        look = _onsets(labels)
    elif rate := _rate_of(extent, count):
        text += (
            f"; at {rate:g} frames a second the labels' {count / FRAME_RATE:.2f} s have so many, at DISFA's "
            f"{FRAME_RATE} not: extracted at another rate"
        )
    remedy = (
        LOOK
        if near
        else f"; give the videos ({KEY}.videos), of which every frame is extracted{ANEW.replace(';', ', or', 1)}"
    )
    return Fault(text, f"numbered {low - first} {high - last}", remedy, look=look)


def _rate_of(images: int, labels: int) -> float | None:
    """The usual frame rate at which the time of so many labels has so many images; None if there is none."""
    rate = min(USUAL_RATES, key=lambda rate: abs(images - labels * rate / FRAME_RATE))
    return rate if abs(images - labels * rate / FRAME_RATE) <= 1 else None


def _repeated(images: dict[int, Path]) -> list[int]:
    """Numbers of images that are the same file as the one before, byte by byte; see `telling`."""
    sizes = {number: path.stat().st_size for number, path in images.items()}
    alike = [number for number, size in sorted(sizes.items()) if size and sizes.get(number - 1) == size]
    return telling(
        [number for number in alike if filecmp.cmp(images[number - 1], images[number], shallow=False)], len(images)
    )


def _repeats(said: str, labels: SubjectLabels) -> Fault:
    """Pictures that stand there twice, among as many as there are labels."""
    text = (
        f"{said}; if a picture was put in and another lost, the labels between are shifted; if the scene stood "
        f"still, nothing is wrong"
    )
    return Fault(text, "repeats", LOOK, look=_onsets(labels))


def _from_video(
    config: DisfaConfig,
    subject: str,
    labels: SubjectLabels,
    most: int,
    video: Path,
    extracted: Extracted,
    findings: Findings,
) -> dict[int, str]:
    """Frame to image, where it is known which frame of the video belongs to which label (`_by_clock`)."""
    count = labels.count
    said = f"{video}: {'; '.join(extracted.remarks())}"
    if extracted.fault:
        findings.wrong.append(Fault(said, f"video: {extracted.fault}", ANEW))
        return {}
    if labels.frames.empty:
        return {}
    odd, by_itself = _is_odd(extracted), _by_clock(extracted, count, most, None)
    span = span_of(config, subject, plain=by_itself is not None and not extracted.repeated)
    by_clock = by_itself if span is None else _by_clock(extracted, count, most, span)
    if by_clock is None or (odd and extracted.repeated):
        findings.wrong.append(_unplaced(video, labels, extracted))
        return {}
    if extracted.repeated and span is None:
        findings.wrong.append(_repeats(said, labels))
    elif (by_clock or extracted.damaged or extracted.repeated) and extracted.remarks():
        findings.unequal.append(Fault(said))
    elif extracted.remarks() or odd:
        rate = [f"it runs at {extracted.rate:g} frames a second, not at DISFA's {FRAME_RATE}"] if odd else []
        words = "; ".join([*extracted.remarks(), *rate])
        logger.warning(
            "disfa: %s: %s; its %d frames are as many as the labels, and are counted in their order",
            video,
            words,
            extracted.decoded,
        )
    begin = 1 if span is None else span[0]
    return {place + begin: str(path) for place, path in extracted.places(count, by_clock=by_clock).items()}


def _is_odd(extracted: Extracted) -> bool:
    return bool(extracted.rate) and abs(extracted.rate - FRAME_RATE) > 0.01 * FRAME_RATE


def _by_clock(extracted: Extracted, count: int, most: int, span: tuple[int, int] | None) -> bool | None:
    """Whether frames have their labels by the clock (True) or in their order (False); None where neither is known.

    In order, if they are as many as the labels. Where the clock leaves out frames all the same, the labels may be of
    the clock and end early, which only a `span` tells; where other subjects have more labels, `most`, these do seem to
    end early, also where the clock varies.
    """
    in_order = extracted.in_order(count) and not (count < most and (extracted.skipped or extracted.uneven))
    clock = extracted.has_clock and not _is_odd(extracted) and not extracted.unexplained
    if span is None:
        if in_order:
            return None if extracted.skipped else False
        return True if clock and extracted.length == count and not extracted.hidden else None
    if in_order and _holds(span, extracted.decoded, count):
        return False
    late = any(index == 0 for index, _ in extracted.skipped)
    return True if clock and not late and _holds(span, extracted.extent, count) else None


def _unplaced(video: Path, labels: SubjectLabels, extracted: Extracted) -> Fault:
    """A video of which nothing tells which of its frames belongs to which label."""
    count, decoded, odd = labels.count, extracted.decoded, _is_odd(extracted)
    words, same_time, look = extracted.remarks(), False, ""
    if extracted.rate and not extracted.uneven:
        lasts, labelled = decoded / extracted.rate, count / FRAME_RATE
        same_time = odd and abs(lasts - labelled) <= MOST_AT_AN_END / FRAME_RATE
        words.append(
            f"{decoded} frames at {extracted.rate:g} a second are {lasts:.2f} s, {count} labels at DISFA's "
            f"{FRAME_RATE} a second are {labelled:.2f} s"
        )
    if same_time or (odd and extracted.repeated):
        words.append("it was encoded again at another rate, with pictures repeated, left out or mixed")
    if extracted.reordered and extracted.skipped:
        words.append("the clock of an AVI with frames stored out of order does not tell where")
    if extracted.unexplained:
        words.append(f"where {extracted.unexplained} of the promised frames were is not told")
    if extracted.in_order(count) and not same_time:
        words.append(
            f"the labels are as many as the frames, and fewer than "
            f"{'the clock counts' if extracted.skipped else 'those of other subjects'}"
        )
    text = f"{video}: {'; '.join(words)}; which of its {decoded} frames belongs to which of {count} labels is not sure"
    in_order = extracted.in_order(count)
    looking = (
        not odd
        and extracted.has_clock
        and not extracted.unexplained
        and 0 < abs(extracted.length - count) <= MOST_AT_AN_END
    )
    if looking:
        lengths = (
            f"they are as many, but the clock has {extracted.length} places: FIRST..LAST counts {decoded} in "
            f"order, {extracted.length} by the clock"
        )
        text += f": {lengths if in_order else NOBODY_KNOWS}"
        look = f"; they lie in {extracted.folder}{_onsets(labels)}"
    return Fault(
        text,
        f"unplaced {extracted.length - count} {odd} {extracted.rate} {extracted.hidden}",
        LOOK if looking else ANEW,
        look=look,
    )


def _onsets(labels: SubjectLabels) -> str:
    """Where a label rises most from one frame to the next, early and late, in words; "" where none rises."""
    values = labels.frames.set_index("frame")
    rises = values.diff()[np.diff(values.index, prepend=values.index[0]) == 1]
    found = []
    for part in (rises[: len(rises) // 2], rises[len(rises) // 2 :]):
        if part.size and part.to_numpy().max() > 0:
            frame, au = part.stack().idxmax()
            found.append(
                f"AU{au} goes from {values.loc[frame - 1, au]:g} to {values.loc[frame, au]:g} at label {frame}"
            )
    return f" (to compare: {', '.join(found)})" if found else ""


def _compare(subject: str, labels: SubjectLabels, images: dict[int, str], findings: Findings, otherwise: str) -> None:
    labelled = set(labels.frames["frame"])
    missing, surplus = sorted(labelled - set(images)), sorted(set(images) - labelled)
    if findings.wrong or not (missing or surplus):
        return
    details = [f"without an image: {len(missing)}, from frame {missing[0]}"] if missing else []
    details += [f"without a label: {len(surplus)}, from {images[surplus[0]]}"] if surplus else []
    findings.unequal.append(
        Fault(
            f"{subject}: {len(images)} images, but the labels have {len(labelled)} frames "
            f"({', '.join(details)}){otherwise}"
        )
    )
