"""What preparing the data and filling the caches takes, as far as it is not done yet."""

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path

from fineface_train.config import Config
from fineface_train.data.affectnet import reader as affectnet
from fineface_train.data.config import wants_annotator, wants_blip2
from fineface_train.data.disfa import reader as disfa
from fineface_train.data.prepared import TABLE
from fineface_train.data.sources import FRAMES, IMAGES, Sources, rows_to_expect
from fineface_train.data.table import SampleTable
from fineface_train.data.views import rows_of_view
from fineface_train.toyfacs.config import CorpusConfig
from fineface_train.toyfacs.corpus import corpus_stamp, read_stamp, write_corpus
from fineface_train.verbs.checkup.need import Need
from fineface_train.verbs.checkup.trial import Trial

FEW_DRAWINGS = 50
"""Drawn to see how long all take; no corpus has fewer."""


def known_table(config: Config) -> SampleTable | None:
    """The prepared table, if there is one that can be read."""
    with contextlib.suppress(ValueError, OSError):  # one that is damaged is made anew by prepare
        return SampleTable.read(Path(config.data.root) / TABLE)
    return None


def preparation(config: Config, processes: int, table: SampleTable | None, found: Sources) -> list[Need]:
    """Drawing, extracting and asking models; nothing of it where a table lies there already."""
    root, needs = Path(config.data.root), []
    if config.data.toyfacs is not None and read_stamp(root / "corpus") != corpus_stamp(config.data.toyfacs):
        count = _drawings(config.data.toyfacs)
        few = dataclasses.replace(config.data.toyfacs, disfa_subjects=1, disfa_frames=2, affectnet_images=FEW_DRAWINGS)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(few, Path(folder) / "corpus", progress=False)
            each = (time.perf_counter() - started) / _drawings(few)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.png")) / _drawings(few)
        needs.append(Need(f"data: {count:,} drawings", each * count, size * count, "data.root"))
    if found.disfa is not None:
        frames = disfa.frames_to_come(found.disfa, root / FRAMES, processes)
        if frames.frames:
            what = f"data: {frames.frames:,} frames of videos, extracted"
            needs.append(Need(what, frames.seconds, frames.bytes, "data.root"))
    if found.affectnet is not None and (size := affectnet.bytes_to_come(found.affectnet, root / IMAGES)):
        needs.append(Need("data: images out of their archive", None, size, "data.root"))
    if table is None:
        needs += [Need("data: photographs and captions by BLIP-2", None)] if wants_blip2(config.data) else []
        needs += [Need("data: AUs by the annotator", None)] if wants_annotator(config.data) else []
    return needs


def _drawings(corpus: CorpusConfig) -> int:
    return corpus.disfa_subjects * corpus.disfa_frames + corpus.affectnet_images


def _rows(config: Config, found: Sources) -> int | None:
    """The most rows that the table can have; None where a data set is not there, or has faults."""
    if config.data.toyfacs is not None:
        return _drawings(config.data.toyfacs)
    copies = [copy for copy in (found.disfa, found.affectnet, found.manipulation) if copy is not None]
    return rows_to_expect(found) if len(copies) == len(config.data.sources) else None


def caches(config: Config, trial: Trial, table: SampleTable | None, found: Sources, processes: int) -> list[Need]:
    """What the base's frozen parts say of all images and captions, as far as it is not there yet."""
    views = config.data.augmentation.views
    if table is not None:
        rows, captions, at_most = len(table), table.frame["caption"].nunique() + 1, ""
        weights = config.data.weights(table)
        shown = sum(len(rows_of_view(table, weights, view)) for view in views)
    else:
        known = _rows(config, found)
        if not known:
            each = trial.latents * (1 + len(views)) + trial.embedding
            return [Need(f"caches: {each / 1e6:.2f} MB an image, whose number is not known yet", None)]
        rows = captions = known
        at_most, shown = "at most ", known * len(views)
    folder, key = config.data.cache_folder, "data.root" if config.data.cache is None else "data.cache"
    there = sum(path.stat().st_size for path in folder.rglob("*.npy"))  # these may be the ones, or others
    first = rows * trial.latents + captions * trial.embedding
    size = first + shown * trial.latents
    left = max(0.0, 1 - there / size)
    seconds = (rows * trial.encoded + captions * trial.caption, shown * trial.encoded)
    what = f"caches: {at_most}{rows:,} images, {captions:,} captions"
    needs = [Need(what, left * seconds[0] / processes, left * first, key)]
    if views:
        extra = f"caches: {at_most}{shown:,} images mirrored or in other colours (data.flip, data.colour)"
        needs.append(Need(extra, left * seconds[1] / processes, left * shown * trial.latents, key))
    if config.method.finetune.prior_weight:
        own = config.method.finetune.prior_images
        what = f"caches: {own:,} images of the base's own"
        needs.append(Need(what, own * trial.image / processes, own * trial.latents, key))
    return needs
