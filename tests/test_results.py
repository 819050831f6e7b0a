"""What is published under docs/results can be computed again from the rows that lie beside it."""

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from fineface_train.evaluation.compare import compare
from fineface_train.evaluation.metrics import nulled
from fineface_train.files import read_json

RESULTS = Path("docs/results")


def published() -> list[Path]:
    return sorted(path.parent for path in RESULTS.glob("*/rows.parquet"))


def same(one: Any, other: Any) -> bool:
    """Of numbers as JSON has them: keys are text, NaN is null."""
    if isinstance(other, dict):
        return len(one) == len(other) and all(same(one[int(key)], value) for key, value in other.items())
    if isinstance(other, float) and isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


@pytest.mark.parametrize("folder", published(), ids=lambda folder: folder.name)
def test_published_numbers_follow_from_the_published_rows(folder: Path) -> None:
    found = read_json(folder / "comparison.json")
    rows = pd.read_parquet(folder / "rows.parquet")
    arms = {
        arm: {int(seed): own for seed, own in frame.groupby("seed_of_training")}
        for arm, frame in rows.groupby("arm", sort=False)
    }
    again = nulled(compare(arms, found["reference"], found["judges"][0]))
    for kind, cells in found["numbers"].items():
        for arm, metrics in cells.items():
            for name, cell in metrics.items():
                for part, value in cell.items():
                    assert same(again[kind][arm][name][part], value), (kind, arm, name, part)


@pytest.mark.parametrize("folder", published(), ids=lambda folder: folder.name)
def test_published_pages_have_their_pictures_and_configs(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    for linked in re.findall(r"\]\((.+?)\)", text):
        assert (folder / linked).is_file()
    found = read_json(folder / "comparison.json")
    assert len(list((folder / "configs").glob("*.yaml"))) == len(found["seeds"])


def test_published_charts_are_drawn_anew_from_what_is_published(tmp_path: Path) -> None:
    shutil.copyfile(RESULTS / "table3" / "comparison.json", tmp_path / "comparison.json")
    command = [sys.executable, "scripts/publish_results.py", "--redraw", "--out", str(tmp_path)]
    subprocess.run(command, check=True)
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {path.name for path in (RESULTS / "table3" / "figures").glob("*.svg")}
    told = [set(_texts(folder / "figures" / "values.svg")) for folder in (tmp_path, RESULTS / "table3")]
    assert told[0] == told[1]


def _texts(path: Path) -> list[str]:
    """The words and numbers of an SVG."""
    return [element.text or "" for element in ElementTree.parse(path).getroot().findall(".//{*}text")]
