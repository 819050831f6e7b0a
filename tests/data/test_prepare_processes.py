"""`fineface prepare` under torchrun: two processes make the table that one makes."""

import os
import subprocess
import sys
from pathlib import Path

from fineface_train.data.prepare import read_manifest
from fineface_train.data.table import SampleTable
from tests.data.disfa_copy import Copy

REPOSITORY = Path(__file__).parents[2]


def prepared(processes: int, corpus: Path, disfa: Path, root: Path) -> str:
    """What `fineface prepare` on DISFA's videos and AffectNet printed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [
        *(sys.executable, *launcher, "-m", "fineface_train", "prepare", "data=disfa_affectnet", f"data.root={root}"),
        *(f"data.disfa.root={disfa}", "data.disfa.neutral_share=1", f"data.affectnet.root={corpus / 'affectnet'}", "data.affectnet.min_side=64"),
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_two_processes_prepare_what_one_does(corpus: Path, tmp_path: Path) -> None:
    disfa = Copy(images=None, videos="Videos_LeftCamera").write(corpus, tmp_path / "disfa")
    one, two = tmp_path / "one", tmp_path / "two"
    prepared(1, corpus, disfa, one)
    assert "nothing changed" not in prepared(2, corpus, disfa, two)
    first, second = (SampleTable.read(root / "table.parquet") for root in (one, two))
    assert len(first) > 50
    assert set(first.frame["source"]) == {"disfa", "affectnet"}
    assert first.fingerprint() == second.fingerprint()
    assert read_manifest(one)["sources"] == read_manifest(two)["sources"]
    assert sorted(path.name for path in one.rglob("*.jpg")) == sorted(path.name for path in two.rglob("*.jpg"))
    assert "nothing changed" in prepared(2, corpus, disfa, two)
