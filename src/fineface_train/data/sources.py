"""The data sets that a table is read from: each found once on disk, checked, and read as it was found."""

import dataclasses
import logging
from pathlib import Path

import numpy as np

from fineface_train.data.affectnet import layout as affectnet_layout
from fineface_train.data.affectnet import reader as affectnet
from fineface_train.data.affectnet.layout import AffectNetCopy
from fineface_train.data.config import DataConfig
from fineface_train.data.crew import Crew
from fineface_train.data.disfa import layout as disfa_layout
from fineface_train.data.disfa import reader as disfa
from fineface_train.data.disfa.layout import DisfaCopy
from fineface_train.data.manipulation import reader as manipulation
from fineface_train.data.manipulation.entries import read_entries
from fineface_train.data.manipulation.reader import ManipulationCopy
from fineface_train.data.stages import Stages
from fineface_train.data.table import FAULTS_SHOWN, UNREADABLE, Reading, SampleTable

logger = logging.getLogger(__name__)
FRAMES, IMAGES = "frames", "images"
"""Folders of a prepared one: of what is extracted from DISFA's videos and from AffectNet's archive."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """The copies of the data sets that a config names."""

    disfa: DisfaCopy | None
    affectnet: AffectNetCopy | None
    manipulation: ManipulationCopy | None


def find_sources(config: DataConfig) -> Sources:
    """Look once where each data set lies, and that lists and captions have their columns. Raises ValueError that names
    the first fault."""
    found = Sources(
        disfa=None if config.disfa is None else disfa_layout.find_copy(config.disfa),
        affectnet=None if config.affectnet is None else affectnet_layout.find_copy(config.affectnet),
        manipulation=None if config.manipulation is None else manipulation.find_copy(config.manipulation),
    )
    if found.disfa is not None:
        found.disfa.check()
    if found.affectnet is not None:
        affectnet.check(found.affectnet)
    return found


def check_lists(found: Sources) -> None:
    """That every line of labels and lists can be used: faults that are told before hours of extraction. Raises
    ValueError that names file and line.

    Where DISFA lies as frames, which are not extracted, faults of labels are told with those of the images.
    """
    if found.disfa is not None and found.disfa.videos is not None:
        disfa.check_labels(found.disfa)
    if found.affectnet is not None:
        affectnet.check_list(found.affectnet)


def input_files(found: Sources) -> list[Path]:
    """Every file that labels and captions are read from."""
    files = [] if found.disfa is None else disfa.input_files(found.disfa)
    files += [] if found.affectnet is None else affectnet.input_files(found.affectnet)
    files += [] if found.manipulation is None else manipulation.input_files(found.manipulation)
    return files


def extract(found: Sources, root: Path, crew: Crew) -> None:
    """Put the frames of videos and the images of archives below `root`, as far as they are not there."""
    if found.disfa is not None:
        disfa.ensure_frames(found.disfa, root / FRAMES, crew)
    if found.affectnet is not None:
        affectnet.ensure_images(found.affectnet, root / IMAGES, crew)


def rows_to_expect(found: Sources) -> int:
    """The most rows that the table can have, by labels and lists, without looking at an image. Raises ValueError for
    what cannot be read."""
    rows = 0 if found.disfa is None else disfa.rows_to_expect(found.disfa)
    rows += 0 if found.affectnet is None else affectnet.rows_to_expect(found.affectnet)
    return rows + (0 if found.manipulation is None else len(read_entries(found.manipulation.labels)[0]))


def read_sources(found: Sources, seed: int, stages: Stages) -> list[Reading]:
    """What is read of each data set once `extract` is done. All processes of the stages' crew call it."""
    readings = []
    if found.disfa is not None:
        readings.append(_readable(disfa.read_disfa(found.disfa, seed, stages, stages.root / FRAMES), stages))
    if found.affectnet is not None:
        readings.append(affectnet.read_affectnet(found.affectnet, seed, stages, stages.root / IMAGES))
    if found.manipulation is not None:
        table = manipulation.read_manipulation(found.manipulation, seed, skip_broken=stages.skip_broken)
        readings.append(_readable(Reading(table), stages))
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
