"""Phase two of an evaluation: judges read files, whoever made them, and their readings become numbers.

    place/images.parquet   a row for each picture: what was asked for, and what all judges see
    place/metrics.json     the numbers; without a judge place/pictures.json, which says that there are none
    place/rows/            rows of the batches that are judged, until all are

`place` is the folder of the media, or, where another judge's numbers lie there, judged-NAME in it: nothing is
overwritten. All processes of a launch take their share; the batches are the same whatever their number, and the first
process gathers and measures.
"""

import functools
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from fineface_train.aus import AU_KEYS
from fineface_train.data.crew import ALONE, Crew
from fineface_train.evaluation.judges.drawings import attribute_hits
from fineface_train.evaluation.judges.judges import Judges
from fineface_train.evaluation.media import (
    IMAGES,
    METRICS,
    PICTURES,
    ROWS,
    ROWS_NOTE,
    Media,
    batches,
    from_bytes,
    read_picture,
)
from fineface_train.evaluation.metrics import measure
from fineface_train.files import read_json, read_parquet, replacing, write_json
from fineface_train.toyfacs.faces import face_told

logger = logging.getLogger(__name__)


def judged_folder(out: Path, judges: Judges, fingerprint: str) -> Path:
    """Where rows and numbers of these judges go: `out`, or, where those of others lie there, judged-NAME in it.

    `fingerprint` stands for media and judges; other weights of judges of one name get a folder that ends in it.
    """
    for folder in (out, out / f"judged-{judges.name}"):
        found = [
            read_json(path, "fingerprint") for path in (folder / METRICS, folder / ROWS / ROWS_NOTE) if path.exists()
        ]
        if all(one["fingerprint"] == fingerprint or not one.get("judged", True) for one in found):
            return folder
    return out / f"judged-{judges.name}-{fingerprint[:8]}"


def finished(place: Path, fingerprint: str) -> dict[str, Any] | None:
    """What is known of the finished evaluation of this `fingerprint` in `place`; None where there is none."""
    path = next((path for path in (place / METRICS, place / PICTURES) if path.exists()), None)
    if path is None or (place / ROWS).exists() or not (place / IMAGES).exists():
        return None
    found = read_json(path, "fingerprint", *(("individual", "combination") if path.name == METRICS else ()))
    return found if fingerprint in (found["fingerprint"], found.get("images_fingerprint")) else None


def judge_media(
    media: Media,
    judges: Judges,
    place: Path,
    *,
    fingerprint: str,
    about: dict[str, Any],
    batch_size: int = 32,
    crew: Crew = ALONE,
) -> dict[str, Any]:
    """Have all judges read the media, and measure; returns what metrics.json (without judges pictures.json) holds.

    Args:
        place: where rows and numbers go, see `judged_folder`; a stopped judging goes on there.
        fingerprint: stands for media and judges.
        about: what else metrics.json says, first.
    """
    read_media(media, judges, place, fingerprint=fingerprint, batch_size=batch_size, crew=crew)
    if crew.index == 0:
        _measure(media, judges, place, fingerprint, about)
    crew.wait()
    found = read_json(place / (METRICS if judges.aus else PICTURES))
    crew.wait()  # nobody changes it before all have read it
    return found


def read_media(
    media: Media, judges: Judges, place: Path, *, fingerprint: str, batch_size: int = 32, crew: Crew = ALONE
) -> None:
    """Have all judges read the media, batch by batch into `place`/rows (see `judge_media`); `gathered` puts them
    together."""
    if crew.index == 0:
        _open(place, fingerprint, media.fingerprint, judged=bool(judges.aus))
    crew.wait()
    if judges.aus:
        _judge(media, judges, place / ROWS, batch_size, crew)
        crew.wait()


def _open(place: Path, fingerprint: str, images: str, *, judged: bool) -> None:
    """A folder for the rows of this evaluation; one of these images without judges, as an earlier version kept, is
    given up."""
    rows = place / ROWS
    shutil.rmtree(
        place / f"{ROWS}.partial", ignore_errors=True
    )  # of an evaluation that was killed when it had finished
    begun = read_json(rows / ROWS_NOTE, "fingerprint") if (rows / ROWS_NOTE).exists() else None
    if begun and not begun.get("judged", True):
        shutil.rmtree(rows)
        begun = None
    if begun:
        assert begun["fingerprint"] == fingerprint, "see judged_folder"
        _read_rows(rows, mend=True)
    elif judged:
        rows.mkdir(parents=True, exist_ok=True)
        write_json(rows / ROWS_NOTE, {"fingerprint": fingerprint, "images_fingerprint": images, "judged": True})


def _judge(media: Media, judges: Judges, rows: Path, batch_size: int, crew: Crew) -> None:
    """Write the rows of this process's share of the batches that are not done."""
    clip, frame = judges.clip, media.frame
    done = _read_rows(rows)
    seen = set(done["id"]) if len(done) else set()
    crew.wait()  # nobody writes before all have read what there was

    @functools.cache
    def neutral(path: str) -> Tensor:
        assert clip is not None, "nothing else compares with it"
        return clip.embed(from_bytes(read_picture(media.folder / path, judges.size)[None]))[0]

    pending = [places for places in batches(frame, batch_size) if not seen.issuperset(frame["id"].iloc[places])]
    bar = tqdm(total=len(frame), initial=len(seen), desc="judging", unit="image", mininterval=1, disable=crew.silent)
    with bar:
        for places in pending[crew.index :: crew.count]:
            started, batch = time.perf_counter(), frame.iloc[places]
            images = _together([read_picture(media.folder / path, judges.size) for path in batch["path"]])
            read = readings_of(images, judges, batch, neutral)
            read["seconds"] = (time.perf_counter() - started) / len(batch) / crew.count
            with replacing(rows / f"{places[0]:06d}-{len(places):03d}.parquet") as partial:
                read.to_parquet(partial, index=False)
            bar.update(min(len(frame) - bar.n, len(batch) * crew.count))


def _together(pictures: list[np.ndarray]) -> Tensor | list[Tensor]:
    """Pictures (H, W, 3) in bytes as one batch (B, 3, H, W) where they are of one size, else one by one."""
    if len({picture.shape for picture in pictures}) == 1:
        return from_bytes(np.stack(pictures))
    return [from_bytes(picture[None])[0] for picture in pictures]


def readings_of(
    images: Sequence[Tensor] | Tensor, judges: Judges, batch: pd.DataFrame, neutral: Callable[[str], Tensor]
) -> pd.DataFrame:
    """What all judges see in a batch of images: a row for each row of `batch` (see `Media.frame`), with its `id`.

    `neutral` gives the CLIP embedding of the picture at a path. CLIP-I is NaN where there is none to compare with, and
    left out without a CLIP.
    """
    read = {name: judge.read(images) for name, judge in judges.aus.items()}
    embeddings = judges.clip.embed(images) if judges.clip is not None else None
    faces = judges.attributes.predict(images) if judges.attributes is not None else None
    records: list[dict[str, Any]] = []
    for index, row in enumerate(batch.to_dict("records")):
        record: dict[str, Any] = {"id": row["id"]}
        for name, (aus, found) in read.items():
            record |= {f"{name}_{key}": value for key, value in zip(AU_KEYS, aus[index].tolist(), strict=True)}
            record[f"{name}_face"] = bool(found[index])
        if embeddings is None:
            pass
        elif not isinstance(row["neutral"], str):
            record["clip_i"] = np.nan
        else:
            itself = row["neutral"] == row["path"]
            record["clip_i"] = 1.0 if itself else float(embeddings[index] @ neutral(row["neutral"]))
        told = face_told(row["prompt"]) if faces is not None else None
        if faces is not None and told is not None:
            record |= {f"attr_{name}": hit for name, hit in attribute_hits(faces[index], told).items()}
        records.append(record)
    return pd.DataFrame(records)


def _measure(media: Media, judges: Judges, place: Path, fingerprint: str, about: dict[str, Any]) -> None:
    """Put the rows together and write them and their numbers."""
    frame, seconds = gathered(media, place) if judges.aus else (media.seen_from(place), 0.0)
    seconds += media.seconds
    measured = measure(frame, list(judges.aus)) if judges.aus else {"images": len(frame)}
    known_by = {"fingerprint": fingerprint, "images_fingerprint": media.fingerprint}
    with replacing(place / IMAGES) as partial:
        frame.to_parquet(partial, index=False)
    write_json(
        place / (METRICS if judges.aus else PICTURES), about | measured | {"seconds": round(seconds, 1)} | known_by
    )
    if judges.aus:
        (place / PICTURES).unlink(missing_ok=True)
        remove_rows(place)


def gathered(media: Media, place: Path) -> tuple[pd.DataFrame, float]:
    """The media's rows with what all judges have read, and the seconds that it took."""
    frame = media.seen_from(place)
    done = _read_rows(place / ROWS).drop_duplicates("id").set_index("id").loc[frame["id"]]
    seen = [column for column in done if column not in frame and column != "seconds"]
    return pd.concat([frame, done[seen].reset_index(drop=True)], axis=1), float(done["seconds"].sum())


def remove_rows(place: Path) -> None:
    """Remove the rows of batches, once what they hold is written elsewhere."""
    gone = (place / ROWS).rename(place / f"{ROWS}.partial")
    shutil.rmtree(gone)


def _read_rows(rows: Path, *, mend: bool = False) -> pd.DataFrame:
    """What is done; a damaged batch is left out, or to `mend` it named and taken away, so that it is done again."""
    parts = []
    for path in sorted(rows.glob("*.parquet")):
        try:
            parts.append(read_parquet(path))
        except ValueError as error:
            if mend:
                logger.warning("%s: evaluating its images again", error)
                path.unlink()
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
