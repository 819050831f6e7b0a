"""Files are known by what they hold, and read again only where something happened to them."""

import os
import shutil
from pathlib import Path

import pytest

from fineface_train.data import contents
from fineface_train.data.contents import image_contents
from fineface_train.files import sha256


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    monkeypatch.setattr(contents, "sha256", counted)
    paths = [str(tmp_path / name) for name in "abc"]
    for path in paths:
        Path(path).write_text(path)
    index = tmp_path / "index.parquet"
    first = image_contents(paths, index, progress=False)
    assert first == [sha256(Path(path)) for path in paths]
    assert image_contents(paths, index, progress=False) == first
    assert sorted(read) == ["a", "b", "c"]

    # Another file of the same size and with the same dates, as `cp -p` leaves it.
    before = os.stat(paths[1])
    Path(paths[1]).write_text("x" * before.st_size)
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    second = image_contents(paths, index, progress=False)
    assert second == [first[0], sha256(Path(paths[1])), first[2]]
    assert read[3:] == ["b"]


def test_the_same_files_elsewhere_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for name in "ab":
        (tmp_path / "here" / name).write_text(name)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    found = [
        image_contents([str(tmp_path / place / name) for name in "ab"], tmp_path / f"{place}.parquet", progress=False)
        for place in ("here", "there")
    ]
    assert found[0] == found[1]


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.png: cannot be read as an image"):
        image_contents([str(tmp_path / "gone.png")], tmp_path / "index.parquet")
