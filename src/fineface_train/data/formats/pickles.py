"""Pickles from strangers, of which nothing but numbers, text, lists, dictionaries and numpy's arrays of numbers is
taken.

A pickle is a program. This reader runs it in Python's own unpickler, whose memory grows with the file and not with what
the file asks for (the one in C allots first), without the instructions that make objects, and with harmless stand-ins
for the few functions that arrays are pickled with: no function that a pickle names is ever called.
"""

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

NUMBERS = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1)")
"""Types of arrays that are read: floats, integers, booleans."""
TEXT = re.compile(r"[<>=|]?[US]\d+")
"""Types of numpy's single texts."""


def read_plain_pickle(path: Path) -> Any:
    """What `path` holds; numpy's numbers become floats, its single texts text.

    Raises ValueError that names the file and what it asked for, or what is wrong with it.
    """
    data = path.read_bytes()
    try:
        value = _Unpickler(io.BytesIO(data), encoding="latin1").load()  # the encoding is for pickles of Python 2
    except (
        pickle.UnpicklingError,
        EOFError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise ValueError(
            f"{path}: cannot be read as a pickle of numbers and text ({str(error) or 'it ends early'})"
        ) from error
    return value


class _Dtype:
    """In place of `numpy.dtype`."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not (NUMBERS.fullmatch(code) or TEXT.fullmatch(code)):
            raise ValueError(f"asks for an array of {str(code)[:40]!r}; only numbers are read")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """In place of `numpy.ndarray`: `values` are the numbers, once they are there."""

    def __init__(self, *_: Any) -> None:
        self.values = np.zeros(0)

    def build(self, state: Any) -> None:
        _version, shape, dtype, by_columns, raw = state
        self.values = _numbers(raw, dtype, shape, "F" if by_columns else "C")


def _numbers(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(raw, str):  # bytes of Python 2
        raw = raw.encode("latin1")
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
        raise ValueError("has an array that numpy did not write")
    if dtype.dtype.kind in "US" and shape != ():
        raise ValueError(f"asks for an array of {dtype.dtype.str.lstrip('<>=|')!r}; only numbers are read")
    if math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise ValueError(f"has an array of shape {str(shape)[:40]} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _reconstruct(*_: Any) -> Array:
    return Array()


def _scalar(dtype: Any, raw: Any) -> float | str:
    if isinstance(dtype, _Dtype) and dtype.dtype.itemsize == 0:
        return ""  # a text of no letters, of which numpy makes no array
    value = _numbers(raw, dtype, (), "C").item()
    if isinstance(value, bytes):
        return value.decode()  # UnicodeDecodeError is a ValueError
    return value if isinstance(value, str) else float(value)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.values = _numbers(raw, dtype, shape, "F" if order == "F" else "C")
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError(f"asks for the encoding {str(encoding)[:40]!r}")
    return text.encode("latin1")


STAND_INS: dict[str, Callable[..., Any]] = {"numpy.ndarray": Array, "numpy.dtype": _Dtype, "_codecs.encode": _encode}
for core in ("numpy.core", "numpy._core"):
    STAND_INS |= {
        f"{core}.multiarray._reconstruct": _reconstruct,
        f"{core}.multiarray.scalar": _scalar,
        f"{core}.numeric._frombuffer": _from_buffer,
    }


class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in STAND_INS:
            raise ValueError(f"asks for {wanted[:80]!r}; only arrays and plain values are read")
        return STAND_INS[wanted]

    def refuse(self) -> None:
        raise ValueError("asks to make an object that is no plain value")

    def load_build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Array | _Dtype):  # else it could change the stand-ins themselves
            raise ValueError(f"asks to change a {type(made).__name__}")
        made.build(state)

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    def load_setitem(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self.set_items(items)

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list[Any]) -> None:
        """Only text is a key: to look up tuples in tuples a million deep would crash the interpreter."""
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise ValueError("has a dictionary whose keys are not text")
            self.stack[-1][key] = value


OWN: dict[str, Callable[[_Unpickler], None]] = {
    "BUILD": _Unpickler.load_build,
    "BYTEARRAY8": _Unpickler.load_bytearray8,
    "DICT": _Unpickler.load_dict,
    "SETITEM": _Unpickler.load_setitem,
    "SETITEMS": _Unpickler.load_setitems,
}
OBJECTS = (
    "INST",
    "OBJ",
    "NEWOBJ",
    "NEWOBJ_EX",
    "EXT1",
    "EXT2",
    "EXT4",
    "PERSID",
    "BINPERSID",
    "NEXT_BUFFER",
    "READONLY_BUFFER",
)
SETS = ("EMPTY_SET", "FROZENSET", "ADDITEMS")
_Unpickler.dispatch |= {
    ord(one.code): OWN.get(one.name, _Unpickler.refuse)
    for one in pickletools.opcodes
    if one.name in (*OWN, *OBJECTS, *SETS)
}
