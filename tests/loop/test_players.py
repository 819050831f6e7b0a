"""A trainee of two players whose turns alternate, with a double backward and a penalty in a turn of its own."""

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fineface_train.loop.config import learning_rate
from fineface_train.loop.signals import Interrupted
from fineface_train.loop.trainee import Player, check_trainee
from tests.loop.trainees import CRITIC, STEPS, Gan, by_hand, double, plain_config, train

TURNS = ["critic.wasserstein", "critic.wasserstein", "critic.penalty", "generator"]


def newest(folder: Path) -> Path:
    return max((folder / "state").glob("step_????????"))


def everything(folder: Path) -> dict[str, Any]:
    """All that the newest checkpoint of a run holds, but for the time that it took."""
    state, progress = newest(folder), json.loads((newest(folder) / "progress.json").read_text())
    return {
        "state": load_file(state / "state.safetensors"),
        "averages": load_file(state / "averages.safetensors"),
        "optimisers": torch.load(state / "optimisers.pt", weights_only=True),
        "progress": {key: progress[key] for key in ("format", "step", "unlogged")},
    }


def assert_same(one: Any, two: Any, where: str = "") -> None:
    """To the bit."""
    if isinstance(one, Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert set(one) == set(two), where
        for key in one:
            assert_same(one[key], two[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for number, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{where}/{number}")
    else:
        assert one == two, where


def values(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    """Lines without what a clock told."""
    clock = ("examples_per_second", "seconds", "peak_memory_gb")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


def test_the_loop_trains_what_a_loop_written_by_hand_does(tmp_path: Path) -> None:
    """Learning rate, its shares, betas, decay, schedule, warm-up, clipping and averages of each player; no gradient of
    one turn reaches another."""
    trainee = Gan()
    train(tmp_path, trainee)
    state, averages = by_hand(Gan(), STEPS)
    saved = everything(tmp_path)
    for name, value in state.items():
        torch.testing.assert_close(saved["state"][name], value, atol=1e-7, rtol=0)
    for name, value in averages.items():
        torch.testing.assert_close(saved["averages"][name], value, atol=1e-7, rtol=0)
        assert torch.equal(trainee.state[name], saved["averages"][name])
    assert set(saved["averages"]) == set(averages)
    assert any((saved["state"][name] - value).abs().max() > 1e-5 for name, value in averages.items())


def test_a_turn_leaves_gradients_in_its_player_only(tmp_path: Path) -> None:
    trainee, seen, steps = Gan(), [], Counter[int]()

    def look(optimiser: torch.optim.Optimizer, *_: object) -> None:
        seen.append({name.split(".")[0] for name, value in trainee.named_parameters() if value.grad is not None})
        steps[id(optimiser)] += 1

    handle = register_optimizer_step_pre_hook(look)
    train(tmp_path, trainee, accumulation=2)
    handle.remove()
    assert seen == [{trainee.turn(step).player} for step in range(STEPS)]
    assert sorted(steps.values()) == [3, STEPS - 3]  # one optimiser step for each turn, not for each micro-batch
    assert all(value.grad is None for value in trainee.parameters())


@pytest.mark.parametrize("every", [1, 3])
def test_killed_between_any_two_turns_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path, every: int) -> None:
    lines = train(tmp_path / "whole", Gan(), checkpoint_every=every)
    whole = everything(tmp_path / "whole")
    for stop in range(1, STEPS):
        folder = tmp_path / f"cut{stop}"
        first = train(folder, Gan(), stop_after=stop, checkpoint_every=every)
        done = stop - stop % every
        assert bool(list((folder / "state").glob("*"))) == (done > 0)
        rest = train(folder, Gan(), checkpoint_every=every)
        assert [line["step"] for line in rest] == list(range(done + 1, STEPS + 1))
        assert_same(values(lines), values(first[:done] + rest))
        assert_same(whole, everything(folder))


def test_a_signal_ends_any_turn_with_a_checkpoint(tmp_path: Path) -> None:
    lines = train(tmp_path / "whole", Gan(), checkpoint_every=100)
    for stop in range(1, 5):
        folder, count = tmp_path / f"cut{stop}", iter(range(1, 100))

        def signalled(batch: Any, stop: int = stop, count: Any = count) -> Any:
            if next(count) == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return batch

        with pytest.raises(Interrupted, match=f"after step {stop}, which is saved"):
            train(folder, Gan(), to_device=signalled, checkpoint_every=100)
        rest = train(folder, Gan(), checkpoint_every=100)
        assert_same(values(lines[stop:]), values(rest))
        assert_same(everything(tmp_path / "whole"), everything(folder))


def test_lines_name_player_and_turn_and_miss_no_kind_of_turn(tmp_path: Path) -> None:
    lines = train(tmp_path / "each", Gan())
    for line in lines:
        title = Gan().turn(int(line["step"]) - 1).title
        mine = {key for key in line if "/" in key}
        told = {"loss", "learning_rate", "gradient_norm"} | ({"brightness"} if title == "generator" else set())
        assert mine == {f"{title}/{name}" for name in told}
    fewer = train(tmp_path / "fewer", Gan(), log_every=4)
    assert [line["step"] for line in fewer] == [4, 8, 12, STEPS]
    for line in fewer[:2]:
        latest: dict[str, float] = {}
        for one in lines[int(line["step"]) - 4 : int(line["step"])]:
            latest |= one
        assert_same(*values([latest, line]))
    train(tmp_path / "cut", Gan(), stop_after=6, log_every=4)  # between two lines, and the penalty was before
    assert_same(values(fewer[1:]), values(train(tmp_path / "cut", Gan(), log_every=4)))


def test_schedule_and_warm_up_count_the_player_s_own_turns(tmp_path: Path) -> None:
    lines = train(tmp_path, Gan())
    rates = [value for line in lines for key, value in line.items() if key.startswith("critic") and "rate" in key]
    assert rates == [learning_rate(CRITIC, own, STEPS - 3) for own in range(STEPS - 3)]
    assert rates[0] == 2e-3
    rates = [line["generator/learning_rate"] for line in lines if "generator/learning_rate" in line]
    assert rates == [1e-3] * 3


def test_a_player_without_settings_of_its_own_has_the_trainer_s(tmp_path: Path) -> None:
    trainee = Gan()
    trainee.players["critic"] = Player(trainee.parameters_of("critic"))
    lines = train(tmp_path, trainee, learning_rate=7e-4, warmup_steps=4, steps=5)
    rates = [line.get("critic.wasserstein/learning_rate") for line in lines[:2]]
    assert rates == [7e-4 / 4, 7e-4 / 2]


def test_accumulation_changes_rounding_only(tmp_path: Path) -> None:
    """With a gradient penalty too; neither player moves between the micro-batches of the other's turn."""
    runs = []
    for accumulation in (1, 2, 4):
        trainee = Gan().double()
        train(tmp_path / str(accumulation), trainee, to_device=double, accumulation=accumulation)
        runs.append(everything(tmp_path / str(accumulation))["state"])
    for name, value in runs[0].items():
        for other in runs[1:]:
            torch.testing.assert_close(value, other[name], atol=1e-9, rtol=0)


def test_a_loss_that_is_not_finite_names_player_step_and_examples(tmp_path: Path) -> None:
    trainee = Gan()

    def spoil(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return batch | {"between": batch["between"] * float("nan")}

    with pytest.raises(FloatingPointError, match=r"step 3: critic.penalty/loss nan, .*examples \[8, 9, 10, 11\]"):
        train(tmp_path, trainee, to_device=spoil)
    lines = train(tmp_path / "skipping", Gan(), to_device=spoil, skip_nonfinite=True)
    assert lines[-1]["skipped_steps"] == 4
    assert all(value.isfinite().all() for value in everything(tmp_path / "skipping")["state"].values())


def test_fp16_is_refused_for_several_players() -> None:
    with pytest.raises(ValueError, match=r"trainer\.precision=fp16: .*2 \(critic, generator\); choose bf16"):
        check_trainee(Gan(), plain_config(), "fp16")
    check_trainee(Gan(), plain_config(), "bf16")


def test_a_trainee_that_contradicts_itself_is_a_bug() -> None:
    class Forgetful(Gan):
        @property
        def state(self) -> dict[str, Tensor]:
            return {name: value for name, value in super().state.items() if name != "critic.0.bias"}

    with pytest.raises(AssertionError, match=r"does not hold .*critic\.0\.bias"):
        check_trainee(Forgetful(), plain_config(), "no")
    absent = Gan()
    del absent.players["generator"]
    with pytest.raises(AssertionError, match="generator"):
        check_trainee(absent, plain_config(), "no")
