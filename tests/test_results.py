"""Published numbers can be computed again from docs/results/rows.parquet; each run lies there once, exactly."""

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from fineface_train.evaluation.compare import compare
from fineface_train.evaluation.metrics import nulled
from fineface_train.files import read_json, write_json
from tests.scripts import script

publish_results = script("publish_results")
RESULTS = Path("docs/results")


SMALLEST = ("table3", "plus")
"""Sweeps of two arms, computed again by default; those of five and seven arms go the same way and take minutes."""


def published() -> list[Path]:
    return sorted(path.parent for path in RESULTS.glob("*/comparison.json"))


def same(one: Any, other: Any) -> bool:
    """Whether two results agree as JSON has them: keys are text, NaN is null."""
    if isinstance(other, dict):
        return len(one) == len(other) and all(same(one[int(key)], value) for key, value in other.items())
    if isinstance(other, float) and isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(folder, id=folder.name, marks=() if folder.name in SMALLEST else pytest.mark.slow)
        for folder in published()
    ],
)
def test_published_numbers_follow_from_the_published_rows(folder: Path) -> None:
    found = read_json(folder / "comparison.json")
    arms = publish_results.published_rows(folder)
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


def published_sweep(root: Path, name: str, runs: dict[str, pd.DataFrame]) -> list[str]:
    """Publish a sweep of one arm, whose seeds are these runs; returns the sweeps that are to be published again."""
    (root / name).mkdir(parents=True, exist_ok=True)
    folders = {str(seed): f"outputs/{run}" for seed, run in enumerate(runs)}
    write_json(root / name / "comparison.json", {"folders": {"arm": folders}})
    rows = [own.assign(arm="arm", seed_of_training=seed) for seed, own in enumerate(runs.values())]
    return list(publish_results.publish_rows(pd.concat(rows), root / name))


def judged(seed: int, **others: float) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    read = {"judge_AU1": random.random(1500).astype(np.float32).astype(float), "exact": random.random(1500)}
    return pd.DataFrame({"id": [f"p{n}" for n in range(1500)], "seen": True, "path": "images/x.png", **read, **others})


def test_a_run_that_several_sweeps_show_is_stored_once_and_read_back_to_the_bit(tmp_path: Path) -> None:
    one, two, three = judged(1), judged(2), judged(3, other_judge=0.5)
    assert published_sweep(tmp_path, "a", {"one": one, "two": two}) == []
    assert published_sweep(tmp_path, "b", {"two": two, "three": three}) == []
    assert len(pd.read_parquet(tmp_path / "rows.parquet")) == 3 * len(one)
    for sweep, runs in (("a", (one, two)), ("b", (two, three))):
        for seed, own in enumerate(runs):
            read = publish_results.published_rows(tmp_path / sweep)["arm"][seed]
            expected = own.drop(columns="path")
            pd.testing.assert_frame_equal(read[list(expected)], expected, check_exact=True)
    assert "other_judge" not in publish_results.published_rows(tmp_path / "a")["arm"][0]

    assert published_sweep(tmp_path, "b", {"two": judged(4), "three": three}) == ["a"]
    assert published_sweep(tmp_path, "b", {"three": three}) == []
    assert published_sweep(tmp_path, "a", {"one": one}) == []
    assert set(pd.read_parquet(tmp_path / "rows.parquet")["run"]) == {"one", "three"}


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
