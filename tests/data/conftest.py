"""A corpus that a test may change, and the readers' configs for it."""

import shutil
from pathlib import Path

import pytest

from fineface_train.data.affectnet import AffectNetConfig
from fineface_train.data.disfa import DisfaConfig


@pytest.fixture
def own_corpus(corpus: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(corpus, tmp_path / "corpus"))


def disfa_config(corpus: Path, **changes: object) -> DisfaConfig:
    values: dict = {"image_pattern": "{subject}/{index:05d}.png", "neutral_share": 1.0, "min_side": 64}
    return DisfaConfig(root=str(corpus / "disfa"), **(values | changes))


def affectnet_config(corpus: Path, **changes: object) -> AffectNetConfig:
    values: dict = {"min_side": 64}
    return AffectNetConfig(root=str(corpus / "affectnet"), **(values | changes))
