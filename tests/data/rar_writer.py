"""RAR archives for tests: members stored without compression, in as many volumes as wanted, in the fourth format or the
fifth.

After the public descriptions: technote.txt of RAR 4 and https://www.rarlab.com/technote.htm of RAR 5. Sizes are those
of tests (under 4 GB).
"""

import dataclasses
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

RAR4, RAR5 = b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00"
REGULAR, SYMLINK, DEVICE, FOLDER = 0o100644, 0o120777, 0o020644, 0o040755
HARD_LINK, COPY = 4, 5
"""Kinds of a fifth-format redirection (1 is a symbolic link)."""


@dataclasses.dataclass
class Member:
    """A file, or with another `mode` something else; `crc` and `size` are told of the data unless given."""

    name: str
    data: bytes = b""
    mode: int = REGULAR
    redirection: tuple[int, str] | None = None
    """Fifth format: kind and target."""
    encrypted: bool = False
    """Fourth format: flagged so; the data is left as it is."""
    crc: int | None = None
    size: int | None = None


def write_rar(
    first: Path, members: Sequence[Member], *, volume_size: int | None = None, version: int = 4, mark_end: bool = True
) -> list[Path]:
    """Write `members` to `first` and, where they need more than `volume_size` bytes, to the volumes after it; returns
    all of them.

    `x.part1.rar` is followed by `x.part2.rar`, `x.rar` (fourth format) by `x.r00`.
    """
    head, file_block, end = (_head4, _file4, _end4) if version == 4 else (_head5, _file5, _end5)
    in_volumes, paths = volume_size is not None, [first]
    volume = bytearray(head(0, in_volumes, ".part" in first.name))

    def close(more: bool) -> None:
        if mark_end or more:
            volume.extend(end(more))
        paths[-1].write_bytes(volume)

    for member in members:
        position = 0
        while True:
            room = (
                len(member.data)
                if volume_size is None
                else volume_size - len(volume) - len(file_block(member, b"", True, True)) - 12
            )
            chunk = member.data[position : position + max(0, room)]
            before, after = position > 0, position + len(chunk) < len(member.data)
            if chunk or not member.data:
                volume += file_block(member, chunk, before, after) + chunk
                position += len(chunk)
            if not after:
                break
            close(more=True)
            paths.append(_next(paths[-1]))
            volume = bytearray(head(len(paths) - 1, in_volumes, ".part" in first.name))
    close(more=False)
    return paths


def _next(path: Path) -> Path:
    if ".part" in path.name:
        stem, _, number = path.name.removesuffix(".rar").rpartition(".part")
        return path.with_name(f"{stem}.part{int(number) + 1:0{len(number)}}.rar")
    return path.with_suffix(".r00" if path.suffix == ".rar" else f".r{int(path.suffix[2:]) + 1:02}")


def _block4(kind: int, flags: int, fields: bytes) -> bytes:
    body = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
    return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body


def _head4(number: int, in_volumes: bool, new_numbering: bool) -> bytes:
    flags = (0x0001 | (0x0010 if new_numbering else 0) | (0x0100 if number == 0 else 0)) if in_volumes else 0
    return RAR4 + _block4(0x73, flags, bytes(6))


def _file4(member: Member, chunk: bytes, before: bool, after: bool) -> bytes:
    name = member.name.encode()
    flags = (
        0x8000
        | 0x0200 * (not member.name.isascii())
        | 0x0001 * before
        | 0x0002 * after
        | 0x0004 * member.encrypted
        | 0x00E0 * (member.mode == FOLDER)
    )
    crc = zlib.crc32(chunk if after else member.data) if member.crc is None else member.crc
    size = len(member.data) if member.size is None else member.size
    fields = struct.pack("<LLBLLBBHL", len(chunk), size, 3, crc, 0x4A21_0000, 29, 0x30, len(name), member.mode)
    return _block4(0x74, flags, fields + name)


def _end4(more: bool) -> bytes:
    return _block4(0x7B, 0x4000 | more, b"")


def _vint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _block5(kind: int, flags: int, fields: bytes, extra: bytes = b"", data_size: int | None = None) -> bytes:
    sizes = (_vint(len(extra)) if extra else b"") + (b"" if data_size is None else _vint(data_size))
    body = _vint(kind) + _vint(flags | 0x01 * bool(extra) | 0x02 * (data_size is not None)) + sizes + fields + extra
    body = _vint(len(body)) + body
    return struct.pack("<L", zlib.crc32(body)) + body


def _head5(number: int, in_volumes: bool, new_numbering: bool) -> bytes:
    return RAR5 + _block5(
        1, 0, (_vint(0x01 | 0x02 * (number > 0)) + (_vint(number) if number else b"")) if in_volumes else _vint(0)
    )


def _file5(member: Member, chunk: bytes, before: bool, after: bool) -> bytes:
    name, extra = member.name.encode(), b""
    if member.redirection is not None:
        kind, target = member.redirection[0], member.redirection[1].encode()
        record = _vint(5) + _vint(kind) + _vint(0) + _vint(len(target)) + target
        extra = _vint(len(record)) + record
    crc = zlib.crc32(chunk if after else member.data) if member.crc is None else member.crc
    size = len(member.data) if member.size is None else member.size
    fields = (
        _vint(0x04 | 0x01 * (member.mode == FOLDER))
        + _vint(size)
        + _vint(member.mode)
        + struct.pack("<L", crc)
        + _vint(0)
        + _vint(1)
    )
    return _block5(2, 0x08 * before | 0x10 * after, fields + _vint(len(name)) + name, extra, len(chunk))


def _end5(more: bool) -> bytes:
    return _block5(5, 0, _vint(int(more)))
