"""CSV files in the shapes that people send them."""

from pathlib import Path

import numpy as np
import pytest

from fineface_train.data.formats.csv_rows import numbers, read_rows, refuse, without_repeats

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
        b"sep=,\n" + GOOD,
        b"sep=;\r\n"
        + GOOD.replace(b'"a man, smiling"', b"a man, smiling").replace(b",", b";").replace(b"man; s", b"man, s"),
        b"\xef\xbb\xbf" + b'"sep=,"\n' + GOOD,
        GOOD.decode().encode("utf-16"),
        GOOD.decode().encode("utf-16-le"),
        GOOD.replace(b"name", b"NAME").replace(b"caption", b"Caption"),
        GOOD.replace(b"size,caption", b"size,caption,size").replace(b'g"', b'g",3').replace(b"woman", b"woman,4.5"),
        GOOD + b",,\n,,\n",
        GOOD.replace(b"caption", b"caption,").replace(b'"\n', b'",\n'),
        GOOD.replace(b'"\n', b'",,\n'),
        b'name, size, caption\na.png, 3, "a man, smiling"\nb.png, 4.5, woman\n',
        GOOD.replace(b"\n", b"\r"),
        b' name , size,caption,extra\n a.png ,3,"a man, smiling",1\n\nb.png,4.5, woman,2\n',
    ],
    ids=[
        *(
            "plain",
            "byte order mark",
            "CRLF",
            "no last line end",
            "semicolons",
            "tabs",
            "sep",
            "sep of Excel",
            "sep and a mark",
            "UTF-16",
            "bare UTF-16",
        ),
        *(
            "other case",
            "column twice",
            "empty cells below",
            "nameless column",
            "empty cells beyond",
            "blanks behind commas",
            "CR alone",
        ),
        "spaces, blank line, extra column",
    ],
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
        (b"name;sizes\na;1\n", r"columns missing: size; it has name, sizes"),
        (
            b"name,size,size\na,1,1\nb,1,2\n",
            r"line 1: column size occurs twice, and line 3 has '1' in the one and '2' in the other; remove or rename "
            r"one",
        ),
        (b"name,size\na,1\nb,1,2\n", r"line 3: 3 cells, but the header has 2"),
        (b"name,size\na\n", r"line 2: 1 cells, but the header has 2"),
        (b'name,size\n"a,1\nb,2\n', r"line 3: cannot be read as CSV"),
        (b"name,size\na,1,\nb,1,2,3\nc,1,2\n", r"line 3: 4 cells, but the header has 2.*\(2 such rows\)"),
        (b"name,size\na,\xff\n", r"rows\.csv, line 2: is not UTF-8 text"),
        (
            b"name,size\na,1\nZo\xe9,1\nLo\xefs,1\n",
            r"line 3: is not UTF-8 text \(2 such lines\); as Windows .* reads 'Zo\u00e9,1'; .*iconv -f CP1252",
        ),
        (
            b"PK\x03\x04\x00\x00\x08\xff\xfe",
            r"is not UTF-8 text: it begins as a zip archive or an Excel workbook does; unpack it",
        ),
        ("name,size\na,1\n".encode("utf-16")[:-1], r"begins as UTF-16 text does, and is none"),
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
    refuse(path, frame["name"], np.array([True] * 4), "must be good")
    assert numbers(path, frame["size"].iloc[:1], 0, 1).tolist() == [1.0]


def test_rows_that_repeat_are_told_with_their_lines_and_kept_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, b"sep=,\nname,size,note\na,1,x\nb,2,x\na,1,y\nc,3,x\nb,2,z\na,1,x\n")
    frame = read_rows(path, ["name", "size"])
    assert without_repeats(path, frame, "name").to_numpy().tolist() == [["a", "1"], ["b", "2"], ["c", "3"]]
    assert (
        "rows.csv: 3 rows repeat another in all that is used, and are left out: 'a' in lines 3, 5, 8; 'b' in lines 4, 7"
        in caplog.text
    )
    told = (
        r"line 5: name='a' occurs twice, first in line 3, with another note; .* \(2 such names: 'a' in lines 3, 5, "
        r"8; 'b' in lines 4, 7\)"
    )
    with pytest.raises(ValueError, match=told):
        without_repeats(path, read_rows(path, ["name", "note"]), "name")


def test_lines_of_empty_cells_among_the_rows_are_rows(tmp_path: Path) -> None:
    """Where the place counts, as of captions in row order, none may vanish."""
    assert len(read_rows(written(tmp_path, b"name,size\na,1\n,\nb,2\n,\n"), ["name", "size"])) == 3
    assert len(read_rows(written(tmp_path, b'name\na\n""\n'), ["name"])) == 2
