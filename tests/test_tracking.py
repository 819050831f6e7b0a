import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wandb
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from fineface_train.cli import main
from fineface_train.loop.dashboards import run_id
from fineface_train.loop.tracking import Tracker, TrackingConfig, WandbMode, read_metrics

OFFLINE = TrackingConfig(mode=WandbMode.offline)
SILENT = TrackingConfig(wandb=False)


def stored_records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """Records of a .wandb file: a 7-byte header, then LevelDB's log format (blocks of 32 KiB; chunks of checksum,
    length, type)."""
    data = path.read_bytes()
    assert data[:4] == b":W&B", f"{path} is not a wandb file"
    position, whole = 7, b""
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full record, or the last chunk of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def offline_history(folder: Path) -> tuple[dict[int, dict[str, float]], wandb_internal_pb2.RunRecord]:
    """{step: {name: value}} and the run's record, of the only offline run below `folder`."""
    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    history: dict[int, dict[str, float]] = {}
    run = None
    for record in stored_records(path):
        if record.WhichOneof("record_type") == "run":
            run = record.run
        elif record.WhichOneof("record_type") == "history":
            values = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item
            }
            history[record.history.step.num] = values
    assert run is not None
    return history, run


@pytest.mark.parametrize(
    "environment",
    [{"HOME": "/dev/null/home"}, {"XDG_CACHE_HOME": "/dev/null/cache"}, {"WANDB_MODE": ""}],
    ids=lambda setting: next(iter(setting)),
)
def test_a_home_where_nothing_can_be_written_is_no_matter(environment: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import sys; from tests.test_tracking import *; one = Tracker(Path(sys.argv[1]), TrackingConfig(), {}, "
        "'x'); one.log(1, {'loss': 1}); one.finish()"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "XDG_"))}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(
        command, env=kept | environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert offline_history(tmp_path)[0][1]["train/loss"] == 1


def test_offline_run_reads_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker(tmp_path, OFFLINE, {"seed": 3, "path": tmp_path, "encoder": {"tokens": 12}}, "my run")
    tracker.log(
        10,
        {
            "examples": 320,
            "loss": 0.5,
            "learning_rate": 1e-3,
            "gradient_norm": np.float32(2.5),
            "examples_per_second": 64.0,
        },
    )
    tracker.log(20, {"loss": 0.25})
    tracker.images(20, "samples", {"a face": Image.new("RGB", (4, 4))})
    tracker.log(20, {"evaluation": {"individual": {"slope": 0.75}}})
    tracker.table("evaluation/per_au", pd.DataFrame({"au": ["AU1"], "slope": [0.9]}))
    tracker.finish()

    history, run = offline_history(tmp_path)
    assert history[10]["train/loss"] == 0.5
    assert history[10]["train/gradient_norm"] == 2.5
    assert history[10]["train/learning_rate"] == 1e-3
    assert history[10]["train/examples_per_second"] == 64.0
    assert history[20]["train/loss"] == 0.25
    assert history[20]["evaluation/individual/slope"] == 0.75
    assert history[20]["samples/captions"] == ["a face"]
    assert history[20]["evaluation/per_au/nrows"] == 1
    assert (run.run_id, run.display_name, run.project) == (run_id(tmp_path), "my run", "fineface-train")
    assert {item.key: json.loads(item.value_json) for item in run.config.update}["encoder"] == {"tokens": 12}
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [10, 20, 20]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_failing_wandb_never_stops_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    class BrokenRun:
        def log(self, values: dict, step: int) -> None:
            if broken == "log":
                raise OSError("no space left")

        def finish(self) -> None:
            raise RuntimeError("service is gone")

    def start(**_: object) -> BrokenRun:
        if broken == "init":
            raise wandb.Error("no service")
        return BrokenRun()

    monkeypatch.setattr(wandb, "init", start)
    tracker = Tracker(tmp_path, OFFLINE, {}, "run")
    for step in range(1, 6):
        tracker.log(step, {"loss": 1 / step})
        tracker.images(step, "samples", {"x": Image.new("RGB", (2, 2))})
    tracker.table("table", pd.DataFrame({"a": [1]}))
    tracker.finish()
    tracker.finish()
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path / "metrics.jsonl")] == [
        (step, 1 / step) for step in range(1, 6)
    ]
    assert capsys.readouterr().err.count("warning: wandb failed") == 1


def test_a_missing_wandb_never_stops_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    tracker = Tracker(tmp_path, OFFLINE, {}, "run")
    tracker.log(1, {"loss": 1.0})
    tracker.finish()
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    assert "warning: wandb failed" in capsys.readouterr().err


def shown_by_tensorboard(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], list[str]]:
    """{name: [(step, value), ...]} and the names of pictures, as TensorBoard itself reads a run's folder."""
    read = EventAccumulator(str(folder / "tensorboard")).Reload()
    names = read.Tags()["scalars"]
    return {name: [(event.step, event.value) for event in read.Scalars(name)] for name in names}, read.Tags()["images"]


def test_tensorboard_shows_numbers_and_pictures_and_a_resumed_run_once(tmp_path: Path) -> None:
    config = TrackingConfig(wandb=False, tensorboard=True)
    config.validate("tracking")
    first = Tracker(tmp_path, config, {}, "run")
    for step in range(1, 6):
        first.log(step, {"loss": 0.5 * step, "gradient_norm": float("nan")})
    first.finish()
    second = Tracker(tmp_path, config, {}, "run")
    second.resume(3)
    second.log(4, {"loss": 8.0})
    second.images(4, "samples", {"a face": Image.new("RGB", (4, 4))})
    second.log(4, {"evaluation": {"individual": {"slope": 0.75}}})
    second.table("evaluation/per_au", pd.DataFrame({"au": ["AU1"], "slope": [0.9]}))
    second.finish()
    numbers, pictures = shown_by_tensorboard(tmp_path)
    assert numbers == {
        "train/loss": [(1, 0.5), (2, 1.0), (3, 1.5), (4, 8.0)],
        "evaluation/individual/slope": [(4, 0.75)],
    }
    assert pictures == ["samples/a face"]


def test_a_failing_tensorboard_never_stops_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tensorboard").write_text("a file where its folder should be")
    tracker = Tracker(tmp_path, TrackingConfig(wandb=False, tensorboard=True), {}, "run")
    for step in (1, 2):
        tracker.log(step, {"loss": 1.0})
    tracker.finish()
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2
    assert capsys.readouterr().err.count("warning: TensorBoard failed") == 1


def test_without_the_package_tensorboard_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "tensorboard" else True)
    assert main(["train", "tracking.tensorboard=true"]) == 2
    told = capsys.readouterr().err
    assert "tracking.tensorboard=true: the package tensorboard is not installed" in told
    assert "pip install 'fineface-train[tensorboard]'" in told


def test_resume_drops_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    first = Tracker(tmp_path, SILENT, {}, "run")
    for step in range(1, 6):
        first.log(step, {"loss": 1.0})
    first.log(5, {"evaluation": {"slope": 0.5}})
    first.finish()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    second = Tracker(tmp_path, SILENT, {}, "run")
    second.resume(3)
    second.log(4, {"loss": 2.0})
    second.finish()
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path / "metrics.jsonl")] == [
        (1, 1.0),
        (2, 1.0),
        (3, 1.0),
        (4, 2.0),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl"]


def test_numbers_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, SILENT, {}, "run")
    tracker.log(1, {"loss": float("nan"), "gradient_norm": np.float32("inf")})
    tracker.finish()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": None, "gradient_norm": None}]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_every": 0}, "tracking.log_every=0"),
        ({"project": "a/b"}, "tracking.project"),
        ({"tags": [""]}, "tracking.tags"),
    ],
)
def test_validation_names_the_key(change: dict, message: str) -> None:
    TrackingConfig().validate("tracking")
    with pytest.raises(ValueError, match=message):
        TrackingConfig(**change).validate("tracking")
