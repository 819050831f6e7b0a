"""The command line as a user meets it: help, mistakes, and the verbs on the shipped world."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AU_KEYS
from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.places import CONFIGS

SMALL_DATA = ["data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_config_composes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISFA_ROOT", "AFFECTNET_ROOT"):
        monkeypatch.setenv(variable, "somewhere")
    group, name = path.parent.name, path.stem
    config = load_config([f"{group}={name}"])
    if group == "experiment":
        assert config.experiment == name
    if group == "encoder":
        assert config.method.encoder.name.value == name


@pytest.mark.parametrize("path", ["/a b/DISFA (2013)/x,y=[1]{2}", "~/faces", "Gesichter/Übung's"])
def test_paths_may_hold_what_hydra_reads_otherwise(path: str) -> None:
    assert load_config([f"data.disfa.root={path}"]).data.disfa.root == os.path.expanduser(path)


def test_an_empty_variable_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for variable in ("DISFA_ROOT", "AFFECTNET_ROOT"):
        monkeypatch.setenv(variable, "")
    assert (
        main(
            [
                "doctor",
                "data=disfa_affectnet",
                "base=sd21",
                "method.base.path=nowhere",
                f"data.root={tmp_path}",
                f"run.root={tmp_path}",
            ]
        )
        == 2
    )
    told = capsys.readouterr().err
    assert "DISFA_ROOT" in told
    assert "AFFECTNET_ROOT" in told


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the shipped base: two steps, one denoising step per image, the whole quick protocol."""
    root = tmp_path_factory.mktemp("outputs")
    arguments = [
        *(
            "train",
            "experiment=quickstart",
            *SMALL_DATA,
            f"data.root={root / 'data'}",
            f"run.root={root / 'runs'}",
            "run.name=first",
        ),
        *("trainer.steps=2", "trainer.batch_size=4", "method.sampling.steps=1", "tracking.log_every=1"),
    ]
    assert main(arguments) == 0
    (folder,) = (root / "runs").iterdir()
    return folder


def test_a_run_folder_holds_everything(run: Path) -> None:
    for name in (
        "config.yaml",
        "metrics.jsonl",
        "state",
        "bundle/adapter.safetensors",
        "bundle/config.json",
        "bundle/README.md",
        "samples/step_000002.png",
    ):
        assert (run / name).exists(), name
    for name in ("images.parquet", "metrics.json", "report.html", "report.md", "provenance.json", "audit.json"):
        assert (run / name).exists(), name
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert {"loss", "learning_rate", "gradient_norm", "examples_per_second"} <= set(lines[0])
    metrics = json.loads((run / "metrics.json").read_text())
    for part in ("individual", "combination"):
        for key in ("au_mse_mean", "au_mse_sum", "au_mse_active", "slope", "rank_correlation", "leakage", "clip_i"):
            assert {"value", "low", "high", "always_zero"} <= set(metrics[part][key])
    assert metrics["individual"]["au_mse_active"]["always_zero"] == pytest.approx((1 + 9 + 25) / 3)
    assert set(metrics["per_au"]) == set(AU_KEYS)
    assert np.array(metrics["leakage_matrix"], dtype=float).shape == (12, 12)
    rows = pd.read_parquet(run / "images.parquet")
    assert len(rows) == 5 + 5 * 12 * 3 + 5 * 17
    assert all((run / path).is_file() for path in rows["path"])


def test_a_finished_run_is_not_done_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written() -> dict[Path, int]:
        files = (
            path for path in run.rglob("*") if path.is_file() and path.name != "debug-core.log"
        )  # wandb's own process ends a little later
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    root = run.parents[1]
    arguments = [
        *(
            "train",
            "experiment=quickstart",
            *SMALL_DATA,
            f"data.root={root / 'data'}",
            f"run.root={root / 'runs'}",
            "run.name=first",
        ),
        *("trainer.steps=2", "trainer.batch_size=4", "method.sampling.steps=1", "tracking.log_every=1"),
    ]
    assert main(arguments) == 0
    assert "finished already; nothing to do" in capsys.readouterr().out
    assert before == written()


def test_a_finished_run_is_measured_again_where_that_means_something_else(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = run.parents[1]
    arguments = [
        *(
            "train",
            "experiment=quickstart",
            *SMALL_DATA,
            f"data.root={root / 'data'}",
            f"run.root={root / 'runs'}",
            "run.name=first",
        ),
        *("trainer.steps=2", "trainer.batch_size=4", "tracking.log_every=1", "method.sampling.steps=2"),
    ]
    before = (run / "metrics.json").read_bytes()
    assert main(arguments) == 0  # sampled otherwise: in a folder of its own
    (other,) = run.glob("evaluation-quick-*")
    assert (other / "report.html").is_file()
    assert (run / "metrics.json").read_bytes() == before
    assert main([*arguments, f"out={root / 'another'}"]) == 0
    assert (root / "another" / "report.html").is_file()
    assert main([*arguments, "method.sampling.guidance=1", f"out={root / 'another'}"]) == 2
    assert "holds another evaluation" in capsys.readouterr().err


def test_generate_writes_pngs_that_say_how_they_were_made(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *(
            "generate",
            f"bundle={run / 'bundle'}",
            'prompt=a "nice" person, with glasses',
            "aus=AU12=5,AU6=2.5",
            "seed=3",
            "n=2",
        ),
        *(f"out={tmp_path}", "method.sampling.steps=2", "scale=0.5"),
    ]
    assert main(arguments) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(paths) == 2
    with Image.open(paths[1]) as image:
        assert image.size == (64, 64)
        assert image.info["prompt"] == 'a "nice" person, with glasses'
        assert image.info["aus"] == "AU6=2.5,AU12=5"
        assert image.info["seed"] == "4"
        assert image.info["bundle"].endswith("bundle")
    before = [path.read_bytes() for path in paths]
    assert main(arguments) == 0
    assert [
        line.removesuffix(" (made before, in the same way)") for line in capsys.readouterr().out.splitlines()
    ] == list(map(str, paths))
    assert before == [path.read_bytes() for path in paths]
    assert main([*arguments[:3], "aus=AU12=-10", f"out={tmp_path}", "method.sampling.steps=1"]) == 0
    assert "extrapolates" in capsys.readouterr().out


def test_a_name_that_is_too_long_for_the_disk_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", f"data.root={tmp_path / ('面' * 100)}"]) == 2
    error = capsys.readouterr().err
    assert "File name too long" in error
    assert "; choose shorter names: file systems take 255 bytes" in error
