"""`fineface prepare`: datasets on disk to one table of samples, once, with a manifest that tells what became of every row."""

import dataclasses
import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fineface_train.data import affectnet, disfa, manipulation
from fineface_train.data.affectnet import AffectNetConfig, read_affectnet
from fineface_train.data.disfa import DisfaConfig, read_disfa
from fineface_train.data.images import read_image
from fineface_train.data.manipulation import ManipulationConfig, read_manipulation
from fineface_train.data.table import SampleTable
from fineface_train.files import check_name, locked, plain, read_json, write_json
from fineface_train.toyfacs.corpus import CorpusConfig, corpus_stamp, read_stamp, write_corpus

logger = logging.getLogger(__name__)
CORPUS, TABLE, MANIFEST = "corpus", "table.parquet", "manifest.json"
LAYOUT_VERSION = 1
"""Raised when readers change what they make of the same files and config."""


@dataclasses.dataclass
class DataConfig:
    """Which sources the data has, and where the prepared table lies."""

    name: str = "toyfacs"
    root: str = "outputs/data/toyfacs"
    """Folder of the prepared table, its manifest and, if ToyFACS is drawn, `corpus/`."""
    toyfacs: CorpusConfig | None = None
    """Set: draw a corpus into `root`/corpus; the sources' roots point there."""
    disfa: DisfaConfig | None = None
    affectnet: AffectNetConfig | None = None
    manipulation: ManipulationConfig | None = None
    rarity_weighting: float = 0.0
    """Power of the mean inverse frequency of a row's active AUs in its chance to be drawn; 0 draws uniformly."""
    skip_broken: bool = False
    """Decode every image while preparing, and drop and count those that cannot be read; else the first one met is an error."""

    def validate(self, key: str) -> None:
        check_name(f"{key}.name", self.name)
        if not self.sources:
            raise ValueError(f"{key}: has no source; set {key}.disfa, {key}.affectnet or {key}.manipulation, or choose one of the presets in configs/data")
        if not 0 <= self.rarity_weighting <= 2:
            raise ValueError(f"{key}.rarity_weighting={self.rarity_weighting}: must lie in 0..2 (0 draws uniformly)")
        if self.toyfacs is not None:
            self.toyfacs.validate(f"{key}.toyfacs")
        for name, source in self.sources.items():
            source.validate(f"{key}.{name}")
        if len({source.weight is None for source in self.sources.values()}) > 1:
            raise ValueError(f"{key}: set {' and '.join(f'{key}.{name}.weight' for name in self.sources)}: all of them, or none")

    @property
    def sources(self) -> dict[str, DisfaConfig | AffectNetConfig | ManipulationConfig]:
        """The configs of the sources that the data has, by name."""
        every = {disfa.SOURCE: self.disfa, affectnet.SOURCE: self.affectnet, manipulation.SOURCE: self.manipulation}
        return {name: source for name, source in every.items() if source is not None}

    def weights(self, table: SampleTable) -> dict[str, float]:
        """Each source's share of the training examples, up to a factor, for `Mixture`."""
        training = table.frame.loc[table.frame["split"] == "train", "source"].value_counts()
        return {name: float(training.get(name, 0)) if source.weight is None else source.weight for name, source in self.sources.items()}


def prepare(config: DataConfig, seed: int, *, progress: bool = True) -> SampleTable:
    """Draw the corpus if one is asked for, read all sources, and write `table.parquet` and `manifest.json` into `config.root`.

    Does nothing but read the table, and says so, when config, seed, corpus and input files are those of the manifest that lies there.
    """
    with locked(Path(config.root).absolute(), wait=True):
        return _prepare(config, seed, progress)


def _prepare(config: DataConfig, seed: int, progress: bool) -> SampleTable:
    root = Path(config.root).absolute()
    corpus = _ensure_corpus(config.toyfacs, root / CORPUS, progress)
    identity = {"layout": LAYOUT_VERSION, "seed": seed, "config": plain(config), "corpus": corpus, "inputs": _inputs(config)}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    if (root / MANIFEST).is_file() and (root / TABLE).is_file():
        try:
            manifest, table = read_manifest(root), SampleTable.read(root / TABLE)
            if manifest["config_hash"] == key and manifest["table"]["fingerprint"] == table.fingerprint():
                logger.info("data %s: nothing changed, %d samples in %s", config.name, len(table), root / TABLE)
                return dataclasses.replace(table, counts=manifest["sources"])
            logger.info("data %s: config, table or input files changed, preparing again", config.name)
        except (ValueError, KeyError, TypeError) as error:
            fault = error if isinstance(error, ValueError) else f"{root / MANIFEST} is damaged (without {error})"
            logger.warning("data %s: preparing again: %s", config.name, fault)
    start = time.monotonic()
    table = _read_sources(config, seed, progress)
    # The manifest vouches for the table, so it goes first and comes back last.
    (root / MANIFEST).unlink(missing_ok=True)
    table.write(root / TABLE)
    write_json(root / MANIFEST, {"name": config.name, "config_hash": key, **identity, "sources": table.counts, "table": _summary(table)})
    logger.info("data %s: %d samples in %s (%.1f s)", config.name, len(table), root / TABLE, time.monotonic() - start)
    return table


def read_manifest(root: Path | str) -> dict[str, Any]:
    """The manifest of a prepared folder. Raises ValueError if there is none."""
    path = Path(root) / MANIFEST
    if not path.is_file():
        raise ValueError(f"data.root={root}: holds no {MANIFEST}; run `fineface prepare` first")
    return read_json(path)


def _ensure_corpus(config: CorpusConfig | None, folder: Path, progress: bool) -> dict | None:
    """Write the corpus unless the one that lies there is from the same config and drawing code; returns its stamp."""
    if config is None:
        return None
    stamp, found = corpus_stamp(config), read_stamp(folder)
    if found == stamp:
        return stamp
    if found is not None:
        logger.info("%s: drawn from another config or by other code, drawing it again", folder)
    write_corpus(config, folder, progress)
    return stamp


def _read_sources(config: DataConfig, seed: int, progress: bool) -> SampleTable:
    tables = []
    if config.disfa is not None:
        tables.append(read_disfa(config.disfa, seed))
    if config.affectnet is not None:
        tables.append(read_affectnet(config.affectnet, seed))
    if config.manipulation is not None:
        tables.append(read_manipulation(config.manipulation, seed))
    table = SampleTable.concatenate(tables)
    return _without_broken_images(table, progress) if config.skip_broken else table


def _without_broken_images(table: SampleTable, progress: bool) -> SampleTable:
    """Only the rows whose image decodes; each source's counts tell how many went."""
    paths = tqdm(table.frame["image"], desc="decoding images", unit="image", mininterval=1, disable=not progress)
    faults = [_fault(path) for path in paths]
    broken = np.array([fault is not None for fault in faults])
    counts = {source: dict(numbers) for source, numbers in table.counts.items()}
    for source in counts:
        gone = int((broken & (table.frame["source"] == source).to_numpy()).sum())
        counts[source] |= {"dropped: image cannot be read": gone, "kept": counts[source]["kept"] - gone}
    for fault in [fault for fault in faults if fault is not None][:10]:
        logger.warning("skipped: %s", fault)
    return SampleTable(table.frame[~broken].reset_index(drop=True), counts)


def _fault(path: str) -> str | None:
    try:
        read_image(path)
    except ValueError as error:
        return str(error)
    return None


def _inputs(config: DataConfig) -> str:
    """A hash over name, size and time of every file that labels and captions are read from."""
    files = [] if config.disfa is None else disfa.input_files(config.disfa)
    files += [] if config.affectnet is None else affectnet.input_files(config.affectnet)
    files += [] if config.manipulation is None else manipulation.input_files(config.manipulation)
    stamps = [f"{file}|{file.stat().st_size}|{file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]


def _summary(table: SampleTable) -> dict[str, Any]:
    """Counts and the fingerprint, for the manifest."""
    active = table.aus() > 0
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    keys = [column for column in table.frame.columns if column.startswith("AU")]
    return {
        "rows": len(table),
        "fingerprint": table.fingerprint(),
        "splits": {f"{source} {split}": int(count) for (source, split), count in table.frame.groupby(["source", "split"]).size().items()},
        "active_share": dict(zip(keys, active.mean(axis=0).round(4).tolist(), strict=True)),
        "alone_share": dict(zip(keys, alone.mean(axis=0).round(4).tolist(), strict=True)),
        "neutral_share": round(float((~active.any(axis=1)).mean()), 4),
    }
