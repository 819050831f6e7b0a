"""Small real videos whose frames can be told apart, and the ways in which recordings are broken."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

BITS, BLOCK = 9, 8


def numbered(number: int) -> np.ndarray:
    """(16, 72, 3): the number in black and white blocks, which survive any compression."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    return np.repeat(
        np.kron(np.array([bits, bits], dtype=np.uint8), np.ones((BLOCK, BLOCK), dtype=np.uint8))[..., None], 3, axis=2
    )


def number_in(path: Path) -> int:
    grey = np.asarray(Image.open(path).convert("L"))[BLOCK, BLOCK // 2 :: BLOCK]
    return sum(int(value > 127) << bit for bit, value in enumerate(grey))


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "mjpeg",
    times: Sequence[int] | None = None,
    between: int = 0,
    rate: int = 20,
) -> Path:
    """Frames (H, W, 3) at `times`, in units of 1/rate s; `between` frames between two others are predicted from both
    sides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"qscale": "2", "flags": "+qscale"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj444p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.max_b_frames = between
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index if times is None else times[index], Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbered_video(path: Path, count: int, **how: object) -> Path:
    return write_video(path, [numbered(number) for number in range(count)], **how)  # type: ignore[arg-type]


def _packet(data: bytes, number: int) -> tuple[int, int]:
    """Where the packet of frame `number` of an AVI starts, and its bytes."""
    start = data.index(b"movi")
    for _ in range(number + 1):
        start = data.index(b"00dc", start + 1)
    return start + 8, struct.unpack("<I", data[start + 4 : start + 8])[0]


def spoil_packet(path: Path, number: int) -> None:
    """Overwrite the packet of frame `number`, as a bad sector does."""
    data = path.read_bytes()
    start, size = _packet(data, number)
    path.write_bytes(data[:start] + bytes(size) + data[start + size :])


def cut(path: Path, number: int) -> None:
    """End the file within the packet of frame `number`, as a broken download does."""
    data = path.read_bytes()
    start, size = _packet(data, number)
    path.write_bytes(data[: start + size // 2])
