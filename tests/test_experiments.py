"""Every experiment takes two steps, and five steps of the default one give the losses they always gave."""

import json
from pathlib import Path

import pytest

from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.methods.au_diffusion.config import Weighting
from fineface_train.overrides import choices
from tests.data.disfa_copy import Copy

SMALL_CORPUS = ("data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60")
GOLDEN = Path(__file__).parent / "golden" / "five_steps.json"


def run(root: Path, *overrides: str) -> list[dict]:
    """Train without evaluation; returns the lines of metrics.jsonl."""
    folders = [f"data.root={root / 'data'}", f"run.root={root / 'runs'}"]
    quiet = [
        "evaluation.after_training=false",
        "tracking.wandb=false",
        "tracking.log_every=1",
        "trainer.sample_every=0",
    ]
    assert main(["train", *folders, *quiet, *overrides]) == 0
    (folder,) = (root / "runs").iterdir()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_runs_two_steps(
    name: str, tmp_path: Path, corpus: Path, saved_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those on licensed data get miniatures of DISFA's videos and of AffectNet; all get the tiny base."""
    overrides = [
        f"experiment={name}",
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
        "trainer.steps=2",
        "trainer.precision=fp32",
    ]
    if name.startswith("fineface"):
        monkeypatch.setenv(
            "DISFA_ROOT", str(Copy(images=None, videos="Videos_LeftCamera").write(corpus, tmp_path / "disfa"))
        )
        monkeypatch.setenv("AFFECTNET_ROOT", str(corpus / "affectnet"))
        overrides += ["data.affectnet.min_side=64", "data.affectnet.min_height=null"]  # of 512 and 513 pixels
    else:
        overrides += SMALL_CORPUS
    lines = run(tmp_path, *overrides)
    assert [line["step"] for line in lines] == [1, 2]
    assert all(0 < line["loss"] < 20 for line in lines)


def test_a_base_brings_what_goes_with_it() -> None:
    """So that data=disfa_affectnet base=sd21 is a whole run; what is chosen beside it stays chosen."""
    config = load_config(["data=disfa_affectnet", "base=sd21"])
    assert (config.trainer.steps, config.trainer.learning_rate) == (20_000, 1e-4)
    assert (config.method.objective.weighting, config.judge.kind, config.method.sampling.guidance) == (
        Weighting.none,
        JudgeKind.none,
        7.5,
    )
    chosen = load_config(["experiment=fineface", "judge=libreface", "trainer=toyfacs", "objective=min_snr"])
    assert (chosen.trainer.steps, chosen.judge.kind, chosen.method.objective.weighting) == (
        800,
        JudgeKind.libreface,
        Weighting.min_snr,
    )


def test_five_golden_losses(tmp_path: Path) -> None:
    """The shipped base and the default config: a change of these numbers is a change of what training does."""
    golden = json.loads(GOLDEN.read_text())
    lines = run(tmp_path, *SMALL_CORPUS, "trainer.steps=5", "trainer.batch_size=8")
    assert [line["loss"] for line in lines] == pytest.approx(golden["losses"], rel=golden["relative_tolerance"])


def test_bfloat16_with_pictures(tmp_path: Path, saved_base: Path) -> None:
    """Frozen weights in bfloat16, trainables in float32: training, pictures and the bundle, on the CPU's autocast."""
    from safetensors.torch import load_file

    lines = run(
        tmp_path,
        *SMALL_CORPUS,
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
        "trainer.steps=3",
        "trainer.precision=bf16",
        "trainer.sample_every=2",
        "method.sampling.steps=1",
    )
    assert all(0 < line["loss"] < 20 for line in lines)
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(list((folder / "samples").iterdir())) == 2
    assert {
        str(tensor.dtype) for tensor in load_file(folder / "bundle" / "pytorch_lora_weights.safetensors").values()
    } == {"torch.float32"}
