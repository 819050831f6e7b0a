"""Image files as every reader opens them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image


def read_image(path: str | Path) -> Image.Image:
    """The whole image, decoded, as RGB. Raises ValueError that names the file."""
    with _named_faults(path), Image.open(path) as image:
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
