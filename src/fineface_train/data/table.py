"""The one table that every reader returns: a row per image, with its caption, AUs, subject and split."""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.aus import AU_COUNT, AU_KEYS, MAX_INTENSITY
from fineface_train.data.intensities import Correction
from fineface_train.data.splits import SPLITS
from fineface_train.files import read_parquet, replacing

logger = logging.getLogger(__name__)
TEXT_COLUMNS: tuple[str, ...] = ("id", "source", "image", "caption", "subject", "split")
COLUMNS: tuple[str, ...] = (
    "id",
    "source",
    "image",
    "caption",
    *AU_KEYS,
    "subject",
    "split",
    "aus_from",
    "caption_from",
)


@dataclasses.dataclass(frozen=True, eq=False)
class SampleTable:
    """Labelled images. Columns: `id` (unique), `source`, `image` (absolute path), `caption`, `AU1`..`AU26` (float32,
    0-5), `subject`, `split`, and who told them: `aus_from`, `caption_from`.
    """

    frame: pd.DataFrame
    counts: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    """For each source, how many rows were read, dropped by each filter, and kept; told by the reader, not part of the
    contents."""

    def __post_init__(self) -> None:
        missing = [column for column in COLUMNS if column not in self.frame.columns]
        if missing:
            raise ValueError(f"sample table: columns missing: {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
        if self.frame["id"].duplicated().any():
            raise ValueError(
                f"sample table: id {self.frame['id'][self.frame['id'].duplicated()].iloc[0]!r} occurs twice"
            )
        unknown = set(self.frame["split"]) - set(SPLITS)
        if unknown:
            raise ValueError(f"sample table: split {sorted(unknown)[0]!r} is not one of {', '.join(SPLITS)}")
        aus = self.aus()
        if not ((aus >= 0) & (aus <= MAX_INTENSITY)).all():
            raise ValueError(f"sample table: AU intensities must lie in 0..{MAX_INTENSITY:g}")

    @staticmethod
    def build(
        source: str,
        *,
        ids: Sequence[str],
        images: Sequence[str],
        captions: Sequence[str],
        aus: np.ndarray,
        subjects: Sequence[str],
        splits: Sequence[str],
        aus_from: str,
        caption_from: str,
    ) -> "SampleTable":
        """A table from parallel sequences of N; `aus` is (N, 12) in [0, 5]; `aus_from`, `caption_from`: who told them,
        in words."""
        frame = pd.DataFrame({"id": list(ids), "source": source, "image": list(images), "caption": list(captions)})
        frame[list(AU_KEYS)] = np.asarray(aus, dtype=np.float32).reshape(len(frame), AU_COUNT)
        frame["subject"], frame["split"] = list(subjects), list(splits)
        frame["aus_from"], frame["caption_from"] = aus_from, caption_from
        return SampleTable(frame)

    @staticmethod
    def concatenate(tables: Sequence["SampleTable"]) -> "SampleTable":
        """All rows, in the order of `tables`."""
        counts = {source: values for table in tables for source, values in table.counts.items()}
        return SampleTable(pd.concat([table.frame[list(COLUMNS)] for table in tables], ignore_index=True), counts)

    @staticmethod
    def read(path: Path) -> "SampleTable":
        """Read what `write` wrote."""
        return SampleTable(read_parquet(path))

    def write(self, path: Path) -> None:
        """Write as Parquet, whole or not at all."""
        with replacing(path) as partial:
            self.frame[list(COLUMNS)].to_parquet(partial, index=False)

    def aus(self) -> np.ndarray:
        """Intensities (N, 12) float32 in [0, 5]."""
        return self.frame[list(AU_KEYS)].to_numpy(dtype=np.float32)

    def fingerprint(self) -> str:
        """SHA-256 over what is trained on: the same data has the same fingerprint wherever it lies and whoever told
        it."""
        digest = hashlib.sha256(np.ascontiguousarray(self.aus()).tobytes())
        for column in TEXT_COLUMNS:
            if column != "image":
                digest.update("\0".join([column, *self.frame[column].astype(str)]).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.frame)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader made of a source."""

    table: SampleTable
    raw: pd.DataFrame | None = None
    """`id` and the AUs on the 0-5 scale before they were corrected, where they were."""
    correction: Correction | None = None
    dropped: tuple[str, ...] = ()
    """Images that were left out for what they are, or as they are missing or cannot be read."""
    peaks: pd.DataFrame | None = None
    """Frames at which an AU peaks, with those around (`peaks.find_peaks`), where the source is videos."""


UNREADABLE = "image cannot be read"
FAULTS_SHOWN = 10


class Sieve:
    """Rows that pass one filter after the other, and how many each has dropped."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        self.counts = {"read": len(rows)}
        self.dropped: list[str] = []
        """Images of the rows that were dropped once they had a `path`: for what they are, or as they are missing or
        cannot be read."""

    def keep(self, passes: np.ndarray, otherwise: str) -> None:
        """Keep the rows that pass; the others are counted as dropped: `otherwise`."""
        self.keep_counted(passes, {f"dropped: {otherwise}": int((~passes).sum())})

    def keep_counted(self, passes: np.ndarray, counts: dict[str, int]) -> None:
        """Keep the rows that pass; `counts` tell what dropped the others."""
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        if "path" in self.rows:
            self.dropped += self.rows["path"][~passes].tolist()
        self.rows = self.rows[passes]

    def keep_readable(self, paths: Sequence[str], faults: Sequence[str], *, skip_broken: bool) -> None:
        """Keep the rows whose image has no fault (""); the others are named, and dropped if they are to be skipped.
        Raises ValueError where not."""
        good = np.array([not fault for fault in faults], dtype=bool)
        broken = [(path, fault) for path, fault in zip(paths, faults, strict=True) if fault]
        if broken and not skip_broken:
            raise ValueError(
                f"{broken[0][1]} ({len(broken)} such images); bring back whole copies, or leave them out with "
                f"data.skip_broken=true"
            )
        for _, fault in broken[:FAULTS_SHOWN]:
            logger.warning("skipped: %s", fault)
        self.keep(good, UNREADABLE)

    def caption(self, said: pd.DataFrame, *, skip_broken: bool) -> None:
        """Add each row's `caption` and `caption_from`; those that are not ok are dropped by what they are
        (`blip2.caption_images`).

        Raises ValueError as `keep_readable` does.
        """
        self.keep_readable(said["path"].tolist(), said["fault"].tolist(), skip_broken=skip_broken)
        said = said[said["fault"] == ""]
        self.rows = self.rows.assign(caption=said["caption"].to_numpy(), caption_from=said["made_with"].to_numpy())
        status = said["status"].to_numpy()
        bad = {f"dropped: caption: {one}": int((status == one).sum()) for one in sorted(set(status) - {"ok"})}
        self.keep_counted(status == "ok", bad)

    def done(self) -> dict[str, int]:
        """The counts, with what is left as "kept"."""
        return self.counts | {"kept": len(self.rows)}


def hash_fraction(*parts: object) -> float:
    """A pseudo-random number in [0, 1) that depends on `parts` alone: a choice that does not move when rows come or
    go."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
