"""Image files as every reader opens them, whoever made them: one upright picture in RGB, or a fault that names the
file."""

import contextlib
import hashlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from fineface_train.data.formats.image_metadata import JPEG, Bare, bare, orientation
from fineface_train.files import sha256

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Told by the contents, not by the name. Others of pillow's are read by old code, or by other programs (EPS)."""
MAX_PIXELS = 8192 * 8192
"""More is no photograph to learn from, but a file of some kilobytes that unpacks to all of the memory (a decompression
bomb)."""
MAX_BYTES = 8 * MAX_PIXELS
"""As many as the largest picture has uncompressed, in four channels of 16 bits."""
HEAD = 2**18
"""Bytes of a JPEG in which its size is looked for first."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's orientation; from 5 on width and height are exchanged."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # ours comes earlier, and is an error


def read_image(path: str | Path, contents: str | None = None) -> Image.Image:
    """The whole image, decoded, as RGB with 8 bits.

    It is turned as its EXIF (or XMP) orientation says, wherever that can be read; else it is taken as it lies. Of an
    animation it is the first frame. What is transparent becomes white, as on a page. Greyscale of 16 bits is scaled to
    8. A colour profile is ignored, as the published models' training did, and CMYK is converted without one.

    Args:
        contents: SHA-256 in hex of what the file must hold.
    Raises:
        ValueError: names the file, if it cannot be read, holds something else, is no whole image in one of `FORMATS`,
            or has more than
            `MAX_PIXELS`.
    """
    with _named_faults(path):
        _check_file(path)
        data = Path(path).read_bytes()
    if contents is not None and hashlib.sha256(data).hexdigest() != contents:
        raise ValueError(f"{path}: was changed by somebody else after it was hashed; start again")
    with _named_faults(path):
        parts = bare(data)
        with _opened(io.BytesIO(parts.head + parts.pixels)) as image:
            image.load()
            method = UPRIGHT.get(_orientation(parts, image))
            return _rgb(image if method is None else image.transpose(method))


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of what `read_image` gives; nothing is decoded, and of a JPEG only the head is read. Raises
    ValueError as it does."""
    with _named_faults(path):
        _check_file(path)
        with open(path, "rb") as file:
            data = file.read(HEAD)
            parts = bare(data) if data.startswith(JPEG) else None
            if parts is None or not parts.complete:
                parts = bare(data + file.read())
        with _opened(io.BytesIO(parts.head)) as image:
            width, height = image.size
            return (height, width) if _orientation(parts, image) > 4 else (width, height)


def _orientation(parts: Bare, image: Image.Image) -> int:
    """By what stands in the file, or, in formats that are not taken apart, by what the decoder found there."""
    return orientation((*parts.exif, image.info.get("exif", b"")), parts.xmp or image.info.get("xmp", b""))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its grey levels are numbers without a range; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _check_file(path: str | Path) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no file")
    if status.st_size == 0:
        raise ValueError("it is empty")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"it has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")


@contextlib.contextmanager
def _opened(file: IO[bytes]) -> Iterator[Image.Image]:
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:  # whose text names an object in memory
        raise ValueError(f"it is damaged at its start, or none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"at most {MAX_PIXELS:,} pixels are read: {error}") from None
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"it has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read: make it smaller, or "
                f"leave it out"
            )
        yield image


@contextlib.contextmanager
def _named_faults(path: str | Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:  # the machine's fault: `MAX_PIXELS` are few
        raise
    except (
        Exception
    ) as error:  # decoders of damaged files raise all kinds: struct.error, TypeError, KeyError, EOFError ...
        reason = getattr(error, "strerror", None) or str(error)
        if not isinstance(error, (OSError, SyntaxError, ValueError)) or not reason:
            reason = f"{type(error).__name__}: {reason}"
        raise ValueError(f"{path}: cannot be read as an image ({reason})") from error


def image_or_fault(path: str | Path, contents: str) -> Image.Image | str:
    """`read_image`, or in words why these `contents` are no image.

    Raises ValueError or OSError that names the file where it does not hold `contents`: that is no fault of the image.
    """
    try:
        return read_image(path, contents)
    except ValueError as fault:
        if sha256(Path(path)) != contents:
            raise
        return str(fault)
