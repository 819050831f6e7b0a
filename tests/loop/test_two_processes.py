"""Trainees of several players on two real processes, each with its own examples."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]


def launch(processes: int, folder: Path) -> list[dict[str, Any]]:
    """What each process of a launch of `train_trainee.py` wrote."""
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "tests/loop/train_trainee.py", str(folder)]
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("process*.pt"))]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process wrote, and what two."""
    root = tmp_path_factory.mktemp("launched")
    (alone,) = launch(1, root / "one")
    return alone, launch(2, root / "two")


def test_two_processes_one_and_accumulation_train_the_same(launched: tuple[dict, list[dict]]) -> None:
    alone, both = launched
    assert not torch.equal(both[0]["noise1"], both[1]["noise1"])
    for found in (*both, alone):
        for accumulation in "12":
            for name, value in alone["state1"].items():
                torch.testing.assert_close(found[f"state{accumulation}"][name], value, atol=1e-9, rtol=0, msg=name)
    for name, value in both[0]["state1"].items():
        assert torch.equal(value, both[1]["state1"][name]), name
    for one, two in zip(alone["lines1"], both[0]["lines1"], strict=True):
        losses = [key for key in one if key.endswith(("loss", "brightness", "gradient_norm"))]
        assert losses
        assert [one[key] for key in losses] == pytest.approx([two[key] for key in losses], abs=1e-9)
    assert both[1]["lines1"] == []


def test_buffers_are_the_first_process_s_after_every_turn(launched: tuple[dict, list[dict]]) -> None:
    _, (first, second) = launched
    assert len(first["buffers"]) == len(second["buffers"]) > 10
    for turn, (one, two) in enumerate(zip(first["buffers"], second["buffers"], strict=True)):
        for name, value in one.items():
            assert torch.equal(value, two[name]), (turn, name)
    moved = [
        not torch.equal(*pair) for pair in zip(*(buffers.values() for buffers in first["buffers"][:2]), strict=True)
    ]
    assert any(moved)
    for name, value in first["normalised"].items():
        assert torch.equal(value, second["normalised"][name]), name
