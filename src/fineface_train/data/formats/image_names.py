"""Which image file each name of a list means, also where list and copy do not quite agree: what fits one way only is
taken and told, all else is refused.

Lists and copies come apart in few ways: another machine's folders stand before the names; the copy lies some folders
deeper, or has folders where the list has none; letters have another case, or files another suffix. A name is never
given to a file that another name means.
"""

import collections
import dataclasses
import functools
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fineface_train.data.formats.folders import children, is_litter

logger = logging.getLogger(__name__)
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
SAMPLED, DEEPEST = 20, 2
"""Names that tell where images lie, and how many folders below the one that is given are looked into before all are."""
SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Located:
    """The images of a list's names, in their order."""

    names: list[str]
    """As in the list, without what other machine's folders stand before all of them (`prefix`)."""
    paths: list[Path]
    """Where there is no image: where it would be."""
    there: np.ndarray
    base: Path
    """The folder that the names begin in."""
    prefix: str = ""


def locate(root: Path, names: Sequence[str], key: str) -> Located:
    """`find_images`, and what was taken otherwise than it stands in the list is told."""
    located = find_images(root, names, key)
    tell(located, root, key)
    return located


def find_images(root: Path, names: Sequence[str], key: str) -> Located:
    """Where the images of `names` are, below `root` or in the folder that it lies in. Names are written with / and
    without ./ or ../.

    Raises ValueError, naming `key`, where names fit more than one folder or file.
    """
    tree = functools.cache(Spelled)  # walked once, and only if need be
    for prefix, rest in [("", list(names)), *_shorter(names)]:
        located = _placed(root, rest, key, prefix, tree)
        if located is not None:
            return located
    flat = [name.rpartition("/")[2] for name in names]
    if len({_spelling(name) for name in flat}) == len(flat) and tree(root).is_flat:
        located = _placed(root, flat, key, "", tree)
        if located is not None:
            return dataclasses.replace(located, names=list(names))
    return Located(list(names), [root / name for name in names], np.zeros(len(names), dtype=bool), root)


def is_absolute(name: str) -> bool:
    """Whether it starts at a machine's root, on Windows too."""
    return name.startswith("/") or re.match("[A-Za-z]:", name) is not None


def _placed(root: Path, names: list[str], key: str, prefix: str, tree: "Callable[[Path], Spelled]") -> Located | None:
    """The images of these names; None where none is found."""
    if any(map(is_absolute, names)):
        return None
    bare = not any("/" in name for name in names)
    bases = [] if prefix else _bases(root, names)
    if len(bases) == 1:
        paths = [image_path(bases[0], name) for name in names]
        if all(map(is_image, paths)):
            return Located(names, paths, np.ones(len(paths), dtype=bool), bases[0], prefix)
    if not bases:
        here = any(is_image(image_path(root, name)) for name in names)
        bases = [root] if here else tree(root).bases(names)
    if not bases:
        return None
    if bare and root.parent not in bases:
        return tree(root).located(root, names, prefix, key, anywhere=True)
    if len(bases) > 1:
        raise ValueError(_several(root, bases, key))
    return tree(bases[0]).located(bases[0], names, prefix, key, anywhere=bare)


def _several(root: Path, bases: list[Path], key: str) -> str:
    return (
        f"{key}={root}: the list's names begin in {len(bases)} folders ({', '.join(map(str, bases[:SHOWN]))}); set "
        f"{key} to the one "
        "that is meant or, if they are parts of one copy, put what they hold into one folder"
    )


def _shorter(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """What all names have before them, a folder more each time, and the names without it."""
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]
    same = next(
        (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
        min(len(first), len(last)),
    )
    for count in range(1, same + 1):
        prefix = "/".join(first[:count]) + "/"
        rest = [name.removeprefix(prefix) for name in names]
        if not any(map(is_absolute, rest)):
            yield prefix, rest


def _bases(root: Path, names: Sequence[str]) -> list[Path]:
    """The folders that names of a sample begin in, exactly so written: `root`, the one that it lies in, or those of one
    level below it."""
    sample = names[:: max(1, len(names) // SAMPLED)]
    level = [root]
    for depth in range(DEEPEST + 1):
        fitting = [folder for folder in level if any(is_image(image_path(folder, name)) for name in sample)]
        if fitting:
            return fitting
        if depth == 0 and any(is_image(image_path(root.parent, name)) for name in sample):
            return [root.parent]
        level = [path for folder in level for path in children(folder) if path.is_dir()]
    return []


def image_path(folder: Path, name: str) -> Path:
    """The image of this name, also where the file's name has its accents in the other of Unicode's two forms, as copies
    from a Mac have."""
    path = folder / name
    if not name.isascii() and not is_image(path):
        others = (folder / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
        return next((other for other in others if is_image(other)), path)
    return path


def is_image(path: Path) -> bool:
    """Whether a file lies there; none can under a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def image_files(root: Path) -> list[str]:
    """Names below `root`, with /, of the files that are images by their suffix."""
    found: list[str] = []
    seen = set()
    for folder, inside, files in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            inside.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inside[:] = sorted(name for name in inside if not is_litter(name))
        start = "" if Path(folder) == root else f"{Path(folder).relative_to(root).as_posix()}/"
        found += [start + name for name in sorted(files) if name.lower().endswith(SUFFIXES) and not is_litter(name)]
    return found


def _spelling(name: str) -> str:
    """A name without what copies change: case, form of accents, an image's suffix."""
    name = unicodedata.normalize("NFC", name).casefold()
    start, dot, _ = name.rpartition(".")
    return start if dot and name.endswith(SUFFIXES) else name


class Spelled:
    """The image files below a folder, by how their names are spelled."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_stem: dict[str, list[str]] = collections.defaultdict(list)
        files = image_files(root)
        self.is_flat = not any("/" in file for file in files)
        for file in files:
            self.by_stem[_spelling(file).rpartition("/")[2]].append(file)

    def fitting(self, name: str, *, anywhere: bool = True) -> list[str]:
        """Files whose path ends in the name (`anywhere`), or is it, closest in spelling."""
        wanted = _spelling(name)
        found = [
            file for file in self.by_stem.get(wanted.rpartition("/")[2], []) if _ends(_spelling(file), wanted, anywhere)
        ]
        for alike in (str, lambda text: unicodedata.normalize("NFC", text).casefold()):
            closest = [file for file in found if _ends(alike(file), alike(name), anywhere)]
            if closest:
                return closest
        return found

    def bases(self, names: Sequence[str]) -> list[Path]:
        """The folders that these names begin in."""
        depths = ((file, len(name.split("/"))) for name in names for file in self.fitting(name))
        return sorted({self.root.joinpath(*file.split("/")[:-depth]) for file, depth in depths})

    def located(self, base: Path, names: list[str], prefix: str, key: str, *, anywhere: bool) -> Located:
        """The images of names that begin in `base` or, `anywhere`, lie in any folder below. Raises ValueError where a
        name fits several files."""
        paths = [image_path(base, name) for name in names]
        there = np.array([is_image(path) for path in paths], dtype=bool)
        start = (
            ""
            if not base.is_relative_to(self.root) or base == self.root
            else f"{base.relative_to(self.root).as_posix()}/"
        )
        found = {int(place): self.fitting(start + names[place], anywhere=False) for place in np.flatnonzero(~there)}
        if anywhere:
            found = {place: files or self.fitting(names[place]) for place, files in found.items()}
        several = [place for place, files in found.items() if len(files) > 1]
        if several:
            place = several[0]
            shown = ", ".join(found[place][:SHOWN])
            remedy = "give the list names with their folders, or" if anywhere else "remove what is not meant, or"
            raise ValueError(
                f"{key}={self.root}: {len(several)} of {len(names)} names of the list fit several files, such as "
                f"{names[place]!r} ({shown}); {remedy} "
                f"set {key} to the folder that is meant"
            )
        taken = collections.Counter(
            [str(path) for path in paths] + [str(self.root / files[0]) for files in found.values() if files]
        )
        for place, files in found.items():
            if files and taken[str(self.root / files[0])] == 1 and is_image(self.root / files[0]):
                paths[place], there[place] = self.root / files[0], True
        return Located(names, paths, there, base, prefix)


def _ends(text: str, wanted: str, anywhere: bool) -> bool:
    return text == wanted or (anywhere and text.endswith(f"/{wanted}"))


def tell(located: Located, root: Path, key: str) -> None:
    """Tells what of the names was taken otherwise than it stands in the list."""
    if located.prefix:
        logger.warning("%s=%s: all names of the list begin with %r, which is taken off", key, root, located.prefix)
    other = [
        (name, path)
        for name, path, there in zip(located.names, located.paths, located.there, strict=True)
        if there and unicodedata.normalize("NFC", str(path)) != unicodedata.normalize("NFC", str(located.base / name))
    ]
    if other:
        (name, path), count = other[0], len(other)
        how = "in another folder than the list says, or in another case or suffix"
        logger.warning(
            "%s=%s: %d of %d images are found %s: %r is %s", key, root, count, len(located.names), how, name, path
        )


def tell_unnamed(located: Located, names: Sequence[str], root: Path, key: str, label: str) -> None:
    """Tells how many images below `root` no name of the list means.

    Args:
        names: all of the list's, also of rows that are not used.
        label: the list, for people.
    """
    used = {_spelling(str(path)) for path in located.paths} | {
        _spelling(str(located.base / name.removeprefix(located.prefix))) for name in names
    }
    others = [file for file in image_files(root) if _spelling(str(root / file)) not in used]
    if others:
        shown = ", ".join(others[:SHOWN])
        logger.warning(
            "%s=%s: %d images are in no row of %s, and not used, such as %s", key, root, len(others), label, shown
        )
