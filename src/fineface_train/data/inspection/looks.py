"""What can be said of an image without a model: size, brightness, sharpness, and a hash by which images that look alike
are found."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.formats.images import image_or_fault
from fineface_train.data.per_image import Row, per_image

VERSION = 1
"""Raised when the same image gets other numbers."""
HASH_SIDE = 16
ALIKE = 7
"""Bits of 256 in which two images that are one may differ. Photographs stored again as JPEG of quality 70 differ in 0
to 3; different ones in 100."""
COLOUR_SIDE = 4
SAME_COLOURS = 16
"""Difference, of 255, that the mean colours of 4 x 4 fields may have; the hash sees no colours."""
SHARPNESS_SIDE = 256


def image_looks(paths: Sequence[str], contents: Sequence[str], folder: Path, crew: Crew = ALONE) -> pd.DataFrame:
    """A row for each of `paths`, in their order, of what is found out about each image once (`per_image`).

    Columns: path, fault (in words, "" for an image that can be read), width, height (pixels), brightness (mean, 0-255),
        sharpness
    (variance of the Laplacian, with the shorter side at most 256 pixels), hash (64 hex digits), colours (of 4 x 4
    fields, 96 hex digits). Numbers of a faulty one are 0, its hash and colours "".
    """
    digest_of = dict(zip(paths, contents, strict=True))
    with ThreadPoolExecutor(4) as pool:

        def make(batch: list[str]) -> list[Row]:
            return list(pool.map(lambda path: _looks(image_or_fault(path, digest_of[path])), batch))

        return per_image(
            paths, contents, folder, {"looks": VERSION}, make, batch_size=64, title="looking at images", crew=crew
        )


def _looks(image: Image.Image | str) -> Row:
    if isinstance(image, str):
        return {"fault": image, "width": 0, "height": 0, "brightness": 0.0, "sharpness": 0.0, "hash": "", "colours": ""}
    grey = image.convert("L")
    colours = image.resize((COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.BOX).tobytes().hex()
    numbers = {"brightness": round(float(np.asarray(grey).mean()), 2), "sharpness": round(_sharpness(grey), 2)}
    return {
        "fault": "",
        "width": image.width,
        "height": image.height,
        **numbers,
        "hash": difference_hash(grey),
        "colours": colours,
    }


def difference_hash(grey: Image.Image) -> str:
    """The hash of a grey image, 256 bits in hex: whether each of 16 x 16 fields is darker than the next (dHash,
    krawetz.org)."""
    fields = np.asarray(grey.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), dtype=np.int16)
    return np.packbits(fields[:, 1:] > fields[:, :-1]).tobytes().hex()


def _sharpness(grey: Image.Image) -> float:
    scale = min(1.0, SHARPNESS_SIDE / min(grey.size))
    small = np.asarray(
        grey.resize((max(3, round(grey.width * scale)), max(3, round(grey.height * scale))), Image.Resampling.BOX),
        dtype=np.float32,
    )
    around = small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:]
    return float((around - 4 * small[1:-1, 1:-1]).var())


def lookalikes(looks: pd.DataFrame, apart: Sequence[str], window: int = 16) -> np.ndarray:
    """Pairs (P, 2) of rows of `image_looks` whose `apart` differ (subjects) and that look alike, the most alike first.

    Their hashes differ in at most `ALIKE` bits, their colours by at most `SAME_COLOURS`.

    Two such hashes agree in one of eight parts at least (every eighth bit is a part, so that each tells of the whole
    image). So they are sorted eight times, beginning with another part each time, and each is compared with the
    `window` that follow it:
    work that grows as N log N. Where more images than that agree in a part, some pairs are missed.
    """
    places = np.flatnonzero((looks["fault"] == "").to_numpy())
    if len(places) == 0:
        return np.empty((0, 2), dtype=np.int64)
    colours, hashes = (
        np.frombuffer(bytes.fromhex("".join(looks[name])), dtype=np.uint8).reshape(len(places), -1)
        for name in ("colours", "hash")
    )
    bits = np.unpackbits(hashes, axis=1).reshape(len(places), -1, ALIKE + 1)
    parts = np.ascontiguousarray(np.packbits(bits.swapaxes(1, 2), axis=2)).view(">u4")[:, :, 0]  # (N, 8)
    _, group = np.unique(np.asarray(apart, dtype=str)[places], return_inverse=True)
    found = [np.empty((0, 2), dtype=np.int64)]
    for first in range(ALIKE + 1):
        order = np.lexsort(np.roll(parts, -first, axis=1).T[::-1])
        for step in range(1, min(window, len(order) - 1) + 1):
            one, two = order[:-step], order[step:]
            near = (parts[one, first] == parts[two, first]) & (group[one] != group[two])
            one, two = one[near], two[near]
            distance = np.bitwise_count(parts[one] ^ parts[two]).sum(axis=1, dtype=np.int64)
            codes = np.minimum(one, two) * len(places) + np.maximum(one, two)
            found.append(np.column_stack([distance, codes])[distance <= ALIKE])
    distance, codes = np.concatenate(found).T
    codes, first_found = np.unique(codes, return_index=True)
    codes = codes[np.argsort(distance[first_found], kind="stable")]
    pairs = np.column_stack(np.divmod(codes, len(places)))
    difference = np.abs(colours[pairs[:, 0]].astype(np.int16) - colours[pairs[:, 1]]).max(axis=1, initial=0)
    return places[pairs[difference <= SAME_COLOURS]]
