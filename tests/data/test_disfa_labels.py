"""Label files: every spelling reads alike, and what is wrong is named by file and line."""

from pathlib import Path

import pytest

from fineface_train.data.disfa.labels import read_labels

PLAIN = ["1,0", "2,3", "3,5", "4,0"]


def read(folder: Path, text: str | bytes, first: int = 1) -> tuple[dict, list[str], list[str]]:
    path = folder / "SN001_au12.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    labels, findings = read_labels(path, first)
    faults = [*findings.wrong, *findings.unequal]
    assert all(fault.text.startswith(str(path)) for fault in faults)
    return labels.to_dict(), *(
        [fault.text.removeprefix(str(path)).lstrip(",: ") for fault in each]
        for each in (findings.wrong, findings.unequal)
    )


@pytest.mark.parametrize(
    "text",
    [
        "1,0\n2,3\n3,5\n4,0",
        "1,0\r\n2,3\r\n3,5\r\n4,0\r\n\r\n",
        "1 0\r2\t3\r3  5\r4,0",
        "1 , 0\n2;3.0\n 3, 5.\n4.0,0\n \n",
        "\ufeff1,0\n2,3\n3,5\n4,0\n\x1a",
        "1,0\n2,3\n3,5\n4,0\n".encode("utf-16"),
        "1\t0\r\n2\t3\r\n3\t5\r\n4\t0\r\n".encode("utf-16-le"),
        "1,0\n2,3\n3,5\n4,0\n".encode("utf-16-be"),
        "frame,intensity\n1,0\n2,3\n3,5\n4,0\n",
        "\ufeffFrame;SN001_AU12\r\n1;0;\r\n2;3;\r\n3;5;\r\n4;0;\r\n",
        '"1","0"\n"2","3"\n"3","5"\n"4","0"\n',
        "1.000e+00 0.000e+00\n2.000e+00 3.000e+00\n3.000e+00 5.000e+00\n4.000e+00 0.000e+00\n",
        "1,0,\n2,3,\n3,5 ,\n4,0,,\n",
    ],
)
def test_spellings_read_alike(text: str | bytes, tmp_path: Path) -> None:
    assert read(tmp_path, text) == ({1: 0, 2: 3, 3: 5, 4: 0}, [], [])


@pytest.mark.parametrize(
    ("line", "text", "rule"),
    [
        (3, "3,6", "line 3: '3,6': the intensity must lie in 0..5"),
        (3, "3,-1", "line 3: '3,-1': the intensity must lie in 0..5"),
        (3, "3,nan", "line 3: '3,nan': the intensity must lie in 0..5"),
        (3, "3,2.5", "line 3: '3,2.5': the intensity must be a whole number, as DISFA's are"),
        (4, "4", "line 4: '4': must read frame,intensity"),
        (4, "4,1,1", "line 4: '4,1,1': must read frame,intensity"),
        (4, "4,,1", "line 4: '4,,1': must read frame,intensity"),
        (2, "", "line 2: '': must read frame,intensity"),
        (1, "1,strong", "line 1: '1,strong': must read frame,intensity"),
        (2, "frame,intensity", "line 2: 'frame,intensity': must read frame,intensity"),
        (2, "2.5,1", "line 2: '2.5,1': must read frame,intensity"),
        (2, "inf,1", "line 2: 'inf,1': must read frame,intensity"),
        (1, "0,1", "line 1: '0,1': frames must count from 1, by data.disfa.first_label"),
        (3, "2,5", "line 3: '2,5': frame 2 stands in line 2 already"),
    ],
)
def test_a_bad_line_is_named(line: int, text: str, rule: str, tmp_path: Path) -> None:
    lines = list(PLAIN)
    lines[line - 1] = text
    assert read(tmp_path, "\n".join(lines))[1:] == ([rule], [])


@pytest.mark.parametrize(
    ("text", "wrong", "missing"),
    [
        ("1,0\n2,0\n4,0\n3,0\n", ["line 4: '3,0': frame 3 comes after frame 4"], []),
        ("1,0\n2,0\n4,0\n5,0\n9,0", [], ["line 3: frame 3 is missing before it (and 1 more such line)"]),
        ("3,0\n4,0", [], ["line 1: frames 1 to 2 are missing before it"]),
        ("", ["holds no frames"], []),
        (" \r\n", ["holds no frames"], []),
        (b"1,0\n\xe9", ["is no UTF-8 text (unexpected end of data at byte 4)"], []),
        ("1,0\n".encode("utf-16")[:-1], ["is no UTF-16 text (truncated data at byte 8)"], []),
        (bytes(8), [f"line 1: {chr(0) * 8!r}: must read frame,intensity"], []),
        ("x\n" * 9, ["line 1: 'x': must read frame,intensity (and 8 more such lines)"], []),
        ("0\n3\n5\n", ["line 1: '0': must read frame,intensity (and 2 more such lines)"], []),
        ("frame,intensity\n", ["holds no frames"], []),
    ],
)
def test_frames_that_are_missing_or_out_of_order(
    text: str | bytes, wrong: list[str], missing: list[str], tmp_path: Path
) -> None:
    assert read(tmp_path, text)[1:] == (wrong, missing)


def test_files_may_count_from_zero(tmp_path: Path) -> None:
    assert read(tmp_path, "0,1\n1,2", first=0) == ({1: 1, 2: 2}, [], [])
    assert read(tmp_path, "1,1\n2,2", first=0)[2] == ["line 1: frame 0 is missing before it"]
