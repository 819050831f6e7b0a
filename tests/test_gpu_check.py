"""scripts/gpu_check.sh: the limit of time is kept, nothing that failed is hidden, and all of it runs at a tiny size."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_parts.machine import NotHereError, Part, PartError, run
from tests.scripts import SCRIPTS, script

gpu_check = script("gpu_check")
SPEED = {
    "training": {
        "base": "sd21_random",
        "resolution": 512,
        "batch": 4,
        "operations_an_example": 2e12,
        "variants": [
            {"variant": "bf16", "dtype": "bfloat16", "examples_per_second": 100.0, "peak_gb": 20.5},
            {"variant": "ours", "dtype": "float32", "examples_per_second": 10.0, "peak_gb": None},
        ],
    }
}


def report(out: Path, gpu: str | None = "NVIDIA H100 80GB HBM3") -> Any:
    return gpu_check.Report(out, {"gpu": gpu, "date": "today", "python": "3.12", "packages": {"torch": "2.11.0"}})


def fails(limit: float) -> dict[str, Any]:
    raise PartError("the weights differ", output="what was printed")


def not_here(limit: float) -> dict[str, Any]:
    raise NotHereError("no GPU")


def sleeps(limit: float) -> dict[str, Any]:
    run([sys.executable, "-c", "import time; time.sleep(60)"], limit)
    return {}


def test_each_part_ends_within_its_limit_and_all_within_theirs(tmp_path: Path) -> None:
    budget, found, started = gpu_check.Budget(3.0), report(tmp_path), time.monotonic()
    for part in (
        Part("measures", 5, 1, lambda limit: SPEED),
        Part("fails", 5, 1, fails),
        Part("cannot", 5, 1, not_here),
        Part("hangs", 0.5, 0.1, sleeps),
        Part("is long", 60, 0.1, sleeps),
        Part("comes too late", 5, 1, lambda limit: {}),
    ):
        budget.run(part, found)
    assert time.monotonic() - started < 6
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [part["status"] for part in written["parts"]] == [
        "passed",
        "failed: the weights differ",
        "not here: no GPU",
        "failed: took over 0 s",
        "not finished: out of time",
        "not run: out of time",
    ]
    assert written["parts"][1]["output"] == "what was printed"
    assert found.failed
    assert [row["mfu"] for row in written["training"]] == [100 * 2e12 / 989e12, 10 * 2e12 / 67e12]
    table = (tmp_path / "gpu_check.md").read_text()
    assert "| sd21_random | 512 | 4 | bf16 | 100.00 | 20.50 | 200 | 20.2% |" in table
    assert "| comes too late | not run: out of time | 0 |" in table


def test_the_share_of_an_unknown_gpu_is_not_guessed(tmp_path: Path) -> None:
    rows = gpu_check.speeds([SPEED], "training", "NVIDIA GeForce GTX 1080")
    assert [row["mfu"] for row in rows] == [None, None]
    assert not report(tmp_path).failed


def test_what_a_command_started_ends_with_it(tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = f"import subprocess; open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))"
    with pytest.raises(subprocess.TimeoutExpired):
        run([sys.executable, "-c", f"{code}\nimport time; time.sleep(60)"], 3)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(child.read_text())).wait(timeout=10)  # raises TimeoutExpired of psutil where it goes on
    with pytest.raises(PartError, match="ended with status 3") as fault:
        run([sys.executable, "-c", "print('why'); raise SystemExit(3)"], 20)
    assert "why" in fault.value.output


@pytest.mark.slow  # a dozen processes that each import torch: three minutes alone
def test_everything_at_a_tiny_size(tmp_path: Path) -> None:
    command = ["bash", SCRIPTS / "gpu_check.sh", "--tiny", "--minutes", "30", "--out", tmp_path]
    done = subprocess.run(
        command, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    statuses = {part["name"]: part["status"] for part in found["parts"]}
    assert statuses.pop("torch.compile").startswith("not here")
    assert set(statuses.values()) == {"passed"}, statuses
    assert found["training"]
    assert found["generation"]
    assert (tmp_path / "gpu_check.md").read_text() in done.stdout
