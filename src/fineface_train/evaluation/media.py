"""Phase one of an evaluation: the plan's media are made and written, by all processes of a launch.

    out/images/*.png      the media
    out/media.parquet     the manifest: a row for each, with what was planned and where it lies
    out/media.json        the fingerprint of what made them, the seconds it took, and whether they are `whole`

The plan is cut into batches that do not depend on what is there or on the number of processes, so that a medium is the
same to the byte however often the work was stopped. Every file is renamed into its place whole: what is there is done.
"""

import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from fineface_train.aus import AU_KEYS
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.formats.images import read_image
from fineface_train.evaluation.plan import Kind, PlannedImage
from fineface_train.files import read_json, read_parquet, replacing, sha256, write_json
from fineface_train.methods.protocol import FaceGenerator
from fineface_train.toyfacs.render import to_uint8

logger = logging.getLogger(__name__)
METRICS, PICTURES, IMAGES = "metrics.json", "pictures.json", "images.parquet"
"""What is known of an evaluation: its numbers, or without a judge that there are none; and its rows."""
MANIFEST, NOTE = "media.parquet", "media.json"
ROWS, ROWS_NOTE = "rows", "plan.json"
"""Rows of batches that are judged, until all are; and of which evaluation they are."""


@dataclasses.dataclass(frozen=True)
class Media:
    """Files that were made or found, and what they are meant to show."""

    folder: Path
    frame: pd.DataFrame
    """A row for each: `id`, `kind`, `unit`, the AUs asked for, `path` and `neutral` (the picture that its CLIP-I
    compares it with; its own path where it is one, missing where there is none), both from `folder`, and what else is
    known of it."""
    fingerprint: str
    """Stands for all that decides the files' bytes."""
    seconds: float = 0.0
    """That making them took."""

    def seen_from(self, folder: Path) -> pd.DataFrame:
        """The rows with paths from another folder: relative ones where one holds the other, so that both can be
        moved together, else absolute ones."""
        if folder == self.folder:
            return self.frame
        here, there = self.folder.absolute(), folder.absolute()
        near = here.is_relative_to(there) or there.is_relative_to(here)

        def moved(path: str | None) -> str | None:
            if not isinstance(path, str):  # missing values are None, or NaN once a table was read
                return None
            return os.path.relpath(here / path, there) if near else os.path.abspath(here / path)

        return self.frame.assign(
            **{column: [moved(path) for path in self.frame[column]] for column in ("path", "neutral")}
        )


def batches(frame: pd.DataFrame, size: int) -> list[list[int]]:
    """Places of the rows of each batch: neutral ones first, then the others, in their order, cut in `size`."""
    neutral = (frame["kind"] == Kind.neutral.value).to_numpy()
    return [
        places[start : start + size].tolist()
        for places in (np.flatnonzero(neutral), np.flatnonzero(~neutral))
        for start in range(0, len(places), size)
    ]


def read_picture(path: Path, size: int | None = None) -> np.ndarray:
    """A picture's file as (H, W, 3) bytes: upright, RGB, on white where it is transparent.

    With a `size` it is that many pixels high and wide: the square in its middle, resized by a bicubic filter; one that
    has that size already is left as it is. Raises ValueError that names a file that cannot be read.
    """
    image = read_image(path)
    if size is not None and image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return np.array(image)


def from_bytes(pixels: np.ndarray) -> Tensor:
    """(B, H, W, 3) bytes to (B, 3, H, W) floats in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def planned_frame(plan: Sequence[PlannedImage]) -> pd.DataFrame:
    """The manifest of a plan: see `Media.frame`; files lie in images/."""
    neutral = {image.unit: _path(image) for image in plan if image.kind is Kind.neutral}
    rows = []
    for image in plan:
        columns: dict[str, Any] = {
            "id": image.id,
            "kind": image.kind.value,
            "prompt": image.prompt.text,
            "unit": image.unit,
            "prompt_index": image.prompt_index,
            "prompt_held_out": image.prompt_held_out,
            "set_index": image.set_index,
            "set_held_out": image.set_held_out,
            "commanded": image.commanded,
            "seed": image.request.seed,
            "path": _path(image),
            "neutral": neutral.get(image.unit),
        }
        given = {key: getattr(image.request, key) for key in ("source", "driving")}
        columns |= {key: path for key, path in given.items() if path is not None}
        rows.append(columns | dict(zip(AU_KEYS, image.request.aus, strict=True)))
    return pd.DataFrame(rows)


def media_fingerprint(plan: Sequence[PlannedImage], generator: str, judges: Sequence[str] | None = None) -> str:
    """SHA-256 over the plan and what the `generator` is known by, which decide the media; with `judges` (their
    fingerprint and names) over what decides the rows."""
    content = {"plan": [_planned(image) for image in plan], "generator": generator}
    if judges is not None:
        content |= {"judges": list(judges)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _planned(image: PlannedImage) -> dict[str, Any]:
    """A planned image as plain values; pictures that it is made from by what they hold."""
    planned = dataclasses.asdict(image)
    for key in ("source", "driving"):
        path = planned["request"].pop(key)
        if path is not None:
            planned["request"][key] = sha256(Path(path))
    return planned


def make_media(
    generator: FaceGenerator,
    plan: Sequence[PlannedImage],
    out: Path,
    *,
    fingerprint: str,
    earlier: Collection[str] = (),
    batch_size: int = 32,
    crew: Crew = ALONE,
) -> Media:
    """Make what is missing of the plan's media under `out`; all processes of the crew take their share.

    Args:
        fingerprint: see `media_fingerprint`; `out` must hold no other media.
        earlier: fingerprints of evaluations of these media, by which versions knew them that kept no manifest.
    Raises:
        ValueError: `out` holds media of another plan or generator.
    """
    frame = planned_frame(plan)
    made = _made_before(out, fingerprint, earlier)
    crew.wait()  # nobody writes before all have read what there was
    if crew.index == 0:
        _begin(out, frame, fingerprint, made)
    crew.wait()
    shares = batches(frame, batch_size)
    bar = tqdm(total=len(frame), desc="making images", unit="image", mininterval=1, disable=crew.silent)
    with bar:
        for places in shares[crew.index :: crew.count]:
            started, batch = time.perf_counter(), [plan[place] for place in places]
            missing = [image for image in batch if not _is_picture(out / _path(image))]
            if missing:
                _make(generator, batch, missing, out)
            if missing and crew.index == 0:
                note = read_json(out / NOTE, "seconds")
                write_json(out / NOTE, note | {"seconds": note["seconds"] + time.perf_counter() - started})
            bar.update(min(len(frame) - bar.n, len(batch) * crew.count))
    crew.wait()
    if crew.index == 0:
        write_json(out / NOTE, read_json(out / NOTE) | {"whole": True})
    crew.wait()
    return Media(out, frame, fingerprint, read_json(out / NOTE, "seconds")["seconds"])


def _make(generator: FaceGenerator, batch: Sequence[PlannedImage], missing: Sequence[PlannedImage], out: Path) -> None:
    """Make a whole batch, as its rounding depends on what is in it, and write what is missing."""
    drawn = to_uint8(generator.generate([image.request for image in batch]))
    for image, pixels in zip(batch, drawn, strict=True):
        if image in missing:
            with replacing(out / _path(image)) as partial:
                Image.fromarray(pixels).save(partial, "PNG")


def _path(image: PlannedImage) -> str:
    return f"images/{image.id}.png"


def _is_picture(path: Path) -> bool:
    """Whether a picture lies there; one that cannot be read is named, as it is made again."""
    if not path.is_file():
        return False
    try:
        read_image(path)
    except ValueError as error:
        logger.warning("%s; making it again", error)
        return False
    return True


def _made_before(out: Path, fingerprint: str, earlier: Collection[str]) -> set[str] | None:
    """The ids of these media that were made under `out` by a version that kept no manifest; None where whatever file
    is there is whole.

    Raises ValueError where `out` holds other media.
    """
    if (out / NOTE).exists():
        check_same(read_json(out / NOTE, "fingerprint")["fingerprint"] == fingerprint, out)
        return None
    for path in (out / METRICS, out / PICTURES, out / ROWS / ROWS_NOTE):
        if path.exists():
            found = read_json(path, "fingerprint")
            check_same(found.get("images_fingerprint") == fingerprint or found["fingerprint"] in earlier, out)
            # Of an evaluation that was stopped, rows say which files are whole: they were not renamed into their place.
            return _ids(out / ROWS) if path.name == ROWS_NOTE else None
    return set()


def check_same(same: bool, out: Path) -> None:
    """Raises ValueError unless `out` holds the `same` evaluation."""
    if not same:
        raise ValueError(
            f"out={out} holds another evaluation (other plan, seed, bundle or pictures); choose another out folder or "
            f"delete this one"
        )


def _ids(rows: Path) -> set[str]:
    """Whose rows are there; a damaged file tells none."""
    ids: set[str] = set()
    for path in rows.glob("*.parquet"):
        try:
            ids |= set(read_parquet(path)["id"])
        except ValueError as error:
            logger.warning("%s: making its images again", error)
    return ids


def _begin(out: Path, frame: pd.DataFrame, fingerprint: str, made: set[str] | None) -> None:
    """Take away what may be half a file, and write down what is made here, unless that was done."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    for leftover in (out / "images").glob("*.partial"):
        leftover.unlink()
    if (out / NOTE).exists():
        return
    for name, path in zip(frame["id"], frame["path"], strict=True):
        if made is not None and name not in made:
            (out / path).unlink(missing_ok=True)
    with replacing(out / MANIFEST) as partial:
        frame.to_parquet(partial, index=False)
    write_json(out / NOTE, {"fingerprint": fingerprint, "images": len(frame), "seconds": 0.0, "whole": False})
