"""Files of generated pictures: names that can be read, nothing overwritten, and in each what made it.

    python -c 'from PIL import Image; print(Image.open("PICTURE.png").info)'

shows it; `command` in it is the command line that makes the picture again.
"""

import contextlib
import itertools
import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fineface_train.files import replacing

Facts = dict[str, str]
NAME_BYTES = 60
"""Bytes of each part of a file's name; file systems take 255 in all."""
IN_NAMES = (
    "guidance",
    "au_guidance",
    "negative",
    "steps",
    "scale",
    "calibrated",
    "bundle_sha256",
    "base",
    "columns",
    "frames",
)
"""What a name tells where a picture differs in it from the one that has the plain name."""
INCIDENTAL = ("command", "bundle")
"""What may differ between two pictures that were made in the same way: how they were asked for, and where the same
bundle lay."""
FRAME_MS, END_MS = 80, 500
"""How long an animation shows a picture, and its first and last."""


def slug(text: str, limit: int = NAME_BYTES) -> str:
    """`text` as part of a file's name, of at most so many bytes; what is cut off is whole letters, with their marks."""
    marked = unicodedata.normalize("NFC", text)
    kept = "".join(
        letter if letter.isalnum() or letter in "=.-" or unicodedata.category(letter)[0] == "M" else "_"
        for letter in marked
    )
    end = len(kept.encode()[:limit].decode(errors="ignore"))
    while 0 < end < len(kept) and unicodedata.category(kept[end])[0] == "M":
        end -= 1
    return kept[:end].strip("_.")


@contextlib.contextmanager
def new_picture(file: Path | None, folder: Path, stem: str, facts: Facts, *, also: str | None = None) -> Iterator[Path]:
    """A name that no file has (nor the same with the ending `also`): `file`, else the plain one, one with the settings
    that differ, or a numbered one.

    An empty file takes it at once, so that no other process takes it too; it goes if no picture comes. Raises
    ValueError where `file` is there.
    """
    path = next((path for path in ([file] if file else _places(folder, stem, facts)) if _take(path, also)), None)
    if path is None:
        raise ValueError(
            f"{file} exists already; nothing is overwritten: choose another out=NAME.png, or a folder, or remove it"
        )
    try:
        yield path
    finally:
        if path.stat().st_size == 0:
            path.unlink()


def _take(path: Path, also: str | None) -> bool:
    if also and path.with_suffix(also).exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def made_already(folder: Path, stem: str, facts: Facts) -> Path | None:
    """The picture that was made in just this way, if it is there."""
    for path in _places(folder, stem, facts):
        if not path.exists():
            return None
        if _ways(read_facts(path)) == _ways(facts):
            return path
    return None


def _places(folder: Path, stem: str, facts: Facts) -> "itertools.chain[Path]":
    plain = folder / f"{stem}.png"
    known = read_facts(plain) if plain.exists() else {}
    differing = [
        f"{key.removesuffix('_sha256')}={facts.get(key, 'none')[:12]}"
        for key in IN_NAMES
        if known.get(key) != facts.get(key)
    ]
    named = f"{stem}_{slug('_'.join(differing), 2 * NAME_BYTES)}" if plain.exists() and differing else stem
    first = [plain, *([folder / f"{named}.png"] if named != stem else [])]
    return itertools.chain(first, (folder / f"{named}_{number}.png" for number in itertools.count(2)))


def _ways(facts: Facts) -> Facts:
    return {key: value for key, value in facts.items() if key not in INCIDENTAL}


def read_facts(path: Path) -> Facts:
    """What a PNG says of how it was made; nothing where it is another file."""
    with contextlib.suppress(OSError, ValueError), Image.open(path) as image:
        return {str(key): str(value) for key, value in image.info.items() if isinstance(value, str)}
    return {}


def save_png(image: Image.Image, path: Path, facts: Facts) -> None:
    info = PngInfo()
    for key, value in facts.items():
        info.add_itxt(key, value)
    with replacing(path) as partial:
        image.save(partial, format="PNG", pnginfo=info)


def save_animation(frames: Sequence[Image.Image], path: Path, facts: Facts) -> None:
    """A GIF that goes from the first frame to the last and back, without end; what made it is its comment."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    shown = [END_MS if place in (0, len(frames) - 1) else FRAME_MS for place in range(len(there_and_back))]
    about = json.dumps(facts).encode()
    with replacing(path) as partial:
        there_and_back[0].save(
            partial,
            format="GIF",
            save_all=True,
            append_images=there_and_back[1:],
            duration=shown,
            loop=0,
            comment=about,
        )
