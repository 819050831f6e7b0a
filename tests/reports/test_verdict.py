"""What is said of control in words, from made-up rows: a sentence for each way in which an AU can answer."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.metrics import measure
from fineface_train.reports.verdict import (
    BEND,
    JUMP,
    LEAK,
    STILL,
    STRONG,
    WEAK,
    Answer,
    answer,
    answers,
    asked_and_read,
    leaks,
    movement,
    verdict,
)

Response = Callable[[float], float]


def judged(responses: dict[str, Response], leaking: dict[tuple[str, str], float] | None = None) -> dict:
    """metrics.json of a model whose AUs answer as said (others: as asked), and leak: (asked, into) -> slope."""
    rows = []
    for prompt in range(3):
        requests = [("neutral", {})] + [("individual", {key: level}) for key in AU_KEYS for level in (1, 2, 3, 4, 5)]
        requests.append(("combination", {"AU6": 3, "AU12": 3}))
        for kind, wanted in requests:
            read = {key: responses.get(key, float)(wanted.get(key, 0)) for key in AU_KEYS}
            for (asked, into), slope in (leaking or {}).items():
                read[into] += slope * wanted.get(asked, 0)
            row = {"kind": kind, "prompt_index": prompt, "prompt_held_out": False, "set_held_out": False}
            row |= {key: float(wanted.get(key, 0)) for key in AU_KEYS}
            rows.append(row | {f"j_{key}": value for key, value in read.items()} | {"j_face": True, "clip_i": 0.9})
    return measure(pd.DataFrame(rows), ["j"])


def on_off(asked: float) -> float:
    return 5.0 if asked >= 3 else 0.0


def saturating(asked: float) -> float:
    return min(asked, 3.0) * 1.3


@pytest.mark.parametrize(
    ("response", "sentence"),
    [
        (on_off, "AU9 is on/off."),
        (lambda asked: 0.2 * (asked >= 1) + 3.75 * (asked >= 3) + 0.25 * (asked >= 5), "AU9 is on/off."),
        (saturating, "AU9 moves, but not in proportion."),
        (lambda asked: 0.5 * asked, "AU9 is too weak."),
        (lambda asked: 1.5 * asked, "AU9 is too strong."),
        (lambda asked: 0.1 * asked, "AU9 hardly moves."),
        (lambda asked: -0.5 * asked, "AU9 hardly moves."),
        (lambda asked: 1.0, "AU9 hardly moves."),
    ],
)
def test_an_au_that_answers_otherwise_is_named(response: Response, sentence: str) -> None:
    said = verdict(judged({"AU9": response}))
    assert said[0] == "11 of 12 AUs move in proportion."
    assert said[1] == sentence
    assert said[2].startswith("No AU leaks 0.2 or more into another (most: ")
    assert said[3].startswith("The typical miss of the commanded AU is ")


def test_a_slope_of_one_does_not_hide_an_answer_that_is_on_or_off() -> None:
    metrics = judged(dict.fromkeys(AU_KEYS, on_off))
    assert metrics["individual"]["slope"]["value"] == pytest.approx(1.29, abs=0.02)
    assert verdict(metrics)[:2] == ["None of 12 AUs move in proportion.", "12 AUs are on/off."]
    assert [(one.intensity, one.mean) for one in asked_and_read(metrics)] == [(1, 0), (3, 5), (5, 5)]


def test_the_typical_miss_is_the_root_of_the_mean_squared_error() -> None:
    said = verdict(judged({key: lambda asked: max(0.0, asked - 0.6) for key in AU_KEYS}))
    assert said[-1] == "The typical miss of the commanded AU is 0.60 points of 5 (RMSE)."


def test_leaks_are_named_by_size_and_the_rest_counted() -> None:
    one = judged({}, {("AU17", "AU15"): 0.43})
    assert "AU17 leaks 0.43 into AU15." in verdict(one)
    assert leaks(one)[0].slope == pytest.approx(0.43)
    many = {("AU17", "AU15"): 0.43, ("AU1", "AU2"): -0.5, ("AU5", "AU6"): 0.3, ("AU25", "AU26"): 0.25}
    said = verdict(judged({}, many))
    first = said.index("AU1 leaks −0.50 into AU2.")
    rest = ["AU17 leaks 0.43 into AU15.", "AU5 leaks 0.30 into AU6.", "There is 1 more of 0.2 or more."]
    assert said[first + 1 : first + 4] == rest
    assert not any("0.19" in sentence.split("(")[0] for sentence in verdict(judged({}, {("AU17", "AU15"): 0.19})))


def test_several_aus_of_one_kind_are_one_sentence() -> None:
    said = movement(judged({"AU1": on_off, "AU2": on_off, "AU4": on_off, "AU12": lambda asked: 0.5 * asked}))
    assert said == ["8 of 12 AUs move in proportion.", "AU1, AU2 and AU4 are on/off.", "AU12 is too weak."]
    assert movement(judged(dict.fromkeys(AU_KEYS[1:], on_off)))[0] == "1 of 12 AUs moves in proportion."


def curve(*read: float | None) -> dict:
    return {"requested": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0][: len(read)], "measured_mean": list(read)}


def test_the_thresholds_are_where_they_are_said_to_be() -> None:
    for share, found in ((STILL - 0.01, Answer.still), (STILL + 0.01, Answer.weak)):
        assert answer(curve(*np.linspace(0, 5 * share, 6))) is found
    for share, found in ((WEAK - 0.01, Answer.weak), (WEAK, Answer.in_proportion), (STRONG, Answer.in_proportion)):
        assert answer(curve(*np.linspace(0, 5 * share, 6))) is found
    assert answer(curve(*np.linspace(0, 5 * (STRONG + 0.01), 6))) is Answer.strong
    for bend, found in ((BEND - 0.01, Answer.in_proportion), (BEND + 0.01, Answer.bent)):
        assert answer(curve(0, 1, 2 + 5 * bend, 3, 4, 5)) is found
    inner = (1 - JUMP) / 3
    for least, found in ((inner - 0.01, Answer.on_off), (inner + 0.01, Answer.bent)):
        shares = np.cumsum([0, least, (1 - 3 * least) / 2, (1 - 3 * least) / 2, least, least])
        assert max(abs(shares - np.arange(6) / 5)) > BEND
        assert answer(curve(*(5 * shares))) is found
    assert 0 < LEAK < 1


def test_what_a_protocol_did_not_ask_is_not_said() -> None:
    assert answer({"requested": [0.0, 5.0], "measured_mean": [0.0, 5.0]}) is None
    assert answer({"requested": [1.0, 3.0, 5.0], "measured_mean": [1.0, 3.0, 5.0]}) is None
    assert answer(curve(0, None, None, None, None, 5)) is None
    assert answer({"requested": [0.0, 1.0, 3.0, 5.0], "measured_mean": [0.1, None, 3.0, 5.0]}) is Answer.in_proportion
    assert verdict({}) == movement({"response_curve": {}}) == leaks({}) == asked_and_read({}) == []
    assert answers({"response_curve": {"AU1": curve(0, 5)}}) == {}
