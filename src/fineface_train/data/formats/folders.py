"""What lies in a folder that somebody sent, without what systems leave behind; and where something lies that is not
where it should be."""

import contextlib
from pathlib import Path

PACKED = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz")
ABOVE, BELOW, MOST_FOLDERS = 2, 2, 500
"""Folders above and levels below one that are searched for what is not in it; and how many in all."""


def is_litter(name: str) -> bool:
    """Whether a system left it behind: .DS_Store, ._x, __MACOSX."""
    return name.startswith((".", "__"))


def children(folder: Path) -> list[Path]:
    """Sorted, without litter."""
    return sorted(path for path in folder.iterdir() if not is_litter(path.name))


def listing(folder: Path, shown: int = 8) -> str:
    """The first names in `folder`, for people."""
    names = [path.name for path in children(folder)]
    return (", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")) or "nothing"


def below(folder: Path) -> list[Path]:
    """`folder` and those in it, the nearest first."""
    found = [folder]
    level = [folder]
    for _ in range(BELOW):
        level = [path for one in level for path in _children(one) if path.is_dir()][: MOST_FOLDERS - len(found)]
        found += level
    return found


def _children(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # a folder of somebody else's
        return children(folder)
    return []


def packed(folder: Path) -> list[Path]:
    """Archives that lie in `folder`, or in a folder in it."""
    folders = [folder, *(path for path in _children(folder) if path.is_dir())][:MOST_FOLDERS]
    return [path for one in folders for path in _children(one) if path.suffix.lower() in PACKED and path.is_file()]


def unpacking(archive: Path) -> str:
    """The command that unpacks it where it lies."""
    name, folder = archive.name.lower(), archive.parent
    if name.endswith(".zip"):
        return f"unzip '{archive}' -d '{folder}'"
    if any(part in name for part in (".tar", ".tgz")):
        return f"tar -xf '{archive}' -C '{folder}'"
    if name.endswith((".gz", ".bz2", ".xz")):
        return f"{ {'gz': 'gunzip', 'bz2': 'bunzip2', 'xz': 'unxz'}[name.rpartition('.')[2]] } -k '{archive}'"
    return f"unar -o '{folder}' '{archive}'"


def still_packed(folder: Path, wanted: str = "") -> str:
    """What is to be unpacked in `folder`, in words that begin with a blank; archives named as what is `wanted` alone,
    if there are any. "" for none."""
    found = packed(folder)
    stems = tuple(part.split(".")[0].casefold() for part in Path(wanted).parts)
    found = [path for path in found if stems and path.name.casefold().startswith(stems)] or found
    if not found:
        return ""
    more = f" (and {len(found) - 1} more archives)" if len(found) > 1 else ""
    return f" {found[0]} is still packed{more}: unpack it, such as by `{unpacking(found[0])}`."


def better_root(root: Path, wanted: str) -> Path | None:
    """The folder above `root` or below it that has `wanted` (a path) in it, where there is one and no other as near."""
    for group in ([parent for parent in root.parents[:ABOVE] if parent != Path(parent.anchor)], below(root)[1:]):
        found = [folder for folder in group if (folder / wanted).exists()]
        if found:
            nearest = [folder for folder in found if len(folder.parts) == len(found[0].parts)]
            return nearest[0] if len(nearest) == 1 else None
    return None


def elsewhere(root: Path, wanted: str, *, folder: bool) -> Path | None:
    """The only file (or `folder`) in `root` or below that is named as `wanted`, whatever the case of its letters."""
    name = Path(wanted).name.casefold()
    found = [
        path
        for one in below(root)
        for path in _children(one)
        if path.name.casefold() == name and path.is_dir() == folder
    ]
    return found[0] if len(found) == 1 else None
