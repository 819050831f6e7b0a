"""On other machines: line ends that git converts, pip's settings that send packages elsewhere, text that is not UTF-8,
names that are too long."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fineface_train.cli import main
from fineface_train.files import SEAL, check_name, damage

REPOSITORY = Path(__file__).parents[1]


def git(*arguments: str, where: Path = REPOSITORY) -> bytes:
    return subprocess.run(["git", "-C", where, *arguments], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a git whose user lets it convert line ends to Windows's makes it."""
    if not shutil.which("git") or not (REPOSITORY / ".git").exists():
        pytest.skip("this is no git checkout: install git and clone the repository")
    folder = tmp_path_factory.mktemp("clone") / "fineface"
    git(
        "clone",
        "--quiet",
        "--shared",
        "-c",
        "core.autocrlf=true",
        "-c",
        "core.eol=crlf",
        str(REPOSITORY),
        str(folder),
        where=folder.parent,
    )
    return folder


def test_every_file_comes_as_it_was_written(clone: Path) -> None:
    for line in git("ls-tree", "-r", "-z", "HEAD", where=clone).split(b"\0")[:-1]:
        entry, _, name = line.partition(b"\t")
        data = (clone / os.fsdecode(name)).read_bytes()
        assert hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == entry.split()[2].decode(), name
        assert b"\0" in data or b"\r\n" not in data, name


def test_the_shipped_bundle_is_what_was_written_and_scripts_run(clone: Path) -> None:
    sealed = [path.parent for path in clone.rglob(SEAL)]
    assert clone / "data" / "toyfacs" / "bundle" in sealed
    assert [damage(folder) for folder in sealed] == [None] * len(sealed)
    for script in (clone / "train.sh", clone / ".ci" / "run", *(clone / "scripts").glob("*.sh")):
        assert subprocess.run(["bash", "-n", script], capture_output=True, check=False).returncode == 0, script


ELSEWHERE = {
    "PIP_USER": "1",
    "PIP_TARGET": "/nowhere",
    "PIP_PREFIX": "/nowhere",
    "PIP_ROOT": "/nowhere",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_DRY_RUN": "1",
}
ELSEWHERE |= {
    "PIP_NO_DEPS": "1",
    "PIP_CONSTRAINT": "/nowhere",
    "PIP_NO_BINARY": ":all:",
    "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere",
}
SOURCES = {
    "PIP_INDEX_URL": "https://mirror.example/simple",
    "PIP_EXTRA_INDEX_URL": "https://other.example",
    "PIP_CERT": "/a.pem",
    "PIP_PROXY": "http://proxy",
}
SOURCES |= {
    "PIP_FIND_LINKS": "/wheels",
    "PIP_NO_INDEX": "1",
    "PIP_TRUSTED_HOST": "mirror.example",
    "PIP_DEFAULT_TIMEOUT": "60",
    "PIP_CACHE_DIR": "/cache",
}


def test_setup_lets_no_setting_send_packages_elsewhere(tmp_path: Path) -> None:
    """With a stand-in for the environment's Python, which writes down how it is called."""
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n{ echo "$@"; env | grep -E "^(PIP_|PYTHON(PATH|HOME))"; } >>"$0.calls"\n')
    python.chmod(0o755)
    subprocess.run(
        ["bash", tmp_path / "scripts" / "setup.sh"],
        env=os.environ | ELSEWHERE | SOURCES,
        check=True,
        capture_output=True,
    )
    called = (tmp_path / ".venv" / "bin" / "python.calls").read_text().split("-m pip install", 1)[1].splitlines()
    settings = dict(line.split("=", 1) for line in called if line.startswith(("PIP_", "PYTHON")))
    assert settings.items() >= SOURCES.items()
    assert settings["PIP_USER"] == settings["PIP_REQUIRE_VIRTUALENV"] == "0"
    assert not ELSEWHERE.keys() & (settings.keys() - {"PIP_USER", "PIP_REQUIRE_VIRTUALENV"})
    assert (tmp_path / ".venv" / ".installed").is_file()


CAFE = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["generate", f"prompt=a {CAFE}", "bundle=data/toyfacs/bundle"], r"prompt='?a caf\\xe9'?"),
        (["prepare", f"data.root={CAFE}"], r"data\.root=caf\\xe9"),
        (["train", f"run.root=/tmp/{CAFE}/x"], r"run\.root=/tmp/caf\\xe9/x"),
        (["train", f"run.name={CAFE}"], r"run\.name=caf\\xe9"),
        (["train", f"{CAFE}=1"], r"caf\\udce9=1|caf\\xe9"),
        (["train", "-m", f"run.name={CAFE}", "seed=0,1"], r"run\.name=caf\\xe9"),
        (["train", f"+tracking.tags=[a,{CAFE}]"], r"tracking\.tags=\[a,caf\\xe9\]"),
    ],
)
def test_text_that_is_not_utf8_is_refused_by_its_key(
    arguments: list[str], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"fineface {arguments[0]}: .*({key}).*\n", error), error


def test_a_folder_that_is_not_utf8_is_refused_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that the environment names, and the one that the command is started in."""
    folder = tmp_path / CAFE
    folder.mkdir()
    monkeypatch.setenv("DISFA_ROOT", str(folder))
    assert main(["prepare", "data=disfa_affectnet", f"data.root={tmp_path}"]) == 2
    assert re.search(
        r"data\.disfa\.root=.*/caf\\xe9: is not UTF-8; .*rename it, or make a link to it", capsys.readouterr().err
    )
    monkeypatch.chdir(folder)
    assert main(["train", f"data.root={tmp_path}"]) == 2
    assert re.search(r"run\.root=.*/caf\\xe9/outputs: is not UTF-8", capsys.readouterr().err)


def test_what_a_terminal_cannot_show_stops_nothing(tmp_path: Path) -> None:
    """Errors and results name files and prompts; the terminal's encoding may be the machine's, and ASCII."""
    for setting in (
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        command = [sys.executable, "-m", "fineface_train", "Übung 中文"]
        done = subprocess.run(command, env=os.environ | setting, capture_output=True, check=False, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(b"fineface: no verb '")
        assert b"Traceback" not in done.stderr
    code = "import sys; from fineface_train.cli import main; main(['--help']); print('Übung 中文')"
    shown = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True
    )
    assert b"\\xdcbung \\u4e2d\\u6587" in shown.stdout


def test_names_that_are_too_long_for_a_folder_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A file system counts bytes, of which a letter may have four; and a run's hash and number come after its name."""
    for verb, key in (("train", "run.name"), ("train", "data.name"), ("report", "comparison.name")):
        assert main([verb, f"{key}={'a' * 201}"]) == 2
        assert f"{key}='{'a' * 201}': has 201 bytes, and a folder's name takes at most 200" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has 201 bytes"):
        check_name("run.name", "中" * 67)
    check_name("run.name", "中" * 66)
