"""`fineface prepare`: datasets on disk to one table of samples, once, with a manifest that tells what became of every
row."""

import contextlib
import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS
from fineface_train.data.affectnet import reader as affectnet
from fineface_train.data.affectnet.reader import CORRECTION, read_affectnet
from fineface_train.data.annotators.annotate import annotated_by
from fineface_train.data.config import DataConfig, wants_annotator, wants_blip2
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.disfa import reader as disfa
from fineface_train.data.disfa.config import Mismatch
from fineface_train.data.disfa.layout import video_files
from fineface_train.data.disfa.reader import read_disfa
from fineface_train.data.formats import archives
from fineface_train.data.manipulation import reader as manipulation
from fineface_train.data.manipulation.reader import read_manipulation
from fineface_train.data.peaks import COLUMNS
from fineface_train.data.stages import ANNOTATE_KEY, Stages
from fineface_train.data.table import FAULTS_SHOWN, UNREADABLE, Reading, SampleTable
from fineface_train.files import flat, hash_of, plain, read_json, replacing, sha256, write_json
from fineface_train.locks import locked
from fineface_train.toyfacs.config import CorpusConfig
from fineface_train.toyfacs.corpus import corpus_stamp, read_stamp, write_corpus

logger = logging.getLogger(__name__)
CORPUS, FRAMES, IMAGES, TABLE, MANIFEST = "corpus", "frames", "images", "table.parquet", "manifest.json"
RAW = "raw.parquet"
DROPPED = "dropped.parquet"
"""Images that were left out for what they are: when one changes, the table may."""
UNUSED = ("cache",)
"""Settings of the data that `prepare` does not use."""
IMAGES_CHANGED = "images changed or are gone"
PEAKS = "peaks.parquet"
"""Frames at which an AU peaks, with those around, of sources that are videos."""
LAYOUT_VERSION = 5
"""Raised when readers change what they make of the same files and config."""
JOINS_VERSION = 6
"""The same where DISFA's labels and pictures may differ in number: before, a guess could join them wrongly."""


def prepare(config: DataConfig, *, crew: Crew = ALONE) -> SampleTable:
    """Draw the corpus if one is asked for, read all sources, and write `table.parquet`, `raw.parquet`,
    `dropped.parquet`, `peaks.parquet`, `correction.json` and `manifest.json` into `config.root`. All processes of the
    crew call it, and get the table.

    Does nothing but read the table, and says so, when config, corpus, input files, models and images are those of the
    manifest that lies there.
    """
    root = Path(config.root).absolute()
    for name, source in config.sources.items():
        if source.root is not None and root.resolve() == Path(source.root).resolve():
            raise ValueError(
                f"data.root={config.root}: is data.{name}.root, where the data itself lies; give what is prepared a "
                f"folder of its own"
            )
    prepared = _is_prepared(config, root, crew)
    if not prepared:  # from here on something is written
        with locked(root, wait=True) if crew.index == 0 else contextlib.nullcontext():
            if crew.index == 0:
                _ensure_corpus(config.toyfacs, root / CORPUS, not crew.quiet)
            crew.wait()
            if not _is_prepared(config, root, crew, mend=True):  # nor by a process that was waited for
                _make(config, root, crew)
            crew.wait()
    table = dataclasses.replace(SampleTable.read(root / TABLE), counts=read_manifest(root)["sources"])
    if crew.index == 0:
        logger.info(
            "data %s: %s%d samples in %s",
            config.name,
            "nothing changed, " if prepared else "",
            len(table),
            root / TABLE,
        )
    return table


def _make(config: DataConfig, root: Path, crew: Crew) -> None:
    """Read all sources and write what a prepared folder holds."""
    start = time.monotonic()
    check_lists(config, filmed_only=True)
    identity = _identity(config, root) if crew.index == 0 else {}
    if config.disfa is not None:
        disfa.ensure_frames(config.disfa, root / FRAMES, crew)
    if config.affectnet is not None:
        affectnet.ensure_images(config.affectnet, root / IMAGES, crew)
    readings = _read_sources(config, Stages(root, config.blip2, config.annotate, crew, config.skip_broken))
    if crew.index == 0:
        _write(root, config, readings, identity)
        logger.info("data %s: prepared in %.1f s", config.name, time.monotonic() - start)


def _identity(config: DataConfig, root: Path) -> dict[str, Any]:
    """What a prepared folder is made from: the same makes nothing new."""
    corpus = None if config.toyfacs is None else read_stamp(root / CORPUS)
    bridged = config.disfa is not None and config.disfa.mismatch is Mismatch.common
    return {
        "layout": JOINS_VERSION if bridged else LAYOUT_VERSION,
        "config": _settings(config),
        "corpus": corpus,
        "inputs": _inputs(config),
    }


def _settings(config: DataConfig) -> dict[str, Any]:
    """Those that decide what is prepared."""
    return {key: value for key, value in plain(config).items() if key not in UNUSED}


def _is_prepared(config: DataConfig, root: Path, crew: Crew, *, mend: bool = False) -> bool:
    """Whether `root` holds what `prepare` would make; writes nothing, and takes no lock, so that a folder of somebody
    else's will do.

    Raises ValueError where the config names what is not there.

    Args:
        mend: what is found is about to be made anew: tell why, and have what is extracted looked at again where images
            are not as they were.
    """
    drawn = config.toyfacs is None or read_stamp(root / CORPUS) == corpus_stamp(config.toyfacs)
    if not crew.agree(drawn):
        return False
    check_sources(config)
    if crew.index > 0 or not (root / MANIFEST).is_file() or not (root / TABLE).is_file():
        return crew.agree(False)
    changed = _changed(config, root)
    if changed and mend:
        logger.warning("data %s: %s, preparing again", config.name, changed)
        if changed == IMAGES_CHANGED:
            archives.forget(root / IMAGES)
    return crew.agree(not changed)


def check_sources(config: DataConfig) -> None:
    """That what the config names is there, and lists and captions have their columns. Raises ValueError that names the
    first fault."""
    if config.disfa is not None:
        disfa.check(config.disfa)
    if config.affectnet is not None:
        affectnet.check(config.affectnet)
    if config.manipulation is not None:
        manipulation.input_files(config.manipulation)


def check_lists(config: DataConfig, *, filmed_only: bool = False) -> None:
    """That every line of labels and lists can be used: faults that are told before hours of extraction. Raises
    ValueError that names file and line.

    Args:
        filmed_only: of DISFA as a folder of frames, which are not extracted, faults of labels are told with those of
            the images.
    """
    if config.disfa is not None and not (filmed_only and video_files(config.disfa) is None):
        disfa.check_labels(config.disfa)
    if config.affectnet is not None:
        affectnet.check_list(config.affectnet)


def _changed(config: DataConfig, root: Path) -> str | None:
    """What is no longer as it was when `root` was prepared, in words; None if nothing."""
    try:
        manifest, identity = read_manifest(root), _identity(config, root)
        if (other := _differences(config, manifest, identity)) is not None:
            return other
        table = SampleTable.read(root / TABLE)
        damaged = [
            name
            for name, digest in manifest["files"].items()
            if not (root / name).is_file() or sha256(root / name) != digest
        ]
        if manifest["table"]["fingerprint"] != table.fingerprint() or damaged:
            return f"{', '.join(damaged) or TABLE} changed since it was written"
        if manifest["images"] != _stamps(table.frame["image"]):
            return IMAGES_CHANGED
        if manifest["dropped"] != _stamps(pd.read_parquet(root / DROPPED)["path"]):
            return "an image that was left out changed"
    except ValueError as error:
        return str(error)
    except (KeyError, TypeError) as error:
        return f"{root / MANIFEST} is damaged (without {error})"
    return None


def _differences(config: DataConfig, manifest: dict[str, Any], identity: dict[str, Any]) -> str | None:
    """What of an `_identity` is not as the manifest has it, in words."""
    if manifest["layout"] != identity["layout"]:
        return "it was made by another version"
    before, now = (
        dict(
            flat(
                _filled(
                    manifest["config"], {key: value for key, value in _defaults(config).items() if key not in UNUSED}
                )
            )
        ),
        dict(flat(identity["config"])),
    )
    before["root"], now["root"] = (str(Path(one["root"]).resolve()) for one in (before, now))  # however it is spelled
    keys = [key for key in before | now if before.get(key, "not set") != now.get(key, "not set")]
    if keys:
        shown = [f"data.{key}={now.get(key, 'not set')} (was {before.get(key, 'not set')})" for key in keys[:3]]
        return f"{', '.join(shown)}{' and more' if len(keys) > 3 else ''} changed"
    if manifest["corpus"] != identity["corpus"]:
        return "the corpus changed"
    return "input files changed" if manifest["inputs"] != identity["inputs"] else None


def _defaults(config: Any) -> dict[str, Any]:
    """The default values of a dataclass and of those that it holds, by key."""
    fresh, values = type(config)(), {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {
        name: _defaults(value) if dataclasses.is_dataclass(value) else plain(getattr(fresh, name))
        for name, value in values.items()
    }


def _filled(settings: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """`settings` that were written before some keys were known, these at their defaults."""
    parts = {
        key: value for key, value in defaults.items() if isinstance(value, dict) and isinstance(settings.get(key), dict)
    }
    return defaults | settings | {key: _filled(settings[key], value) for key, value in parts.items()}


def _write(root: Path, config: DataConfig, readings: list[Reading], identity: dict[str, Any]) -> None:
    """The files of a prepared folder. The manifest vouches for the others, so it goes first and comes back last."""
    table = SampleTable.concatenate([reading.table for reading in readings])
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
    for name in (MANIFEST, CORRECTION):
        (root / name).unlink(missing_ok=True)
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
    made_of = {"name": config.name, "config_hash": hash_of(identity), **identity}
    files = {name: sha256(root / name) for name in (RAW, DROPPED, PEAKS, CORRECTION) if (root / name).is_file()}
    stamps = {"images": _stamps(table.frame["image"]), "dropped": _stamps(dropped)}
    write_json(
        root / MANIFEST, made_of | {"sources": table.counts} | stamps | {"files": files, "table": _summary(table)}
    )


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


def _read_sources(config: DataConfig, stages: Stages) -> list[Reading]:
    readings = []
    if config.disfa is not None:
        readings.append(_readable(read_disfa(config.disfa, config.seed, stages, stages.root / FRAMES), stages))
    if config.affectnet is not None:
        readings.append(read_affectnet(config.affectnet, config.seed, stages, stages.root / IMAGES))
    if config.manipulation is not None:
        readings.append(
            _readable(
                Reading(read_manipulation(config.manipulation, config.seed, skip_broken=stages.skip_broken)), stages
            )
        )
    return readings


def _readable(reading: Reading, stages: Stages) -> Reading:
    """Only the rows whose image decodes, where the others are to be skipped; the source's counts tell how many went."""
    if not stages.skip_broken:
        return reading
    table = reading.table
    faults = stages.faults(table.frame["image"].tolist())
    good = np.array([not fault for fault in faults], dtype=bool)
    gone = int((~good).sum())
    words = f"dropped: {UNREADABLE}"
    counts = {
        source: numbers | {words: numbers.get(words, 0) + gone, "kept": numbers["kept"] - gone}
        for source, numbers in table.counts.items()
    }
    for fault in [fault for fault in faults if fault][:FAULTS_SHOWN]:
        logger.warning("skipped: %s", fault)
    left = SampleTable(table.frame[good].reset_index(drop=True), counts)
    return dataclasses.replace(reading, table=left, dropped=(*reading.dropped, *table.frame["image"][~good]))


def _stamp(path: str) -> str | None:
    """Size and time of a file, None where there is none."""
    with contextlib.suppress(OSError):
        status = Path(path).stat()
        return f"{status.st_size}|{status.st_mtime_ns}"
    return None


def _inputs(config: DataConfig) -> str:
    """A hash over name, size and time of every file that labels and captions are read from, and over what decides the
    models' answers."""
    files = [] if config.disfa is None else disfa.input_files(config.disfa)
    files += [] if config.affectnet is None else affectnet.input_files(config.affectnet)
    files += [] if config.manipulation is None else manipulation.input_files(config.manipulation)
    if wants_blip2(config) and config.blip2.model and (folder := Path(config.blip2.model).expanduser()).is_dir():
        files += sorted(path for path in folder.iterdir() if path.is_file())
    made_by = annotated_by(config.annotate, ANNOTATE_KEY) if wants_annotator(config) else None
    return hash_of([_stamps(map(str, files)), made_by])


def _stamps(paths: Iterable[str]) -> str:
    """A hash over name, size and time of files."""
    return hashlib.sha256("\n".join(f"{path}|{_stamp(path)}" for path in paths).encode()).hexdigest()[:16]


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
