"""A trainee whose turns change buffers: batch norm's running statistics, spectral norm's power iteration."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fineface_train.loop.trainee import buffers_of, check_trainee
from tests.loop.test_players import assert_same, everything, values
from tests.loop.trainees import STEPS, NormalisedGan, plain_config, train

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def test_resuming_is_exact_to_the_bit(tmp_path: Path) -> None:
    lines = train(tmp_path / "whole", NormalisedGan())
    whole = everything(tmp_path / "whole")
    assert int(whole["state"]["generator.1.num_batches_tracked"]) == STEPS
    for stop in range(1, STEPS, 2):
        first = train(tmp_path / f"cut{stop}", NormalisedGan(), stop_after=stop, checkpoint_every=2)
        rest = train(tmp_path / f"cut{stop}", NormalisedGan(), checkpoint_every=2)
        assert_same(values(lines), values(first[: stop - stop % 2] + rest))
        assert_same(whole, everything(tmp_path / f"cut{stop}"))


def test_averages_hold_buffers_as_they_are(tmp_path: Path) -> None:
    """Running statistics beside averaged weights; whole numbers stay whole."""
    trainee, looks = NormalisedGan(), list[dict[str, Tensor]]()

    def look(step: int) -> None:
        assert not trainee.training
        looks.append({name: value.clone() for name, value in trainee.state.items()})

    train(tmp_path, trainee, pauses=[(1, look)])
    saved = everything(tmp_path)
    names = {f"generator.1.{name}" for name in STATISTICS}
    assert names < set(saved["averages"])
    for name in names:
        assert torch.equal(saved["averages"][name], saved["state"][name])
        assert saved["averages"][name].dtype == saved["state"][name].dtype
    weight = "generator.0.weight"
    assert not torch.equal(saved["averages"][weight], saved["state"][weight])
    assert_same(looks[-1], trainee.state)
    assert torch.equal(trainee.state[weight], saved["averages"][weight])
    critic = "critic.0.parametrizations.weight.original"
    assert critic not in saved["averages"]
    assert torch.equal(trainee.state[critic], saved["state"][critic])


def test_looks_change_nothing(tmp_path: Path) -> None:
    lines = [train(tmp_path / str(every), NormalisedGan(), pauses=[(every, lambda step: None)]) for every in (0, 1)]
    assert_same(values(lines[0]), values(lines[1]))
    assert_same(everything(tmp_path / "0"), everything(tmp_path / "1"))


def test_accumulation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.accumulation=2: .*generator\.1\.running_mean.*accumulation=1"):
        train(tmp_path, NormalisedGan(), accumulation=2)
    assert not (tmp_path / "state").exists()
    check_trainee(NormalisedGan(), plain_config(), "no")


def test_a_buffer_that_the_state_forgets_is_not_lost_in_silence(tmp_path: Path) -> None:
    class Forgetful(NormalisedGan):
        @property
        def state(self) -> dict[str, Tensor]:
            return {name: value for name, value in super().state.items() if not name.endswith("running_var")}

    with pytest.raises(AssertionError, match=r"training changes \['generator\.1\.running_var'\]"):
        train(tmp_path, Forgetful())


def test_the_state_may_be_a_module_s_own(tmp_path: Path) -> None:
    class Whole(NormalisedGan):
        @property
        def state(self) -> dict[str, Tensor]:
            return self.state_dict()

    lines = [train(tmp_path / kind.__name__, kind()) for kind in (NormalisedGan, Whole)]
    assert_same(values(lines[0]), values(lines[1]))
    assert_same(everything(tmp_path / "NormalisedGan"), everything(tmp_path / "Whole"))


def test_a_step_that_is_left_out_leaves_no_trace_in_buffers(tmp_path: Path) -> None:
    trainee, turns = NormalisedGan(), iter(range(STEPS))

    def spoil(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return batch | {"noise": batch["noise"] * (float("inf") if next(turns) == 4 else 1)}

    lines = train(tmp_path, trainee, to_device=spoil, skip_nonfinite=True)
    assert [line.get("skipped_steps", 0) for line in lines] == [0] * 4 + [1] * (STEPS - 4)
    assert all(value.isfinite().all() for value in buffers_of(trainee).values())
    assert int(trainee.state["generator.1.num_batches_tracked"]) == STEPS - 1
