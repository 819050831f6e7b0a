"""A checkout and its environment on other machines: line ends that git converts, pip's settings that send packages elsewhere."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fineface_train.files import SEAL, damage

REPOSITORY = Path(__file__).parents[1]


def git(*arguments: str, where: Path = REPOSITORY) -> bytes:
    return subprocess.run(["git", "-C", where, *arguments], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a git whose user lets it convert line ends to Windows's makes it."""
    if not shutil.which("git") or not (REPOSITORY / ".git").exists():
        pytest.skip("this is no git checkout: install git and clone the repository")
    folder = tmp_path_factory.mktemp("clone") / "fineface"
    git("clone", "--quiet", "--shared", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", str(REPOSITORY), str(folder), where=folder.parent)
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


ELSEWHERE = {"PIP_USER": "1", "PIP_TARGET": "/nowhere", "PIP_PREFIX": "/nowhere", "PIP_ROOT": "/nowhere", "PIP_REQUIRE_VIRTUALENV": "1", "PIP_DRY_RUN": "1"}
ELSEWHERE |= {"PIP_NO_DEPS": "1", "PIP_CONSTRAINT": "/nowhere", "PIP_NO_BINARY": ":all:", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}
SOURCES = {"PIP_INDEX_URL": "https://mirror.example/simple", "PIP_EXTRA_INDEX_URL": "https://other.example", "PIP_CERT": "/a.pem", "PIP_PROXY": "http://proxy"}
SOURCES |= {"PIP_FIND_LINKS": "/wheels", "PIP_NO_INDEX": "1", "PIP_TRUSTED_HOST": "mirror.example", "PIP_DEFAULT_TIMEOUT": "60", "PIP_CACHE_DIR": "/cache"}


def test_setup_lets_no_setting_send_packages_elsewhere(tmp_path: Path) -> None:
    """With a stand-in for the environment's Python, which writes down how it is called."""
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n{ echo "$@"; env | grep -E "^(PIP_|PYTHON(PATH|HOME))"; } >>"$0.calls"\n')
    python.chmod(0o755)
    subprocess.run(["bash", tmp_path / "scripts" / "setup.sh"], env=os.environ | ELSEWHERE | SOURCES, check=True, capture_output=True)
    called = (tmp_path / ".venv" / "bin" / "python.calls").read_text().split("-m pip install", 1)[1].splitlines()
    settings = dict(line.split("=", 1) for line in called if line.startswith(("PIP_", "PYTHON")))
    assert settings.items() >= SOURCES.items()
    assert settings["PIP_USER"] == settings["PIP_REQUIRE_VIRTUALENV"] == "0"
    assert not ELSEWHERE.keys() & (settings.keys() - {"PIP_USER", "PIP_REQUIRE_VIRTUALENV"})
    assert (tmp_path / ".venv" / ".installed").is_file()
