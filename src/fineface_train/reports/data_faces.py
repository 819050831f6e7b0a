"""The faces on a data set's page: samples, what looks suspicious, and the frames around an AU's peaks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fineface_train.aus import AU_KEYS, format_aus
from fineface_train.data.formats.images import image_or_fault, read_image
from fineface_train.data.inspection.suspicions import suspicions
from fineface_train.data.table import SampleTable
from fineface_train.reports.faces import Shown, picture_uri

SAMPLES = 30
"""Faces of each source."""
SUBJECTS = 30
"""Subjects whose peaks are shown; DISFA has 27."""
SIDE = 112
"""Pixels: what faces are shrunk to; a page of some 250 then takes about 1 MB, and the peaks of 27 subjects 1.5 MB,
however many rows the table has."""


def sample_faces(table: SampleTable, contents: list[str], looks: pd.DataFrame, seed: int) -> dict[str, Any]:
    """`samples` of each source, and what is `suspicious` with its examples."""
    rng = np.random.default_rng(seed)
    frame = table.frame
    samples = {}
    for source in dict.fromkeys(frame["source"]):
        rows = np.flatnonzero((frame["source"] == source).to_numpy())
        chosen = rng.choice(rows, min(SAMPLES, len(rows)), replace=False)
        samples[source] = [(_shown(frame.iloc[row], contents[row]), _aus(frame.iloc[row])) for row in chosen]
    found = suspicions(table, looks, contents)
    suspicious = [
        (one, [([_shown(frame.iloc[row], contents[row]) for row in rows], why) for rows, why in one.examples])
        for one in found
    ]
    readable = looks[looks["fault"] == ""]
    return {
        "samples": samples,
        "suspicious": suspicious,
        "sizes": readable.groupby(["width", "height"]).size().nlargest(5).to_dict(),
    }


def strips_of(peaks: pd.DataFrame | None) -> dict[str, list[tuple[str, int, list[tuple[Shown | None, int, float]]]]]:
    """subject -> its strips (AU, frame of the peak, frames around it); a frame is the middle of its picture, its number
    and the AU's intensity."""
    strips: dict[str, list[tuple[str, int, list[tuple[Shown | None, int, float]]]]] = {}
    if peaks is None:
        return strips
    for (subject, peak, au), rows in peaks.groupby(["subject", "peak", "au"], sort=False):
        cells = [
            (
                _middle(row.image, f"{subject}, frame {row.frame}: {au} {row.intensity:g}"),
                int(row.frame),
                float(row.intensity),
            )
            for row in rows.itertuples()
        ]
        strips.setdefault(str(subject), []).append((str(au), int(peak), cells))
    return dict(list(strips.items())[:SUBJECTS])


def _middle(path: object, title: str) -> Shown | None:
    """The square in the middle of an image, where a camera has the face; None where it cannot be read."""
    if not isinstance(path, str) or not Path(path).is_file():  # None, or NaN once a file kept it
        return None
    try:
        image = read_image(path)
    except ValueError:  # `_warn_of_broken_images` and the rule for such images tell it
        return None
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return Shown(picture_uri(image.crop((left, top, left + side, top + side)), SIDE), title, [])


def _shown(sample: pd.Series, contents: str) -> Shown | None:
    """A row's image; None where it cannot be read."""
    image = image_or_fault(sample["image"], contents)
    title = f"{sample['id']} | {sample['split']} | {_aus(sample)} | {sample['caption']}"
    return Shown(picture_uri(image, SIDE), title, []) if isinstance(image, Image.Image) else None


def _aus(sample: pd.Series) -> str:
    return format_aus([round(float(sample[key]), 1) for key in AU_KEYS]).replace(",", " ")
