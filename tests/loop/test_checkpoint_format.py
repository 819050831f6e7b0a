"""Checkpoints of other versions: recognised, not resumed from, and left as they are."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fineface_train.cli import main
from fineface_train.files import SEAL, seal
from tests.loop.trainees import Gan, train
from tests.methods.test_conditioning import small


def as_before(checkpoint: Path) -> None:
    """Rewrite a checkpoint as format 1 had it: one player's parameters, one optimiser, no number."""
    save_file(load_file(checkpoint / "state.safetensors"), checkpoint / "trainable.safetensors")
    (optimiser,) = torch.load(checkpoint / "optimisers.pt", weights_only=True).values()
    torch.save(optimiser, checkpoint / "optimiser.pt")
    progress = json.loads((checkpoint / "progress.json").read_text())
    kept = {key: progress[key] for key in ("run", "step", "seconds")}
    (checkpoint / "progress.json").write_text(json.dumps(kept) + "\n")
    for name in ("state.safetensors", "optimisers.pt", SEAL):
        (checkpoint / name).unlink()
    seal(checkpoint)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_run_that_an_earlier_version_began_is_refused_and_one_that_it_finished_is_finished(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = small(tmp_path, saved_base, "trainer.checkpoint_every=1", "tracking.wandb=false", "trainer.ema_decay=0.9")
    command += ["trainer.schedule=constant"]
    assert main(command) == 0
    (run,) = (tmp_path / "runs").glob("toyfacs-*")
    for checkpoint in (run / "state").glob("step_*"):
        as_before(checkpoint)
    before = contents(run)
    capsys.readouterr()
    assert main(command) == 0
    assert "is finished already" in capsys.readouterr().out

    assert main([*command, "trainer.steps=5", "run.extend=true"]) == 2
    told = capsys.readouterr().err
    assert "run.extend=true: " in told
    assert "step_00000003 was written by an earlier version (checkpoint format 1; this version resumes from" in told
    assert "leave run.extend out" in told

    bundle = run / "bundle" / "adapter.safetensors"
    whole = bundle.read_bytes()
    bundle.write_bytes(whole[:-1])  # it could be made from a checkpoint of this version only
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "adapter.safetensors is not what was written" in told
    assert "(checkpoint format 1;" in told
    assert "no checkpoint is left to make it from" in told
    bundle.write_bytes(whole)
    assert contents(run) == before

    (run / "finished.json").unlink()  # as if killed between its last checkpoint and its end
    shutil.rmtree(run / "bundle")
    before = contents(run)
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "step_00000003 was written by an earlier version (checkpoint format 1;" in told
    assert "Finish the run with the version that began it, or start over in a new folder with run.fresh=true" in told
    assert contents(run) == before
    assert main([*command, "run.fresh=true"]) == 0
    assert contents(run) == before


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path: Path) -> None:
    train(tmp_path, Gan(), stop_after=2)
    (checkpoint, _) = sorted((tmp_path / "state").glob("step_*"), reverse=True)
    progress = json.loads((checkpoint / "progress.json").read_text())
    assert progress["format"] == 2
    (checkpoint / "progress.json").write_text(json.dumps(progress | {"format": 3}))
    seal(checkpoint)
    with pytest.raises(ValueError, match=r"step_00000002 was written by a later version \(checkpoint format 3"):
        train(tmp_path, Gan())


def test_a_checkpoint_of_another_trainee_is_refused_by_name(tmp_path: Path) -> None:
    train(tmp_path, Gan(), stop_after=2)
    wider = Gan()
    wider.critic[2] = torch.nn.Conv2d(8, 2, 4)
    wider.players["critic"].parameters.update(wider.parameters_of("critic"))
    with pytest.raises(ValueError, match=r"critic\.2\.\w+ has shape .*; use run\.fresh=true"):
        train(tmp_path, wider)
    deeper = Gan()
    deeper.critic.append(torch.nn.Flatten()).append(torch.nn.Linear(1, 1))
    deeper.players["critic"].parameters.update(deeper.parameters_of("critic"))
    with pytest.raises(
        ValueError, match=r"holds other tensors than this run \(first difference: \['critic\.4\.bias'\]"
    ):
        train(tmp_path, deeper)
