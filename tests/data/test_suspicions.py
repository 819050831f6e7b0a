"""Each rule finds the row that is made for it, and no other."""

import numpy as np
import pandas as pd
import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.data.inspection.suspicions import EXAMPLES, Suspicion, suspicions
from fineface_train.data.table import SampleTable

ROWS = 60


def _table(**captions: str) -> tuple[SampleTable, pd.DataFrame]:
    """Ordinary rows: half show AU1, half AU12, every third AU4; every image another one."""
    rng = np.random.default_rng(1)
    aus = np.zeros((ROWS, 12))
    aus[::2, 0], aus[1::2, 6], aus[::3, 2] = 2, 2, 1
    ids = [f"x/{number}" for number in range(ROWS)]
    splits = ["validation" if number % 10 == 9 else "train" for number in range(ROWS)]
    told = {"aus_from": "labels", "caption_from": "somebody"}
    table = SampleTable.build(
        "x", ids=ids, images=ids, captions=["a man in a park"] * ROWS, aus=aus, subjects=ids, splits=splits, **told
    )
    numbers = {"width": 100, "height": 120, "brightness": 120.0, "sharpness": 500.0}
    hashes = [row.tobytes().hex() for row in rng.integers(0, 256, (ROWS, 32), dtype=np.uint8)]
    return table, pd.DataFrame({"path": ids, "fault": "", **numbers, "hash": hashes, "colours": "55" * 48})


def _found(table: SampleTable, looks: pd.DataFrame, contents: list[str] | None = None) -> dict[str, Suspicion]:
    contents = [str(number) for number in range(len(table))] if contents is None else contents
    return {one.name: one for one in suspicions(table, looks, contents) if one.count}


def test_ordinary_rows_are_not_suspicious() -> None:
    assert _found(*_table()) == {}


@pytest.mark.parametrize(
    ("rule", "why", "of_looks", "of_table"),
    [
        (
            "Cannot be read",
            "3.jpg: cut",
            {
                "fault": "3.jpg: cut",
                "width": 0,
                "height": 0,
                "brightness": 0.0,
                "sharpness": 0.0,
                "hash": "",
                "colours": "",
            },
            {},
        ),
        ("Small", "49 x 900 pixels", {"width": 49, "height": 900}, {}),
        ("Dark", "brightness 29", {"brightness": 29.2}, {}),
        ("Bright", "brightness 226", {"brightness": 226.0}, {}),
        ("Blurred", "sharpness 0.080 of the median", {"sharpness": 40.0}, {}),
        ("Not a photograph", "a Cartoon of a man", {}, {"caption": "a Cartoon of a man"}),
        ("Hardly a caption", "“a man”", {}, {"caption": "a man"}),
        ("Hardly a caption", "“”", {}, {"caption": ""}),
        ("A smile without AU12", "a man smiling at a dog", {}, {"caption": "a man smiling at a dog", "AU12": 0.0}),
        ("Many strong AUs", "4 AUs", {}, {"AU12": 4.5, "AU2": 5.0, "AU5": 5.0, "AU6": 5.0}),
        ("AUs that do not go together", "AU1 with AU12: 0.06 of chance", {}, {"AU12": 2.0, "AU1": 2.0}),
    ],
)
def test_each_rule_finds_its_row(rule: str, why: str, of_looks: dict, of_table: dict) -> None:
    table, looks = _table()
    frame = table.frame.copy()
    row = 22 if rule.startswith("AUs") else 25
    for changes, changed in ((of_looks, looks), (of_table, frame)):
        for column, value in changes.items():
            changed.loc[row, column] = np.float32(value) if column in AU_KEYS else value
    found = _found(SampleTable(frame), looks)
    assert list(found) == [rule]
    assert found[rule].count == 1
    assert found[rule].examples == [((row,), why)]


def test_images_that_look_alike() -> None:
    table, looks = _table()
    looks.loc[[9, 11], "hash"], looks.loc[[20, 21], "hash"] = looks["hash"][9], looks["hash"][20]
    found = _found(table, looks)
    assert {name: [rows for rows, _ in one.examples] for name, one in found.items()} == {
        "Alike": [(9, 11), (20, 21)],
        "Alike, labels differ": [(20, 21)],
        "Alike, one is trained on": [(9, 11)],
    }
    assert found["Alike"].examples[0][1] == "x/9 / x/11"
    assert found["Alike, labels differ"].examples[0][1] == "AU1=2 / AU4=1 AU12=2"
    assert found["Alike, one is trained on"].examples[0][1] == "validation / train"
    one_subject = SampleTable(table.frame.assign(subject="x"))
    assert _found(one_subject, looks) == {}


def test_the_worst_come_first_and_not_all() -> None:
    table, looks = _table()
    looks["brightness"] = np.arange(ROWS, dtype=float)[::-1]
    dark = _found(table, looks)["Dark"]
    assert dark.count == 30
    assert [rows for rows, _ in dark.examples] == [(row,) for row in range(ROWS - 1, ROWS - 1 - EXAMPLES, -1)]


def test_one_file_under_two_labels() -> None:
    table, looks = _table()
    contents = [str(number) for number in range(ROWS)]
    contents[4] = contents[10]  # alike in all that is told: no suspicion
    contents[20] = contents[21]
    contents[22] = contents[29]
    contents[40] = contents[41] = contents[42] = "three"
    frame = table.frame.copy()
    frame.loc[41, ["AU1", "AU12"]] = frame.loc[40, ["AU1", "AU12"]]
    frame.loc[[40, 41, 42], "AU4"] = 0.0
    frame.loc[42, "AU4"] = 5.0
    found = _found(SampleTable(frame), looks, contents)
    assert list(found) == ["One file, two labels"]
    one = found["One file, two labels"]
    assert one.count == 3
    assert one.examples == [
        ((40, 42), "AU1=2 / AU1=2 AU4=5"),
        ((20, 21), "AU1=2 / AU4=1 AU12=2"),
        ((22, 29), "AU1=2 / AU12=2; train / validation"),
    ]
    named = SampleTable(
        frame.assign(subject="x").assign(caption=[f"a man, {number} years old" for number in range(ROWS)])
    )
    assert ((4, 10), "a man, 4 years old / a man, 10 years old") in _found(named, looks, contents)[
        "One file, two labels"
    ].examples
