"""A recording's frames in order, and what its clock and its file tell of those that are not there."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

NEIGHBOURS = 8
"""Pictures before and after one by which it is judged whether it repeats the one before."""
UNCHANGED, MOVING = 0.05, 2.0
"""A picture repeats the one before if it differs by less than this share of what those around do, where these differ by
so many grey levels."""


def decode(video: Path, save: "Callable[[int, VideoFrame], int]", tick: Callable[[], None]) -> dict[str, Any]:
    """Every whole frame to `save`, in order of presentation; what `Extracted` tells of the video. `save` returns what
    only equal pictures share."""
    import av  # here, so that data without videos needs no such package

    clock: list[int | None] = []
    damaged: list[int] = []
    pictures: list[int] = []
    changes: list[float] = []
    grey = np.zeros(0, dtype=np.int16)
    begin, broken, hidden, tail = None, 0, 0, 0
    with av.open(str(video)) as container:
        if not container.streams.video:
            return {"fault": "it has no pictures"}
        stream = container.streams.video[0]
        intact = True
        for packet in container.demux(stream):
            if packet.is_discard and not clock:
                hidden += 1
            elif packet.size and begin is None:
                begin = packet.pts
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                if not clock:
                    return {"fault": "its first frame is broken, so that the others cannot be counted"}
                intact, broken, tail = False, broken + 1, tail + 1
                continue
            for frame in frames:
                intact = (intact or frame.key_frame) and not frame.is_corrupt
                before, grey = grey, _grey(frame) if intact else np.zeros(0, dtype=np.int16)
                changes.append(
                    float(np.abs(grey - before).mean()) if grey.size and grey.size == before.size else np.inf
                )
                if intact:
                    pictures.append(save(len(clock), frame))
                else:
                    pictures.append(-1 - len(clock))  # like no other
                    damaged.append(len(clock))
                clock.append(frame.pts)
                tail = 0
                tick()
        if not clock:
            return {"fault": "it has no frames"}
        reordered = bool(stream.codec_context.has_b_frames)
        skipped, uneven, step = _jumps(clock)
        late = (
            round((clock[0] - begin) / step)
            if step and begin is not None and clock[0] is not None and not (reordered or hidden)
            else 0
        )
        if late > 0:  # what the first packets held could not be decoded
            skipped, broken = [(0, late), *skipped], broken + late
        rate = 1 / float(step * stream.time_base) if step and stream.time_base else float(stream.average_rate or 0)
        return {
            "decoded": len(clock),
            "promised": stream.frames,
            "damaged": damaged,
            "skipped": skipped,
            "uneven": uneven,
            "rate": round(rate, 3),
            "broken": broken,
            "hidden": hidden,
            "tail": tail,
            "cut": _is_cut(video),
            "repeated": telling(_repeated(pictures, changes), len(pictures)),
            "reordered": reordered and container.format.name == "avi",
        }


def _grey(frame: "VideoFrame") -> np.ndarray:
    """Every third pixel's brightness, as it is stored."""
    plane = frame.planes[0]
    return (
        np.frombuffer(bytes(plane), dtype=np.uint8)
        .reshape(-1, plane.line_size)[: plane.height, : plane.width]
        .ravel()[::3]
        .astype(np.int16)
    )


def _repeated(pictures: list[int], changes: list[float]) -> list[int]:
    """Pictures that are the same as the one before, or that only the codec has changed, while those around move."""
    found = []
    for index in range(1, len(pictures)):
        around = [*changes[max(1, index - NEIGHBOURS) : index], *changes[index + 1 : index + 1 + NEIGHBOURS]]
        known = [change for change in around if np.isfinite(change)]
        usual = float(np.median(known)) if known else 0.0
        if pictures[index] == pictures[index - 1] or (usual >= MOVING and changes[index] < UNCHANGED * usual):
            found.append(index)
    return found


def telling(repeated: list[int], pictures: int) -> list[int]:
    """Pictures that repeat the one before; none where all are the same, which tells nothing."""
    return repeated if len(repeated) < pictures - 1 else []


def _is_cut(video: Path) -> bool:
    """Whether an AVI is shorter than its header says."""
    with video.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:12] == b"AVI " and video.stat().st_size < int.from_bytes(head[4:8], "little")


def _jumps(clock: list[int | None]) -> tuple[list[tuple[int, int]], int, float]:
    """Where times (n,) in any unit leave out frames, as (index, how many); the number of steps that are no whole number
    of frames; and a frame's time.

    The time is 0 where there is no such clock. Uneven are also steps that each nearly are whole, and together drift
    away from whole frames.
    """
    known = [time for time in clock if time is not None]
    if len(clock) < 2 or len(known) < len(clock):
        return [], len(clock) - len(known), 0.0
    times = np.array(known, dtype=float)
    steps = np.diff(times)
    step = float(np.median(steps))
    if step <= 0:
        return [], len(steps), 0.0
    whole = np.rint(steps / step)
    if uneven := int(((np.abs(steps / step - whole) > 0.25) | (whole < 1)).sum()):
        return [], uneven, step
    places = np.concatenate([[0], np.cumsum(whole)])
    step = float((times[-1] - times[0]) / places[-1])
    if uneven := int((np.abs((times - times[0]) / step - places) > 0.25).sum()):
        return [], uneven, step
    return [(int(index) + 1, int(whole[index]) - 1) for index in np.flatnonzero(whole > 1)], 0, step
