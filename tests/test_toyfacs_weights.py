"""The builders of the shipped weights: training that is stopped and taken up again, and the check before anything is
written."""

import ast
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfacs_weights import judges, stage
from toyfacs_weights.stage import Stage

PACKAGE = Path(__file__).parents[1] / "src" / "fineface_train"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(stage, "SCRATCH", tmp_path / "scratch")
    (tmp_path / "shipped").mkdir()


def fitted(name: str, stop_at: int | None = None) -> nn.Module:
    """A small model after four steps, or stopped (as by a kill that follows a save) before step `stop_at`."""
    torch.manual_seed(0)
    built = Stage(name, nn.Linear(3, 2), steps=4, rate=0.01, ema=0.9, stream=0)

    def loss_at(step: int) -> tuple[Tensor, dict[str, str]]:
        if step == stop_at:
            raise KeyboardInterrupt
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return F.mse_loss(built.model(inputs), inputs[:, :2] * 3), {}

    built.fit(loss_at)
    return built.raw


def test_a_stage_goes_on_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted("whole").state_dict()
    monkeypatch.setattr(stage, "SAVE_EVERY", -1.0)
    with pytest.raises(KeyboardInterrupt):
        fitted("stopped", stop_at=2)
    assert torch.load(next(stage.SCRATCH.glob("stopped-*/state.pt")))["step"] == 2
    resumed = fitted("stopped").state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_what_does_not_pass_its_check_is_not_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stage.STEPS, "attributes", 1)
    with pytest.raises(SystemExit, match=r"attributes: the check did not pass; nothing was written"):
        judges.build_attributes()
    assert not list(stage.SHIPPED.iterdir())


def test_the_drawn_world_knows_nothing_of_who_judges_it() -> None:
    for path in (PACKAGE / "toyfacs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in modules if name.startswith("fineface_train.evaluation")], path
