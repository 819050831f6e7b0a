"""Real processes: media, rows and numbers of two are those of one to the byte, also when one goes on where two were
killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_processes import launch

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def start(processes: int, out: Path, seconds: float = 0.0) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    program = [str(ROOT / "tests" / "evaluation" / "drawn_evaluation.py"), str(out), str(seconds)]
    command = [sys.executable, *(launcher if processes > 1 else []), *program]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> None:
    told, _ = process.communicate()
    assert process.returncode == 0, told[-3000:]


def written(out: Path) -> dict[str, str]:
    """All that is in the folder, but for how long it took."""
    found = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }
    for name in ("metrics.json", "media.json"):
        values = json.loads((out / name).read_text())
        assert values.pop("seconds") > 0
        found[name] = json.dumps(values)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process leaves that is left alone."""
    out = tmp_path_factory.mktemp("one")
    finish(start(1, out))
    return written(out)


def test_two_processes_write_what_one_does(whole: dict[str, str], tmp_path: Path) -> None:
    finish(start(2, tmp_path / "out"))
    assert written(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("first", "then", "pattern", "count"),
    [(2, 1, "images/*.png", 20), (1, 2, "images/*.png", 20), (2, 1, "rows/*.parquet", 2), (1, 2, "rows/*.parquet", 2)],
)
def test_killed_and_gone_on_with_by_another_number(
    whole: dict[str, str], tmp_path: Path, first: int, then: int, pattern: str, count: int
) -> None:
    """A SIGKILL of the launcher, whose processes end then, in the middle of making or of judging."""
    out = tmp_path / "out"
    process = start(first, out, 0.2)
    until = time.monotonic() + 300
    while len(list(out.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # its output ends with the last of its processes
    assert not (out / "metrics.json").exists()
    finish(start(then, out))
    assert written(out) == whole


def test_a_training_ends_with_an_evaluation_by_all_processes(tmp_path: Path, saved_base: Path) -> None:
    run = launch(2, tmp_path, saved_base, "evaluation.after_training=true", "trainer.sample_every=0")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["images"] == len(list((run / "images").glob("*.png"))) == 270
    assert metrics["settings"]["judge"]["kind"] == "toyfacs"
    assert set(metrics["ceiling"]) == {"individual", "combination"}
    assert (run / "report.html").is_file()
    assert (
        json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["evaluation"]["individual"]["slope"]
        is not None
    )
    assert not list(run.rglob("*.partial"))
