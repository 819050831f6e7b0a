"""The files of a prepared folder."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from fineface_train.aus import AU_KEYS
from fineface_train.data.affectnet.reader import CORRECTION
from fineface_train.data.peaks import COLUMNS
from fineface_train.data.table import Reading, SampleTable
from fineface_train.files import hash_of, hash_of_files, read_json, replacing, sha256, write_json

logger = logging.getLogger(__name__)
TABLE, MANIFEST = "table.parquet", "manifest.json"
RAW = "raw.parquet"
DROPPED = "dropped.parquet"
"""Images that were left out for what they are: when one changes, the table may."""
PEAKS = "peaks.parquet"
"""Frames at which an AU peaks, with those around, of sources that are videos."""


def read_manifest(root: Path | str) -> dict[str, Any]:
    """The manifest of a prepared folder. Raises ValueError if there is none."""
    path = Path(root) / MANIFEST
    if not path.is_file():
        raise ValueError(f"data.root={root}: holds no {MANIFEST}; run `fineface prepare` first")
    return read_json(path)


def write_prepared(root: Path, name: str, readings: list[Reading], made_from: dict[str, Any]) -> None:
    """Write what was read. The manifest vouches for the others, so it goes first and comes back last.

    Args:
        name: of the data.
        made_from: the `identity` of `current.py`.
    Raises:
        ValueError: no row is left to train on.
    """
    table = SampleTable.concatenate([reading.table for reading in readings])
    _check_splits(table)
    for file in (MANIFEST, CORRECTION):
        (root / file).unlink(missing_ok=True)
    table.write(root / TABLE)
    with replacing(root / RAW) as partial:
        raw = [reading.raw for reading in readings if reading.raw is not None]
        (pd.concat(raw) if raw else pd.DataFrame(columns=["id", *AU_KEYS])).to_parquet(partial, index=False)
    for reading in readings:
        if reading.correction is not None:
            reading.correction.write(root / CORRECTION)
    dropped = [path for reading in readings for path in reading.dropped]
    with replacing(root / DROPPED) as partial:
        pd.DataFrame({"path": dropped}, dtype=str).to_parquet(partial, index=False)
    with replacing(root / PEAKS) as partial:
        peaks = [reading.peaks for reading in readings if reading.peaks is not None]
        (pd.concat(peaks) if peaks else pd.DataFrame(columns=list(COLUMNS))).to_parquet(partial, index=False)
    made_of = {"name": name, "config_hash": hash_of(made_from), **made_from}
    files = {file: sha256(root / file) for file in (RAW, DROPPED, PEAKS, CORRECTION) if (root / file).is_file()}
    stamps = {"images": hash_of_files(table.frame["image"]), "dropped": hash_of_files(dropped)}
    write_json(
        root / MANIFEST, made_of | {"sources": table.counts} | stamps | {"files": files, "table": _summary(table)}
    )


def _check_splits(table: SampleTable) -> None:
    """Raises ValueError where no row is left to train on; a source without one is told."""
    if not (table.frame["split"] == "train").any():
        splits = ", ".join(
            f"{source} {split} {count}"
            for (source, split), count in table.frame.groupby(["source", "split"]).size().items()
        )
        raise ValueError(
            f"data: no row is left to train on ({splits}); lower data.disfa.test_share, take another data.disfa.fold, "
            f"or more subjects"
        )
    splits_of = table.frame.groupby("source")["split"].agg(set)
    for source in splits_of.index[[("train" not in splits) for splits in splits_of]]:
        logger.warning(
            "data.%s: none of its rows is left to train on; lower its shares for validation and test if that is not "
            "meant",
            source,
        )


def _summary(table: SampleTable) -> dict[str, Any]:
    """Counts and the fingerprint, for the manifest."""
    active = table.aus() > 0
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    keys = [column for column in table.frame.columns if column.startswith("AU")]
    return {
        "rows": len(table),
        "fingerprint": table.fingerprint(),
        "splits": {
            f"{source} {split}": int(count)
            for (source, split), count in table.frame.groupby(["source", "split"]).size().items()
        },
        "active_share": dict(zip(keys, active.mean(axis=0).round(4).tolist(), strict=True)),
        "alone_share": dict(zip(keys, alone.mean(axis=0).round(4).tolist(), strict=True)),
        "neutral_share": round(float((~active.any(axis=1)).mean()), 4),
    }
