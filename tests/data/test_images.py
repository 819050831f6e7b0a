"""Image files as strangers make them: each becomes one upright RGB picture, or is refused by name."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from fineface_train.data.formats.images import MAX_BYTES, MAX_PIXELS, image_size, read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
PICTURE = Image.new("RGB", (24, 16), BLUE)
PICTURE.paste(RED, (0, 0, 8, 8))
"""Blue, and red at its top left."""


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_alpha(mode: str) -> Image.Image:
    """Red at the top left; the rest is black, or blue, and cannot be seen."""
    image = PICTURE.convert("RGBA")
    image.putalpha(PICTURE.getchannel("R"))
    return image.convert(mode)


def palette(transparent: bool) -> bytes:
    image = PICTURE.quantize(2)
    return encoded(image, "PNG", **({"transparency": image.getpixel((20, 12))} if transparent else {}))


def grey16(kind: str) -> bytes:
    return encoded(Image.fromarray(np.where(np.asarray(PICTURE)[..., 0] > 0, 0xC0FF, 0x4000).astype(np.uint16)), kind)


def rotated(kind: str, orientation: int = 6) -> bytes:
    """As a camera that was turned stores it: upright only as its EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = PICTURE.transpose(
        {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    )
    return encoded(
        stored,
        kind,
        exif=exif,
        **({"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}),
    )


def frames(kind: str) -> bytes:
    return encoded(
        PICTURE,
        kind,
        save_all=True,
        append_images=[Image.new("RGB", PICTURE.size, GREEN)],
        **({"lossless": True} if kind == "WEBP" else {}),
    )


def with_profile() -> bytes:
    return encoded(PICTURE, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *before: bytes) -> bytes:
    """Some hundred bytes, however large it says it is."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes(min(height, 9000) * (1 + -(-width // 8)))) if width < 10_000 else b""
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "make", "top_left", "bottom_right"),
    [
        ("plain.png", lambda: encoded(PICTURE, "PNG"), RED, BLUE),
        ("plain.bmp", lambda: encoded(PICTURE, "BMP"), RED, BLUE),
        ("plain.jpg", lambda: encoded(PICTURE, "JPEG", quality=100, subsampling=0), RED, BLUE),
        ("wrong_extension.jpg", lambda: encoded(PICTURE, "PNG"), RED, BLUE),
        ("no_extension", lambda: encoded(PICTURE, "TIFF"), RED, BLUE),
        ("cmyk.jpg", lambda: encoded(PICTURE.convert("CMYK"), "JPEG", quality=100), RED, BLUE),
        ("cmyk.tif", lambda: encoded(PICTURE.convert("CMYK"), "TIFF"), RED, BLUE),
        ("grey.png", lambda: encoded(PICTURE.convert("L"), "PNG"), (76,) * 3, (29,) * 3),
        ("grey.jpg", lambda: encoded(PICTURE.convert("L"), "JPEG", quality=100), (76,) * 3, (29,) * 3),
        ("bits.png", lambda: encoded(PICTURE.getchannel("R").convert("1"), "PNG"), WHITE, (0, 0, 0)),
        ("grey_alpha.png", lambda: encoded(with_alpha("LA"), "PNG"), (76,) * 3, WHITE),
        ("grey16.png", lambda: grey16("PNG"), (0xC0,) * 3, (0x40,) * 3),
        ("grey16.tif", lambda: grey16("TIFF"), (0xC0,) * 3, (0x40,) * 3),
        ("palette.png", lambda: palette(transparent=False), RED, BLUE),
        ("palette_transparent.png", lambda: palette(transparent=True), RED, WHITE),
        ("rgba.png", lambda: encoded(with_alpha("RGBA"), "PNG"), RED, WHITE),
        ("rgba.webp", lambda: encoded(with_alpha("RGBA"), "WEBP", lossless=True), RED, WHITE),
        ("colour_key.png", lambda: encoded(PICTURE, "PNG", transparency=BLUE), RED, WHITE),
        ("animated.gif", lambda: frames("GIF"), RED, BLUE),
        ("animated.png", lambda: frames("PNG"), RED, BLUE),
        ("animated.webp", lambda: frames("WEBP"), RED, BLUE),
        ("pages.tif", lambda: frames("TIFF"), RED, BLUE),
        ("upside_down.jpg", lambda: rotated("JPEG", 3), RED, BLUE),
        ("rotated.jpg", lambda: rotated("JPEG"), RED, BLUE),
        ("rotated_back.jpg", lambda: rotated("JPEG", 8), RED, BLUE),
        ("rotated.png", lambda: rotated("PNG"), RED, BLUE),
        ("rotated.tif", lambda: rotated("TIFF"), RED, BLUE),
        ("rotated.webp", lambda: rotated("WEBP"), RED, BLUE),
        (
            "no_orientation.jpg",
            lambda: encoded(PICTURE, "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
            RED,
            BLUE,
        ),
        ("profile.png", with_profile, RED, BLUE),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_every_kind_of_image_becomes_upright_rgb(
    name: str, make: Callable[[], bytes], top_left: tuple[int, ...], bottom_right: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    image = read_image(path)
    assert image.mode == "RGB"
    assert image.size == image_size(path) == PICTURE.size
    for place, colour in (((2, 2), top_left), ((20, 12), bottom_right)):
        assert np.abs(np.subtract(image.getpixel(place), colour)).max() <= 6, (
            place,
            image.getpixel(place),
        )  # JPEG's rounding


def test_plain_images_are_what_pillow_decodes(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG"):
        path = tmp_path / kind
        path.write_bytes(encoded(noise, kind))
        assert read_image(path).tobytes() == Image.open(path).convert("RGB").tobytes()


def test_all_16_bits_are_scaled(tmp_path: Path) -> None:
    levels = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    (tmp_path / "ramp.png").write_bytes(encoded(Image.fromarray(levels), "PNG"))
    assert np.array_equal(np.asarray(read_image(tmp_path / "ramp.png"))[..., 1], levels // 256)


@pytest.mark.filterwarnings(
    "ignore::PIL.Image.DecompressionBombWarning"
)  # pytest takes no notice of the filter in images.py
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("zero.png", b"", "it is empty"),
        ("text.jpg", b"<html>404 not found</html>", "none of JPEG, PNG, WEBP, GIF, BMP, TIFF"),
        ("damaged_start.png", b"\0" + encoded(PICTURE, "PNG")[1:], "it is damaged at its start"),
        ("truncated.jpg", encoded(PICTURE, "JPEG", quality=100)[:-60], "truncated"),
        ("truncated.png", encoded(PICTURE, "PNG")[:-30], "truncated"),
        ("truncated.webp", encoded(PICTURE, "WEBP")[:-10], ""),
        ("truncated.bmp", encoded(PICTURE, "BMP")[:-10], "truncated"),
        ("corrupt.png", encoded(PICTURE, "PNG").replace(b"IDAT", b"IDAT\0\0\0"), ""),
        ("grey32.tif", encoded(Image.new("I", (9, 9), 70_000), "TIFF"), "numbers without a range"),
        ("float.tif", encoded(Image.new("F", (9, 9), 0.5), "TIFF"), "numbers without a range"),
        ("drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of JPEG"),
        ("bomb.png", png(MAX_PIXELS // 8192 + 1, 8192), r"8193 x 8192 pixels; at most 67,108,864 are read"),
        ("warned_bomb.png", png(12_000, 10_000), "12000 x 10000 pixels; at most"),
        ("huge_bomb.png", png(2**31 - 1, 2**31 - 1), "at most 67,108,864 pixels are read"),
        ("no_pixels.png", png(0, 9), ""),
    ],
)
def test_what_is_no_whole_image_is_refused_by_name(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name}: cannot be read as an image \(.*{reason}"):
        read_image(path)


def test_a_picture_at_the_limit_is_read(tmp_path: Path) -> None:
    """Its file has a few kilobytes; it is the pixels that are counted."""
    (tmp_path / "large.png").write_bytes(png(8192, 8192))
    assert image_size(tmp_path / "large.png") == (8192, 8192)
    assert read_image(tmp_path / "large.png").size == (8192, 8192)


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "endless.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for read in (read_image, image_size):
        for name, reason in (
            ("folder", "it is a folder"),
            ("loop", "Too many levels of symbolic links"),
            ("dangling", "No such file"),
            ("missing", "No such file"),
            ("pipe", "it is no file"),
            ("endless", f"it has {MAX_BYTES + 1:,} bytes"),
        ):
            with pytest.raises(ValueError, match=rf"{name}\.jpg: cannot be read as an image \({reason}"):
                read(tmp_path / f"{name}.jpg")


@pytest.mark.parametrize("mode", [0o000, 0o200])
def test_a_file_that_may_not_be_read_is_named(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    PICTURE.save(path)
    path.chmod(mode)
    user = os.geteuid()
    if user == 0:  # may read every file, until it is somebody else
        os.seteuid(65534)
    try:
        for read in (read_image, image_size):
            with pytest.raises(ValueError, match=r"secret\.png: cannot be read as an image \(Permission denied\)"):
                read(path)
    finally:
        os.seteuid(user)


def test_an_orientation_after_the_pixels_is_seen(tmp_path: Path) -> None:
    """A PNG may tell it there; the size from the head alone would be another."""
    data, exif = encoded(PICTURE.transpose(Image.Transpose.ROTATE_90), "PNG", pnginfo=PngInfo()), Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "late.png").write_bytes(data[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:])
    assert read_image(tmp_path / "late.png").size == image_size(tmp_path / "late.png") == PICTURE.size
    assert read_image(tmp_path / "late.png").getpixel((2, 2)) == RED


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_damage_anywhere_is_refused_or_read_but_never_crashes(tmp_path: Path) -> None:
    path, draw, refused = tmp_path / "x", np.random.default_rng(0), 0
    for data in (
        encoded(PICTURE, "PNG"),
        rotated("JPEG"),
        rotated("WEBP"),
        encoded(PICTURE, "GIF"),
        encoded(PICTURE, "BMP"),
        rotated("TIFF"),
    ):
        for _ in range(150):
            damaged = bytearray(data)
            for place in draw.integers(0, min(len(data), 200), 3):
                damaged[place] = draw.integers(256)
            path.write_bytes(damaged)
            try:
                size = read_image(path).size
            except ValueError as error:
                refused += 1
                assert f"{path}: cannot be read as an image" in str(error)
            else:
                assert image_size(path) == size
    assert 300 < refused < 900
