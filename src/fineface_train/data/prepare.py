"""`fineface prepare`: datasets on disk to one table of samples, once, with a manifest that tells what became of every
row."""

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

from fineface_train.data.config import DataConfig
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.current import IMAGES_CHANGED, identity, what_changed
from fineface_train.data.formats import archives
from fineface_train.data.prepared import MANIFEST, TABLE, read_manifest, write_prepared
from fineface_train.data.sources import IMAGES, Sources, check_lists, extract, find_sources, read_sources
from fineface_train.data.stages import Stages
from fineface_train.data.table import SampleTable
from fineface_train.locks import locked
from fineface_train.toyfacs.config import CorpusConfig
from fineface_train.toyfacs.corpus import corpus_stamp, read_stamp, write_corpus

logger = logging.getLogger(__name__)
CORPUS = "corpus"


def prepare(config: DataConfig, *, crew: Crew = ALONE) -> SampleTable:
    """Draw the corpus if one is asked for, read all sources, and write `table.parquet`, `raw.parquet`,
    `dropped.parquet`, `peaks.parquet`, `correction.json` and `manifest.json` into `config.root`. All processes of the
    crew call it, and get the table.

    Does nothing but read the table, and says so, when config, corpus, input files, models and images are those of the
    manifest that lies there; takes no lock then, so that a folder of somebody else's will do.
    """
    root = Path(config.root).absolute()
    for name, source in config.sources.items():
        if source.root is not None and root.resolve() == Path(source.root).resolve():
            raise ValueError(
                f"data.root={config.root}: is data.{name}.root, where the data itself lies; give what is prepared a "
                f"folder of its own"
            )
    found = crew.first(lambda: find_sources(config) if _is_drawn(config, root) else None)
    prepared = crew.first(lambda: found is not None and _is_current(config, root, found))
    if not prepared:  # from here on something is written
        with crew.entered(locked(root, wait=True)):
            drawn = crew.first(lambda: _ensure_corpus(config.toyfacs, root / CORPUS, not crew.quiet))
            sources = crew.first(lambda: find_sources(config)) if drawn or found is None else found
            if not crew.first(lambda: _is_current(config, root, sources, mend=True)):  # nor by who was waited for
                _make(config, root, sources, crew)
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


def _make(config: DataConfig, root: Path, found: Sources, crew: Crew) -> None:
    """Read all sources and write what a prepared folder holds."""
    start = time.monotonic()
    crew.first(lambda: check_lists(found))
    made_from = crew.first(lambda: _identity(config, root, found))
    extract(found, root, crew)
    readings = read_sources(found, config.seed, Stages(root, config.blip2, config.annotate, crew, config.skip_broken))
    if crew.index == 0:
        write_prepared(root, config.name, readings, made_from)
        logger.info("data %s: prepared in %.1f s", config.name, time.monotonic() - start)


def _identity(config: DataConfig, root: Path, found: Sources) -> dict[str, Any]:
    return identity(config, found, None if config.toyfacs is None else read_stamp(root / CORPUS))


def _is_current(config: DataConfig, root: Path, found: Sources, *, mend: bool = False) -> bool:
    """Whether `root` holds what `prepare` would make; writes nothing.

    Args:
        mend: what is found is about to be made anew: tell why, and have what is extracted looked at again where images
            are not as they were.
    """
    if not (root / MANIFEST).is_file() or not (root / TABLE).is_file():
        return False
    changed = what_changed(config, root, _identity(config, root, found))
    if changed and mend:
        logger.warning("data %s: %s, preparing again", config.name, changed)
        if changed == IMAGES_CHANGED:
            archives.forget(root / IMAGES)
    return not changed


def _is_drawn(config: DataConfig, root: Path) -> bool:
    return config.toyfacs is None or read_stamp(root / CORPUS) == corpus_stamp(config.toyfacs)


def _ensure_corpus(config: CorpusConfig | None, folder: Path, progress: bool) -> bool:
    """Write the corpus unless the one that lies there is from the same config and drawing code; returns whether it
    did."""
    if config is None:
        return False
    found = read_stamp(folder)
    if found == corpus_stamp(config):
        return False
    if found is not None:
        logger.info("%s: drawn from another config or by other code, drawing it again", folder)
    write_corpus(config, folder, progress)
    return True
