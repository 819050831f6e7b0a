"""Everything that can be seen to be missing or wrong before anything is trained, the base excepted."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator

from fineface_train.config import Config
from fineface_train.data.affectnet import layout as affectnet_layout
from fineface_train.data.affectnet import reader as affectnet
from fineface_train.data.affectnet.layout import AffectNetCopy
from fineface_train.data.annotators.annotate import annotated_by
from fineface_train.data.annotators.blip2 import find_model
from fineface_train.data.annotators.config import AnnotatorKind
from fineface_train.data.annotators.libreface import check_environment
from fineface_train.data.config import wants_blip2
from fineface_train.data.disfa import layout as disfa_layout
from fineface_train.data.disfa import reader as disfa
from fineface_train.data.disfa.layout import DisfaCopy
from fineface_train.data.examples import check_batch_size
from fineface_train.data.manipulation import reader as manipulation
from fineface_train.data.manipulation.reader import ManipulationCopy
from fineface_train.data.sources import Sources
from fineface_train.data.stages import ANNOTATE_KEY
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.judges.judges import LIBREFACE_KEY, find_judges
from fineface_train.verbs.checkup.machine import existing
from fineface_train.verbs.evaluation_folder import fitting_judge

T = TypeVar("T")


class Faults(list[str]):
    """Each fault once, in the order in which they were found."""

    def check(self, action: Callable[[], T]) -> T | None:
        """What `action` returns; where it says what is wrong, that is noted, and None is returned."""
        try:
            return action()
        except (ValueError, OSError) as error:
            if str(error) not in self:
                self.append(str(error))
            return None


def find_faults(config: Config, accelerator: Accelerator) -> tuple[Faults, Sources]:
    """All faults, and the copies of the data sets that have none (no copy at all where ToyFACS is drawn)."""
    faults, trainer = Faults(), config.trainer
    faults.check(lambda: check_batch_size(trainer.batch_size, trainer.accumulation, accelerator.num_processes))
    found = _look_at_sources(config, faults) if config.data.toyfacs is None else Sources(None, None, None)
    if config.judge.kind is not JudgeKind.none and config.evaluation.wanted:
        faults.check(lambda: find_judges(config.judge))
        if config.judge.kind is JudgeKind.libreface:
            faults.check(lambda: check_environment(config.judge.libreface, LIBREFACE_KEY))
    faults.check(lambda: annotated_by(config.data.annotate, ANNOTATE_KEY))
    if config.data.annotate.kind is AnnotatorKind.libreface:
        faults.check(lambda: check_environment(config.data.annotate.libreface, f"{ANNOTATE_KEY}.libreface"))
    for key, folder in (("run.root", Path(config.run.root)), ("data.root", Path(config.data.root))):
        if not os.access(existing(folder), os.W_OK):
            faults.append(f"{key}={folder}: {existing(folder)} cannot be written to")
    return faults, found


def _look_at_sources(config: Config, faults: Faults) -> Sources:
    """Each data set looked for once, and checked; only those without a fault are returned."""
    found = Sources(_disfa(config, faults), _affectnet(config, faults), _manipulation(config, faults))
    if wants_blip2(config.data):
        faults.check(lambda: find_model(config.data.blip2))
    return found


def _disfa(config: Config, faults: Faults) -> DisfaCopy | None:
    before, source = len(faults), config.data.disfa
    copy = None if source is None else faults.check(lambda: disfa_layout.find_copy(source))
    if copy is not None:
        faults += copy.faults
        faults.check(lambda: disfa.check_labels(copy))
    return copy if len(faults) == before else None


def _affectnet(config: Config, faults: Faults) -> AffectNetCopy | None:
    before, source, skip = len(faults), config.data.affectnet, config.data.skip_broken
    copy = None if source is None else faults.check(lambda: affectnet_layout.find_copy(source))
    if copy is not None:
        faults.check(lambda: affectnet.check(copy))
        faults.check(lambda: affectnet.check_list(copy, images=True, skip_broken=skip))
        faults.check(lambda: affectnet.check_archive(copy))
    return copy if len(faults) == before else None


def _manipulation(config: Config, faults: Faults) -> ManipulationCopy | None:
    before, source, skip = len(faults), config.data.manipulation, config.data.skip_broken
    copy = None if source is None else faults.check(lambda: manipulation.find_copy(source))
    if copy is not None:
        faults.check(lambda: manipulation.check(copy, skip_broken=skip))
    return copy if len(faults) == before else None


def unmeasured(config: Config) -> list[str]:
    """Why there will be no numbers after the training, where there will be none."""
    kind, fitting = config.judge.kind, fitting_judge(config)
    if not config.evaluation.wanted:
        return ["evaluation.after_training=false: nothing is evaluated; `fineface evaluate bundle=...` does it later"]
    if kind is JudgeKind.none:
        without = " (LibreFace needs its weights: docs/annotation.md)" if fitting == JudgeKind.libreface.value else ""
        return [
            f"judge=none: the evaluation's images are made and nothing is measured; judge={fitting} measures them"
            f"{without}, also later, from the files"
        ]
    if kind is JudgeKind.libreface and fitting != kind.value:
        return [
            f"judge=libreface reads photographs, and {config.method.source} draws faces: it finds no face in them and "
            f"measures nothing; choose judge={fitting}"
        ]
    return []
