"""How far a training is: speed without pauses, and the time left with those to come."""

import time
from pathlib import Path

import pytest

from fineface_train.loop.progress import Bar, Pause
from tests.loop.trainees import STEPS, Gan, train


def test_speed_leaves_pauses_out(tmp_path: Path) -> None:
    """Pictures of a second each, and a checkpoint after each step."""
    pauses = [(3, lambda step: time.sleep(1.0))]
    started = time.perf_counter()
    lines = train(tmp_path, Gan(), pauses=pauses)
    took = time.perf_counter() - started
    working = sum(4 / line["examples_per_second"] for line in lines)
    assert working < took - 4 * 1.0  # the last pause comes after the last line
    assert lines[-1]["seconds"] > 4.0
    assert len(lines) == STEPS


def test_the_bar_counts_the_pauses_to_come() -> None:
    short, long = Pause(3, lambda step: None), Pause(5, lambda step: None)
    assert [step for step in range(1, 12) if short.is_due(step, 11)] == [3, 6, 9, 11]
    assert Pause(0, lambda step: None).is_due(11, 11) is False
    assert short.seconds_to_come(0, 11) == 0.0  # nothing is known
    short.expected = 12.0  # or what the caller thinks
    assert [short.seconds_to_come(done, 11) for done in (0, 9, 11)] == [48.0, 12.0, 0.0]
    short.seconds, short.times = 20.0, 2
    long.seconds, long.times = 7.0, 1
    assert [short.seconds_to_come(done, 11) for done in (0, 3, 9, 10, 11)] == [40, 30, 10, 10, 0]
    assert [long.seconds_to_come(done, 10) for done in (4, 5, 10)] == [14, 7, 0]
    bar = Bar(range(11), 11, [short, long], disable=False)
    assert bar.format_dict["left"] == "?"
    bar.last_print_t -= 2.0  # two seconds of training, then pauses of 27 in all
    bar.last_print_t -= 27.0
    bar.update(4)
    shown = bar.format_dict
    assert shown["rate"] == pytest.approx(2.0, rel=0.05)
    assert shown["left"] in ("00:54", "00:55")  # 3.5 of training, 3 pauses of 10 and 3 of 7
    assert f"<{shown['left']}" in str(bar)
    assert "evaluation" not in str(bar)
    bar.afterwards = 90.0
    assert f"<{shown['left']} and 01:30 of evaluation, " in str(bar)
    bar.close()
