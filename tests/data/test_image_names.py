"""Which file a name of a list means, where list and copy do not quite agree: what fits one way only is taken and told,
all else is refused."""

import os
from pathlib import Path

import pytest

from fineface_train.data.formats.image_names import Located, find_images, locate, tell_unnamed

KEY = "data.x.images"


def copy(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def found(located: Located) -> list[str | None]:
    """What each file was written as (`copy`), None where there is none."""
    return [path.read_text() if there else None for path, there in zip(located.paths, located.there, strict=True)]


@pytest.mark.parametrize(
    ("files", "names", "expected"),
    [
        (["1/a.jpg", "2/b.jpg"], ["1/a.jpg", "2/b.jpg"], ["1/a.jpg", "2/b.jpg"]),
        (["1/a.JPG", "2/B.jpg"], ["1/a.jpg", "2/b.jpg"], ["1/a.JPG", "2/B.jpg"]),
        (["1/a.jpeg", "2/b.PNG"], ["1/a.jpg", "2/b.jpg"], ["1/a.jpeg", "2/b.PNG"]),
        (["1/a.jpg", "1/a.JPG"], ["1/a.JPG", "1/a.jpg"], ["1/a.JPG", "1/a.jpg"]),
        (["1/a.JPG", "1/a.png"], ["1/a.jpg"], ["1/a.JPG"]),
        (["Faces/1/a.JPG"], ["faces/1/a.jpg"], ["Faces/1/a.JPG"]),
        (["x/y/z/w/1/a.jpg", "x/y/z/w/2/b.jpg"], ["1/a.jpg", "2/b.jpg"], ["x/y/z/w/1/a.jpg", "x/y/z/w/2/b.jpg"]),
        (["x/y/z/w/1/a.PNG"], ["1/a.jpg"], ["x/y/z/w/1/a.PNG"]),
        (["1/a.jpg", "2/b.jpg"], ["a.jpg", "b.jpg"], ["1/a.jpg", "2/b.jpg"]),
        (["1/a.JPG", "2/b.png"], ["a.jpg", "b"], ["1/a.JPG", "2/b.png"]),
        (["a.jpg", "1/b.jpg"], ["a.jpg", "b.jpg"], ["a.jpg", "1/b.jpg"]),
        (["a.jpg", "b.jpg"], ["1/a.jpg", "2/b.jpg"], ["a.jpg", "b.jpg"]),
        (["1/a.jpg", "2/b.jpg"], ["/home/x/1/a.jpg", "/home/x/2/b.jpg"], ["1/a.jpg", "2/b.jpg"]),
        (["1/a.jpg", "1/b.jpg"], ["C:/x/1/a.jpg", "C:/x/1/b.jpg"], ["1/a.jpg", "1/b.jpg"]),
        (["1/a.JPG"], ["x/y/1/a.jpg"], ["1/a.JPG"]),
        (["1/a.jpg", "2/b.jpg"], ["//server/x/a.jpg", "//server/x/b.jpg"], ["1/a.jpg", "2/b.jpg"]),
        # never a file that another name means, nor one of another folder
        (["1/a.jpg"], ["1/a.jpg", "1/a.png"], ["1/a.jpg", None]),
        (["1/a.jpeg"], ["1/a.jpg", "1/a.png"], [None, None]),
        (["1/a.jpg", "3/b.jpg"], ["1/a.jpg", "2/b.jpg"], ["1/a.jpg", None]),
        (["3/a.jpg", "3/b.jpg"], ["1/a.jpg", "2/b.jpg"], [None, None]),
        (["a.jpg"], ["1/a.jpg", "2/a.jpg"], [None, None]),
        (["1/a.jpg"], ["/home/x/1/a.jpg", "/mnt/1/b.jpg"], [None, None]),
        (["._a.jpg", ".thumbs/a.jpg"], ["1/a.jpg"], [None]),
    ],
)
def test_what_fits_one_way_only(tmp_path: Path, files: list[str], names: list[str], expected: list[str | None]) -> None:
    assert found(find_images(copy(tmp_path / "images", *files), names, KEY)) == expected


@pytest.mark.parametrize(
    ("files", "names", "message"),
    [
        (
            ["1/a.jpg", "2/a.jpg", "2/b.jpg"],
            ["a.jpg", "b.jpg"],
            r"1 of 2 names .* such as 'a\.jpg' \(1/a\.jpg, 2/a\.jpg\); give the list names with their folders",
        ),
        (
            ["1/a.jpeg", "1/a.png", "1/b.jpg"],
            ["1/a.jpg", "1/b.jpg"],
            r"'1/a\.jpg' \(1/a\.jpeg, 1/a\.png\)|'1/a\.jpg' \(a\.jpeg",
        ),
        (["x/1/a.jpg", "y/1/a.jpg"], ["1/a.jpg"], r"the list's names begin in 2 folders \(.*x, .*y\)"),
        (["x/1/a.JPG", "y/z/1/a.JPG"], ["1/a.jpg"], r"the list's names begin in 2 folders \(.*x, .*z\)"),
    ],
)
def test_what_fits_several_ways_is_refused(tmp_path: Path, files: list[str], names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_images(copy(tmp_path / "images", *files), names, KEY)


def test_a_folder_too_low_a_link_and_a_loop(tmp_path: Path) -> None:
    root = copy(tmp_path / "images", "1/a.jpg", "2/b.JPG")
    assert found(find_images(root / "1", ["1/a.jpg", "2/b.jpg"], KEY)) == ["1/a.jpg", "2/b.JPG"]
    os.symlink(root, root / "2" / "again")
    os.symlink(root, tmp_path / "link")
    assert found(find_images(tmp_path / "link", ["1/a.jpg", "2/b.jpg"], KEY)) == ["1/a.jpg", "2/b.JPG"]


def test_names_stay_those_of_the_list_but_for_what_stands_before_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A row's id and split follow from its name, so that they are the same on every machine."""
    root = copy(tmp_path / "images", "1/a.JPG", "2/b.jpg", "2/c.jpg", "notes.txt")
    located = locate(root, ["/home/x/1/a.jpg", "/home/x/2/b.jpg"], KEY)
    assert (located.names, located.prefix) == (["1/a.jpg", "2/b.jpg"], "/home/x/")
    tell_unnamed(located, ["/home/x/1/a.jpg", "/home/x/2/b.jpg", "/home/x/3/d.jpg"], root, KEY, "list.csv")
    for told in (
        f"{KEY}={root}: all names of the list begin with '/home/x/', which is taken off",
        f"1 of 2 images are found in another folder than the list says, or in another case or suffix: '1/a.jpg' is "
        f"{root}/1/a.JPG",
        f"{KEY}={root}: 1 images are in no row of list.csv, and not used, such as 2/c.jpg",
    ):
        assert told in caplog.text
