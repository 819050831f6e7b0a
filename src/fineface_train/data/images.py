"""Image files as every reader opens them."""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from fineface_train.files import sha256


def read_image(path: str | Path, contents: str | None = None) -> Image.Image:
    """The whole image, decoded, as RGB. Raises ValueError that names the file, also if it does not hold `contents` (SHA-256 in hex)."""
    with _named_faults(path):
        data = Path(path).read_bytes()
    if contents is not None and hashlib.sha256(data).hexdigest() != contents:
        raise ValueError(f"{path}: was changed by somebody else after it was hashed; start again")
    with _named_faults(path), Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height, from the file's head. Raises ValueError as `read_image` does."""
    with _named_faults(path), Image.open(path) as image:
        return image.size


@contextlib.contextmanager
def _named_faults(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:  # pillow's PNG reader raises any of the three
        raise ValueError(f"{path}: cannot be read as an image ({error})") from error


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
