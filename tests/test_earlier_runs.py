"""A new run beside others: which one is near, and going on from one that is the same but for fewer steps."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fineface_train.cli import main
from fineface_train.loop.tracking import read_metrics
from tests.methods.test_conditioning import small


def runs(root: Path) -> list[Path]:
    return sorted((root / "runs").glob("toyfacs-*"), key=lambda path: path.stat().st_ctime_ns)


def test_more_steps_are_another_run_and_may_go_on_from_the_shorter_one(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the byte what the longer run is from its start."""
    every_step = [f"{key}=1" for key in ("tracking.log_every", "trainer.checkpoint_every", "trainer.sample_every")]
    options = ["trainer.schedule=constant", "trainer.ema_decay=0.9", "trainer.warmup_steps=2", *every_step]
    command = small(tmp_path, saved_base, *options)
    assert main([*command, "trainer.steps=2"]) == 0
    assert "note:" not in capsys.readouterr().out
    (shorter,) = runs(tmp_path)
    before = {path: path.read_bytes() for path in shorter.rglob("*") if path.is_file() and "wandb" not in path.parts}
    assert main([*command, "trainer.steps=5"]) == 0
    told = capsys.readouterr().out
    (longer,) = [run for run in runs(tmp_path) if run != shorter]
    assert (
        f"note: {shorter} is the same run with trainer.steps=2; it stays as it is, and {longer} is another run, which "
        f"starts anew" in told
    )
    assert "run.extend=true" in told
    longer.rename(tmp_path / "anew")
    assert main([*command, "trainer.steps=5", "run.extend=true"]) == 0
    told = capsys.readouterr().out
    assert f"{longer} takes on the first 2 steps of {shorter}" in told
    assert "going on after step 2" in told
    for path in sorted((tmp_path / "anew" / "bundle").iterdir()):
        assert path.read_bytes() == (longer / "bundle" / path.name).read_bytes(), path.name
    for name in ("state", "averages"):
        one, other = (
            load_file(run / "state" / "step_00000005" / f"{name}.safetensors") for run in (tmp_path / "anew", longer)
        )
        assert all((one[key] == other[key]).all() for key in one)
    curves = [
        [(line["step"], line["loss"]) for line in read_metrics(run / "metrics.jsonl")]
        for run in (tmp_path / "anew", longer)
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 5
    assert [path.name for path in sorted((longer / "samples").iterdir())] == [
        f"step_{step:06d}.png" for step in range(1, 6)
    ]
    assert before == {path: path.read_bytes() for path in before}
    assert main([*command, "trainer.steps=5", "run.extend=true"]) == 0  # finished
    assert "finished already" in capsys.readouterr().out


def test_what_cannot_be_extended_is_refused(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = small(tmp_path, saved_base, "trainer.schedule=cosine")
    assert main([*command, "trainer.steps=2", "run.extend=true"]) == 2
    assert "is the same but for fewer trainer.steps" in capsys.readouterr().err
    assert main([*command, "trainer.steps=2"]) == 0
    capsys.readouterr()
    assert main([*command, "trainer.steps=3", "run.extend=true"]) == 2
    assert "trainer.schedule=cosine gives every step" in capsys.readouterr().err
    assert main([*command, "trainer.steps=3"]) == 0
    assert (
        "its cosine schedule were made for 2 steps (a run with trainer.schedule=constant can be extended)"
        in capsys.readouterr().out
    )
    assert main([*command, "trainer.steps=3", "run.extend=true", "run.fresh=true"]) == 2
    assert "choose one" in capsys.readouterr().err


def test_a_near_run_is_named_with_what_differs(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = small(tmp_path, saved_base, "trainer.steps=1")
    assert main(command) == 0
    (first,) = runs(tmp_path)
    capsys.readouterr()
    assert main([*command, "trainer.learning_rate=0.5", "method.finetune.lora_rank=4"]) == 0
    told = capsys.readouterr().out
    assert f"{first} differs in" in told
    assert "trainer.learning_rate=0.003 (here 0.5)" in told
    assert "method.finetune.lora_rank=32 (here 4)" in told
    assert (
        main(
            [
                *command,
                "seed=1",
                "trainer.batch_size=2",
                "trainer.learning_rate=0.3",
                "trainer.weight_decay=0",
                "method.finetune.lora_rank=2",
            ]
        )
        == 0
    )  # too far
    assert "note:" not in capsys.readouterr().out
    assert main(command) == 0  # no new run
    assert "note:" not in capsys.readouterr().out
    (first / "config.yaml").write_text("a: [")
    assert main([*command, "seed=5"]) == 0  # a broken neighbour stops nothing


def test_an_extension_that_was_killed_takes_on_the_state_again(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = small(tmp_path, saved_base, "trainer.checkpoint_every=1", "trainer.schedule=constant")
    assert main([*command, "trainer.steps=1"]) == 0
    (shorter,) = runs(tmp_path)
    assert main([*command, "trainer.steps=2"]) == 0
    (longer,) = [run for run in runs(tmp_path) if run != shorter]
    for path in sorted(longer.rglob("*"), reverse=True):  # as if killed while it copied
        if path.name not in ("config.yaml", "metrics.jsonl"):
            path.rmdir() if path.is_dir() and not any(path.iterdir()) else path.is_file() and path.unlink()
    (longer / "state" / "step_00000001.partial").mkdir(parents=True)
    capsys.readouterr()
    assert main([*command, "trainer.steps=2", "run.extend=true"]) == 0
    assert "going on after step 1" in capsys.readouterr().out
    progress = json.loads((longer / "state" / "step_00000001" / "progress.json").read_text())
    assert progress["run"] == longer.name
