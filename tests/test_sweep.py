"""`train -m` and `doctor`, as a user meets them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from fineface_train.cli import main
from fineface_train.files import read_json
from fineface_train.overrides import Override

SMALL = [
    "data.toyfacs.disfa_subjects=3",
    "data.toyfacs.disfa_frames=12",
    "data.toyfacs.affectnet_images=60",
    "trainer.batch_size=4",
    "tracking.wandb=false",
]


def test_a_sweep_names_what_failed_and_goes_on(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate of 1e30 makes the loss infinite: those arms fail while they train, the others do not."""
    arguments = [
        *(
            "train",
            "-m",
            *SMALL,
            f"method.base.path={saved_base}",
            "method.base.resolution=16",
            f"data.root={tmp_path / 'data'}",
            f"run.root={tmp_path / 'runs'}",
        ),
        *("encoder=none,res_mlp64", "trainer.learning_rate=1e-3,1e30", "trainer.steps=4", "trainer.warmup_steps=0"),
        *("trainer.sample_every=0", "evaluation.after_training=false"),
    ]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    table = out[out.rindex("arm  ") :].splitlines()
    assert len(table) == 5
    assert [("failed: FloatingPointError: step " in line) for line in table[1:]] == [False, True, False, True]
    assert table[1].startswith("encoder=none trainer.learning_rate=0.001 ")
    runs = sorted(path.name for path in (tmp_path / "runs").glob("toyfacs-*"))
    assert len(runs) == 4
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("toyfacs-*/bundle/*")}
    assert main(arguments) == 1
    assert capsys.readouterr().out.count("finished already; nothing to do") == 2
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("toyfacs-*/bundle/*")}


def sweep(root: Path, base: Path, *changes: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """A sweep of two steps an arm, in processes of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [
        *(
            sys.executable,
            *launcher,
            "-m",
            "fineface_train",
            "train",
            "-m",
            *SMALL,
            f"method.base.path={base}",
            "method.base.resolution=16",
        ),
        *(
            f"data.root={root / 'data'}",
            f"run.root={root / 'runs'}",
            "trainer.steps=2",
            "trainer.sample_every=0",
            "evaluation.after_training=false",
            *changes,
        ),
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("processes", "changes"),
    [(2, ["seed=0,1"]), (1, ["hydra/launcher=submitit_local", "encoder=none,res_mlp64"])],
    ids=["two processes", "submitit"],
)
def test_a_sweep_in_processes_of_its_own(processes: int, changes: list[str], tmp_path: Path, saved_base: Path) -> None:
    """Under torchrun, and through SLURM's launcher in its local mode, where every arm is a process of its own."""
    done = sweep(tmp_path, saved_base, *changes, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained, not evaluated") == 2
    assert len(list((tmp_path / "runs").glob("toyfacs-*/bundle"))) == 2


def test_a_failure_on_one_of_two_processes_ends_the_sweep(tmp_path: Path, saved_base: Path) -> None:
    """An image that is broken in the second process's share of the cache: the first waits for it, and must not wait for
    ever."""
    assert main(["prepare", *(one for one in SMALL if one.startswith("data.")), f"data.root={tmp_path / 'data'}"]) == 0
    victim = Path(pd.read_parquet(tmp_path / "data" / "table.parquet")["image"][40])
    victim.write_bytes(victim.read_bytes()[:200])
    done = sweep(tmp_path, saved_base, "seed=0,1", processes=2)
    assert done.returncode != 0
    assert f"{victim}: cannot be read as an image" in done.stderr
    assert "arm 2" not in done.stdout


def test_doctor_counts_and_times(tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "doctor",
        *SMALL,
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
        f"data.root={tmp_path}",
        f"run.root={tmp_path}",
        "trainer.steps=50",
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for part in (
        "device",
        "precision",
        "GB free for run.root",
        "AU encoder",
        "memory",
        "activations kept",
        "training: 50 steps of 4 examples",
        "sample pictures: ",
        "checkpoints: ",
        "drawings",
        "caches: at most 96 images",
        "in all",
        "nothing is",
    ):
        assert part in out
    assert list(tmp_path.iterdir()) == []


def test_doctor_tells_everything_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("DISFA_ROOT", "AFFECTNET_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    arguments = [
        "doctor",
        "data=disfa_affectnet",
        "method.base.path=nowhere",
        "judge.one=nowhere",
        f"data.root={tmp_path}",
        f"run.root={tmp_path}",
    ]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "4 things to mend" in error
    for part in ("DISFA_ROOT", "AFFECTNET_ROOT", "method.base.path=nowhere", "nowhere"):
        assert part in error


@pytest.mark.parametrize("method", ["sd", "dreambooth"])
def test_doctor_knows_every_method(
    method: str, tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "doctor",
        *SMALL,
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
        f"data.root={tmp_path}",
        f"run.root={tmp_path}",
        f"method={method}",
    ]
    assert main(arguments) == 0
    assert ("nothing is trained" in capsys.readouterr().out) == (method == "sd")


def test_a_named_sweep_adds_up(tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seed by seed and arm by arm it is the same sweep; with another value it is another. The command line narrows what
    the sweep varies."""
    where = [
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
        f"data.root={tmp_path / 'data'}",
        f"run.root={tmp_path / 'runs'}",
    ]
    small = [
        "train",
        "-m",
        *SMALL,
        *where,
        "trainer.sample_every=0",
        "evaluation.after_training=false",
        "trainer.steps=1",
    ]
    assert main([*small, "+sweep=table3", "seed=0"]) == 0
    assert "labels=fineface" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert folder.name.startswith("table3-")  # the small data and the steps make it another one than table3 itself
    assert main([*small, "sweep=table3", "seed=1", "labels=none"]) == 0
    records = [read_json(path) for path in sorted(folder.glob("arm_*.json"))]
    assert sorted((record["arm"], record["seed"]) for record in records) == [
        ("labels=fineface", 0),
        ("labels=none", 0),
        ("labels=none", 1),
    ]
    assert {record["table"] for record in records} == {"table3"}
    assert main([*small, "+sweep=table3", "seed=0", "objective=none"]) == 0
    assert len(list((tmp_path / "runs" / "sweeps").iterdir())) == 2
    assert main([*small, "+sweep=table9"]) == 2
    assert "sweep=table9: no such choice; there are plus, table1, table2, table3" in capsys.readouterr().err
    assert main(["report", f"out={folder}", "tracking.wandb=false"]) == 2
    assert "no arm of this sweep is evaluated yet" in capsys.readouterr().err


def test_other_values_make_another_sweep_and_launchers_do_not() -> None:
    from fineface_train.compose import load_config
    from fineface_train.verbs.sweep import sweep_folder

    config, unnamed = load_config(["sweep=table2"]), load_config([])
    assert (
        sweep_folder(
            config, ["sweep=table2", "seed=0,1", "run.root=x", "tracking.wandb=false", "hydra/launcher=submitit_slurm"]
        ).name
        == "table2"
    )
    assert sweep_folder(config, ["sweep=table2", "trainer.steps=100,200"]).name.startswith("table2-")
    names = {
        sweep_folder(unnamed, [one, "seed=0,1"]).name
        for one in ("encoder=none,mlp", "labels=none,published", "trainer.steps=1,2")
    }
    assert len(names) == 3


def test_an_arm_that_did_not_end_is_missing_not_forgotten(
    tmp_path: Path, saved_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of every arm is written before the first starts, and a finished arm's record is kept when the line
    is started again."""
    from fineface_train.verbs import sweep as module

    where = [
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
        f"data.root={tmp_path / 'data'}",
        f"run.root={tmp_path / 'runs'}",
    ]
    line = [
        "train",
        "-m",
        *SMALL,
        *where,
        "trainer.sample_every=0",
        "evaluation.after_training=false",
        "trainer.steps=1",
        "seed=0,1",
    ]

    def only_the_first(overrides: list[Override], arms: int, folder: Path, run: Callable[[int], None]) -> None:
        multirun(overrides, 1, folder, run)

    multirun = module.multirun
    with monkeypatch.context() as patch:
        patch.setattr(module, "multirun", only_the_first)
        assert main(line) == 1
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert sorted(read_json(path).get("error", "") for path in folder.glob("arm_*.json")) == ["", "not finished"]
    assert main(line) == 0
    assert not any("error" in read_json(path) for path in folder.glob("arm_*.json"))
