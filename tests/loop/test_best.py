"""The best weights so far, and ending early: the same after any kill as without one."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fineface_train.evaluation.metrics import Readings, scores
from fineface_train.evaluation.plan import Kind
from fineface_train.files import damage, new_folder, read_json
from fineface_train.loop.best import Best
from fineface_train.loop.checkpoint import latest_state
from fineface_train.loop.config import CRITERIA, Better
from tests.loop.train_best import VALUES, BestRun
from tests.loop.trainees import STEPS, Gan, train


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in load_file(folder / "best" / "weights.safetensors").items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(value, other[name]) for name, value in one.items())


def test_best_holds_the_averages_of_the_best_look(tmp_path: Path) -> None:
    run = BestRun(tmp_path / "run")
    fitted = run.fit()
    step = 6
    note = read_json(tmp_path / "run" / "best.json")
    assert (note["by"], note["step"], note["value"]) == ("validation.loss", step, VALUES[step])
    assert fitted.best == note
    assert fitted.stopped is None
    assert damage(tmp_path / "run" / "best") is None
    train(tmp_path / "short", Gan(), stop_after=step)  # the state and averages after that step
    newest = latest_state(tmp_path / "short" / "state")
    assert newest is not None
    then = load_file(newest / "state.safetensors") | load_file(newest / "averages.safetensors")
    assert same(weights(tmp_path / "run"), then)
    raw = load_file(newest / "state.safetensors")
    assert not same(then, raw)


def test_looking_changes_nothing_of_what_is_trained(tmp_path: Path) -> None:
    train(tmp_path / "without", Gan())
    BestRun(tmp_path / "with").fit()
    for name in ("state", "averages"):
        place = Path("state") / f"step_{STEPS:08d}" / f"{name}.safetensors"
        assert same(load_file(tmp_path / "without" / place), load_file(tmp_path / "with" / place))


@pytest.mark.parametrize(("patience", "every"), [(None, 4), (2, 3)])
def test_killed_anywhere_the_best_and_the_end_are_the_same(tmp_path: Path, patience: int | None, every: int) -> None:
    whole = BestRun(tmp_path / "whole", patience=patience, checkpoint_every=every)
    ended = whole.fit()
    assert ended.steps == (STEPS if patience is None else 10)
    for stop in range(1, ended.steps + 1):
        folder = tmp_path / f"cut{stop}"
        BestRun(folder, patience=patience, checkpoint_every=every).fit(kill_after=stop)
        again = BestRun(folder, patience=patience, checkpoint_every=every).fit()
        assert (again.steps, again.stopped, again.best) == (ended.steps, ended.stopped, ended.best)
        assert same(weights(folder), weights(tmp_path / "whole"))
    for write in range(1, 4):  # killed before or after a bundle takes its place, before best.json does
        for whole_bundle in (False, True):
            folder = tmp_path / f"write{write}{whole_bundle}"
            BestRun(folder, patience=patience, checkpoint_every=every).fit(kill_in_write=(write, whole_bundle))
            again = BestRun(folder, patience=patience, checkpoint_every=every).fit()
            assert (again.steps, again.stopped, again.best) == (ended.steps, ended.stopped, ended.best)
            assert same(weights(folder), weights(tmp_path / "whole"))
            assert read_json(folder / "best.json") == ended.best
    finished = BestRun(tmp_path / "whole", patience=patience, checkpoint_every=every).fit()
    assert (finished.steps, finished.stopped, finished.best) == (ended.steps, ended.stopped, ended.best)


def test_what_a_killed_attempt_found_later_is_not_the_best_of_the_resumed_one(tmp_path: Path) -> None:
    """Where the steps are not the same to the bit again, as on a GPU: best/ was already that of a later step, which
    never comes again as good."""
    BestRun(tmp_path, checkpoint_every=5).fit(kill_after=9)
    assert read_json(tmp_path / "best.json")["step"] == 6
    other = VALUES | {step: 5.0 + step for step in range(5, STEPS + 1)}
    BestRun(tmp_path, checkpoint_every=5, values=other).fit()
    assert read_json(tmp_path / "best.json")["step"] == 4
    train(tmp_path / "short", Gan(), stop_after=4)
    newest = latest_state(tmp_path / "short" / "state")
    assert newest is not None
    assert same(weights(tmp_path), load_file(newest / "state.safetensors") | load_file(newest / "averages.safetensors"))


def test_ending_early_says_step_and_why_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    run = BestRun(tmp_path, patience=2, checkpoint_every=100, log_every=4)
    fitted = run.fit()
    assert fitted.told()["steps"] == 10
    assert fitted.told()["stopped_early"] == (
        "validation.loss got no better 2 times in a row since step 6 (0.5); trainer.patience=2"
    )
    assert run.looked[-2:] == [("validation", 10), ("picture", 10)]  # the picture is that of the end
    assert [line["step"] for line in run.lines if "critic.wasserstein/loss" in line] == [4, 8, 10]
    assert (tmp_path / "state" / "step_00000010").is_dir()
    resumed = BestRun(tmp_path, patience=2, checkpoint_every=100, log_every=4)
    assert resumed.fit() == fitted
    assert not [line for line in resumed.lines if "critic.wasserstein/loss" in line]  # no step was taken


def test_a_damaged_best_is_written_again(tmp_path: Path) -> None:
    BestRun(tmp_path).fit()
    before = weights(tmp_path)
    (tmp_path / "best" / "weights.safetensors").write_bytes(b"torn")
    BestRun(tmp_path).fit()
    assert same(weights(tmp_path), before)


def test_a_run_that_kept_no_best_says_that_it_begins_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, Gan(), stop_after=8, checkpoint_every=8)
    BestRun(tmp_path, checkpoint_every=8).fit()
    assert "trainer.best_by=validation.loss" in caplog.text
    assert "the best is sought from here on" in caplog.text
    assert read_json(tmp_path / "best.json")["step"] > 8


def test_directions_of_criteria() -> None:
    assert Better.lower.distance(1.0) < Better.lower.distance(2.0)
    assert Better.higher.distance(2.0) < Better.higher.distance(1.0)
    assert Better.nearer_one.distance(1.2) < Better.nearer_one.distance(0.7) < Better.nearer_one.distance(1.5)
    for better in Better:
        assert better.distance(math.nan) == math.inf
    one, none = np.eye(2, 12), np.full(2, np.nan)
    seen = Readings(Kind.individual, one, one, none, none, none, np.zeros(2, bool), np.arange(2))
    assert {f"glance.{name}" for name in scores(seen, np.ones((1, 2)))} == set(CRITERIA) - {"validation.loss"}


def test_a_value_that_is_no_number_is_never_best_and_counts_as_waiting(tmp_path: Path) -> None:
    values = dict.fromkeys(range(STEPS + 1), math.nan)
    fitted = BestRun(tmp_path, patience=3, values=values).fit()
    assert fitted.steps == 6
    assert fitted.best is None
    assert fitted.stopped is not None
    assert "never was a number" in fitted.stopped
    assert not (tmp_path / "best").exists()
    json.dumps(fitted.told(), allow_nan=False)


def test_a_best_by_another_value_is_not_taken_for_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    BestRun(tmp_path, checkpoint_every=4).fit(kill_after=9)
    BestRun(tmp_path, checkpoint_every=4, best_by="glance.slope").fit()
    assert "holds no best weights by it" in caplog.text
    assert read_json(tmp_path / "best.json")["by"] == "glance.slope"
    assert set(CRITERIA) >= {"glance.slope", "validation.loss"}


def test_a_look_is_counted_once(tmp_path: Path) -> None:
    def save(place: Path, steps: int) -> None:
        with new_folder(place) as partial:
            save_file({"step": torch.tensor(steps)}, partial / "weights.safetensors")

    best = Best("validation.loss", 2, tmp_path, save)
    seen: list[Any] = [(2, 1.0), (4, 2.0), (4, 2.0)]
    for step, value in seen:
        best.note(step, {"validation": {"loss": value}}, Gan())
        best.note(step, {"glance": {"slope": 0.0}}, Gan())
    assert (best.waited, best.why_stop()) == (1, None)
