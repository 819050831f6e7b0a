"""Generate, judge and measure every planned image, in batches; a stopped evaluation goes on where it was.

    out/images/*.png, out/images.parquet, out/metrics.json; until it is finished also out/rows/*.parquet, one per batch.

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
from fineface_train.evaluation.judges import ClipImageScorer, Judges, attribute_hits
from fineface_train.evaluation.metrics import measure, readings, scores
from fineface_train.evaluation.protocol import Kind, PlannedImage, ProtocolName
from fineface_train.files import read_json, read_parquet, replacing, write_json
from fineface_train.methods.protocol import FaceGenerator
from fineface_train.toyfacs.render import to_uint8

logger = logging.getLogger(__name__)


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
    """Make and judge the plan's images under `out`; returns what metrics.json holds.

    `generator_fingerprint` stands for everything that decides the images beside the plan (weights, guidance, steps). With
    the judges' fingerprint and the plan it tells whether `out` holds this evaluation: then a stopped one goes on and a
    finished one is read back. Raises ValueError where `out` holds another evaluation.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; use 1 or more")
    fingerprint = _fingerprint(plan, judges, generator_fingerprint)
    gone = out / "rows.partial"
    shutil.rmtree(gone, ignore_errors=True)  # of an evaluation that was killed when it had finished
    if (out / "metrics.json").exists() and not (out / "rows").exists():
        finished = read_json(out / "metrics.json", "fingerprint", "individual", "combination")
        _check(finished.get("fingerprint"), fingerprint, out)
        if (out / "images.parquet").exists():
            return finished
    rows = _open_rows(out, fingerprint)
    (out / "images").mkdir(exist_ok=True)

    done = _read_rows(rows)
    seen = set(done["id"]) if len(done) else set()
    with tqdm(total=len(plan), initial=len(seen), desc="evaluating", unit="image", mininterval=1) as bar:
        # Neutrals first: every other image is compared with its own.
        for neutrals in (True, False):
            pending = [(place, image) for place, image in enumerate(plan) if (image.kind is Kind.neutral) == neutrals and image.id not in seen]
            embeddings = {} if neutrals or not pending else _neutral_embeddings(plan, judges.clip, out)
            for start in range(0, len(pending), batch_size):
                batch = pending[start : start + batch_size]
                frame = _evaluate_batch(generator, judges, [image for _, image in batch], embeddings, out)
                with replacing(rows / f"{batch[0][0]:06d}.parquet") as partial:
                    frame.to_parquet(partial, index=False)
                bar.update(len(batch))

    frame = _read_rows(rows).set_index("id").loc[[image.id for image in plan]].reset_index()
    seconds = float(frame.pop("seconds").sum())
    measured = measure(frame, list(judges.aus))
    result = {"protocol": protocol.value, "bundle": bundle} | measured | {"seconds": round(seconds, 1), "fingerprint": fingerprint}
    with replacing(out / "images.parquet") as partial:
        frame.to_parquet(partial, index=False)
    write_json(out / "metrics.json", result)
    rows.rename(gone)
    shutil.rmtree(gone)
    return result


def _evaluate_batch(generator: FaceGenerator, judges: Judges, batch: list[PlannedImage], neutrals: dict[int, Tensor], out: Path) -> pd.DataFrame:
    """Generate, save and judge one batch: a row per image, and the seconds that each took."""
    started = time.perf_counter()
    pixels = to_uint8(generator.generate([image.request for image in batch]))
    # A PNG cut short by a crash is written again: only the rows, written after, say that an image is done.
    for image, array in zip(batch, pixels, strict=True):
        Image.fromarray(array).save(out / _path(image))
    images = from_bytes(pixels)  # The judges see what the PNGs hold.
    frame = _judge(images, judges.clip.embed(images), judges, batch, neutrals)
    frame["seconds"] = (time.perf_counter() - started) / len(batch)
    return frame


def glance(generator: FaceGenerator, judges: Judges, plan: list[PlannedImage], batch_size: int) -> dict[str, float]:
    """The first judge's scores of a plan's single AUs (see `scores`), without writing anything: for a look while training goes on."""
    seen = readings(read_images(generator, judges, plan, batch_size), next(iter(judges.aus)), Kind.individual)
    return {name: float(values[0]) for name, values in scores(seen, np.ones((1, seen.prompts))).items()}


def read_images(generator: FaceGenerator, judges: Judges, plan: list[PlannedImage], batch_size: int) -> pd.DataFrame:
    """Make and judge a plan's images without writing anything; a row per image."""
    batches = [plan[start : start + batch_size] for start in range(0, len(plan), batch_size)]
    bar = tqdm(batches, desc="looking", unit="batch", mininterval=1, leave=False)
    made = [from_bytes(to_uint8(generator.generate([image.request for image in batch]))) for batch in bar]
    embeddings = [judges.clip.embed(images) for images in made]
    pairs = zip(plan, torch.cat(embeddings), strict=True)
    neutrals = {image.prompt_index: embedding for image, embedding in pairs if image.kind is Kind.neutral}
    return pd.concat([_judge(images, embedded, judges, batch, neutrals) for images, embedded, batch in zip(made, embeddings, batches, strict=True)])


def _judge(images: Tensor, embeddings: Tensor, judges: Judges, batch: list[PlannedImage], neutrals: dict[int, Tensor]) -> pd.DataFrame:
    """A row per image: what was planned, and what all judges see."""
    records = [_planned_columns(image) for image in batch]
    read = {name: judge.read(images) for name, judge in judges.aus.items()}
    faces = judges.attributes.predict(images) if judges.attributes is not None else None
    for index, (record, image) in enumerate(zip(records, batch, strict=True)):
        for name, (aus, found) in read.items():
            record |= {f"{name}_{key}": value for key, value in zip(AU_KEYS, aus[index].tolist(), strict=True)}
            record[f"{name}_face"] = bool(found[index])
        record["clip_i"] = 1.0 if image.kind is Kind.neutral else float(embeddings[index] @ neutrals[image.prompt_index])
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


def _fingerprint(plan: list[PlannedImage], judges: Judges, generator_fingerprint: str) -> str:
    """SHA-256 over all that decides the rows."""
    planned = [dataclasses.asdict(image) for image in plan]
    content = {"plan": planned, "judges": [judges.fingerprint, *judges.aus], "generator": generator_fingerprint}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(found: str | None, wanted: str, out: Path) -> None:
    if found != wanted:
        raise ValueError(f"out={out} holds another evaluation (other plan, seed, bundle or judges); choose another out folder or delete this one")


def _open_rows(out: Path, fingerprint: str) -> Path:
    """The folder of finished batches: a new one, or one of this very evaluation."""
    rows, note = out / "rows", out / "rows" / "plan.json"
    if note.exists():
        _check(read_json(note, "fingerprint")["fingerprint"], fingerprint, out)
    else:
        rows.mkdir(parents=True, exist_ok=True)
        write_json(note, {"fingerprint": fingerprint})
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
