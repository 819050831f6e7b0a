"""A corpus that a test may change, and the readers' configs for it."""

import shutil
import tempfile
from pathlib import Path

import pytest

from fineface_train.data.affectnet import layout as affectnet_layout
from fineface_train.data.affectnet import reader as affectnet
from fineface_train.data.affectnet.config import AffectNetConfig
from fineface_train.data.annotators.config import AnnotateConfig, Blip2Config
from fineface_train.data.crew import Crew
from fineface_train.data.disfa import layout as disfa_layout
from fineface_train.data.disfa import reader as disfa
from fineface_train.data.disfa.config import DisfaConfig
from fineface_train.data.manipulation import reader as manipulation
from fineface_train.data.manipulation.config import ManipulationConfig
from fineface_train.data.stages import Stages
from fineface_train.data.table import Reading, SampleTable


@pytest.fixture
def own_corpus(corpus: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(corpus, tmp_path / "corpus"))


def no_models(root: Path) -> Stages:
    """The stages of a preparation without models."""
    return Stages(root, Blip2Config(), AnnotateConfig(), Crew(quiet=True))


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return no_models(tmp_path / "prepared")


def disfa_config(corpus: Path, **changes: object) -> DisfaConfig:
    values: dict = {"image_pattern": "{subject}/{index:05d}.png", "neutral_share": 1.0, "min_side": 64}
    return DisfaConfig(root=str(corpus / "disfa"), **(values | changes))


def disfa_samples(config: DisfaConfig, seed: int = 0, extracted: Path | None = None) -> SampleTable:
    """What the reader makes of DISFA with captions of its own."""
    with tempfile.TemporaryDirectory() as root:
        return disfa.read_disfa(disfa_layout.find_copy(config), seed, no_models(Path(root)), extracted).table


def affectnet_config(corpus: Path, **changes: object) -> AffectNetConfig:
    values: dict = {"min_side": 64}
    return AffectNetConfig(root=str(corpus / "affectnet"), **(values | changes))


def read_affectnet(config: AffectNetConfig, seed: int, stages: Stages) -> Reading:
    """What the reader makes of the copy that the config names."""
    return affectnet.read_affectnet(affectnet_layout.find_copy(config), seed, stages)


def read_manipulation(config: ManipulationConfig, seed: int, *, skip_broken: bool = False) -> SampleTable:
    """What the reader makes of the copy that the config names."""
    return manipulation.read_manipulation(manipulation.find_copy(config), seed, skip_broken=skip_broken)
