"""What is said of an image without a model, and which images look alike."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from fineface_train.data.inspection.looks import ALIKE, image_looks, lookalikes
from fineface_train.files import sha256


def scene(number: int, side: int = 200) -> Image.Image:
    """A picture with structure everywhere, another one for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def stored(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def looks_of(folder: Path, images: list[Image.Image]) -> pd.DataFrame:
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return image_looks(list(map(str, paths)), [sha256(path) for path in paths], folder / "looks")


def test_numbers_of_images(tmp_path: Path) -> None:
    board = Image.fromarray(np.kron(np.indices((8, 8)).sum(0) % 2 * 255, np.ones((4, 4))).astype(np.uint8))
    looks = looks_of(
        tmp_path,
        [
            Image.new("RGB", (40, 30)),
            Image.new("L", (50, 60), 255),
            board,
            board.resize((1600, 1600), Image.Resampling.BICUBIC),
        ],
    )
    assert looks[["width", "height"]].values.tolist() == [[40, 30], [50, 60], [32, 32], [1600, 1600]]
    assert looks["brightness"].tolist() == pytest.approx([0, 255, 127.5, 127.5], abs=0.6)
    assert looks["sharpness"].tolist()[:2] == [0, 0]
    assert looks["sharpness"][2] > 20 * looks["sharpness"][3] > 0
    assert (looks["fault"] == "").all()
    assert set(looks["hash"].str.len()) == {64}


def test_an_image_that_cannot_be_read_says_why_and_is_like_none(tmp_path: Path) -> None:
    for name, data in (("cut.png", None), ("text.png", b"no image"), ("empty.png", b"")):
        scene(0).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300] if data is None else data)
    paths = [str(tmp_path / name) for name in ("cut.png", "text.png", "empty.png")]
    looks = image_looks(paths, [sha256(Path(path)) for path in paths], tmp_path / "looks")
    assert all(path in fault for path, fault in zip(paths, looks["fault"], strict=True))
    assert (looks[["width", "height", "brightness", "sharpness"]] == 0).all(axis=None)
    assert len(lookalikes(looks, paths)) == 0


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        (lambda image: image, True),
        (lambda image: stored(image, 70), True),
        (lambda image: image.resize((100, 100), Image.Resampling.LANCZOS), True),
        (lambda image: stored(image.resize((90, 90)), 60), True),
        (lambda image: ImageOps.mirror(image), False),
        (lambda image: image.convert("L").convert("RGB"), False),
        (lambda image: image.crop((20, 20, 180, 180)), False),
        (lambda image: scene(1), False),
    ],
)
def test_what_is_the_same_image(change: object, alike: bool, tmp_path: Path) -> None:
    looks = looks_of(tmp_path, [scene(5), scene(6), change(scene(5)), scene(7)])
    assert lookalikes(looks, list("abcd")).tolist() == ([[0, 2]] if alike else [])
    assert lookalikes(looks, list("aaaa")).tolist() == []


def _hashed(hashes: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"fault": "", "hash": [row.tobytes().hex() for row in hashes], "colours": "00" * 48})


def test_all_pairs_are_found_that_comparing_each_with_each_finds() -> None:
    rng = np.random.default_rng(0)
    hashes = np.repeat(rng.integers(0, 256, (60, 32), dtype=np.uint8), 5, axis=0)
    for row in hashes:
        for bit in rng.integers(0, 256, rng.integers(0, 7)):
            row[bit // 8] ^= 1 << (bit % 8)
    order = rng.permutation(len(hashes))
    subjects = [f"s{number % 11}" for number in range(len(hashes))]
    bits = np.unpackbits(hashes[order], axis=1).astype(np.float32)
    distance = bits @ (1 - bits).T + (1 - bits) @ bits.T
    expected = {
        (a, b) for a in range(300) for b in range(a + 1, 300) if distance[a, b] <= ALIKE and subjects[a] != subjects[b]
    }
    pairs = lookalikes(_hashed(hashes[order]), subjects)
    assert set(map(tuple, pairs.tolist())) == expected
    assert (np.diff(distance[pairs[:, 0], pairs[:, 1]]) >= 0).all()
    assert 200 < len(expected) < 600


def test_many_equal_images_are_not_compared_each_with_each() -> None:
    pairs = lookalikes(_hashed(np.zeros((3000, 32), dtype=np.uint8)), [str(number) for number in range(3000)], window=4)
    assert len(np.unique(pairs)) == 3000
    assert len(pairs) <= 8 * 4 * 3000
