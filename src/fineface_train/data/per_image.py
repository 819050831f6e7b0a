"""What is found out about each image once and kept: captions, AUs, answers to questions.

An image is known by the SHA-256 of its contents, so that moving, renaming or copying it asks for nothing again.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from fineface_train.data.crew import ALONE, Crew
from fineface_train.files import read_json, write_json
from fineface_train.locks import locked

MADE_BY = "made_by.json"
Row = dict[str, Any]


def per_image(
    paths: Sequence[str],
    contents: Sequence[str],
    folder: Path,
    made_by: dict[str, Any],
    make: Callable[[list[str]], list[Row]],
    *,
    batch_size: int,
    title: str,
    crew: Crew = ALONE,
) -> pd.DataFrame:
    """A row for each of `paths`, in their order; `make` is asked for those that `folder` does not hold.

    Each process of the crew appends what it makes, batch by batch, to a file of its own, so that one that is killed
    loses a batch. All processes return the same.

    Args:
        paths, contents: image files and their SHA-256 in hex (`contents.image_contents`).
        folder: of these rows; belongs to this `made_by` alone.
        made_by: what decides the rows (model, version, prompts), kept there as made_by.json.
        make: paths to rows of plain values, one each and all with the same keys; these are not "path" nor "contents".
    Raises:
        ValueError: `folder` holds rows that were made by something else, or damaged ones.
    """
    digest_of = dict(zip(paths, contents, strict=True))
    with crew.entered(locked(folder, wait=True)):
        crew.first(lambda: _check_made_by(folder / MADE_BY, made_by))
        known = _read(folder)
        unknown = list(
            {digest: path for path, digest in digest_of.items() if digest not in known}.values()
        )  # equal files are asked about once
        crew.wait()  # nobody writes before all have read what there was
        with tqdm(
            total=len(unknown), desc=title, unit="image", mininterval=1, disable=crew.silent or not unknown
        ) as bar:
            for start in range(crew.index * batch_size, len(unknown), crew.count * batch_size):
                batch = unknown[start : start + batch_size]
                rows = make(batch)
                _append(
                    folder / f"rows-{crew.index}.jsonl",
                    [{"contents": digest_of[path], **row} for path, row in zip(batch, rows, strict=True)],
                )
                bar.update(min(len(unknown) - bar.n, len(batch) * crew.count))
        crew.wait()
        known = _read(folder)
    frame = pd.DataFrame([known[digest] for digest in contents])
    frame.insert(0, "path", list(paths))
    return frame


def _append(path: Path, rows: list[Row]) -> None:
    with path.open("ab+") as file:
        whole = path.read_bytes().rfind(b"\n") + 1  # a last line that a crash cut off is no row
        file.truncate(whole)
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def _check_made_by(path: Path, made_by: dict[str, Any]) -> None:
    if not path.is_file():
        write_json(path, made_by)
    elif read_json(path) != made_by:
        raise ValueError(
            f"{path.parent} holds rows that were made otherwise (see {path.name}); give another folder or remove this "
            f"one"
        )


def _read(folder: Path) -> dict[str, Row]:
    """By contents, every whole row; a last line that a crash cut off is none."""
    known = {}
    for path in sorted(folder.glob("rows-*.jsonl")):
        data = path.read_bytes()
        for number, line in enumerate(data.splitlines(keepends=True), start=1):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: damaged ({error}); remove the line") from None
            if row is not None:
                known[row["contents"]] = row
    return known
