"""A prepared data set as one self-contained page, data.root/report.html: what was dropped, how AUs are spread, whether
labels and pictures agree, samples, and what looks suspicious."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.data.contents import INDEX, image_contents
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.inspection.looks import image_looks
from fineface_train.data.inspection.statistics import (
    AuStatistics,
    au_statistics,
    caption_statistics,
    subject_statistics,
)
from fineface_train.data.mixture import Mixture
from fineface_train.data.peaks import COLUMNS
from fineface_train.data.prepared import MANIFEST, read_manifest
from fineface_train.data.table import SampleTable
from fineface_train.files import dated, flat, write_text
from fineface_train.locks import locked, writable
from fineface_train.reports.charts.drawing import inline
from fineface_train.reports.charts.plots import histogram_chart
from fineface_train.reports.data_faces import sample_faces, strips_of
from fineface_train.reports.pages import render

logger = logging.getLogger(__name__)
PAGE, TEMPLATE, LOOKS = "report.html", "data.html", "looks"
VERSION = 5
"""Raised when the same table gets another page."""
SHOWN_FAULTS = 3
MIXTURE = "the mixture"


def write_data_report(
    root: Path,
    table: SampleTable,
    weights: dict[str, float],
    rarity_weighting: float = 0.0,
    *,
    raw: pd.DataFrame | None = None,
    peaks: pd.DataFrame | None = None,
    seed: int = 0,
    crew: Crew = ALONE,
) -> Path:
    """Write root/report.html of `table`; returns its path. An up-to-date page is left as it is.

    All processes of the crew look at the images (`image_looks`, kept in root/looks); the first one writes.

    Args:
        weights, rarity_weighting: of the mixture that training draws from (`Mixture`).
        raw: columns `id` and the AUs on the 0-5 scale before they were corrected, for all rows of each source whose
            AUs were (`Reading.raw`).
        peaks: for sources that are videos, the frames at which an AU peaks and those around (`find_peaks`).
        seed: chooses the samples that are shown.
    Raises:
        ValueError: an image file is gone, `raw` holds only a part of a source, or the weights are not the table's.
    """
    paths = table.frame["image"].tolist()
    contents = image_contents(paths, root / INDEX, progress=not crew.silent)
    before = {} if raw is None else _raw_aus(table, raw)
    manifest = read_manifest(root) if (root / MANIFEST).is_file() else {}
    provenance = flat({name: manifest[name] for name in ("name", "config_hash", "seed", "config") if name in manifest})
    told = [
        VERSION,
        table.fingerprint(),
        table.counts,
        _origins(table.frame),
        weights,
        rarity_weighting,
        seed,
        provenance,
        _stamped(peaks),
    ]
    key = _key(told, contents, before)
    page = root / PAGE
    if page.is_file() and f'content="{key}"' in page.read_text(encoding="utf-8")[:1000]:
        return page
    if not writable(root):
        if crew.index == 0:
            logger.warning(
                "%s cannot be written: the page there is not of this version and mixture, and is left as it is", root
            )
        return page
    looks = image_looks(paths, contents, root / LOOKS, crew)
    if crew.index == 0:
        _warn_of_broken_images(looks)
        found = gather(table, weights, rarity_weighting, before) | {"copies": len(contents) - len(set(contents))}
        faces = sample_faces(table, contents, looks, seed) | {"strips": strips_of(peaks)}
        aus = list(zip(AU_KEYS, AU_NAMES, strict=True))
        with locked(root, part="_report", wait=True):
            shown = {
                "found": found,
                "faces": faces,
                "provenance": provenance,
                "aus": aus,
                "mixture": MIXTURE,
                "rarity_weighting": rarity_weighting,
            }
            shown["subjects"] = 0 if peaks is None else peaks["subject"].nunique()
            write_text(page, render(TEMPLATE, key=key, name=root.resolve().name, **shown))
    return page


def _warn_of_broken_images(looks: pd.DataFrame) -> None:
    faults = looks.loc[looks["fault"] != "", "fault"].tolist()
    if faults:
        shown = "; ".join(faults[:SHOWN_FAULTS])
        remedy = "training would stop at them; data.skip_broken=true leaves them out"
        logger.warning("%d of %d images cannot be read (%s): %s", len(faults), len(looks), remedy, shown)


def gather(
    table: SampleTable, weights: dict[str, float], rarity_weighting: float, before: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The numbers of the page, of each source and of the mixture; `before` are AUs (n, 12) before the transforms, of
    sources."""
    frame, aus = table.frame, table.aus()
    sources = list(dict.fromkeys(frame["source"]))
    rows = {source: np.flatnonzero((frame["source"] == source).to_numpy()) for source in sources}
    statistics = {source: au_statistics(aus[those]) for source, those in rows.items()}
    training = (frame["split"] == "train").to_numpy()
    shares = {}
    if any(weights.values()):
        chances = Mixture(table, weights, rarity_weighting, seed=0).probabilities()
        statistics = {MIXTURE: au_statistics(aus, chances)} | statistics
        shares = {source: float(chances[those].sum()) for source, those in rows.items()}
    raw = {source: au_statistics(values) for source, values in before.items()}
    return {
        "rows": len(frame),
        "steps": {source: _steps(counts) for source, counts in table.counts.items()},
        "statistics": statistics,
        "training": au_statistics(aus[training]),
        "shares": shares,
        "histograms": {name: _histograms(name, of, raw.get(name)) for name, of in statistics.items()},
        "raw": list(raw),
        "captions": {
            source: caption_statistics(frame["caption"].astype(str).iloc[those].tolist())
            for source, those in rows.items()
        },
        "subjects": {source: subject_statistics(frame.iloc[those]) for source, those in rows.items()},
        "origins": _origins(frame),
    }


def _origins(frame: pd.DataFrame) -> dict[str, list[tuple[str, str, int]]]:
    """Where the AUs and the captions come from: (source, who made them, rows) of each."""
    columns = {"AUs": "aus_from", "Captions": "caption_from"}
    counted = {what: frame.groupby(["source", column], sort=False).size() for what, column in columns.items()}
    return {
        what: [(str(source), str(who), int(rows)) for (source, who), rows in sizes.items()]
        for what, sizes in counted.items()
    }


def _steps(counts: dict[str, int]) -> list[tuple[str, int, float]]:
    """(name, number, share of what was read that is left after it) of each count of a reader."""
    left = read = counts.get("read", 0)
    steps = []
    for name, number in counts.items():
        left -= number if name.startswith("dropped") else 0
        steps.append((name, number, left / read if read else 0.0))
    return steps


def _histograms(name: str, after: AuStatistics, before: AuStatistics | None) -> list[tuple[str, str, float, Markup]]:
    """(AU, its name, share of rows that show it, chart) of each AU; dashed: before the transforms."""
    charts = []
    for place, (key, words) in enumerate(zip(AU_KEYS, AU_NAMES, strict=True)):
        raw = before.histograms[place] if before else []
        chart = histogram_chart(after.histograms[place], raw, title=f"{key}: intensities in {name}")
        charts.append((key, words, after.active[place], inline(chart)))
    return charts


def _stamped(peaks: pd.DataFrame | None) -> list[Any]:
    """What decides how the peaks are shown: their rows, with size and time of the images."""
    rows = [] if peaks is None else peaks.astype(object).where(peaks.notna(), None).values.tolist()
    return [[row, dated(row[COLUMNS.index("image")] or "")] for row in rows]


def _raw_aus(table: SampleTable, raw: pd.DataFrame) -> dict[str, np.ndarray]:
    """The AUs (n, 12) before they were corrected, of each source that `raw` knows."""
    before, known = {}, raw.set_index("id")
    for source, ids in table.frame.groupby("source", sort=False)["id"]:
        lacking = ids[~ids.isin(known.index)]
        if 0 < len(lacking) < len(ids):
            raise ValueError(
                f"AUs of {source} before their correction: {len(lacking)} of {len(ids)} rows are missing, the first is "
                f"{lacking.iloc[0]}"
            )
        if len(lacking) == 0:
            before[str(source)] = known.loc[ids, list(AU_KEYS)].to_numpy(dtype=np.float32)
    return before


def _key(told: list[Any], contents: list[str], before: dict[str, np.ndarray]) -> str:
    """A hash of everything that the page depends on, by which an up-to-date page is known."""
    digest = hashlib.sha256("".join([json.dumps(told), *contents]).encode())
    for source, values in before.items():
        digest.update(source.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
