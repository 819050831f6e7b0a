"""Stopped from outside: Ctrl-C at any time, a pipe that nobody reads any more, a launcher that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fineface_train.cli import VERBS, main
from fineface_train.files import damage
from tests.test_reliability import small_training, start, wait_for_steps

STOPPED = {
    verb: f"fineface {verb}: "
    f"stopped{'; the same command resumes' if verb in ('prepare', 'train', 'evaluate') else ''}\n"
    for verb in VERBS
}


def run(*arguments: str, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "fineface_train", *arguments]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, **options
    )


@pytest.mark.parametrize(
    ("verb", "options"),
    [("train", []), ("train", ["--help"]), ("prepare", []), ("generate", ["prompt=a person"]), ("doctor", [])],
)
def test_ctrl_c_while_libraries_load_is_one_line(verb: str, options: list[str], tmp_path: Path) -> None:
    for delay in (0.15, 0.6, 1.5):
        process = run(verb, *options, f"data.root={tmp_path}", f"run.root={tmp_path}", stdout=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        if options == ["--help"] and process.returncode == 0:  # the page was printed before
            assert delay > 0.15
            continue
        assert process.returncode == 130
        assert error in (STOPPED[verb], "fineface: stopped\n")  # the second before it knows its verb
        assert not list(tmp_path.iterdir())


def test_ctrl_c_before_the_first_step_is_one_line(
    tmp_path: Path, saved_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fineface_train.verbs.train.prepare", interrupted)
    assert main(["train", *small_training(tmp_path, saved_base)]) == 130
    assert capsys.readouterr().err == STOPPED["train"]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("fineface_train.verbs.commands.prepare", interrupted)
    assert main(["prepare"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["doctor", "judge=none"]], ids=" ".join)
def test_a_reader_that_is_gone_is_no_fault(arguments: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = run(*arguments, stdout=writing, cwd=tmp_path)
    os.close(writing)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGPIPE, error
    assert "Traceback" not in error
    assert "Broken pipe" not in error
    assert "Exception ignored" not in error
    assert "[transformers]" not in error  # nor does a library say anything while it loads


def test_neither_output_is_needed(tmp_path: Path) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        shell = subprocess.run(
            ["sh", "-c", f"exec {sys.executable} -m fineface_train --help {closed}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (shell.returncode, shell.stderr) == (0, ""), closed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here; run the tests on Linux")
def test_an_output_that_is_full_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = run("--help", stdout=full)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.startswith("fineface: [Errno 28] No space left on device")
    assert error.count("\n") == 1


@pytest.mark.parametrize("where", ["training", "preparing"])
def test_processes_end_with_their_launcher(where: str, tmp_path: Path, saved_base: Path) -> None:
    """It is killed, and can tell them nothing; a step that is running is finished and saved."""
    changes = ["trainer.steps=100000", "trainer.checkpoint_every=100000"]
    process = start(
        tmp_path,
        saved_base,
        *changes,
        *(["data.toyfacs.affectnet_images=100000"] if where == "preparing" else []),
        processes=2,
    )
    if where == "training":
        folder = wait_for_steps(tmp_path, process, 3)
    else:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "data").rglob("*.png")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    for worker in alive:
        worker.kill()
    _, error = process.communicate(timeout=60)
    assert not alive
    assert "Traceback" not in error
    if where == "preparing":
        assert f"fineface: the launcher (process {process.pid}) is gone; stopping, as on SIGTERM" in error
    else:  # the first process may have learned it from the second, at the end of a step
        (state,) = (folder / "state").glob("step_????????")
        step = json.loads((state / "progress.json").read_text())["step"]
        assert f"stopped by SIGTERM after step {step}, which is saved" in error
        assert damage(state) is None
