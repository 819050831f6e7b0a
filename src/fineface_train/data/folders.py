"""What lies in a folder that somebody sent, without what systems leave behind."""

from pathlib import Path


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
