"""`fineface prepare` is killed in the middle of what it does, and the same line goes on to what it would have made
alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fineface_train.data.prepared import read_manifest
from fineface_train.data.table import SampleTable
from tests.data.disfa_copy import Copy

REPOSITORY = Path(__file__).parents[2]
SIGNS = ("frames/*/*.jpg", "frames/*/0000[5-9].jpg", "table.parquet", "looks/*")
"""Files of the prepared folder; each attempt is killed when one more of them is there."""


def start(disfa: Path, affectnet: Path, root: Path) -> subprocess.Popen[str]:
    sources = (
        f"data.disfa.root={disfa}",
        "data.disfa.neutral_share=1",
        f"data.affectnet.root={affectnet}",
        "data.affectnet.min_side=64",
    )
    command = (sys.executable, "-m", "fineface_train", "prepare", "data=disfa_affectnet", f"data.root={root}", *sources)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_when(process: subprocess.Popen[str], root: Path, sign: str) -> bool:
    """Whether it was killed, and had not ended before."""
    before = set(root.glob(sign))
    while process.poll() is None:
        if set(root.glob(sign)) - before:
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_a_prepare_that_is_killed_goes_on(corpus: Path, tmp_path: Path) -> None:
    disfa, affectnet = (
        Copy(images=None, videos="Videos_LeftCamera").write(corpus, tmp_path / "disfa"),
        corpus / "affectnet",
    )
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process = start(disfa, affectnet, alone)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    kills, kept = [], {}
    for sign in SIGNS:
        kills += [sign] * kill_when(start(disfa, affectnet, killed), killed, sign)
        assert not (killed / "manifest.json").exists() or SampleTable.read(killed / "table.parquet") is not None
        for path, written in kept.items():
            assert path.stat().st_mtime_ns == written, f"{path} was made again"
        kept = {path: path.stat().st_mtime_ns for path in killed.glob("frames/*/*.jpg")}
    assert len(kills) >= 3, kills
    process = start(disfa, affectnet, killed)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    assert (
        SampleTable.read(killed / "table.parquet").fingerprint()
        == SampleTable.read(alone / "table.parquet").fingerprint()
    )
    assert read_manifest(killed)["sources"] == read_manifest(alone)["sources"]
    assert {path.relative_to(killed) for path in killed.rglob("*.jpg")} == {
        path.relative_to(alone) for path in alone.rglob("*.jpg")
    }
    for path in alone.rglob("*.jpg"):
        assert (killed / path.relative_to(alone)).read_bytes() == path.read_bytes()
    assert not list(killed.rglob("*.partial"))
    assert (killed / "report.html").is_file()
