"""CSV files in the shapes that people send them."""

from pathlib import Path

import numpy as np
import pytest

from fineface_train.data.csv_rows import numbers, read_rows, refuse, unique

GOOD = b'name,size,caption\na.png,3,"a man, smiling"\nb.png,4.5,woman\n'


def written(folder: Path, data: bytes) -> Path:
    path = folder / "rows.csv"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.rstrip(),
        GOOD.replace(b'"a man, smiling"', b"a man, smiling").replace(b",", b";").replace(b"man; s", b"man, s"),
        b"name\tsize\tcaption\na.png\t3\ta man, smiling\nb.png\t4.5\twoman\n",
        b' name , size,caption,extra\n a.png ,3,"a man, smiling",1\n\nb.png,4.5, woman,2\n',
    ],
    ids=["plain", "byte order mark", "CRLF", "no last line end", "semicolons", "tabs", "spaces, blank line, extra column"],
)
def test_shapes_that_can_be_read(tmp_path: Path, data: bytes) -> None:
    frame = read_rows(written(tmp_path, data), ["name", "caption"], ["size", "absent"])
    assert list(frame.columns) == ["name", "caption", "size"]
    assert frame.to_numpy().tolist() == [["a.png", "a man, smiling", "3"], ["b.png", "woman", "4.5"]]


def test_the_index_is_the_line_also_behind_text_of_several_lines(tmp_path: Path) -> None:
    path = written(tmp_path, b'name,size\n"a\nb\nc",1\n\nd,x\n')
    frame = read_rows(path, ["name", "size"])
    assert frame.index.tolist() == [4, 6]
    with pytest.raises(ValueError, match=r"rows\.csv, line 6: size='x': must be a number in 0\.\.1"):
        numbers(path, frame["size"], 0, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"rows\.csv: columns missing: name, size; it has nothing"),
        (b"name,size\n", r"rows\.csv: holds no rows"),
        (b"name;Size\na;1\n", r"columns missing: size; it has name, Size"),
        (b"name,size,size\na,1,2\n", r"line 1: column size occurs twice"),
        (b"name,size\na,1\nb,1,2\n", r"line 3: 3 cells, but the header has 2"),
        (b"name,size\na\n", r"line 2: 1 cells, but the header has 2"),
        (b'name,size\n"a,1\nb,2\n', r"line 3: cannot be read as CSV"),
        (b"name,size\na,\xff\n", r"is not UTF-8 text"),
        (b"PK\x03\x04\x00\x00\x08\xff\xfe", r"is not UTF-8 text"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_rows(written(tmp_path, data), ["name", "size"])


def test_refusals_name_line_value_and_how_many(tmp_path: Path) -> None:
    path = written(tmp_path, b"name,size\na,1\nb,nan\na,-1\nc,inf\n")
    frame = read_rows(path, ["name", "size"])
    with pytest.raises(ValueError, match=r"line 3: size='nan': must be a number in 0\.\. \(3 such rows\)"):
        numbers(path, frame["size"], 0, np.inf)
    with pytest.raises(ValueError, match=r"line 4: name='a' occurs twice, first in line 2"):
        unique(path, frame["name"])
    refuse(path, frame["name"], np.array([True] * 4), "must be good")
    assert numbers(path, frame["size"].iloc[:1], 0, 1).tolist() == [1.0]
