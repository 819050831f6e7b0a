"""Generate, judge and measure every planned image, in batches; a stopped evaluation goes on where it was.

    out/images/*.png, out/images.parquet, out/metrics.json; until it is finished also out/rows/*.parquet, one per batch.
    Without judges out/pictures.json
    in the place of metrics.json; a judge that comes later reads these images, which are not made again.

Imports run to the right only: this module knows requests, images and judges, and no method family.
"""

import dataclasses
import hashlib
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.judges.judges import ClipImageScorer, Judges, attribute_hits
from fineface_train.evaluation.metrics import measure, readings, scores
from fineface_train.evaluation.plan import Kind, PlannedImage
from fineface_train.files import read_json, read_parquet, replacing, write_json
from fineface_train.methods.protocol import FaceGenerator
from fineface_train.toyfacs.render import to_uint8

logger = logging.getLogger(__name__)
METRICS, PICTURES = "metrics.json", "pictures.json"
"""What is known of an evaluation's images: with judges, and without."""
NOTE = "plan.json"
"""In rows/, of which evaluation these are."""


def evaluate(
    generator: FaceGenerator,
    judges: Judges,
    plan: list[PlannedImage],
    out: Path,
    *,
    protocol: ProtocolName,
    bundle: str,
    generator_fingerprint: str,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Make and judge the plan's images under `out`; returns what metrics.json (without judges pictures.json) holds.

    `generator_fingerprint` stands for everything that decides the images beside the plan (weights, guidance, steps).
    With the judges' fingerprint and the plan it tells whether `out` holds this evaluation: then a stopped one goes on
    and a finished one is read back. Images that were made without judges are read by those that come later; those that
    were judged are all that no judges ask for. Raises ValueError where `out` holds another evaluation.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; use 1 or more")
    fingerprint, of_images = (
        _fingerprint(plan, judges, generator_fingerprint),
        _fingerprint(plan, None, generator_fingerprint),
    )
    gone = out / "rows.partial"
    shutil.rmtree(gone, ignore_errors=True)  # of an evaluation that was killed when it had finished
    finished = _finished(out)
    these = finished and (
        finished["fingerprint"] == fingerprint or (not judges.aus and finished.get("images_fingerprint") == of_images)
    )
    if finished and these and (out / "images.parquet").exists():
        return finished
    made = _made_unjudged(out, finished, of_images)
    if finished and not made:
        _check(finished["fingerprint"], fingerprint, out)
    rows = _open_rows(out, fingerprint, of_images, judged=bool(judges.aus))
    (out / "images").mkdir(exist_ok=True)

    done = _read_rows(rows)
    seen = set(done["id"]) if len(done) else set()
    with tqdm(total=len(plan), initial=len(seen), desc="evaluating", unit="image", mininterval=1) as bar:
        # Neutrals first: every other image is compared with its own.
        for neutrals in (True, False):
            pending = [
                (place, image)
                for place, image in enumerate(plan)
                if (image.kind is Kind.neutral) == neutrals and image.id not in seen
            ]
            embeddings = (
                {} if neutrals or not pending or judges.clip is None else _neutral_embeddings(plan, judges.clip, out)
            )
            for start in range(0, len(pending), batch_size):
                batch = pending[start : start + batch_size]
                frame = _evaluate_batch(generator, judges, [image for _, image in batch], embeddings, out, made)
                with replacing(rows / f"{batch[0][0]:06d}.parquet") as partial:
                    frame.to_parquet(partial, index=False)
                bar.update(len(batch))

    frame = _read_rows(rows).set_index("id").loc[[image.id for image in plan]].reset_index()
    seconds = float(frame.pop("seconds").sum())
    measured = measure(frame, list(judges.aus)) if judges.aus else {"images": len(frame)}
    result = (
        {"protocol": protocol.value, "bundle": bundle}
        | measured
        | {"seconds": round(seconds, 1), "fingerprint": fingerprint}
    )
    result |= {"images_fingerprint": of_images}
    with replacing(out / "images.parquet") as partial:
        frame.to_parquet(partial, index=False)
    write_json(out / (METRICS if judges.aus else PICTURES), result)
    if judges.aus:
        (out / PICTURES).unlink(missing_ok=True)
    rows.rename(gone)
    shutil.rmtree(gone)
    return result


def _evaluate_batch(
    generator: FaceGenerator,
    judges: Judges,
    batch: list[PlannedImage],
    neutrals: dict[int, Tensor],
    out: Path,
    made: set[str],
) -> pd.DataFrame:
    """Generate, save and judge one batch, or judge it alone where its images are `made`: a row per image, and the
    seconds that each took."""
    started = time.perf_counter()
    there = {
        image.id: pixels for image in batch if image.id in made and (pixels := _saved(out / _path(image))) is not None
    }
    missing = [image for image in batch if image.id not in there]
    if missing:
        drawn = to_uint8(generator.generate([image.request for image in missing]))
        # A PNG cut short by a crash is written again: only the rows, written after, say that an image is done.
        for image, array in zip(missing, drawn, strict=True):
            Image.fromarray(array).save(out / _path(image))
            there[image.id] = array
    if judges.clip is not None:
        images = from_bytes(np.stack([there[image.id] for image in batch]))  # The judges see what the PNGs hold.
        frame = _judge(images, judges.clip.embed(images), judges, batch, neutrals)
    else:
        frame = pd.DataFrame([_planned_columns(image) for image in batch])
    frame["seconds"] = (time.perf_counter() - started) / len(batch)
    return frame


def _saved(path: Path) -> np.ndarray | None:
    """The pixels of an image that was made before; None where it is gone or cannot be read, so that it is made
    again."""
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except OSError as error:
        logger.warning("%s: making it again (%s)", path, error)
        return None


def glance(generator: FaceGenerator, judges: Judges, plan: list[PlannedImage], batch_size: int) -> dict[str, float]:
    """The first judge's scores of a plan's single AUs (see `scores`), without writing anything: for a look while
    training goes on."""
    seen = readings(read_images(generator, judges, plan, batch_size), next(iter(judges.aus)), Kind.individual)
    return {name: float(values[0]) for name, values in scores(seen, np.ones((1, seen.prompts))).items()}


def read_images(generator: FaceGenerator, judges: Judges, plan: list[PlannedImage], batch_size: int) -> pd.DataFrame:
    """Make and judge a plan's images without writing anything; a row per image."""
    batches = [plan[start : start + batch_size] for start in range(0, len(plan), batch_size)]
    bar = tqdm(batches, desc="looking", unit="batch", mininterval=1, leave=False)
    made = [from_bytes(to_uint8(generator.generate([image.request for image in batch]))) for batch in bar]
    assert judges.clip is not None, "asked for what only judges see"
    embeddings = [judges.clip.embed(images) for images in made]
    pairs = zip(plan, torch.cat(embeddings), strict=True)
    neutrals = {image.prompt_index: embedding for image, embedding in pairs if image.kind is Kind.neutral}
    return pd.concat(
        [
            _judge(images, embedded, judges, batch, neutrals)
            for images, embedded, batch in zip(made, embeddings, batches, strict=True)
        ]
    )


def _judge(
    images: Tensor, embeddings: Tensor, judges: Judges, batch: list[PlannedImage], neutrals: dict[int, Tensor]
) -> pd.DataFrame:
    """A row per image: what was planned, and what all judges see."""
    records = [_planned_columns(image) for image in batch]
    read = {name: judge.read(images) for name, judge in judges.aus.items()}
    faces = judges.attributes.predict(images) if judges.attributes is not None else None
    for index, (record, image) in enumerate(zip(records, batch, strict=True)):
        for name, (aus, found) in read.items():
            record |= {f"{name}_{key}": value for key, value in zip(AU_KEYS, aus[index].tolist(), strict=True)}
            record[f"{name}_face"] = bool(found[index])
        record["clip_i"] = (
            1.0 if image.kind is Kind.neutral else float(embeddings[index] @ neutrals[image.prompt_index])
        )
        if faces is not None and image.prompt.face is not None:
            record |= {f"attr_{name}": hit for name, hit in attribute_hits(faces[index], image.prompt.face).items()}
    return pd.DataFrame(records)


def _path(image: PlannedImage) -> str:
    return f"images/{image.id}.png"


def _planned_columns(image: PlannedImage) -> dict[str, Any]:
    """The columns of images.parquet that are known before the image is made."""
    columns = {
        "id": image.id,
        "kind": image.kind.value,
        "prompt": image.prompt.text,
        "prompt_index": image.prompt_index,
        "prompt_held_out": image.prompt_held_out,
        "set_index": image.set_index,
        "set_held_out": image.set_held_out,
        "commanded": image.commanded,
        "seed": image.request.seed,
        "path": _path(image),
    }
    return columns | dict(zip(AU_KEYS, image.request.aus, strict=True))


def from_bytes(pixels: np.ndarray) -> Tensor:
    """(B, H, W, 3) bytes to (B, 3, H, W) floats in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def _neutral_embeddings(plan: list[PlannedImage], clip: ClipImageScorer, out: Path) -> dict[int, Tensor]:
    """CLIP embedding of each prompt's neutral, read from its PNG, so that a resumed evaluation sees the same."""
    embeddings = {}
    for image in plan:
        if image.kind is Kind.neutral:
            with Image.open(out / "images" / f"{image.id}.png") as picture:
                pixels = np.array(picture.convert("RGB"))[None]
            embeddings[image.prompt_index] = clip.embed(from_bytes(pixels))[0]
    return embeddings


def _fingerprint(plan: list[PlannedImage], judges: Judges | None, generator_fingerprint: str) -> str:
    """SHA-256 over all that decides the rows; without `judges` over what decides the images."""
    planned = [dataclasses.asdict(image) for image in plan]
    content = {"plan": planned, "generator": generator_fingerprint} | (
        {"judges": [judges.fingerprint, *judges.aus]} if judges else {}
    )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(found: str | None, wanted: str, out: Path) -> None:
    if found != wanted:
        raise ValueError(
            f"out={out} holds another evaluation (other plan, seed, bundle or judges); choose another out folder or "
            f"delete this one"
        )


def _finished(out: Path) -> dict[str, Any] | None:
    """What is known of a finished evaluation in `out`; None where there is none, or one has begun after it."""
    if (out / "rows").exists():
        return None
    if (out / METRICS).exists():
        return read_json(out / METRICS, "fingerprint", "individual", "combination")
    return read_json(out / PICTURES, "fingerprint", "images_fingerprint") if (out / PICTURES).exists() else None


def _made_unjudged(out: Path, finished: dict[str, Any] | None, of_images: str) -> set[str]:
    """The ids of these very images that lie in `out` already, made without judges, by an evaluation that is finished or
    that was stopped."""
    pictures = read_json(out / PICTURES, "images_fingerprint") if (out / PICTURES).exists() else {}
    if pictures.get("images_fingerprint") == of_images and (out / "images.parquet").exists():
        return set(read_parquet(out / "images.parquet")["id"])
    rows, note = out / "rows", out / "rows" / NOTE
    begun = read_json(note, "fingerprint") if note.exists() else {}
    if begun.get("images_fingerprint") == of_images and not begun["judged"]:
        done = _read_rows(rows)
        return set(done["id"]) if len(done) else set()
    return set()


def _open_rows(out: Path, fingerprint: str, of_images: str, *, judged: bool) -> Path:
    """The folder of finished batches: a new one, or one of this very evaluation; one of these images without judges is
    given up for `judged` ones."""
    rows, note = out / "rows", out / "rows" / NOTE
    begun = read_json(note, "fingerprint") if note.exists() else None
    if begun and judged and not begun.get("judged", True) and begun.get("images_fingerprint") == of_images:
        shutil.rmtree(rows)
        begun = None
    if begun:
        _check(begun["fingerprint"], fingerprint, out)
    else:
        rows.mkdir(parents=True, exist_ok=True)
        write_json(note, {"fingerprint": fingerprint, "images_fingerprint": of_images, "judged": judged})
    return rows


def _read_rows(rows: Path) -> pd.DataFrame:
    """What is done; a damaged batch is named and done again."""
    parts = []
    for path in sorted(rows.glob("*.parquet")):
        try:
            parts.append(read_parquet(path))
        except ValueError as error:
            logger.warning("%s: evaluating its images again", error)
            path.unlink()
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
