"""Real processes: torchrun with two, and the same run on one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

REPOSITORY = Path(__file__).parents[1]


def launch(
    processes: int, root: Path, base: Path, *overrides: str, program: tuple[str, ...] = ("-m", "fineface_train")
) -> Path:
    """Five steps in float64 at a constant rate on the tiny base; returns the run folder."""
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    command = [
        *(sys.executable, *launcher, *program, "train"),
        *(
            f"method.base.path={base}",
            "method.base.resolution=16",
            f"data.root={root / 'data'}",
            f"run.root={root / f'runs{processes}'}",
        ),
        *("data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"),
        *(
            "trainer.steps=5",
            "trainer.batch_size=4",
            "trainer.learning_rate=1e-4",
            "trainer.schedule=constant",
            "trainer.warmup_steps=0",
        ),
        *("trainer.ema_decay=null", "trainer.precision=fp64", "method.sampling.steps=1"),
        *("evaluation.after_training=false", "tracking.wandb=false", "tracking.log_every=1", *overrides),
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("run: ")]
    return Path(line.removeprefix("run: "))


def examples_seen(processes: int, root: Path, base: Path, *overrides: str) -> list[dict[str, Tensor]]:
    """What each process's trainer was given, in its order, from a run of `launch`."""
    folder = root / "seen" / str(len(list(root.glob("seen/*"))))
    program = (str(Path(__file__).parent / "record_examples.py"), str(folder))
    launch(processes, root, base, "trainer.sample_every=0", "run.fresh=true", *overrides, program=program)
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("process*.pt"))]


def by_index(processes: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """All processes' examples, in the order of their index."""
    together = {key: torch.cat([examples[key] for examples in processes]) for key in processes[0]}
    order = together["index"].argsort()
    return {key: value[order] for key, value in together.items()}


def assert_same_weights(one: Path, two: Path) -> None:
    """To 1e-9, in every tensor of the bundles."""
    for name in ("adapter.safetensors", "pytorch_lora_weights.safetensors"):
        first, second = load_file(one / "bundle" / name), load_file(two / "bundle" / name)
        assert set(first) == set(second)
        for key, value in first.items():
            torch.testing.assert_close(value, second[key], atol=1e-9, rtol=0)


def test_two_processes_train_what_one_does(tmp_path: Path, saved_base: Path) -> None:
    """From nothing each: table, caches built by one or by both, five steps."""
    one, two = (launch(processes, tmp_path / str(processes), saved_base) for processes in (1, 2))
    assert one.name == two.name
    assert_same_weights(one, two)
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)
    caches = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "data" / "cache").rglob("*.npy")} for name in "12"
    ]
    assert len(caches[0]) == 4
    assert caches[0] == caches[1]


def test_every_example_is_the_same_wherever_it_is_seen(tmp_path: Path, saved_base: Path) -> None:
    """Row, AUs, posterior sample, noise, timestep and caption of examples 0 to 19: on two processes, accumulated, with
    workers, in another arm."""
    changes = ["trainer.accumulation=2"], ["trainer.workers=2"], ["encoder=none", "finetune=nothing"]
    reference, *others = (by_index(examples_seen(1, tmp_path, saved_base, *change)) for change in ([], *changes))
    halves = examples_seen(2, tmp_path, saved_base)
    assert [half["index"].tolist() for half in halves] == [
        [4 * step + place for step in range(5) for place in share] for share in ((0, 1), (2, 3))
    ]
    for seen in (*others, by_index(halves)):
        assert seen["index"].tolist() == list(range(20))
        for key, values in reference.items():
            assert torch.equal(values, seen[key]), key


def test_resuming_on_two_processes_what_one_began(tmp_path: Path, saved_base: Path) -> None:
    whole = launch(1, tmp_path, saved_base, "trainer.steps=6", "trainer.checkpoint_every=3")
    resumed = tmp_path / "runs2" / whole.name
    (resumed / "state").mkdir(parents=True)
    shutil.copytree(whole / "state" / "step_00000003", resumed / "state" / "step_00000003")
    (resumed / "metrics.jsonl").write_text((whole / "metrics.jsonl").read_text())
    assert launch(2, tmp_path, saved_base, "trainer.steps=6", "trainer.checkpoint_every=3") == resumed
    assert [json.loads(line)["step"] for line in (resumed / "metrics.jsonl").read_text().splitlines()] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    assert_same_weights(whole, resumed)


def test_the_same_run_twice_is_the_same_to_the_byte(tmp_path: Path, saved_base: Path) -> None:
    """Whatever is drawn, saved and logged on the way, with workers or without, from new caches or from old ones."""
    bundles = []
    for number, ways in enumerate(
        (["trainer.sample_every=0"], ["trainer.sample_every=2", "trainer.checkpoint_every=1", "trainer.workers=2"])
    ):
        run = launch(1, tmp_path / str(number), saved_base, "trainer.precision=fp32", *ways)
        bundles.append({path.name: path.read_bytes() for path in (run / "bundle").iterdir()})
    assert bundles[0] == bundles[1]
