"""What is found out about each image is found out once, by all processes, and survives a kill."""

import hashlib
import json
import threading
from pathlib import Path

import pytest

from fineface_train.data.crew import Crew
from fineface_train.data.per_image import per_image


def files(folder: Path, count: int) -> tuple[list[str], list[str]]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    return list(map(str, paths)), [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


class Maker:
    """Tells each image's number, and remembers what it was asked."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.fail_after = fail_after

    def __call__(self, batch: list[str]) -> list[dict[str, int]]:
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise RuntimeError("killed")
        self.asked += batch
        return [{"number": int(Path(path).stem)} for path in batch]


def test_rows_are_made_once_and_go_on_after_a_crash(tmp_path: Path) -> None:
    paths, contents = files(tmp_path, 10)
    with pytest.raises(RuntimeError, match="killed"):
        per_image(paths, contents, tmp_path / "rows", {"model": "a"}, Maker(fail_after=6), batch_size=3, title="x")
    torn = next((tmp_path / "rows").glob("rows-*.jsonl"))
    torn.write_bytes(torn.read_bytes()[:-5])  # the last row was cut by the crash
    again = Maker()
    frame = per_image(paths, contents, tmp_path / "rows", {"model": "a"}, again, batch_size=3, title="x")
    assert sorted(again.asked) == sorted(paths[5:])
    assert frame["number"].tolist() == list(range(10))
    assert frame["path"].tolist() == paths
    assert all(json.loads(line) for line in torn.read_text().splitlines())
    assert per_image(paths, contents, tmp_path / "rows", {"model": "a"}, Maker(fail_after=0), batch_size=3, title="x")[
        "number"
    ].tolist() == list(range(10))


def test_an_image_is_known_by_its_contents(tmp_path: Path) -> None:
    paths, contents = files(tmp_path, 4)
    copies = [str(Path(path).rename(Path(path).with_name(f"1{Path(path).name}"))) for path in paths]
    first = Maker()
    frame = per_image([*copies, *copies], [*contents, *contents], tmp_path / "rows", {}, first, batch_size=2, title="x")
    assert sorted(first.asked) == sorted(copies)
    assert frame["number"].tolist() == [10, 11, 12, 13] * 2
    assert per_image(["moved.png"], contents[2:3], tmp_path / "rows", {}, Maker(fail_after=0), batch_size=2, title="x")[
        "number"
    ].tolist() == [12]


def test_rows_of_something_else_are_refused(tmp_path: Path) -> None:
    paths, contents = files(tmp_path, 2)
    per_image(paths, contents, tmp_path / "rows", {"model": "a"}, Maker(), batch_size=2, title="x")
    with pytest.raises(ValueError, match="made otherwise"):
        per_image(paths, contents, tmp_path / "rows", {"model": "b"}, Maker(), batch_size=2, title="x")
    made_by = tmp_path / "rows" / "made_by.json"
    whole = made_by.read_text()
    for damaged in (whole[:5], "", "[]"):
        made_by.write_text(damaged)
        with pytest.raises(ValueError, match=r"rows/made_by\.json is damaged"):
            per_image(paths, contents, tmp_path / "rows", {"model": "a"}, Maker(), batch_size=2, title="x")
    made_by.write_text(whole)
    path = next((tmp_path / "rows").glob("rows-*.jsonl"))
    path.write_text("{not json}\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1: damaged"):
        per_image(paths, contents, tmp_path / "rows", {"model": "a"}, Maker(), batch_size=2, title="x")


def test_processes_share_the_work(tmp_path: Path) -> None:
    paths, contents = files(tmp_path, 11)
    barrier, makers, frames = threading.Barrier(3, timeout=20), [Maker() for _ in range(3)], {}

    def one(index: int) -> None:
        crew = Crew(index, 3, barrier.wait, quiet=True)
        frames[index] = per_image(
            paths, contents, tmp_path / "rows", {}, makers[index], batch_size=2, title="x", crew=crew
        )

    threads = [threading.Thread(target=one, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(maker.asked) for maker in makers] == [4, 4, 3]
    assert sorted(path for maker in makers for path in maker.asked) == sorted(paths)
    assert all(frames[index]["number"].tolist() == list(range(11)) for index in range(3))
