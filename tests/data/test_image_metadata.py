"""What stands beside the pixels, however odd, costs no picture: it is turned as the orientation says, and the rest is
left alone."""

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fineface_train.data.formats.image_metadata import EXIF, NUMBERS, XMP, bare, orientation
from fineface_train.data.formats.images import UPRIGHT, image_or_fault, image_size, read_image
from fineface_train.files import sha256
from tests.data.test_images import PICTURE, RED, chunk, encoded

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
BACK = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""What makes a picture stored with this orientation of an upright one, as pillow numbers its transpositions."""


def entry(order: str, tag: int, kind: int, count: int, value: bytes) -> bytes:
    """A directory's entry, with a value of 4 bytes or an offset to it."""
    return struct.pack(order + "HHL", tag, kind, count) + value.ljust(4, b"\0")[:4]


def short(order: str, value: int) -> bytes:
    return entry(order, 0x0112, 3, 1, struct.pack(order + "H", value))


def block(order: str, *entries: bytes, after: bytes = bytes(4), tail: bytes = b"") -> bytes:
    """EXIF, as TIFF has it."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    return head + struct.pack(order + "H", len(entries)) + b"".join(entries) + after + tail


def stored(value: int) -> Image.Image:
    """PICTURE as a camera stores it that tells this orientation."""
    return PICTURE if BACK[value] is None else PICTURE.transpose(Image.Transpose(BACK[value]))


def segment(marker: int, said: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(said) + 2) + said


def picture(kind: str, exif: bytes, value: int = 1) -> bytes:
    """PICTURE, stored turned, in a file that has this block of EXIF, whatever is in it."""
    image = stored(value)
    if kind == "JPEG":
        data = encoded(image, "JPEG", quality=100, subsampling=0)
        return data[:2] + segment(0xE1, EXIF + exif) + data[2:]
    if kind == "PNG":
        data = encoded(image, "PNG")
        return data[:33] + chunk(b"eXIf", exif) + data[33:]
    if kind == "WEBP":
        return encoded(image, "WEBP", lossless=True, exif=exif or b"\0")
    return _tiff(image, exif)


def _tiff(image: Image.Image, exif: bytes) -> bytes:
    """A TIFF in whose directory the block's entries stand among its own, in the order of their tags."""
    order = ">" if exif.startswith(b"MM") else "<"
    pixels, size = image.convert("RGB").tobytes(), image.size
    count = struct.unpack_from(order + "H", exif, 8)[0] if len(exif) >= 10 else 0
    theirs = [exif[10 + 12 * number :][:12] for number in range(count)]
    bits = struct.pack(order + "3H", 8, 8, 8)
    own = [(256, 4, 1, size[0]), (257, 4, 1, size[1]), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14)]
    own += [(277, 3, 1, 3), (278, 4, 1, size[1]), (279, 4, 1, len(pixels))]
    ours = [
        entry(order, tag, kind, many, struct.pack(order + ("H" if kind == 3 and many == 1 else "L"), value))
        for tag, kind, many, value in own
    ]
    entries = sorted(
        [*ours, *(one for one in theirs if len(one) == 12)], key=lambda one: struct.unpack_from(order + "H", one)[0]
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 14 + len(pixels)) + bits
    return head + pixels + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def check_upright(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    image = read_image(path)
    assert image.size == image_size(path) == PICTURE.size
    difference = np.abs(np.asarray(image, dtype=int) - np.asarray(PICTURE)).mean()
    assert difference < 12, difference  # JPEG's rounding; turned otherwise it is 60 and more


ODD = {
    "a signed short below 0": lambda order: entry(order, 0x0128, 8, 1, struct.pack(order + "h", -1)),
    "a rational stored as signed": lambda order: entry(order, 0x011A, 10, 1, struct.pack(order + "L", 26)),
    "Software as a number": lambda order: entry(order, 0x0131, 4, 1, struct.pack(order + "L", 7)),
    "XMP as text": lambda order: entry(order, 0x02BC, 2, 4, b"abc\0"),
    "XMP as numbers": lambda order: entry(order, 0x02BC, 4, 1, struct.pack(order + "L", 7)),
    "LONG8": lambda order: entry(order, 0x0132, 16, 1, struct.pack(order + "L", 8)),
    "text that is longer than the file": lambda order: entry(order, 0x010F, 2, 2**31, struct.pack(order + "L", 2**31)),
    "a type that is not there": lambda order: entry(order, 0x0110, 99, 1, b"\xff\xff\xff\xff"),
    "EXIF's own directory, elsewhere": lambda order: entry(order, 0x8769, 4, 1, b"\xff\xff\xff\x7f"),
    "EXIF's own directory as text": lambda order: entry(order, 0x8769, 2, 4, b"abc\0"),
    "EXIF's own directory in itself": lambda order: entry(order, 0x8769, 4, 1, struct.pack(order + "L", 8)),
    "GPS as a fraction": lambda order: entry(order, 0x8825, 5, 1, struct.pack(order + "L", 0)),
    "a colour profile of numbers": lambda order: entry(order, 0x8773, 3, 1, b"\1\1"),
    "a resolution that divides by zero": lambda order: entry(order, 0x011B, 5, 1, struct.pack(order + "L", 4000)),
}


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", FORMATS)
def test_an_odd_tag_beside_the_orientation_costs_no_picture(kind: str, odd: str, order: str, tmp_path: Path) -> None:
    for value in (1, 3, 6, 7):
        entries = sorted(
            [short(order, value), ODD[odd](order)], key=lambda one: struct.unpack_from(order + "H", one)[0]
        )
        check_upright(tmp_path / "x", picture(kind, block(order, *entries), value))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", UPRIGHT)
def test_every_orientation_is_turned_upright(kind: str, value: int, tmp_path: Path) -> None:
    for order in "<>":
        check_upright(tmp_path / "x", picture(kind, block(order, short(order, value)), value))
        assert read_image(tmp_path / "x").getpixel((2, 2))[0] > 240


@pytest.mark.parametrize(
    ("exif", "told"),
    [
        (block("<", short("<", 0)), 1),
        (block("<", short("<", 9)), 1),
        (block(">", entry(">", 0x0112, 4, 1, struct.pack(">L", 6))), 6),
        (block("<", entry("<", 0x0112, 1, 1, b"\6")), 6),
        (block(">", entry(">", 0x0112, 8, 1, struct.pack(">h", -6))), 1),
        (block("<", entry("<", 0x0112, 5, 1, struct.pack("<L", 26)), tail=struct.pack("<LL", 12, 2)), 6),
        (block("<", entry("<", 0x0112, 5, 1, struct.pack("<L", 26)), tail=struct.pack("<LL", 12, 0)), 1),
        (block("<", entry("<", 0x0112, 16, 1, struct.pack("<L", 26)), tail=struct.pack("<Q", 8)), 8),
        (block("<", entry("<", 0x0112, 11, 1, struct.pack("<f", float("nan")))), 1),
        (block("<", entry("<", 0x0112, 2, 2, b"6\0")), 1),
        (block("<", entry("<", 0x0112, 3, 0, b"\6\0")), 1),
        (EXIF + EXIF + block("<", short("<", 6)), 6),
        (block("<", short("<", 6), after=struct.pack("<L", 8)), 6),  # the directory after it is itself
        (block("<", short("<", 6))[:-4], 6),
        (block("<", short("<", 6))[:-7], 1),
        (struct.pack("<4sLH", b"II*\0", 8, 65535) + short("<", 6), 6),
        (b"II*\0\xff\xff\xff\xff" + short("<", 6), 1),
        (b"MM*\0" + block(">", short(">", 6))[4:], 6),
        (b"II+\0\x08\0\0\0" + struct.pack("<QQHHQQ", 16, 1, 0x0112, 3, 1, 6), 6),
        (b"II*\0", 1),
        (b"", 1),
        (b"nothing of the kind", 1),
    ],
)
def test_the_orientation_is_read_wherever_it_can_be(exif: bytes, told: int) -> None:
    assert orientation([exif], b"") == told
    assert orientation([b"damaged", exif], b"") == told


def test_xmp_tells_where_exif_does_not() -> None:
    exif = block("<", short("<", 3))
    for xmp in (
        b'<x tiff:Orientation="6"/>',
        b"<tiff:Orientation>6</tiff:Orientation>",
        "<tiff:Orientation>6</tiff:Orientation>",
    ):
        assert (orientation([b""], xmp), orientation([exif], xmp), orientation([block("<", short("<", 0))], xmp)) == (
            6,
            3,
            1,
        )
    assert orientation([], b'tiff:Orientation="9"') == 1


def text_chunk(kind: bytes, size: int) -> bytes:
    text = bytes(range(32, 127)) * (size // 95)
    packed = zlib.compress(text)
    return {
        b"tEXt": chunk(b"tEXt", b"Comment\0" + text),
        b"zTXt": chunk(b"zTXt", b"Comment\0\0" + packed),
        b"iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0" + packed),
        b"iCCP": chunk(b"iCCP", b"profile\0\0" + packed),
    }[kind]


@pytest.mark.parametrize(
    ("where", "extra"),
    [
        *[
            (place, text_chunk(kind, 2_000_000))
            for kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
            for place in ("before", "after")
        ],
        ("before", text_chunk(b"zTXt", 1_000_000) * 70),
        ("before", chunk(b"iCCP", b"profile\0\7nothing")),
        ("before", chunk(b"iCCP", b"")),
        ("before", chunk(b"gAMA", b"\1")),
        ("before", chunk(b"pHYs", b"")),
        ("after", chunk(b"tIME", b"")[:-1] + b"\0"),
        ("before", chunk(b"tEXt", b"xmp\0tiff")),
        ("before", chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  4\nzz"))),
        ("before", chunk(b"zTXt", b"Raw profile type exif\0\0damaged")),
        ("before", chunk(b"quux", b"a private one")),
    ],
)
def test_text_and_profiles_of_a_png_cost_no_picture(where: str, extra: bytes, tmp_path: Path) -> None:
    exif = chunk(b"eXIf", block("<", short("<", 6)))
    data = encoded(stored(6), "PNG")
    check_upright(
        tmp_path / "x.png",
        data[:33] + extra + exif + data[33:] if where == "before" else data[:-12] + exif + extra + data[-12:],
    )


def test_an_orientation_in_a_text_chunk_or_a_damaged_block() -> None:
    exif = block("<", short("<", 6))
    profile = b"\nexif\n%8d\n" % len(EXIF + exif) + (EXIF + exif).hex().encode() + b"\n"
    data = encoded(stored(6), "PNG")
    for extra, told in (
        (chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)), 6),
        (chunk(b"tEXt", b"Raw profile type APP1\0" + profile), 6),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>8</tiff:Orientation>"), 8),
        (chunk(b"eXIf", block("<", short("<", 3))) + chunk(b"eXIf", exif), 6),
        (chunk(b"eXIf", exif)[:-1] + b"\0", 1),  # its checksum does not fit: nothing is believed
    ):
        parts = bare(data[:33] + extra + data[33:])
        assert orientation(parts.exif, parts.xmp) == told


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\1\3" + bytes(100)),
        segment(0xE2, b"MPF\0" + block("<", entry("<", 0xB000, 7, 4, b"0100"))),
        segment(0xE2, b"MPF\0damaged"),
        segment(0xE0, b"JFIF"),
        segment(0xEE, b"Adobe"),
        segment(0xED, b"Photoshop 3.0\08BIM"),
        segment(0xFE, bytes(65_000)) * 20,  # the size lies beyond what is read first
        segment(0xE1, EXIF + b"damaged"),
        segment(0xE1, EXIF),
        segment(0xE1, XMP + b'tiff:Orientation="3"'),
        b"\xff\xff\xff" + segment(0xFE, b"filled up"),
        segment(0xFE, b"x") + b"junk" + segment(0xFE, b"after junk"),
        segment(0xEF, b""),
    ],
)
def test_segments_of_a_jpeg_cost_no_picture(extra: bytes, tmp_path: Path) -> None:
    exif, data = segment(0xE1, EXIF + block(">", short(">", 6))), encoded(stored(6), "JPEG", quality=100, subsampling=0)
    check_upright(tmp_path / "before.jpg", data[:2] + extra + exif + data[2:])
    check_upright(tmp_path / "after.jpg", data[:2] + exif + extra + data[2:])


def test_pixels_are_those_of_the_whole_file(tmp_path: Path) -> None:
    """Every way to store pixels: taking a file apart must not change how it is decoded."""
    draw = np.random.default_rng(0)
    noise = Image.fromarray(draw.integers(0, 256, (40, 56, 3), dtype=np.uint8))
    ways: list[tuple[str, str, dict]] = [
        ("JPEG", mode, {"progressive": progressive}) for mode in ("L", "RGB", "CMYK") for progressive in (False, True)
    ]
    ways += [("JPEG", "RGB", {"icc_profile": bytes(200_000), "comment": b"x", "dpi": (9, 9), "keep_rgb": True})]
    ways += [("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")] + [
        ("WEBP", "RGBA", {"icc_profile": b"x"})
    ]
    for compression in (None, "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg"):
        ways += [
            ("TIFF", mode, {"compression": compression, "dpi": (300, 300), "software": "x"})
            for mode in ("L", "RGB", "CMYK")
        ]
    ways += [
        ("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),
        ("TIFF", "P", {}),
        ("TIFF", "1", {"compression": "group4"}),
    ]
    ways += [("TIFF", "RGB", {"big_tiff": True}), ("TIFF", "YCbCr", {})]
    for number, (kind, mode, options) in enumerate(ways):
        path = tmp_path / str(number)
        path.write_bytes(encoded(noise.convert(mode), kind, **options))
        with Image.open(path) as image:
            expected = image.convert("RGBA")
        assert np.array_equal(
            np.asarray(read_image(path)),
            np.asarray(Image.alpha_composite(Image.new("RGBA", noise.size, "white"), expected))[..., :3],
        ), (
            kind,
            mode,
            options,
        )


def test_a_text_bomb_is_not_unpacked(tmp_path: Path) -> None:
    data = encoded(PICTURE, "PNG")
    bomb = zlib.compress(bytes(2**27))
    (tmp_path / "bomb.png").write_bytes(data[:33] + chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb) + data[33:])
    assert read_image(tmp_path / "bomb.png").getpixel((2, 2)) == RED


ERRORS = (
    struct.error("x"),
    AttributeError("x"),
    TypeError(),
    KeyError(5),
    IndexError("x"),
    OverflowError("x"),
    ZeroDivisionError(),
    EOFError(),
    zlib.error("x"),
)


@pytest.mark.parametrize(
    "error", [*ERRORS, RuntimeError("x"), AssertionError(), NotImplementedError("x"), RecursionError("x")], ids=repr
)
@pytest.mark.parametrize("place", ["open", "load"])
def test_whatever_a_decoder_raises_names_the_file(
    place: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    PICTURE.save(path)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail) if place == "open" else monkeypatch.setattr(
        "PIL.PngImagePlugin.PngImageFile.load", fail
    )
    for read in (read_image, image_size) if place == "open" else (read_image,):
        with pytest.raises(ValueError, match=rf"x\.png: cannot be read as an image \({type(error).__name__}: "):
            read(path)
    assert "x.png: cannot be read" in str(image_or_fault(path, sha256(path)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_no_fault_of_the_file_passes(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    PICTURE.save(path)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(error):
        read_image(path)


def random_entry(draw: random.Random, order: str) -> bytes:
    """One of any tag but the orientation, of any type; numbers and offsets small, large, or anything."""
    tags = (
        256,
        270,
        271,
        282,
        283,
        296,
        305,
        306,
        315,
        513,
        700,
        33432,
        34377,
        34665,
        34675,
        34853,
        37500,
        40965,
        50341,
        draw.randrange(65536),
    )
    tag = draw.choice(tags)
    counts = (0, 1, 1, 1, 2, 4, 5, 100, 65_535, 2**31, 2**32 - 1)
    value = draw.choice((draw.randbytes(4), struct.pack(order + "L", draw.choice((0, 8, 26, 60, 2**31, 2**32 - 1)))))
    return entry(
        order, 270 if tag == 0x0112 else tag, draw.choice((*NUMBERS, 0, 2, 14, 99)), draw.choice(counts), value
    )


def fuzz_exif(seed: int, path: Path) -> None:
    """One picture with a random block, in a random place, and the orientation somewhere in it: it is read, upright."""
    draw = random.Random(seed)
    order, value, kind = draw.choice("<>"), draw.randint(1, 8), draw.choice(FORMATS)
    entries = [random_entry(draw, order) for _ in range(draw.randrange(6))]
    if kind == "TIFF":  # there some of them say where the pixels are
        entries = [
            one
            for one in entries
            if struct.unpack_from(order + "H", one)[0]
            not in (*range(254, 360), *range(512, 540), *range(32_995, 32_999))
        ]
    entries.insert(draw.randint(0, len(entries)), short(order, value))
    exif = block(
        order,
        *entries,
        after=draw.choice((b"", bytes(4), draw.randbytes(4), struct.pack(order + "L", 8))),
        tail=draw.randbytes(draw.randrange(40)),
    )
    check_upright(path, picture(kind, exif, value))


def fuzz_damage(seed: int, path: Path) -> bool:
    """One file with bytes changed, bits turned, or cut off: it is refused by name, or read, and then its size is told
    right. Returns whether it was read."""
    draw = random.Random(seed)
    kind = draw.choice((*FORMATS, "GIF", "BMP"))
    order = draw.choice("<>")
    exif = block(
        order, *(random_entry(draw, order) for _ in range(draw.randrange(3))), short(order, draw.randint(0, 9))
    )
    data = bytearray(encoded(PICTURE, kind) if kind in ("GIF", "BMP") or draw.random() < 0.3 else picture(kind, exif))
    reach = draw.choice((len(data), min(60, len(data)), min(200, len(data))))
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(reach)
        data[place] = draw.choice((draw.randrange(256), data[place] ^ 1 << draw.randrange(8), 0, 255))
    if draw.random() < 0.3:
        del data[draw.randrange(1, len(data)) :]
    path.write_bytes(data)
    faults = []
    for read in (read_image, image_size):
        try:
            found = read(path)
            faults.append(None if isinstance(found, tuple) else found.size)
        except ValueError as error:
            assert str(error).startswith(f"{path}: cannot be read as an image (")
            faults.append(str(error))
    if isinstance(faults[0], tuple):
        assert image_size(path) == faults[0]
    return isinstance(faults[0], tuple)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_random_blocks_cost_no_picture(tmp_path: Path) -> None:
    for seed in range(400):
        fuzz_exif(seed, tmp_path / "x")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_random_damage_is_refused_by_name_or_read(tmp_path: Path) -> None:
    read = sum(fuzz_damage(seed, tmp_path / "x") for seed in range(600))
    assert 100 < read < 500
