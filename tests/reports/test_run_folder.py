"""A run folder as one object: whole, killed, of an evaluation alone, of an older version, and damaged."""

import json
from pathlib import Path

import pandas as pd
import pytest

from fineface_train.reports.headline import floor, headline_table
from fineface_train.reports.numbers import numbers_csv
from fineface_train.reports.run import write_report
from fineface_train.reports.run_folder import RunFolder, read_run
from fineface_train.reports.training import grouped, in_words, training_curves
from tests.reports.page_parser import Page
from tests.reports.run_fixture import build_run


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "demo")


def changed(path: Path, **values: object) -> None:
    """A JSON file with other values; None takes a key out."""
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def test_what_lies_there_is_read(built: Path) -> None:
    run = read_run(built)
    assert run.name == "demo"
    assert run.judge == "small_cnn"
    assert run.evaluated is run.metrics
    assert not run.pictures
    assert not run.evaluation_alone
    assert [path.name for path in run.samples] == ["step_000500.png", "step_001000.png"]
    assert run.curves["loss"][0][0] == 10
    assert len(run.curves["learning_rate"]) == 100
    assert run.frame is not None
    assert run.frame is run.frame
    assert len(run.frame) == run.metrics["images"]


def test_an_evaluation_may_lie_elsewhere(built: Path, tmp_path: Path) -> None:
    other = build_run(tmp_path / "evaluated")
    run = read_run(built, other)
    assert run.evaluation == other
    assert run.frame is not None
    assert run.frame["path"].map(lambda path: (run.evaluation / path).is_file()).all()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "{"),
        ("metrics.json", '{"individual": {}}'),
        ("provenance.json", "[]"),
        ("audit.json", "{}"),
        ("finished.json", "\0"),
        ("validation.json", "x"),
        ("metrics.jsonl", "{}\n"),
        ("config.yaml", b"\xff\xfe"),
        ("images.parquet", "no table"),
        ("samples/step_001000.png", "no picture"),
        ("ceiling/metrics.json", "{"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str | bytes) -> None:
    folder = build_run(tmp_path / "run")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"is damaged") as error:
        write_report(read_run(folder))
    assert str(folder / name) in str(error.value)


def test_a_killed_run_has_a_page(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    for name in ("metrics.json", "images.parquet", "audit.json"):
        (folder / name).unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1010, "lo')  # a kill tore this line
    page = Page(write_report(read_run(folder)).read_text())
    assert page.sections == {"training", "provenance", "missing"}
    assert not page.open


def test_an_evaluation_away_from_its_run_lacks_no_training(tmp_path: Path) -> None:
    whole, folder = build_run(tmp_path / "whole"), tmp_path / "evaluation"
    folder.mkdir()
    for name in ("metrics.json", "images.parquet", "images"):
        (whole / name).rename(folder / name)
    assert read_run(folder).evaluation_alone
    page = Page(write_report(read_run(folder)).read_text())
    assert "missing" not in page.sections
    assert "training" not in page.sections


def test_pictures_without_a_judge(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    (folder / "metrics.json").unlink()
    pictures = {"protocol": "quick", "images": 58, "bundle": "bundle", "judge_it": "fineface evaluate judge=toyfacs"}
    (folder / "pictures.json").write_text(json.dumps(pictures))
    run = read_run(folder)
    assert run.evaluated is run.pictures
    assert run.judge == ""
    assert floor(run) is None
    page = Page(write_report(run).read_text())
    assert {"unjudged", "grid", "combinations"} <= page.sections
    assert "headline" not in page.sections


def test_metrics_of_an_older_version_give_a_page_without_what_they_lack(tmp_path: Path) -> None:
    """Runs of earlier versions have fewer keys; the page leaves out what these would show."""
    folder = build_run(tmp_path / "run")
    lacking = ("response_curve", "leakage_matrix", "ceiling", "judge_disagreement", "subsets", "attributes", "per_au")
    changed(folder / "metrics.json", **dict.fromkeys(lacking))
    frame = pd.read_parquet(folder / "images.parquet")
    frame.drop(columns=[name for name in frame.columns if name.startswith("small_cnn_AU")]).to_parquet(
        folder / "images.parquet"
    )
    run = read_run(folder)
    page, text = Page(write_report(run).read_text()), (folder / "report.html").read_text()
    assert not page.open
    assert "headline" in page.sections
    assert not {"response", "leakage", "per-au"} & page.sections
    assert "In words" not in text
    assert "nothing done" not in text
    assert "move in proportion" not in headline_table(run)
    assert "Typical miss" in text  # the root of a number that every version has


def test_doing_nothing_is_the_neutral_face_for_every_request(built: Path) -> None:
    run = read_run(built)
    nothing = floor(run)
    assert nothing is not None
    frame = run.frame
    assert frame is not None
    held_out = frame[frame["prompt_held_out"]]
    neutral = held_out[held_out["kind"] == "neutral"].iloc[0]
    single = held_out[held_out["kind"] == "individual"]
    misses = [(row[row["commanded"]] - neutral[f"small_cnn_{row['commanded']}"]) ** 2 for _, row in single.iterrows()]
    assert nothing.numbers["individual"]["au_mse_active"] == pytest.approx(sum(misses) / len(misses))
    assert nothing.numbers["individual"]["clip_i"] == 1
    assert "nothing done" in headline_table(run)


def test_a_prompt_without_its_neutral_face_has_no_such_row(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    frame = pd.read_parquet(folder / "images.parquet")
    frame[frame["kind"] != "neutral"].to_parquet(folder / "images.parquet")
    run = read_run(folder)
    assert floor(run) is None
    assert Page(write_report(run).read_text()).open == []


def test_every_number_that_was_logged_is_a_curve(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    lines = [
        {
            "step": 1,
            "critic/loss": -1.0,
            "critic/penalty": 0.2,
            "generator/loss": 2.0,
            "peak_memory": 1.5,
            "ok": True,
        },
        {"step": 2, "critic/loss": -2.0, "critic/penalty": None, "generator/loss": 1.0, "examples": 8, "seconds": 3.0},
        {"step": 2, "validation": {"loss": 0.2, "disfa": {"early": 0.1}}},
        {"step": 2, "glance": {"slope": 0.5}},
        {"step": 2, "evaluation": {"slope": 0.5}},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(folder)
    assert run.curves["critic/loss"] == [(1, -1.0), (2, -2.0)]
    assert run.curves["critic/penalty"] == [(1, 0.2)]
    assert "ok" not in run.curves
    drawn = {group: [title for title, _ in charts] for group, charts in training_curves(run.curves)}
    assert drawn == {
        "Training": ["Peak memory"],
        "Player: critic": ["Loss", "Penalty"],
        "Player: generator": ["Loss"],
        "Validation: images held out of training": ["Loss", "Disfa.early"],
        "A glance: a few images, judged on the way": ["Slope"],
    }
    text = write_report(run).read_text()
    assert Page(text).tags.count("svg") == 12 + 7
    assert "Player: critic" in text


def test_names_of_values_in_words() -> None:
    assert grouped("loss") == ("Training", "loss")
    assert grouped("critic/gradient/norm") == ("Player: critic", "gradient/norm")
    assert in_words("gradient_norm") == "Gradient norm"
    assert in_words("peak_memory_gb") == "Peak memory (GB)"
    assert in_words("au_mse_active") == "AU error, commanded AUs"


def test_the_numbers_are_there_for_other_programs(built: Path, tmp_path: Path) -> None:
    run: RunFolder = read_run(built)
    (tmp_path / "numbers.csv").write_text(numbers_csv(run))
    frame = pd.read_csv(tmp_path / "numbers.csv")
    own = frame[(frame["of"] == "model") & (frame["judge"] == "small_cnn") & frame["au"].isna()]
    for kind in ("individual", "combination"):
        for name in ("au_mse_active", "clip_i", "slope"):
            cell, found = run.metrics[kind][name], own[(own["kind"] == kind) & (own["metric"] == name)]
            assert len(found) == 1
            for part in ("value", "low", "high"):
                assert found[part].item() == pytest.approx(cell[part])
    readings = frame[frame["metric"] == "reading"]
    assert len(readings) == 12 * 3
    assert len(frame[frame["metric"] == "leakage slope"]) == 144
    assert set(frame["of"]) == {"model", "always zero", "nothing done", "true drawings"}
    uris = [link for link in Page(write_report(run).read_text()).references if link.startswith("data:text/csv")]
    assert len(uris) == 1
