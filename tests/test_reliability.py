"""Runs that are stopped, started twice, or find their disk damaged or full: with real processes."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from PIL import Image

from fineface_train.cli import main
from fineface_train.data.cache import load_image
from fineface_train.data.config import ImageTransform
from fineface_train.files import SEAL, damage, seal, sha256
from fineface_train.locks import locked
from tests.permissions import unprivileged

REPOSITORY = Path(__file__).parents[1]
os.umask(UMASK := os.umask(0))
SMALL_DATA = ["data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"]


def small_training(root: Path, base: Path) -> list[str]:
    """Overrides for the tiny base: all but the number of steps."""
    return [
        *(
            f"method.base.path={base}",
            "method.base.resolution=16",
            f"data.root={root / 'data'}",
            f"run.root={root / 'runs'}",
            *SMALL_DATA,
            "trainer.batch_size=4",
        ),
        *("trainer.sample_every=0", "tracking.wandb=false", "tracking.log_every=1", "evaluation.after_training=false"),
    ]


def start(root: Path, base: Path, *overrides: str, processes: int = 1, prefix: Sequence[str] = ()) -> subprocess.Popen:
    """A training on the tiny base, in processes of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [
        *prefix,
        sys.executable,
        *launcher,
        "-m",
        "fineface_train",
        "train",
        *small_training(root, base),
        *overrides,
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to a command and all that it started; torchrun's workers have sessions of their own."""
    parent = psutil.Process(process.pid)
    for one in [*parent.children(recursive=True), parent]:
        one.kill()
    process.communicate(timeout=60)


def wait_for_steps(root: Path, process: subprocess.Popen, steps: int) -> Path:
    """The run folder, once so many steps are logged."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for path in (root / "runs").glob("*/metrics.jsonl"):
            if len(path.read_text().splitlines()) >= steps:
                return path.parent
        time.sleep(0.05)
    raise AssertionError(f"no {steps} steps:\n{process.communicate()[1][-2000:]}")


@pytest.mark.parametrize(
    ("number", "processes", "workers", "twice"),
    [
        (signal.SIGTERM, 1, 0, False),
        (signal.SIGINT, 1, 0, False),
        (signal.SIGUSR2, 1, 0, False),
        (signal.SIGTERM, 1, 2, False),
        (signal.SIGTERM, 2, 0, False),
        (signal.SIGTERM, 2, 0, True),
    ],
)
def test_a_signal_ends_the_run_after_a_checkpoint(
    number: int, processes: int, workers: int, twice: bool, tmp_path: Path, saved_base: Path
) -> None:
    changes = ["trainer.steps=100000", "trainer.checkpoint_every=100000", f"trainer.workers={workers}"]
    process = start(tmp_path, saved_base, *changes, processes=processes)
    folder = wait_for_steps(tmp_path, process, 3)
    if twice:  # a cluster signals every process, and torchrun passes its own on
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            child.send_signal(number)
        time.sleep(0.25)
    if workers:
        os.killpg(process.pid, number)  # as a terminal or a cluster does: the workers get it too
    else:
        process.send_signal(number)
    _, error = process.communicate(timeout=60)
    (state,) = (folder / "state").glob("step_????????")
    step = json.loads((state / "progress.json").read_text())["step"]
    assert f"stopped by {signal.Signals(number).name} after step {step}, which is saved" in error
    assert damage(state) is None
    if processes == 1:
        assert process.returncode == 128 + number
        assert "Traceback" not in error
    again = start(tmp_path, saved_base, *changes, processes=processes)
    wait_for_steps(tmp_path, again, step + 2)
    kill(again)
    # Read after the kill: resuming keeps what the checkpoint vouches for, and each step stands there once.
    steps = [
        json.loads(line)["step"]
        for line in (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    assert steps == list(range(1, len(steps) + 1))


@contextlib.contextmanager
def read_only(root: Path) -> Iterator[None]:
    """No file or folder below `root` can be written by who obeys permissions (`unprivileged`)."""
    modes = {path: path.stat().st_mode for path in (root, *root.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def contents_of(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, saved_base: Path) -> None:
    first = start(tmp_path, saved_base, "trainer.steps=100000")
    wait_for_steps(tmp_path, first, 1)
    second = start(tmp_path, saved_base, "trainer.steps=100000")
    _, error = second.communicate(timeout=120)
    kill(first)
    assert second.returncode == 2
    assert f"is in use by process {first.pid}" in error
    with locked(next((tmp_path / "runs").iterdir())):  # a killed run lets go
        pass


def test_seals_find_every_kind_of_damage(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    (tmp_path / "b").write_bytes(b"5678")
    seal(tmp_path)
    assert damage(tmp_path) is None
    (tmp_path / "a").write_bytes(b"1235")
    assert "a is not what was written" in str(damage(tmp_path))
    (tmp_path / "a").write_bytes(b"5678")
    (tmp_path / "b").write_bytes(b"1234")
    assert "not what was written" in str(damage(tmp_path))
    (tmp_path / "a").unlink()
    assert "a is missing" in str(damage(tmp_path))
    (tmp_path / "checksums.json").write_text('{"a":')
    assert "checksums.json cannot be read" in str(damage(tmp_path))
    (tmp_path / "checksums.json").unlink()
    assert "checksums.json is missing" in str(damage(tmp_path))


def test_a_damaged_cache_is_named_and_built_again(tmp_path: Path, saved_base: Path) -> None:
    first = start(tmp_path, saved_base, "trainer.steps=2", "seed=1")
    assert first.wait(timeout=120) == 0, first.communicate()[1][-2000:]
    (mean,) = (tmp_path / "data" / "cache").glob("latents-*/mean.npy")
    before = mean.read_bytes()
    mean.write_bytes(before[: len(before) // 2])
    second = start(tmp_path, saved_base, "trainer.steps=2", "seed=2")
    _, error = second.communicate(timeout=120)
    assert second.returncode == 0, error[-2000:]
    assert f"{mean} is not what was written" in error
    assert mean.read_bytes() == before


def test_a_cache_in_the_place_of_another_is_named_and_built_again(tmp_path: Path, saved_base: Path) -> None:
    assert start(tmp_path, saved_base, "trainer.steps=2", "seed=1").wait(timeout=120) == 0
    (crop,) = (tmp_path / "data" / "cache").glob("latents-*")
    squashed = [*("trainer.steps=2", "image_transform=squash", "method.base.resolution=32")]
    assert start(tmp_path, saved_base, *squashed, "seed=1").wait(timeout=120) == 0
    (other,) = set((tmp_path / "data" / "cache").glob("latents-*")) - {crop}
    before = (other / "mean.npy").read_bytes()
    shutil.rmtree(other)
    shutil.copytree(crop, other)
    again = start(tmp_path, saved_base, *squashed, "seed=2")
    _, error = again.communicate(timeout=120)
    assert again.returncode == 0, error[-2000:]
    assert f"{other} is {crop.name}: building this cache again" in error
    assert (other / "mean.npy").read_bytes() == before


def test_what_was_made_and_is_damaged_is_named_and_made_again(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", *small_training(tmp_path, saved_base), "trainer.steps=2"]
    assert main(command) == 0
    (bundle,) = (tmp_path / "runs").glob("*/bundle")
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    made = [
        tmp_path / "data" / name
        for name in ("table.parquet", "manifest.json", "contents.parquet", "corpus/corpus.json")
    ]
    for path in (*made, *(bundle / name for name in before if name != "README.md")):
        for content in (b"", path.read_bytes()[: path.stat().st_size // 2]):
            path.write_bytes(content)
            capsys.readouterr()
            assert main(command) == 0
            error = capsys.readouterr().err
            assert (
                str(path) in error
                or f"{path.parent}: drawn from another config" in error
                or f"{path.parent / SEAL} cannot be read" in error
            )
            assert "again" in error
            assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_the_bundle_of_another_run_is_not_taken_for_its_own(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", *small_training(tmp_path, saved_base), "trainer.steps=2"]
    assert main([*command, "seed=0"]) == 0
    (first,) = (tmp_path / "runs").glob("*/bundle")
    assert main([*command, "seed=1"]) == 0
    (second,) = set((tmp_path / "runs").glob("*/bundle")) - {first}
    before = (second / "adapter.safetensors").read_bytes()
    shutil.rmtree(second)
    shutil.copytree(first, second)
    assert main([*command, "seed=1"]) == 0
    assert f"{second} is not the one that this run wrote: making it again" in capsys.readouterr().err
    assert (second / "adapter.safetensors").read_bytes() == before
    shutil.rmtree(second.parent / "state")
    (second / "adapter.safetensors").write_bytes(b"")
    assert main([*command, "seed=1"]) == 2
    assert "no checkpoint is left to make it from" in capsys.readouterr().err


def test_images_that_change_while_their_cache_is_built_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    digest = sha256(tmp_path / "a.png")
    load_image(str(tmp_path / "a.png"), 8, ImageTransform.crop, digest)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: was changed by somebody else"):
        load_image(str(tmp_path / "a.png"), 8, ImageTransform.crop, digest)


def test_what_a_failed_build_left_goes_with_the_next(tmp_path: Path, saved_base: Path) -> None:
    leftover = tmp_path / "data" / "cache" / "latents-0123456789abcdef.partial"
    leftover.mkdir(parents=True)
    (leftover / "mean.npy").write_bytes(b"much room")
    assert start(tmp_path, saved_base, "trainer.steps=1").wait(timeout=120) == 0
    assert not leftover.exists()


def test_a_folder_that_loses_write_permission_leaves_the_last_checkpoint(tmp_path: Path, saved_base: Path) -> None:
    changes = ["trainer.steps=100000", "trainer.checkpoint_every=1"]
    process = start(tmp_path, saved_base, *changes, prefix=unprivileged())
    folder = wait_for_steps(tmp_path, process, 3)
    state = folder / "state"
    state.chmod(0o555)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Permission denied" in error
    assert "Traceback" not in error
    assert any(damage(checkpoint) is None for checkpoint in state.glob("step_????????"))
    state.chmod(0o755)
    before = max(int(checkpoint.name[5:]) for checkpoint in state.glob("step_????????"))
    again = start(tmp_path, saved_base, *changes)
    wait_for_steps(tmp_path, again, before + 2)
    kill(again)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root: run the tests as root")
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, saved_base: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", runs], check=False, capture_output=True
    ).returncode:
        pytest.skip("no tmpfs may be mounted here: run the tests as root in a container with CAP_SYS_ADMIN, or in none")
    try:
        process = start(tmp_path, saved_base, "trainer.steps=100000", "trainer.checkpoint_every=1")
        folder = wait_for_steps(tmp_path, process, 2)
        filler = runs / "filler"
        with filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"0" * 4096)
                except OSError:
                    break
        _, error = process.communicate(timeout=120)
        assert process.returncode == 2
        # torch hides the system's words, and what the broken checkpoint took is free again
        assert "No space left on device" in error or re.search(r"could not be written .*; \d+ MB are free there", error)
        assert "Traceback" not in error
        filler.unlink()
        assert any(damage(state) is None for state in (folder / "state").glob("step_????????"))
        again = start(tmp_path, saved_base, "trainer.steps=100000", "trainer.checkpoint_every=1")
        before = max(int(state.name[5:]) for state in (folder / "state").glob("step_????????"))
        wait_for_steps(tmp_path, again, before + 2)
        kill(again)
    finally:
        subprocess.run(["umount", "-l", runs], check=False)


def test_data_of_somebody_else_are_trained_on(tmp_path: Path, saved_base: Path) -> None:
    assert start(tmp_path, saved_base, "trainer.steps=1").wait(timeout=120) == 0
    runs = tmp_path / "runs"
    runs.rename(tmp_path / "theirs")
    written = [path for path in (tmp_path / "theirs").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in written)
    assert all(path.stat().st_mode & 0o777 == 0o666 & ~UMASK for path in written)
    before = contents_of(tmp_path / "data")
    with read_only(tmp_path / "data"):
        mine = start(tmp_path, saved_base, "trainer.steps=2", prefix=unprivileged())
        assert mine.wait(timeout=120) == 0, mine.communicate()[1][-2000:]
        other_size = ["trainer.steps=1", "method.base.resolution=32"]
        refused = start(tmp_path, saved_base, *other_size, prefix=unprivileged())
        _, error = refused.communicate(timeout=120)
        assert refused.returncode == 2
        assert f"{tmp_path / 'data' / 'cache'}" in error
        assert "cannot be written (Permission denied)" in error
        assert "data.cache" in error
        elsewhere = start(tmp_path, saved_base, *other_size, f"data.cache={tmp_path / 'cache'}", prefix=unprivileged())
        assert elsewhere.wait(timeout=120) == 0, elsewhere.communicate()[1][-2000:]
    assert contents_of(tmp_path / "data") == before
