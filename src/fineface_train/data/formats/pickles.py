"""Pickles from strangers: numbers, text, lists, dictionaries with text as keys, and numpy's arrays of numbers.

A pickle is a program. What it may call stands in `ALLOWED`: the few functions that numpy's arrays and numbers are
pickled with, each behind a check of what it is given; instructions that make other objects are refused. Python's own
unpickler runs it, whose memory grows with the file and not with what the file asks for (the one in C allots first).
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
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()  # the encoding is for pickles of Python 2
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


def _empty_array(*_: Any) -> np.ndarray:
    """Filled by the state that follows; the size that the pickle asks for here is always 0 in numpy's own."""
    return np.zeros(0)


def _dtype(code: Any, *_: Any) -> np.dtype:
    if not isinstance(code, str) or not (NUMBERS.fullmatch(code) or TEXT.fullmatch(code)):
        raise ValueError(f"asks for an array of {str(code)[:40]!r}; only numbers are read")
    return np.dtype(code, copy=True)


def _numbers(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(raw, str):  # bytes of Python 2
        raw = raw.encode("latin1")
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
        raise ValueError("has an array that numpy did not write")
    if dtype.kind in "US" and shape != ():
        raise ValueError(f"asks for an array of {dtype.str.lstrip('<>=|')!r}; only numbers are read")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"has an array of shape {str(shape)[:40]} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")


def _number(dtype: Any, raw: Any) -> float | str:
    if isinstance(dtype, np.dtype) and dtype.itemsize == 0:
        return ""  # a text of no letters, of which numpy makes no array
    number = _numbers(raw, dtype, (), "C")
    if dtype.kind in "US":  # UnicodeDecodeError is a ValueError; numpy's own way knows no such letters
        encoding = "utf-8" if dtype.kind == "S" else "utf-32-be" if dtype.str.startswith(">") else "utf-32-le"
        return number.tobytes().decode(encoding).rstrip("\0")
    return float(number)


def _encode(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError(f"asks for the encoding {str(encoding)[:40]!r}")
    return text.encode("latin1")


ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _empty_array,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,  # bytes, before protocol 3
}
for core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    ALLOWED |= {
        f"{core}.multiarray._reconstruct": _empty_array,
        f"{core}.multiarray.scalar": _number,
        f"{core}.numeric._frombuffer": _numbers,
    }


class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]
    load_binbytes8: Callable[[], None]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in ALLOWED:
            raise ValueError(f"asks for {wanted[:80]!r}; only arrays and plain values are read")
        return ALLOWED[wanted]

    def refuse(self) -> None:
        raise ValueError("asks to make an object that is no plain value")

    def load_build(self) -> None:
        """The state of an array or a type of numbers: nothing else, as a state could change what is allowed."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, np.ndarray):
            _version, shape, dtype, by_columns, raw = state
            numbers = _numbers(raw, dtype, shape, "F" if by_columns else "C")
            state = (1, numbers.shape, numbers.dtype, bool(by_columns), numbers.tobytes("F" if by_columns else "C"))
        elif isinstance(made, np.dtype):
            order = state[1] if state[1] in ("<", ">") and made.byteorder != "|" else made.byteorder
            state = (3, order, None, None, None, made.itemsize, made.alignment, 0)
        else:
            raise ValueError(f"asks to change a {type(made).__name__}")
        made.__setstate__(state)  # type: ignore[union-attr]

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


OBJECTS = ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID")
VIEWS_AND_SETS = ("NEXT_BUFFER", "READONLY_BUFFER", "EMPTY_SET", "FROZENSET", "ADDITEMS")
OWN: dict[str, Callable[..., None]] = {
    "BUILD": _Unpickler.load_build,
    "BYTEARRAY8": _Unpickler.load_binbytes8,  # its own allots first
    "DICT": _Unpickler.load_dict,
    "SETITEM": _Unpickler.load_setitem,
    "SETITEMS": _Unpickler.load_setitems,
}
OWN |= dict.fromkeys((*OBJECTS, *VIEWS_AND_SETS), _Unpickler.refuse)
_Unpickler.dispatch |= {ord(one.code): OWN[one.name] for one in pickletools.opcodes if one.name in OWN}
