"""What image files say beside their pixels: EXIF, XMP, colour profiles, text.

Nothing of it is needed to decode a picture but its orientation. So that is read here, and the rest is left out before a
decoder sees it:
a tag, a text or a profile that is damaged, absurd or larger than a decoder allows costs no picture, and changes none.
"""

import dataclasses
import re
import struct
import zlib
from collections.abc import Iterable, Iterator

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
"""The last two are what careless programs write."""
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
ORIENTATION = 0x0112
NUMBERS = {
    1: "B",
    3: "H",
    4: "L",
    5: "LL",
    6: "b",
    7: "B",
    8: "h",
    9: "l",
    10: "ll",
    11: "f",
    12: "d",
    13: "L",
    16: "Q",
    17: "q",
    18: "Q",
}
"""TIFF's types as `struct` reads one of each; two are a fraction."""
PIXEL_TAGS = {
    *range(254, 260),
    262,
    266,
    273,
    277,
    278,
    279,
    284,
    292,
    293,
    317,
    *range(320, 326),
    332,
    334,
    338,
    339,
    347,
    *range(512, 522),
    *range(529, 533),
}
PIXEL_TAGS |= {32995, 32996, 32997, 32998}
"""TIFF's tags that say how the pixels lie in the file, and what they mean; all others are about the picture."""
PNG_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
"""PNG's chunks that are needed beside the critical ones, which begin with a capital."""
MOST_TEXT = 2**20


@dataclasses.dataclass(frozen=True)
class Bare:
    """An image file without what it says beside its pixels; decoders take `head` and `pixels`, one after the other."""

    head: bytes
    """What tells size and kind; of a JPEG or PNG all before the pixels, of others the whole file."""
    pixels: bytes = b""
    exif: tuple[bytes, ...] = ()
    """Blocks as TIFF has them, the one that counts first."""
    xmp: bytes = b""
    complete: bool = True
    """Whether the beginning of the pixels was reached; else `head` is too little of the file."""


def bare(data: bytes) -> Bare:
    """The parts of an image file, or of a JPEG's beginning. What cannot be followed is left as it is, for the decoder
    to judge."""
    if data.startswith(JPEG):
        return _jpeg(data)
    if data.startswith(PNG):
        return _png(data)
    return _tiff(data) if data.startswith(TIFF) else Bare(data)


def orientation(exif: Iterable[bytes], xmp: bytes | str) -> int:
    """1 to 8, as EXIF numbers them (https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf, 4.6.4), by the first of
    `exif` that tells, or by `xmp`.

    1, which is upright, where none tells, or tells something else: such pictures are taken as they lie, as everywhere.
    """
    told = next((value for value in map(_told, exif) if value is not None), None)
    if told is None:
        text = xmp.encode(errors="replace") if isinstance(xmp, str) else xmp
        match = re.search(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([0-9])", text)
        told = int(match[1]) if match else 1
    return int(told) if told in range(1, 9) else 1


def _told(exif: bytes) -> float | None:
    """The orientation in a block's first directory, of whatever type of number; all other tags are left alone."""
    while exif.startswith(EXIF):
        exif = exif[len(EXIF) :]
    try:
        directory = _Directory(exif)
        for tag, kind, count, place in directory.entries():
            if tag == ORIENTATION and kind in NUMBERS and count == 1:
                value = directory.read(NUMBERS[kind], place)
                return value[0] / value[1] if len(value) == 2 else value[0]
    except (struct.error, ValueError, ZeroDivisionError):  # cut off, or no such block at all
        pass
    return None


class _Directory:
    """The first directory of a TIFF, or of the block of EXIF that is one. Raises ValueError or struct.error where there
    is none."""

    def __init__(self, data: bytes) -> None:
        if not data.startswith(TIFF):
            raise ValueError("no TIFF")
        self.data = data
        self.order = "<" if data.startswith(b"II") else ">"
        self.big = data[2:4] in (b"+\0", b"\0+")
        self.at = int(self.read("Q", 8)[0] if self.big else self.read("L", 4)[0])
        self.count = int(self.read("Q" if self.big else "H", self.at)[0])
        self.first, self.width = self.at + (8 if self.big else 2), 20 if self.big else 12

    def read(self, layout: str, place: int) -> tuple[float, ...]:
        if place > len(self.data):  # also beyond what an offset may be
            raise ValueError("lies outside")
        return struct.unpack_from(self.order + layout, self.data, place)

    def entries(self) -> Iterator[tuple[int, int, int, int]]:
        """Tag, type, number of values, and where the first value lies."""
        for place in range(self.first, min(self.first + self.count * self.width, len(self.data)), self.width):
            tag, kind, count = self.read("HHQ" if self.big else "HHL", place)
            inline, room = (place + 12, 8) if self.big else (place + 8, 4)
            size = count * struct.calcsize("=" + NUMBERS.get(int(kind), "B"))
            yield (
                int(tag),
                int(kind),
                int(count),
                inline if size <= room else int(self.read("Q" if self.big else "L", inline)[0]),
            )


def _tiff(data: bytes) -> Bare:
    """Its first picture alone, without the tags that are about it, and so not turned by a decoder either."""
    try:
        directory = _Directory(data)
        width, first = directory.width, directory.first
        places = [first + width * number for number, (tag, *_) in enumerate(directory.entries()) if tag in PIXEL_TAGS]
    except (struct.error, ValueError):
        return Bare(data)
    count, end = (
        struct.pack(directory.order + ("Q" if directory.big else "H"), len(places)),
        bytes(8 if directory.big else 4),
    )
    kept = count + b"".join(data[place : place + width] for place in places) + end
    return Bare(data[: directory.at] + kept + data[directory.at + len(kept) :], exif=(data,), xmp=_tiff_xmp(directory))


def _tiff_xmp(directory: _Directory) -> bytes:
    return b"".join(
        directory.data[place : place + count] for tag, _, count, place in directory.entries() if tag == 700
    )[:MOST_TEXT]


def _jpeg(data: bytes) -> Bare:
    """Without application segments and comments, but for the two by which decoders tell colours (JFIF and Adobe)."""
    kept, xmp, place = [data[:2]], b"", 2
    exif: list[bytes] = []
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(
        data
    ):  # what lies between segments is passed over, as decoders do
        marker, size = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD7:  # have no size
            place += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD8, 0xD9) or size < 2:
            break
        end = place + 2 + size
        segment, place = data[place:end], end
        said = segment[4:]
        if marker == 0xE1 and said.startswith(EXIF):
            exif.append(said[len(EXIF) :])
        elif marker == 0xE1 and said.startswith(XMP):
            xmp = said[len(XMP) :]
        colours = (marker == 0xE0 and said.startswith(b"JFIF") and len(said) >= 14) or (
            marker == 0xEE and said.startswith(b"Adobe") and len(said) >= 12
        )
        if colours or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(segment)
        if marker == 0xDA:
            return Bare(b"".join(kept), data[place:], (b"".join(exif), *exif), xmp)
    rest = data[place:] if place >= 0 else b""
    return Bare(b"".join(kept) + rest, b"", (b"".join(exif), *exif), xmp, complete=False)


def _png(data: bytes) -> Bare:
    """Without chunks that a reader may leave out (https://www.w3.org/TR/png-3/, 5.4), but for those that are part of
    the picture."""
    kept, xmp, place, head = [data[: len(PNG)]], b"", len(PNG), 0
    exif: list[bytes] = []
    raw: list[bytes] = []
    while place + 12 <= len(data):
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4])
        if end > len(data) or not kind.isalpha():
            break
        chunk, place = data[place:end], end
        if kind[:1].isupper() or kind in PNG_PIXELS:
            kept.append(chunk)
            head = head or (sum(map(len, kept)) if kind == b"IDAT" else 0)
        elif zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
            continue  # damaged, and nothing is taken from it
        elif kind == b"eXIf":
            exif.insert(0, chunk[8:-4])  # the last one counts
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            key, text = _png_text(kind, chunk[8:-4])
            if key in (b"Raw profile type exif", b"Raw profile type APP1"):
                raw.insert(0, _from_hex(text))
            elif key == b"XML:com.adobe.xmp":
                xmp = text
    whole = b"".join(kept) + data[place:]
    head = head or len(whole)
    return Bare(whole[:head], whole[head:], (*exif, *raw), xmp)


def _png_text(kind: bytes, said: bytes) -> tuple[bytes, bytes]:
    """Key and text of a chunk, of which no more is unpacked than a profile may have."""
    key, _, rest = said.partition(b"\0")
    packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\x01")
    if kind == b"iTXt":
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # language, and the key in it
    elif kind == b"zTXt":
        rest = rest[1:]
    try:
        return key, zlib.decompressobj().decompress(rest, MOST_TEXT) if packed else rest[:MOST_TEXT]
    except zlib.error:
        return key, b""


def _from_hex(text: bytes) -> bytes:
    """A profile as ImageMagick writes it: a line with its name, one with its size, then hex."""
    digits = re.sub(rb"\s", b"", b"".join(text.split(b"\n")[3:]))
    return (
        bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii")) if re.fullmatch(rb"[0-9a-fA-F]*", digits) else b""
    )
