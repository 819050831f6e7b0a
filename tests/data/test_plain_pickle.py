"""Pickles from strangers: numbers and text come through, in whatever way they were pickled; nothing else does, and
nothing is called."""

import contextlib
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fineface_train.data.formats.pickles import read_plain_pickle

VECTOR = np.array([0.25, 5, 0])


def write(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Flagged:
    """An object of a class of ours."""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize(
    "vector",
    [
        VECTOR,
        VECTOR.astype(np.float32),
        VECTOR.astype(">f8"),
        VECTOR.astype(np.int64),
        VECTOR.astype(bool),
        VECTOR.reshape(3, 1),
    ],
)
def test_arrays_come_through(vector: np.ndarray, core: str, protocol: int, tmp_path: Path) -> None:
    value = [
        {
            "path": "a.jpg",
            "aus": vector,
            "list": [np.float64(0.5), np.float32(1.5), 2, True, None, 2.5],
            "tuple": (1, "é", b"\xff"),
        }
    ]
    data = pickle.dumps(value, protocol)
    for found in (b"numpy._core", b"numpy.core"):
        if protocol < 4:  # else the length is before the name
            data = data.replace(found, core.encode())
    (tmp_path / "x.pkl").write_bytes(data)
    read = read_plain_pickle(tmp_path / "x.pkl")
    array = read[0].pop("aus")
    assert type(array) is np.ndarray
    assert array.dtype == pickle.loads(data)[0]["aus"].dtype
    assert np.array_equal(array, vector)
    assert read == [{"path": "a.jpg", "list": [0.5, 1.5, 2, True, None, 2.5], "tuple": (1, "é", b"\xff")}]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_single_texts_of_numpy_are_text(protocol: int, tmp_path: Path) -> None:
    empty = [np.str_("")] if protocol > 2 else []  # else its bytes are made by a call
    value = {np.str_("Zo\u00e9"): [np.str_("a.jpg"), np.bytes_(b"b.jpg"), *empty]}
    read = read_plain_pickle(write(tmp_path / "x.pkl", value, protocol))
    assert read == {"Zo\u00e9": ["a.jpg", "b.jpg", *empty]}
    assert type(next(iter(read))) is str


def test_an_array_by_columns_comes_through(tmp_path: Path) -> None:
    square = np.asfortranarray(np.arange(6).reshape(2, 3))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert np.array_equal(read_plain_pickle(write(tmp_path / "x.pkl", square, protocol)), square)


def test_a_pickle_of_python_2_comes_through(tmp_path: Path) -> None:
    """As `pickle.dump([{'path': 'a.jpg', 'aus': numpy.array([1.5])}], file, 2)` wrote it there: text and bytes are
    one."""
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    state = (
        b"(K\x01(K\x01tcnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + struct.pack("<d", 1.5)
    )
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02]}(U\x04pathU\x05a.jpgU\x03aus" + made + state + b"tbua.")
    (read,) = read_plain_pickle(tmp_path / "x.pkl")
    assert read["path"] == "a.jpg"
    assert read["aus"].tolist() == [1.5]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("evil", "asked"),
    [
        (lambda file: Call(os.system, f"touch {file}"), r"asks for '(posix|nt)\.system'"),
        (lambda file: Call(eval, f"open('{file}', 'w')"), r"asks for '(builtins|__builtin__)\.eval'"),
        (lambda file: Call(exec, f"open('{file}', 'w')"), r"\.exec'"),
        (lambda file: Call(open, str(file), "w"), r"asks for '_?io\.open'"),
        (lambda file: Call(getattr, "x", "upper"), r"\.getattr'"),
        (lambda file: Call(np.load, "/etc/passwd"), r"asks for 'numpy.*load'"),
        (lambda file: Path("/etc"), r"asks for 'pathlib.*PosixPath'"),
        (lambda file: np.array([Call(os.system, f"touch {file}")], dtype=object), r"asks for an array of 'O8'"),
        (lambda file: np.array([{}], dtype=object), r"asks for an array of 'O8'"),
        (lambda file: np.array(["text"]), r"asks for an array of 'U4'"),
        (lambda file: np.zeros(2, dtype=[("a", "f8")]), r"asks for an array of 'V8'"),
        (lambda file: np.array(["2020-01-01"], dtype="M8[D]"), r"asks for an array of 'M8'"),
        (lambda file: Flagged(), r"asks for '(tests\.data\.test_plain_pickle\.Flagged|copy_?reg\._reconstructor)'"),
        (lambda file: {1, 2}, r"asks for '\w+\.set'|no plain value"),
        (lambda file: frozenset([1]), r"asks for '\w+\.frozenset'|no plain value"),
        (lambda file: {(1, 2): 3}, r"keys are not text"),
        (lambda file: 1 + 2j, r"\.complex'"),
    ],
)
def test_nothing_else_does_and_it_is_told_what_was_asked(
    evil: Callable[[Path], Any], asked: str, protocol: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.pkl", [{"aus": evil(tmp_path / "touched")}], protocol)
    with pytest.raises(ValueError, match=rf"x\.pkl: cannot be read as a pickle of numbers and text \(.*({asked})"):
        read_plain_pickle(path)
    assert not (tmp_path / "touched").exists()


SIZE = struct.pack("<Q", 2**40)
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"
DTYPE = b"cnumpy\ndtype\n(S'f8'\ntR"


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"", "ends early"),
        (b"not a pickle", ""),
        (b"\x80\x04\x8e" + SIZE + b".", "ends early"),
        (b"\x80\x05\x96" + SIZE + b".", "ends early"),
        (b"\x80\x04\x95" + SIZE + b"K\x01", ""),
        (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".", "ends early"),
        (
            ARRAY + b"(I1\n(L1000000000000L\nt" + DTYPE + b"I00\nS'x'\ntb.",
            r"an array of shape \(1000000000000,\) in 1 bytes",
        ),
        (ARRAY + b"(I1\n(I-1\nI-1\nt" + DTYPE + b"I00\nS'12345678'\ntb.", ""),
        (ARRAY + b"(I1\n(I1\nt(dI00\nS'12345678'\ntb.", "an array that numpy did not write"),
        (ARRAY + b"I1\nb.", ""),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "asks for an array of 'O8'"),
        (b"cnumpy\ndtype\n(S'8f8,O'\ntR.", "asks for an array of"),
        (
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'U99999999'\ntRS'x'\ntR.",
            "an array of shape \\(\\) in 1 bytes",
        ),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'U9999999999999'\ntRS'x'\ntR.", ""),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'U1'\ntRS'\\xff\\xff\\xff\\xff'\ntR.", "can't decode"),
        (ARRAY + b"(I1\n(L1000000000000L\ntcnumpy\ndtype\n(S'U0'\ntRI00\nS''\ntb.", "asks for an array of 'U0'"),
        (b"cnumpy.core.multiarray\nscalar\n}S'__doc__'\nS'x'\nsb.", "asks to change a function"),
        (b"]}S'append'\nS'x'\nsb.", "asks to change a list"),
        (b"(ios\nsystem\n.", "no plain value"),
        (b"(S'id'\nios\nsystem\n.", "no plain value"),
        (b"(cos\nsystem\nS'id'\no.", "asks for 'os.system'"),
        (b"\x80\x02\x82\x01.", "no plain value"),
        (b"Pid\n.", "no plain value"),
        (b"S'a'\n(S'b'\ntR.", "not callable"),
        (b"}" + b")" + b"\x85" * 10**5 + b"K\x01s.", "keys are not text"),
        (b"c" + b"x" * 10**6 + b"\ny\n.", "asks for 'xxx"),
    ],
)
def test_a_stream_made_by_hand_asks_in_vain(stream: bytes, reason: str, tmp_path: Path) -> None:
    """Neither for calls nor for more memory than it has bytes."""
    (tmp_path / "x.pkl").write_bytes(stream)
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=rf"x\.pkl: cannot be read as a pickle of numbers and text \(.*{reason}"
    ) as caught:
        read_plain_pickle(tmp_path / "x.pkl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6 + 200 * len(stream)
    assert len(str(caught.value)) < 400


def test_an_array_is_not_allotted_before_its_numbers_are_there(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(b"]cnumpy\nndarray\n((L1000000000000000L\ntS'f8'\ntRa\x88r\xff\xff\xff\x7f0.")
    (array,) = read_plain_pickle(tmp_path / "x.pkl")
    assert array.size == 0


def test_wherever_it_is_cut_off_or_damaged_nothing_crashes(tmp_path: Path) -> None:
    path, draw = tmp_path / "x.pkl", np.random.default_rng(0)
    for protocol in (0, 2, 4, 5):
        data = pickle.dumps(
            [{"path": "a.jpg", "aus": VECTOR}, {"path": "b.jpg", "aus": [1.5, np.float64(2)]}], protocol
        )
        for size in range(len(data)):
            path.write_bytes(data[:size])
            with pytest.raises(ValueError, match=r"x\.pkl: cannot be read"):
                read_plain_pickle(path)
        for _ in range(100):
            damaged = bytearray(data)
            for place in draw.integers(0, len(data), 3):
                damaged[place] = draw.integers(256)
            path.write_bytes(damaged)
            with contextlib.suppress(ValueError):
                read_plain_pickle(path)
