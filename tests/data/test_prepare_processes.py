"""`fineface prepare` under torchrun: two processes make the table that one makes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fineface_train.data.prepared import read_manifest
from fineface_train.data.table import SampleTable
from tests.data.disfa_copy import Copy
from tests.data.test_affectnet_official import write_openface
from tests.data.test_blip2 import tiny_blip2

REPOSITORY = Path(__file__).parents[2]


def prepared(processes: int, corpus: Path, disfa: Path, root: Path, *overrides: str) -> str:
    """What `fineface prepare` on DISFA and AffectNet printed."""
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    command = [
        *(sys.executable, *launcher, "-m", "fineface_train", "prepare", "data=disfa_affectnet", f"data.root={root}"),
        *(
            f"data.disfa.root={disfa}",
            "data.disfa.neutral_share=1",
            f"data.affectnet.root={corpus / 'affectnet'}",
            "data.affectnet.min_side=64",
        ),
        *overrides,
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_two_processes_prepare_what_one_does(corpus: Path, tmp_path: Path) -> None:
    """And leave out the same image that cannot be read."""
    disfa = Copy(images=None, videos="Videos_LeftCamera").write(corpus, tmp_path / "disfa")
    shutil.copytree(corpus / "affectnet", tmp_path / "affectnet")
    one, two, skip = tmp_path / "one", tmp_path / "two", "data.skip_broken=true"
    prepared(1, tmp_path, disfa, one)
    whole = SampleTable.read(one / "table.parquet")
    Path(whole.frame["image"].iloc[-3]).write_bytes(b"")
    prepared(1, tmp_path, disfa, one, skip)
    assert "nothing changed" not in prepared(2, tmp_path, disfa, two, skip)
    first, second = (SampleTable.read(root / "table.parquet") for root in (one, two))
    assert len(first) == len(whole) - 1 > 50
    assert set(first.frame["source"]) == {"disfa", "affectnet"}
    assert first.fingerprint() == second.fingerprint()
    assert read_manifest(one)["sources"] == read_manifest(two)["sources"]
    assert sorted(path.name for path in one.rglob("*.jpg")) == sorted(path.name for path in two.rglob("*.jpg"))
    assert "nothing changed" in prepared(2, tmp_path, disfa, two, skip)


def test_models_are_asked_while_data_is_prepared(corpus: Path, tmp_path: Path) -> None:
    """On one process and on two: DISFA's captions by a tiny BLIP-2, AffectNet's AUs from OpenFace's files."""
    for part in tiny_blip2():
        part.save_pretrained(tmp_path / "blip2")
    write_openface(sorted((corpus / "affectnet" / "images").rglob("*.png")), tmp_path / "openface")
    models = [
        "data.disfa.captions=null",
        f"data.blip2.model={tmp_path / 'blip2'}",
        "data.blip2.max_new_tokens=8",
        "data.affectnet.aus=annotator",
    ]
    models += ["data.annotate.kind=openface", f"data.annotate.openface.folder={tmp_path / 'openface'}"]
    models.append("data.disfa.image_pattern='{subject}/{index:05d}.png'")
    tables = {}
    for processes in (1, 2):
        root = tmp_path / str(processes)
        prepared(processes, corpus, corpus / "disfa", root, *models)
        tables[processes] = SampleTable.read(root / "table.parquet")
        assert "nothing changed" in prepared(processes, corpus, corpus / "disfa", root, *models)
    assert tables[1].fingerprint() == tables[2].fingerprint()
    frame = tables[1].frame
    assert frame.loc[frame["source"] == "disfa", "caption_from"].str.startswith("blip2 ").all()
    assert set(frame.loc[frame["source"] == "affectnet", "AU12"]) == {3.25}
