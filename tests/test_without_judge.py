"""A lab without a judge: judge=none makes pictures, pages and comparisons, and every command that these print works as
printed."""

import json
import re
import shlex
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AU_KEYS
from fineface_train.cli import main
from fineface_train.evaluation.compare import compare_errors
from fineface_train.files import read_json
from tests.reports.page_parser import Page

SMALL = [
    "data.toyfacs.disfa_subjects=3",
    "data.toyfacs.disfa_frames=12",
    "data.toyfacs.affectnet_images=60",
    "trainer.batch_size=4",
    "tracking.wandb=false",
]
QUICK = [
    "trainer.steps=2",
    "trainer.warmup_steps=0",
    "trainer.sample_every=2",
    "method.sampling.steps=1",
    "tracking.log_every=1",
]


def where(root: Path) -> list[str]:
    return [f"data.root={root / 'the data'}", f"run.root={root / 'my runs'}"]


def commands(text: str) -> list[list[str]]:
    """The lines of `fineface` in a page, a table or a terminal, as a shell would split them."""
    lines = re.findall(
        r"(?:^|`|<code>|<pre.*?>|: )\s*(fineface (?:evaluate|report|train) .*?)(?:`|</code>|</pre>|$)",
        unescape(text),
        re.MULTILINE,
    )
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, saved_base: Path) -> Path:
    """A run on a base of photographs (a tiny one), as a lab without LibreFace has it: nothing but the base is
    chosen."""
    root = tmp_path_factory.mktemp("photo graphs")
    base = root / "Stable Diffusion, ours"
    base.symlink_to(saved_base, target_is_directory=True)
    assert (
        main(
            [
                "train",
                "base=sd21",
                f"method.base.path={base}",
                "method.base.resolution=16",
                *SMALL,
                *QUICK,
                *where(root),
            ]
        )
        == 0
    )
    (run,) = (root / "my runs").iterdir()
    return run


def test_a_run_ends_in_pictures_and_a_page(photographs: Path) -> None:
    text = (photographs / "report.html").read_text()
    page = Page(text)
    assert {"unjudged", "grid", "sweeps", "combinations", "training", "audit"} <= page.sections
    assert not {"headline", "response", "leakage", "per-au"} & page.sections
    assert not page.open
    assert page.tags.count("img") > 5 * 13
    assert "Validation loss" in text
    assert all(f">{key}<" in text for key in AU_KEYS)
    frame = pd.read_parquet(photographs / "images.parquet")
    assert len(frame) == read_json(photographs / "pictures.json")["images"] == 5 + 5 * 12 * 3 + 5 * 17
    assert not [column for column in frame if "clip" in column or "face" in column]
    assert not (photographs / "metrics.json").exists()
    validation = read_json(photographs / "validation.json")
    assert validation["step"] == 2
    assert validation["loss"] == pytest.approx(np.mean(validation["errors"]))
    with Image.open(photographs / "samples" / "step_000002.png") as sheet:
        assert sheet.width > 13 * 64  # beside the names


def test_its_bundle_is_evaluated_without_a_base(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = f"bundle={photographs / 'bundle'}"
    assert main(["evaluate", bundle, f"out={tmp_path / 'out'}", "method.sampling.steps=1"]) == 0
    told = capsys.readouterr()
    assert "base: sd21 in " in told.err
    assert "made with judge=none: nothing was measured" in told.out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()}
    assert main(["evaluate", bundle, f"out={tmp_path / 'out'}", "method.sampling.steps=1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()} == before
    assert main(["generate", bundle, "prompt=a man", f"out={tmp_path / 'faces'}", "method.sampling.steps=1"]) == 0
    assert main(["report", f"out={tmp_path / 'out'}"]) == 0
    assert "config.yaml" not in (tmp_path / "out" / "report.html").read_text()  # an evaluation has none to miss
    assert main(["evaluate", bundle, f"out={tmp_path / 'out'}", "method.sampling.steps=2"]) == 2
    assert "holds another evaluation" in capsys.readouterr().err


def test_a_judge_of_drawings_is_refused(photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"bundle={photographs / 'bundle'}", "judge=toyfacs"]) == 2
    assert "choose judge=none" in capsys.readouterr().err
    assert main(["calibrate", f"bundle={photographs / 'bundle'}"]) == 2
    assert "choose judge=libreface" in capsys.readouterr().err
    assert (
        main(["evaluate", f"bundle={photographs / 'bundle'}", "judge=libreface", "judge.libreface.weights=null"]) == 2
    )
    assert "judge=none makes pictures and a page" in capsys.readouterr().err


def test_what_the_page_says_to_do_is_what_a_judge_needs(photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = {tuple(line) for line in commands((photographs / "report.html").read_text())}
    assert "judge=libreface" in line
    assert main([*line, "judge.libreface.weights=null"]) == 2
    assert "LIBREFACE_WEIGHTS" in capsys.readouterr().err
    assert main([*line[:3], "method.sampling.steps=1"]) == 0  # without the judge: there already


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unnamed sweep on the drawn world without a judge: two arms with two seeds, and two that fail; its folder."""
    root = tmp_path_factory.mktemp("drawn sweep")
    arms = ["encoder=none,res_mlp64", "seed=0,1", "trainer.learning_rate=1e-3,1e30", "trainer.schedule=constant"]
    assert main(["train", "-m", *arms, "judge=none", *SMALL, *QUICK, "trainer.steps=4", *where(root)]) == 1
    (folder,) = (root / "my runs" / "sweeps").iterdir()
    return folder


def test_a_sweep_ends_in_a_comparison(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (drawn / "report.html").read_text()
    page = Page(text)
    assert {"losses", "faces", "combinations", "compute", "numbers", "missing"} <= page.sections
    assert not page.open
    assert page.tags.count("img") == 2 * (4 * 13 + 8)
    found = read_json(drawn / "comparison.json")
    good = ["encoder=none trainer.learning_rate=0.001", "encoder=res_mlp64 trainer.learning_rate=0.001"]
    assert list(found["seeds"]) == good  # in the order of the command line
    assert found["reference"] == good[0]
    cell = found["validation"]["arms"][good[1]]
    assert {"difference", "difference_low", "p", "p_holm", "same_sign"} <= set(cell)
    assert set(cell["seeds"]) == {"0", "1"}
    assert text.count("failed: FloatingPointError") == 4
    markdown = (drawn / "report.md").read_text()
    linked = re.findall(r"!\[.*?\]\((.+?)\)", markdown)
    assert linked
    assert all((drawn / path).is_file() for path in linked)
    assert main(["report", f"out={drawn}/", "tracking.wandb=false"]) == 0
    assert "## Validation loss" in capsys.readouterr().out


def test_its_commands_work_as_printed(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Judged later, by the printed lines: no image is made again, and the comparison has its numbers."""
    *judge, report = commands(
        (drawn / "report.html")
        .read_text()
        .split('id="numbers"')[1]
        .split("</section>")[0]
        .replace("\n", "</pre>\n<pre>")
    )
    assert len(judge) == 4
    images = [path for run in drawn.parents[1].glob("toyfacs-*") for path in sorted((run / "images").glob("*.png"))]
    before = {path: path.stat().st_mtime_ns for path in images}
    for line in judge:
        assert main(line) == 0
    assert {path: path.stat().st_mtime_ns for path in images} == before
    capsys.readouterr()
    assert main([*report, "tracking.wandb=false"]) == 0
    assert "Judge judge_one" in capsys.readouterr().out
    page = Page((drawn / "report.html").read_text())
    assert {"values", "differences", "losses", "faces"} <= page.sections
    (run, *_) = [path.parent for path in drawn.parents[1].glob("toyfacs-*/metrics.json")]
    assert not (run / "pictures.json").exists()
    assert (
        main(["evaluate", f"bundle={run / 'bundle'}", "judge=none", "method.sampling.steps=1"]) == 0
    )  # judged already: the page stays
    assert (run / "metrics.json").is_file()
    again = next(line for line in commands((drawn / "report.md").read_text()) if line[0] == "train")
    assert main([*again, "tracking.wandb=false"]) == 0
    assert capsys.readouterr().out.count("finished already; nothing to do") == 2


def test_a_sweep_that_was_moved_or_is_seen_from_elsewhere(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    (runs / "sweeps" / "mine").mkdir(parents=True)
    (runs / photographs.name).symlink_to(photographs, target_is_directory=True)
    gone = f"outputs/{photographs.name}"
    record = {
        "arm": "encoder=mlp",
        "seed": 0,
        "place": [0],
        "overrides": ["encoder=mlp"],
        "folder": gone,
        "evaluation": gone,
    }
    (runs / "sweeps" / "mine" / "arm_1.json").write_text(json.dumps(record))
    assert main(["report", f"out={runs / 'sweeps' / 'mine'}", "tracking.wandb=false"]) == 0
    assert "not judged" in capsys.readouterr().out
    assert (
        main(["report", f"out={runs / 'sweeps' / 'mine'}", "comparison.reference=nothing", "tracking.wandb=false"]) == 2
    )
    (choose,) = commands(capsys.readouterr().err)
    assert main([*choose, "tracking.wandb=false"]) == 0


def test_report_says_what_lies_in_a_folder_that_is_none(
    photographs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for folder, told in (
        (photographs.parent, "1 lies in it: "),
        (photographs / "bundle", "it is a bundle; its run: "),
        (photographs / "images", "it is a part of a run: "),
    ):
        assert main(["report", f"out={folder}"]) == 2
        error = capsys.readouterr().err
        assert told in error
        (line,) = commands(error)
        assert main(line) == 0
        capsys.readouterr()
    assert main(["report", f"run.root={photographs.parent}"]) == 2
    assert f"out={photographs}" in capsys.readouterr().err
    assert main(["report", "bundle=data/toyfacs/bundle"]) == 2
    assert "lies in no run that was evaluated" in capsys.readouterr().err
    assert main(["report", f"out={tmp_path / 'nowhere'}"]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_differences_of_errors_are_paired_over_subjects() -> None:
    """Eight subjects of two examples; the arm errs by 0.1 less on every one of them, whatever these are like."""
    rng = np.random.default_rng(0)
    subjects = [f"s{index // 2}" for index in range(16)]
    errors = {seed: rng.uniform(0.1, 5, 16) for seed in (0, 1)}
    better = {seed: values - 0.1 for seed, values in errors.items()}
    found = compare_errors({"reference": errors, "better": better, "alone": {7: errors[0]}}, subjects, "reference")
    cell = found["better"]
    assert cell["difference"] == pytest.approx(-0.1)
    assert (cell["difference_low"], cell["difference_high"]) == pytest.approx((-0.1, -0.1))
    assert cell["p"] == cell["p_holm"] == pytest.approx(2 / 2**8)
    assert cell["same_sign"]
    assert found["reference"]["value"] == pytest.approx(np.mean([values.mean() for values in errors.values()]))
    assert "difference" not in found["reference"]
    assert "difference" not in found["alone"]  # no seed in common
    mixed = compare_errors({"reference": errors, "mixed": {0: better[0], 1: errors[1] + 0.1}}, subjects, "reference")[
        "mixed"
    ]
    assert not mixed["same_sign"]
    assert mixed["p"] == 1
