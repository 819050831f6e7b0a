"""Videos to folders of frames, once: shared by all processes, going on after a kill, and again only where a video
changed."""

import dataclasses
import io
import itertools
import logging
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.formats.frame_format import FrameFormat
from fineface_train.data.formats.recording import decode
from fineface_train.files import Stamp, read_json, write_json
from fineface_train.locks import locked

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

logger = logging.getLogger(__name__)
MARKER = "video.json"
FRAMES_TIMED = 8
"""Frames of a video that are timed and weighed, to tell how long all take and how much room."""
IDENTITY: tuple[str, ...] = ("video", "bytes", "changed", "format", "quality")
OLDER: set[str] = {"decoded", "promised", "damaged", "skipped", "uneven"}
FOUND: tuple[set[str], ...] = (
    OLDER | {"rate", "broken", "hidden", "tail", "cut", "repeated", "reordered"},
    {"fault"},
    OLDER,
)
"""What a marker tells of a video that was decoded, and of one that cannot be read; before the clock was looked at more
closely, it told less."""


@dataclasses.dataclass(frozen=True)
class Extracted:
    """A folder of a video's frames, 00000 being the first that the video holds, and what was found in the video."""

    folder: Path
    suffix: str
    decoded: int = 0
    promised: int = 0
    """Frames that the file says it has; 0 where it does not say."""
    damaged: tuple[int, ...] = ()
    """Frames that are not whole, and have no file: those of a broken packet, and what follows up to the next key
    frame."""
    skipped: tuple[tuple[int, int], ...] = ()
    """(i, n): before frame i the clock leaves out n frames; they were dropped in recording, or their packets are
    broken."""
    uneven: int = 0
    """Steps of the clock that are no whole number of frames: the frame rate varies."""
    rate: float = 0.0
    """Frames a second by its clock; 0 where that is not told."""
    broken: int = 0
    """Packets that gave no frame."""
    hidden: int = 0
    """Frames that the file has before its first, and says not to show: it was cut without being encoded again."""
    tail: int = 0
    """Broken packets behind the last frame."""
    cut: bool = False
    """The file ends before it says it does, as after a broken download."""
    repeated: tuple[int, ...] = ()
    """Frames whose picture is that of the frame before, but for what the codec changed; see `telling`."""
    reordered: bool = False
    """Frames are stored in another order than they are shown, in an AVI, whose clock then misplaces what was left
    out."""
    fault: str | None = None
    """Why the video cannot be read at all."""

    def file(self, index: int) -> Path:
        return self.folder / f"{index:05d}.{self.suffix}"

    @property
    def length(self) -> int:
        """Frames that the recording had, as far as the file shows: those decoded, those that the clock leaves out, and
        those that were cut off."""
        whole = self.extent + self.tail
        return max(whole, self.promised) if self.cut else whole

    @property
    def extent(self) -> int:
        """Frames from the first to the last that was decoded, with those that the clock leaves out."""
        return self.decoded + sum(missing for _, missing in self.skipped)

    @property
    def unexplained(self) -> int:
        """Frames that the file promises, and of which nothing tells where they were; with an uneven clock it promises
        places and not frames."""
        return 0 if self.uneven else max(0, self.promised - max(self.decoded, self.length))

    @property
    def has_clock(self) -> bool:
        """Whether the clock tells the place of each frame from the first on."""
        return not self.uneven and not (self.reordered and self.skipped)

    def in_order(self, expected: int) -> bool:
        """Whether its frames are as many as `expected`, and none of the file's own is known to be missing."""
        return self.decoded == expected and not (self.broken or self.hidden or self.unexplained)

    def places(self, expected: int, *, by_clock: bool = False) -> dict[int, Path]:
        """Place in the recording, from 0, to file: in their order if there are as many as `expected`; else by the
        clock, or where that is asked for.

        Without the frames that are damaged, those that repeat the one before, and a first one whose own time is not
        sure: where the first packets of an AVI are empty, its first frame seems to lie before the gap.
        """
        places = np.arange(self.decoded)
        left_out = {*self.damaged, *self.repeated}
        if by_clock or not self.in_order(expected):
            for index, missing in self.skipped:
                places[index:] += missing
                left_out |= {0} if index == 1 else set()
        return {int(place): self.file(index) for index, place in enumerate(places) if index not in left_out}

    def remarks(self) -> list[str]:
        """What is unlike a plain recording, in words."""
        words = [f"cannot be read ({self.fault})"] if self.fault else []
        words += (
            [f"the file promises {self.promised} frames"]
            if self.promised not in (0, self.decoded) and not self.fault
            else []
        )
        words += [f"{len(self.damaged)} frames are damaged, the first is {self.damaged[0]}"] if self.damaged else []
        words += [f"its clock leaves out {missing} before frame {index}" for index, missing in self.skipped[:3]]
        words += [f"and elsewhere ({len(self.skipped)} places)"] if len(self.skipped) > 3 else []
        words += [f"its frame rate varies ({self.uneven} uneven steps)"] if self.uneven else []
        words += [f"it hides {self.hidden} frames before its first (it was cut)"] if self.hidden else []
        words += ["it ends before it says it does"] if self.cut else []
        words += (
            [f"frames that repeat the one before: {len(self.repeated)}, the first is {self.repeated[0]}"]
            if self.repeated
            else []
        )
        return words


def extract_videos(
    videos: Mapping[str, Path], root: Path, frame_format: FrameFormat, quality: int, crew: Crew = ALONE
) -> dict[str, Extracted]:
    """The frames of each video in `root`/<its key>; only what is not there yet is decoded.

    The crew's processes take turns at the videos, and each works at as many as it has processors. A frame is written
    whole or not at all, and the folder's video.json names its video (size, time) and, when it is done, what was found;
    where that file is damaged, a warning names it and the video is extracted anew. A video that cannot be read is no
    error here: its `fault` says so. Raises OSError where frames cannot be written.

    Args:
        quality: of jpg, 1 to 100.
    """
    with crew.entered(locked(root, wait=True)):
        wanted = {name: _identity(path, frame_format, quality) for name, path in videos.items()}
        pending = [name for name in videos if not _is_done(root / name, wanted[name])]
        crew.wait()  # nobody writes before all have seen what there was
        stop = threading.Event()
        total = sum(_promised(videos[name]) for name in pending) or None
        if crew.index == 0 and pending:
            _warn_of_space(root, videos[pending[0]], total or 0, wanted[pending[0]]["quality"])
        quiet = crew.quiet or crew.index > 0 or not pending
        with tqdm(
            total=total, desc=f"frames of {len(pending)} videos", unit="frame", mininterval=1, disable=quiet
        ) as bar:

            def tick() -> None:
                if stop.is_set():
                    raise InterruptedError("stopped")
                bar.update(crew.count if total is None else min(crew.count, total - bar.n))

            share = pending[crew.index :: crew.count]
            pool = ThreadPoolExecutor(max(1, min(len(share), len(os.sched_getaffinity(0)) // crew.count)))
            try:
                for _ in pool.map(lambda name: _extract(videos[name], root / name, wanted[name], tick), share):
                    pass
            finally:
                stop.set()  # else an error, or Ctrl-C, would wait for whole videos
                pool.shutdown(cancel_futures=True)
        crew.wait()
        return {name: read_extracted(root / name) for name in videos}


def read_extracted(folder: Path) -> Extracted:
    """What `extract_videos` left in `folder`. Raises ValueError if that is nothing, or damaged."""
    if not (folder / MARKER).is_file():
        raise ValueError(f"{folder}: holds no frames of a video ({MARKER}); run `fineface prepare`")
    marker = _read_marker(folder)
    found = marker["found"] or {"fault": "its extraction was not finished; run `fineface prepare` again"}
    frames = {name: tuple(found.get(name, ())) for name in ("damaged", "repeated")}
    return Extracted(
        folder, marker["format"], **found | frames | {"skipped": tuple(map(tuple, found.get("skipped", ())))}
    )


def _identity(video: Path, frame_format: FrameFormat, quality: int) -> dict[str, Any]:
    stamp = Stamp.of(video)
    how = {"format": frame_format.value, "quality": quality if frame_format is FrameFormat.jpg else None}
    return {"video": video.name, "bytes": stamp.size, "changed": stamp.changed} | how


def _read_marker(folder: Path) -> dict[str, Any]:
    """What its video.json says. Raises ValueError that names it if that is not what `_extract` writes."""
    marker = read_json(folder / MARKER, "found", *IDENTITY)
    found = marker["found"]
    if found is not None and (not isinstance(found, dict) or set(found) not in FOUND):
        raise ValueError(f"{folder / MARKER} is damaged (found: {found}); remove it, and run `fineface prepare` again")
    return marker


def _is_of(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether what lies there was made from this very video in this way. Raises ValueError where that cannot be
    read."""
    return (folder / MARKER).is_file() and {**_read_marker(folder), "found": None} == {**identity, "found": None}


def _is_done(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether all frames of this very video lie there; files that somebody removed or emptied are made again, and an
    older note too."""
    try:
        if not _is_of(folder, identity) or set(_read_marker(folder)["found"] or ()) == OLDER:
            return False
    except ValueError:  # `_extract` says what it is
        return False
    extracted = read_extracted(folder)
    if extracted.fault:
        return False
    whole = {entry.name for entry in os.scandir(folder) if entry.stat().st_size}
    return len(whole & {extracted.file(index).name for index in range(extracted.decoded)}) == extracted.decoded - len(
        extracted.damaged
    )


def _promised(video: Path) -> int:
    import av  # here, so that data without videos needs no such package

    try:
        with av.open(str(video)) as container:
            return container.streams.video[0].frames if container.streams.video else 0
    except av.error.FFmpegError:
        return 0


@dataclasses.dataclass(frozen=True)
class Extraction:
    """What extracting takes, by what the videos promise and by their first frames: no more than a guess."""

    frames: int
    bytes: int
    seconds: float


def extraction_to_come(
    videos: Mapping[str, Path], root: Path, frame_format: FrameFormat, quality: int, processes: int
) -> Extraction:
    """What `extract_videos` with these arguments and so many processes would take; writes nothing."""
    wanted = {name: _identity(path, frame_format, quality) for name, path in videos.items()}
    pending = [name for name in videos if not _is_done(root / name, wanted[name])]
    frames = sum(_promised(videos[name]) for name in pending)
    if not frames:
        return Extraction(0, 0, 0.0)
    size, seconds = _like_the_first(videos[pending[0]], wanted[pending[0]]["quality"], FRAMES_TIMED)
    at_once = max(1, min(len(pending), max(processes, len(os.sched_getaffinity(0)))))
    return Extraction(frames, int(frames * size), frames * seconds / at_once)


def _like_the_first(video: Path, quality: int | None, count: int = 1) -> tuple[float, float]:
    """Mean bytes and seconds of the first `count` frames of a video, decoded and encoded; 0 where it cannot be read,
    which `decode` explains."""
    import av

    started, sizes = time.perf_counter(), []
    try:
        with av.open(str(video)) as container:
            sizes = [len(_encode(frame, quality)) for frame in itertools.islice(container.decode(video=0), count)]
    except (av.error.FFmpegError, IndexError):
        pass
    return sum(sizes) / max(1, len(sizes)), (time.perf_counter() - started) / max(1, len(sizes))


def _warn_of_space(root: Path, video: Path, frames: int, quality: int | None) -> None:
    """Say at once if so many frames like the first of `video` are more than the disk of `root` has room for; no more
    than a guess, so nothing stops."""
    needed, free = frames * _like_the_first(video, quality)[0], shutil.disk_usage(root).free
    if needed > free:
        room = f"{frames:,} frames take about {needed / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free"
        logger.warning(
            "%s: %s; make room or set data.root to another disk (what is extracted stays, and is not done again)",
            root,
            room,
        )


def _extract(video: Path, folder: Path, identity: dict[str, Any], tick: Callable[[], None]) -> None:
    import av

    try:
        if folder.exists() and not _is_of(folder, identity):
            logger.info("%s: was made from another video or in another way, extracting %s", folder, video.name)
            shutil.rmtree(folder)
    except ValueError as error:
        logger.warning("%s; extracting %s anew", error, video.name)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARKER, identity | {"found": None})
    extracted = Extracted(folder, identity["format"])
    try:
        found = decode(video, lambda index, frame: _save(frame, extracted.file(index), identity["quality"]), tick)
    except av.error.FFmpegError as error:
        found = {"fault": str(error)}
    os.sync()  # once, so that the marker never vouches for frames that a power cut took
    write_json(folder / MARKER, identity | {"found": found})


def _save(frame: "VideoFrame", path: Path, quality: int | None) -> int:
    """The checksum of the file, which is left as it is where there is one."""
    if path.exists() and path.stat().st_size:
        return zlib.crc32(path.read_bytes())
    partial, data = path.with_suffix(".partial"), _encode(frame, quality)
    partial.write_bytes(data)
    os.replace(partial, path)
    return zlib.crc32(data)


def _encode(frame: "VideoFrame", quality: int | None) -> bytes:
    """A png, or with a quality a jpg."""
    written, image = io.BytesIO(), frame.to_image()
    if quality is None:
        image.save(written, format="PNG", compress_level=1)
    else:
        image.save(written, format="JPEG", quality=quality)
    return written.getvalue()
