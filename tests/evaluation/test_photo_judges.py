"""LibreFace as a judge: images go to it as files and come back as AUs, and what it lacks is said beforehand."""

import hashlib
import sys
from pathlib import Path

import pytest
import torch

from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.data.annotators.program import Annotator
from fineface_train.evaluation.judges.config import JudgeConfig, JudgeKind
from fineface_train.evaluation.judges.judges import find_judges, load_judges
from fineface_train.evaluation.judges.photographs import LibreFaceJudge
from fineface_train.methods.au_diffusion.config import PromptSet

STAND_IN = Path(__file__).parents[1] / "annotator_stand_in.py"
CLIP = "data/toyfacs/clip"


@pytest.fixture
def config(tmp_path: Path) -> JudgeConfig:
    """As configs/judge/libreface.yaml composes it, with weights that nobody loads and a CLIP that is there."""
    weights = tmp_path / "weights" / "AU_Recognition" / "weights" / "combined_resnet.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    overrides = [
        "judge=libreface",
        f"judge.libreface.weights={tmp_path / 'weights'}",
        f"judge.libreface.uv={sys.executable}",
        f"judge.clip={CLIP}",
    ]
    return load_config(overrides).judge


def test_images_are_read_in_their_order(tmp_path: Path) -> None:
    """By a stand-in that reads red as AU1 and green as AU26, no face in black, several faces in blue."""
    colours = torch.tensor([[1.0, 0.2, 0.0], [0.0, 0.0, 0.0], [0.4, 0.0, 1.0]])
    images = colours[:, :, None, None].expand(3, 3, 8, 8)
    judge = LibreFaceJudge(Annotator("stand-in 1", [sys.executable, str(STAND_IN), "nothing", str(tmp_path / "log")]))
    aus, found = judge.read(images)
    assert aus.shape == (3, 12)
    assert found.tolist() == [True, False, True]
    assert torch.allclose(aus[:, 0], torch.tensor([5.0, 0.0, 2.0]))
    assert torch.allclose(aus[:, 11], torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(judge.read(images[:1])[0], aus[:1])
    assert (tmp_path / "log").read_text() == "3\n1\n", "one program reads all batches"


def test_what_the_evaluation_is_given(config: JudgeConfig) -> None:
    judges = load_judges(config)
    assert config.kind is JudgeKind.libreface
    assert list(judges.aus) == ["libreface"], "the name by which the report says that labels and judge are of one tool"
    assert judges.attributes is None
    assert judges.clip.embed(torch.rand(2, 3, 96, 96)).shape[0] == 2


def test_the_fingerprint_follows_weights_and_clip(config: JudgeConfig, tmp_path: Path) -> None:
    first = load_judges(config).fingerprint
    config.libreface.batch_size = 7
    assert load_judges(config).fingerprint == first, "what changes no reading changes no fingerprint"
    (tmp_path / "weights" / "AU_Recognition" / "weights" / "combined_resnet.pt").write_bytes(b"other weights")
    assert load_judges(config).fingerprint != first


def test_what_is_missing_is_named(config: JudgeConfig, tmp_path: Path) -> None:
    config.clip = str(tmp_path)
    with pytest.raises(
        ValueError, match=r"judge\.clip: no model in .*; give a folder with a config\.json, or a hub name"
    ):
        find_judges(config)
    config.libreface.weights = None
    with pytest.raises(ValueError, match=r"judge\.libreface\.weights=null.*LIBREFACE_WEIGHTS"):
        find_judges(config)
    with pytest.raises(ValueError, match=r"judge\.libreface\.device='tpu'"):
        load_config(["judge=libreface", "judge.libreface.device=tpu"])


def test_the_presets_of_photographs_take_it() -> None:
    config = load_config(["experiment=fineface", "judge=libreface"])
    assert config.method.base.prompts is PromptSet.real
    assert config.judge.libreface.batch_size == 32


def test_doctor_tells_what_libreface_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For the judge and for the labels."""
    folders = [f"data.root={tmp_path}", f"run.root={tmp_path}", "method.base.path=nowhere"]
    missing = [
        "judge.libreface.weights=nowhere",
        "judge.libreface.uv=no-such-uv",
        "data.annotate.libreface.weights=null",
    ]
    assert main(["doctor", "base=sd21", "judge=libreface", "data.annotate.kind=libreface", *folders, *missing]) == 2
    told = capsys.readouterr().err
    assert "  - judge.libreface.weights=nowhere: " in told
    assert "  - judge.libreface.uv=no-such-uv: no such program" in told
    assert "  - data.annotate.libreface.weights=null: " in told
    assert main(["doctor", "base=sd21", "judge=none", "data.annotate.kind=openface", *folders]) == 2
    assert "  - data.annotate.openface.folder=None: is no folder" in capsys.readouterr().err


def test_doctor_says_which_weights_there_are(
    config: JudgeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [f"data.root={tmp_path}", f"run.root={tmp_path}", "method.base.path=nowhere"]
    there = [
        f"judge.libreface.weights={config.libreface.weights}",
        "judge.libreface.uv=/bin/false",
        f"judge.clip={CLIP}",
    ]
    assert main(["doctor", "base=sd21", "judge=libreface", *folders, *there]) == 2
    out, told = capsys.readouterr()
    assert (
        f"combined_resnet.pt: SHA-256 {hashlib.sha256(b'weights').hexdigest()} (not pinned: "
        f"judge.libreface.weights_sha256 is null)" in out
    )
    assert "LibreFace's environment is not there" in told
