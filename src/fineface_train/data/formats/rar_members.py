"""What the headers of a RAR archive say, before anything is unpacked: its volumes and files, and whether they may be
extracted."""

import dataclasses
import os
import re
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rarfile

STATE = ".extraction"
"""Folder beside the extracted files that belongs to `archives`; no member may lie in it."""
DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)
BY_HAND = "extract it by other means and give the folder"


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its path with slashes, its size in bytes, the CRC-32 or BLAKE2sp of its contents, and the
    volume it begins in."""

    name: str
    size: int
    checksum: int | bytes
    volume: str


def read_members(archive: Path) -> tuple[list[str], list[Member]]:
    """The paths of all volumes, and the files in them, in order.

    Raises ValueError where `archive` is no RAR or not its first volume, where volumes are missing or truncated, and
    where a member has a password, is a link or a device, would lie outside the folder it is extracted to, or overwrite
    another.
    """
    import rarfile  # here, so that data without archives needs no such package

    ends: dict[str, int] = {}
    closed: set[str] = set()

    def see(block: "rarfile.RarInfo") -> None:
        ends[block.volume_file] = max(ends.get(block.volume_file, 0), block.data_offset + block.add_size)
        if block.type == rarfile.RAR_BLOCK_ENDARC:
            closed.add(block.volume_file)

    with archive.open("rb"):  # an OSError that names it, where it cannot be read
        pass
    try:
        with rarfile.RarFile(str(archive), info_callback=see) as opened:
            encrypted, volumes, entries, fault = (
                opened.needs_password(),
                opened.volumelist(),
                opened.infolist(),
                opened.strerror(),
            )
    except rarfile.NotRarFile:
        raise ValueError(f"{archive}: is not a RAR archive") from None
    except rarfile.NeedFirstVolume:
        raise ValueError(
            f"{archive}: is not the archive's first volume; name that one (it ends in .part1.rar, .part01.rar, or .rar)"
        ) from None
    except (
        rarfile.Error,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        TypeError,
    ) as error:  # on headers made to confuse it, any of them
        raise ValueError(f"{archive}: is damaged ({error}); fetch it again") from error
    if encrypted:
        raise ValueError(f"{archive}: is protected by a password; {BY_HAND}")
    for volume in volumes:
        size, end = os.path.getsize(volume), ends.get(volume, 0)
        if size < end:
            raise ValueError(
                f"{volume}: is truncated: it has {size:,} bytes and should have {end:,}; fetch this volume again"
            )
        if volume not in closed:
            remedy = f"fetch this volume again (or, if it was made before RAR 3, {BY_HAND})"
            raise ValueError(
                f"{volume}: is damaged or truncated: there is no end mark after its {end:,} bytes; {remedy}"
            )
    gap = re.fullmatch(r"Cannot open next volume: (.*)", fault or "")
    if gap:
        raise ValueError(
            f"{archive}: volumes are missing: {', '.join(_missing_volumes(Path(gap[1])))}; put them beside the others"
        )
    if fault:
        raise ValueError(f"{archive}: is damaged ({fault}); fetch this volume again")
    for entry in entries:
        _check_path(archive, entry.filename.rstrip("/"))
    members = [_member(archive, entry) for entry in entries if not entry.is_dir()]
    _check_collisions(archive, [member.name for member in members])
    return volumes, members


def _missing_volumes(gap: Path) -> list[str]:
    """The volumes from `gap` on that are missing, as far as the files beside it tell."""
    match = re.fullmatch(r"(.*\D)(\d+)(\.rar)?", gap.name, re.IGNORECASE)
    if match is None:
        return [gap.name]
    before, first, after = match[1], match[2], match[3] or ""
    there = [re.fullmatch(rf"{re.escape(before)}(\d+){re.escape(after)}", name) for name in os.listdir(gap.parent)]
    numbers = {int(one[1]) for one in there if one}
    last = max([*numbers, int(first)])
    return [f"{before}{number:0{len(first)}}{after}" for number in range(int(first), last + 1) if number not in numbers]


def _check_path(archive: Path, name: str) -> None:
    parts = name.split("/")
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        fault = "is absolute"
    elif ".." in parts:
        fault = "leads out of the folder"
    elif "\\" in name or any(ord(letter) < 32 for letter in name):
        fault = "has a backslash or a control character"
    elif any(part in ("", ".") for part in parts) or parts[0] == STATE:
        fault = "has a part that no file may have"
    elif any(DEVICES.fullmatch(part) for part in parts):
        fault = "is the name of a device"
    else:
        return
    raise ValueError(f"{archive}: member {name!r}: the path {fault}; nothing was extracted")


def _member(archive: Path, entry: "rarfile.RarInfo") -> Member:
    import rarfile

    where = f"{archive}: member {entry.filename!r}"
    if entry.file_redir is not None:
        raise ValueError(f"{where}: is a link to {entry.file_redir[2]!r}, and only files are extracted; {BY_HAND}")
    kind = stat.S_IFMT(entry.mode or 0) if entry.host_os == rarfile.RAR_OS_UNIX else 0
    if kind not in (0, stat.S_IFREG):
        raise ValueError(
            f"{where}: is a {'link' if kind == stat.S_IFLNK else 'device'}, and only files are extracted; {BY_HAND}"
        )
    checksum = entry.blake2sp_hash if entry.CRC is None else entry.CRC
    if checksum is None:
        raise ValueError(f"{where}: has no checksum; {BY_HAND}")
    return Member(entry.filename, entry.file_size, checksum, str(entry.volume_file))


def _check_collisions(archive: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{archive}: member {twice[0]!r}: {len(twice)} {'name occurs' if len(twice) == 1 else 'names occur'} "
            f"twice; nothing was extracted"
        )
    folders = {name[: slash.start()] for name in names for slash in re.finditer("/", name)}
    both = folders.intersection(names)
    if both:
        raise ValueError(f"{archive}: member {min(both)!r}: is a file and a folder; nothing was extracted")
