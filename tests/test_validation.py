"""Validation, the best bundle and ending early, from the command line to the files of a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.cli import main
from fineface_train.data.table import SampleTable
from fineface_train.data.validation import EXAMPLES, validation_rows
from fineface_train.files import read_json
from fineface_train.loop.config import TrainerConfig
from fineface_train.loop.tracking import read_metrics
from tests.methods.test_conditioning import small

VALIDATED = ["trainer.validate_every=2", "trainer.steps=6", "trainer.checkpoint_every=4", "trainer.schedule=constant"]


def only_run(root: Path) -> Path:
    (run,) = (root / "runs").glob("toyfacs-*")
    return run


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, saved_base: Path) -> Path:
    root = tmp_path_factory.mktemp("validated")
    assert main(small(root, saved_base, *VALIDATED, "trainer.best_by=validation.loss", "trainer.ema_decay=0.5")) == 0
    return only_run(root)


def test_curves_have_the_loss_by_source_and_band(validated: Path) -> None:
    lines = [line for line in read_metrics(validated / "metrics.jsonl") if "validation" in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    file = read_json(validated / "validation.json")
    errors = np.array(file["errors"])
    assert len(errors) == EXAMPLES
    for kind, names in (("source", {"affectnet", "disfa"}), ("band", {"000-249", "250-499", "500-749", "750-999"})):
        found = lines[-1]["validation"][kind]
        assert set(found) == names
        of = np.array(file["groups"][kind])
        assert found == pytest.approx({name: errors[of == name].mean() for name in names})
        assert file[kind] == found
    assert lines[-1]["validation"]["loss"] == file["loss"] == pytest.approx(errors.mean())
    assert sum(name == "disfa" for name in file["groups"]["source"]) == EXAMPLES / 2


def test_training_and_the_folder_s_name_are_the_same_without(validated: Path, tmp_path: Path, saved_base: Path) -> None:
    shutil.copytree(validated.parents[1] / "data", tmp_path / "data")
    without = [one for one in VALIDATED if "validate" not in one]
    assert main(small(tmp_path, saved_base, *without, "trainer.ema_decay=0.5")) == 0
    run = only_run(tmp_path)
    assert run.name == validated.name
    assert not (run / "validation.json").exists()
    for path in (run / "bundle").glob("*.safetensors"):
        assert path.read_bytes() == (validated / "bundle" / path.name).read_bytes()
    lines = [line for line in read_metrics(validated / "metrics.jsonl") if "loss" in line]
    assert [line["loss"] for line in lines] == [line["loss"] for line in read_metrics(run / "metrics.jsonl")]


def test_the_best_bundle_is_used_as_any_other(
    validated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {
        line["step"]: line["validation"]["loss"]
        for line in read_metrics(validated / "metrics.jsonl")
        if "validation" in line
    }
    note = read_json(validated / "best.json")
    assert (note["step"], note["value"]) == min(losses.items(), key=lambda one: one[1])
    assert read_json(validated / "finished.json")["best"] == note
    assert read_json(validated / "best" / "config.json")["training"]["steps"] == note["step"]
    places = [f"run.root={tmp_path}", "method.sampling.steps=1"]
    assert main(["generate", f"bundle={validated / 'best'}", "prompt=a man", "aus=AU12=4", *places]) == 0
    quick = ["method.sampling.steps=1", "judge=none"]
    assert main(["evaluate", f"bundle={validated / 'bundle'}", *quick]) == 0
    assert main(["evaluate", f"bundle={validated / 'best'}", *quick]) == 0
    assert read_json(validated / "evaluation-best" / "pictures.json")["bundle"] == str(validated / "best")
    assert read_json(validated / "pictures.json")["bundle"] == str(validated / "bundle")


def test_a_run_ends_early_as_a_finished_one(
    validated: Path, tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(validated.parents[1] / "data", tmp_path / "data")
    options = [*VALIDATED, "trainer.validate_every=1", "trainer.steps=50", "trainer.learning_rate=0.3"]
    command = small(tmp_path, saved_base, *options, "trainer.best_by=validation.loss", "trainer.patience=2")
    assert main(command) == 0
    told = capsys.readouterr().out
    run = only_run(tmp_path)
    finished = read_json(run / "finished.json")
    steps = finished["steps"]
    assert steps < 50
    assert steps == finished["best"]["step"] + 2
    assert f"since step {finished['best']['step']}" in finished["stopped_early"]
    assert f"stopped early after step {steps}: validation.loss got no better" in told
    assert read_json(run / "bundle" / "config.json")["training"]["steps"] == steps
    assert run.name != validated.name
    (run / "bundle" / "adapter.safetensors").write_bytes(b"torn")
    assert main(command) == 0  # made again from the checkpoint of its end
    assert read_json(run / "finished.json")["steps"] == steps
    again = read_json(run / "finished.json")
    assert (again["bundle"], again["best"]) == (finished["bundle"], finished["best"])
    assert main(command) == 0
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["evaluation.validation_every=5"], "evaluation.validation_every is now trainer.validate_every"),
        (["trainer.validate_every=-1"], "trainer.validate_every=-1: must not be negative (0 for none)"),
        (["trainer.best_by=validation.los"], "did you mean validation.loss?"),
        (["trainer.best_by=validation.loss", "trainer.validate_every=0"], "validates never"),
        (["trainer.best_by=glance.slope"], "trainer.best_by=glance.slope: evaluation.every=0 measures nothing"),
        (["trainer.patience=3"], "nothing says which look is better; set trainer.best_by"),
        (["trainer.patience=0", "trainer.best_by=validation.loss"], "trainer.patience=0: must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(
    change: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"data.root={tmp_path}", f"run.root={tmp_path}", *change]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_validation_that_was_asked_for_needs_images_that_are_held_out(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = ["data.disfa.validation_share=0", "data.affectnet.validation_share=0"]
    for asked in (["trainer.validate_every=2"], ["trainer.best_by=validation.loss"]):
        assert main(small(tmp_path, saved_base, *none, *asked)) == 2
        assert f"{asked[0]}: no image is held out of training" in capsys.readouterr().err
    assert main(small(tmp_path, saved_base, *none, "judge=none", "evaluation.after_training=true")) == 0
    assert "no image is held out of training (split validation): no validation loss" in capsys.readouterr().out


def test_null_validates_where_nothing_else_tells() -> None:
    assert TrainerConfig().validation_steps(nothing_else=False) == 0
    assert TrainerConfig().validation_steps(nothing_else=True) == 500
    assert TrainerConfig(best_by="validation.loss").validation_steps(nothing_else=False) == 500
    assert TrainerConfig(best_by="glance.slope").validation_steps(nothing_else=False) == 0
    assert TrainerConfig(validate_every=0).validation_steps(nothing_else=True) == 0
    assert TrainerConfig(validate_every=7).validation_steps(nothing_else=False) == 7


def table(rows: dict[str, int]) -> SampleTable:
    names = [name for name, count in rows.items() for _ in range(count)]
    parts = [
        SampleTable.build(
            name,
            ids=[f"{name}{number}" for number in range(count)],
            images=["x"] * count,
            captions=[""] * count,
            aus=np.zeros((count, len(AU_KEYS))),
            subjects=[""] * count,
            splits=["train" if number % 2 else "validation" for number in range(count)],
            aus_from="",
            caption_from="",
        )
        for name, count in rows.items()
    ]
    assert len(names) == sum(rows.values())
    return SampleTable.concatenate(parts)


def test_sources_take_turns_and_seeds_choose_rows() -> None:
    data = table({"disfa": 7, "affectnet": 1000, "manipulation": 10})
    weights = {"disfa": 1.0, "affectnet": 1.0, "manipulation": 0.0}
    rows = validation_rows(data, weights, seed=0)
    chosen = data.frame.iloc[rows]
    assert list(chosen["source"]) == ["disfa", "affectnet"] * (EXAMPLES // 2)
    assert set(chosen["split"]) == {"validation"}
    assert chosen[chosen["source"] == "disfa"]["id"].value_counts().max() == EXAMPLES / 2 / 4  # four rows, in turn
    assert chosen[chosen["source"] == "affectnet"]["id"].is_unique
    assert (rows == validation_rows(data, weights, seed=0)).all()
    assert (rows != validation_rows(data, weights, seed=1)).any()
    assert not len(validation_rows(data, {"disfa": 0.0}, seed=0))


def test_a_sweep_s_table_has_the_validation_loss(
    validated: Path, tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(validated.parents[1] / "data", tmp_path / "data")
    verb, *command = small(tmp_path, saved_base, "encoder=none,res_mlp64", "trainer.validate_every=2")
    assert main([verb, "-m", *command]) == 0
    assert capsys.readouterr().out.count("; validation loss 0.") == 2


def test_a_sweep_compares_arms_by_source_and_band(
    validated: Path, tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(validated.parents[1] / "data", tmp_path / "data")
    changes = ["encoder=none,res_mlp64", "judge=none", "evaluation.after_training=true", "trainer.validate_every=2"]
    verb, *command = small(tmp_path, saved_base, *changes, "method.sampling.steps=1")
    assert main([verb, "-m", *[one for one in command if "after_training=false" not in one]]) == 0
    told = capsys.readouterr().out
    assert "; validation loss 0." in told
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    arms = read_json(folder / "comparison.json")["validation"]["arms"]
    for arm in arms.values():
        assert set(arm["groups"]) == {
            *("source.affectnet", "source.disfa"),
            *("band.000-249", "band.250-499", "band.500-749", "band.750-999"),
        }
    assert "band 750-999" in (folder / "report.md").read_text()
    assert "band 750-999" in (folder / "report.html").read_text()
    for run in (tmp_path / "runs").glob("toyfacs-*"):  # as an earlier version left them
        path = run / "validation.json"
        old = {key: value for key, value in read_json(path).items() if key in ("step", "loss", "errors", "subjects")}
        path.write_text(json.dumps(old))
    assert main(["report", f"out={folder}", "tracking.wandb=false"]) == 0
    assert "Validation loss" in (folder / "report.md").read_text()
    assert "band 750-999" not in (folder / "report.html").read_text()


def test_rows_are_those_of_before_for_one_source() -> None:
    """Curves of one source go on where an earlier version left them."""
    data = table({"affectnet": 600})
    rows = np.flatnonzero((data.frame["split"] == "validation").to_numpy())
    before = np.random.default_rng(1000).permutation(rows)[:EXAMPLES]
    assert (validation_rows(data, {"affectnet": 1.0}, seed=1000) == before).all()
    assert isinstance(data.frame, pd.DataFrame)
