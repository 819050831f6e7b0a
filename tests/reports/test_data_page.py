"""The page about a prepared data set: its numbers, what it holds in itself, odd tables."""

import base64
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AU_KEYS
from fineface_train.cli import main
from fineface_train.data.crew import Crew
from fineface_train.data.mixture import Mixture
from fineface_train.data.peaks import COLUMNS
from fineface_train.data.prepared import read_manifest
from fineface_train.data.table import SampleTable
from fineface_train.reports import data as data_report
from fineface_train.reports.data import MIXTURE, gather, write_data_report
from fineface_train.reports.data_faces import SIDE, SUBJECTS
from tests.reports.page_parser import Page

SECTIONS = {
    "counts",
    "balance",
    "intensities",
    "together",
    "subjects",
    "captions",
    "samples",
    "suspicious",
    "provenance",
}
COUNTS = {"read": 50, "dropped: under min_side": 4, "dropped: low total": 6, "kept": 40}
WEIGHTS = {"one": 3.0, "two": 1.0}


@pytest.fixture
def table(tmp_path: Path) -> SampleTable:
    """40 rows of source one with ten subjects, 20 of source two with a subject each; images of noise."""
    rng = np.random.default_rng(0)

    def part(source: str, count: int, per_subject: int) -> SampleTable:
        (tmp_path / source).mkdir()
        images = [str(tmp_path / source / f"{number}.jpg") for number in range(count)]
        for image in images:
            Image.fromarray(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(image)
        aus = np.where(rng.random((count, 12)) < 0.3, rng.uniform(0.5, 5, (count, 12)), 0)
        subjects = [f"{source}/{number // per_subject}" for number in range(count)]
        splits = ["validation" if number >= count - 8 else "train" for number in range(count)]
        ids = [f"{source}/{number}" for number in range(count)]
        captions = [f"a man number {number}" for number in range(count)]
        told = {"aus_from": f"labels of {source}", "caption_from": "somebody"}
        return SampleTable.build(
            source, ids=ids, images=images, captions=captions, aus=aus, subjects=subjects, splits=splits, **told
        )

    both = SampleTable.concatenate([part("one", 40, 4), part("two", 20, 1)])
    return SampleTable(both.frame, {"one": COUNTS, "two": {"read": 20, "kept": 20}})


def _text(page: str) -> str:
    """What a reader sees, without tags and with single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)).split())


def test_the_numbers_of_the_mixture_are_those_of_what_training_draws(table: SampleTable) -> None:
    found = gather(table, WEIGHTS, 1.0, {})
    mixture = Mixture(table, WEIGHTS, 1.0, seed=7)
    drawn = table.aus()[[mixture.row(index) for index in range(20000)]] > 0
    mixed = found["statistics"][MIXTURE]
    assert mixed.active == pytest.approx(drawn.mean(axis=0), abs=0.015)
    assert mixed.together[3][4] == pytest.approx(drawn[drawn[:, 3], 4].mean(), abs=0.03)
    assert found["shares"] == pytest.approx({"one": 0.75, "two": 0.25})
    assert found["training"].rows == 32 + 12
    assert found["steps"]["one"] == [
        ("read", 50, 1.0),
        ("dropped: under min_side", 4, 0.92),
        ("dropped: low total", 6, 0.8),
        ("kept", 40, 0.8),
    ]


def test_the_page_tells_the_numbers_of_the_table(table: SampleTable, tmp_path: Path) -> None:
    text = _text(write_data_report(tmp_path, table, WEIGHTS).read_text())
    assert "dropped: low total 6 80.0%" in text
    frame, shown = table.frame, table.aus() > 0
    training = (frame["split"] == "train").to_numpy()
    one = (frame["source"] == "one").to_numpy()
    mixed = 0.75 * shown[training & one].mean(axis=0) + 0.25 * shown[training & ~one].mean(axis=0)
    shares = [
        [
            100 * values[au]
            for values in (mixed, shown[training].mean(axis=0), shown[one].mean(axis=0), shown[~one].mean(axis=0))
        ]
        for au in range(12)
    ]
    for key, values in zip(AU_KEYS, shares, strict=True):
        row = re.search(rf"{key} [a-z ]+ ([0-9.]+)% ([0-9.]+)% ([0-9.]+)% ([0-9.]+)% [0-9.]+", text)
        assert row, key
        assert list(map(float, row.groups())) == pytest.approx(values, abs=0.051), key
    assert "one 10 4, 4, 4 32 8 8 2 0 0 0" in text
    assert "two 20 1, 1, 1 12 12 8 8 0 0 0" in text
    assert "Captions: 40 Different ones: 40 Said before: 0.0% Empty: 0 Words, median: 4 Words, most: 4" in text
    assert "Most frequent sizes: 300 x 200 pixels (60)" in text


def test_rare_rows_that_are_drawn_more_often_are_told(table: SampleTable, tmp_path: Path) -> None:
    plain = _text(write_data_report(tmp_path / "plain", table, WEIGHTS).read_text())
    rare = _text(write_data_report(tmp_path / "rare", table, WEIGHTS, rarity_weighting=2.0).read_text())
    assert "data.rarity_weighting=2.0" in rare
    assert "rarity_weighting" not in plain


def test_the_page_is_whole_small_and_needs_nothing_else(table: SampleTable, tmp_path: Path) -> None:
    path = write_data_report(tmp_path, table, WEIGHTS)
    page = Page(path.read_text())
    assert page.sections == SECTIONS
    assert page.open == []
    assert all(reference.startswith(("data:image/webp;base64,", "#")) for reference in page.references)
    faces = [reference for reference in page.references if reference.startswith("data:")]
    assert len(faces) == 30 + 20
    assert all(Image.open(io.BytesIO(base64.b64decode(face.partition(",")[2]))).size == (SIDE, 75) for face in faces)
    assert path.stat().st_size < 1e6


def _one_row(table: SampleTable) -> SampleTable:
    return SampleTable(table.frame.iloc[:1])


def _with(**columns: object) -> Callable[[SampleTable], SampleTable]:
    return lambda table: SampleTable(table.frame.assign(**columns), table.counts)


def _unreadable(table: SampleTable) -> SampleTable:
    for image in table.frame["image"][:3]:
        Path(image).write_bytes(Path(image).read_bytes()[:500])
    return table


@pytest.mark.parametrize(
    ("change", "weights", "told"),
    [
        (lambda table: SampleTable(table.frame[table.frame["source"] == "two"]), {"two": 1.0}, "20 samples of two"),
        (_with(subject="me"), WEIGHTS, "one 1 40, 40, 40 32 1 8 1 0 0 1 me"),
        (_with(AU1=np.float32(1)), WEIGHTS, "none no AU at all 0.0% 0.0% 0.0% 0.0%"),
        (_with(**dict.fromkeys(AU_KEYS, np.float32(0))), WEIGHTS, "AU1 inner brow raiser 0.0% 0.0% 0.0% 0.0% –"),
        (
            _with(caption="<script>alert('x')</script> & <b>bold</b>"),
            WEIGHTS,
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &lt;b&gt;bold&lt;/b&gt; 40",
        ),
        (_with(caption=""), WEIGHTS, "Different ones: 1 Said before: 97.5% Empty: 40 Words, median: 0"),
        (_unreadable, WEIGHTS, "Cannot be read the image file cannot be decoded 3"),
        (_with(split="test"), {"one": 0.0, "two": 0.0}, "There are no training rows, or all weights are 0"),
        (
            _with(aus_from=["labels"] * 30 + ["libreface 0.2.0"] * 30),
            WEIGHTS,
            "AUs one labels 30 one libreface 0.2.0 10 two libreface 0.2.0 20",
        ),
        (_one_row, {"one": 1.0}, "The table tells no counts"),
    ],
)
def test_odd_tables_have_a_page_too(
    change: Callable[[SampleTable], SampleTable], weights: dict, told: str, table: SampleTable, tmp_path: Path
) -> None:
    text = write_data_report(tmp_path, change(table), weights).read_text()
    page = Page(text)
    assert page.open == []
    assert page.sections >= SECTIONS
    assert "script" not in page.tags
    assert told in _text(text)


def test_aus_before_the_transforms(table: SampleTable, tmp_path: Path) -> None:
    ids = table.frame.loc[table.frame["source"] == "two", "id"]
    raw = pd.DataFrame({"id": [*ids[::-1], "two/dropped"], **dict.fromkeys(AU_KEYS, 5.0)})
    raw.loc[raw["id"] == "two/3", "AU4"] = 0.5
    page = write_data_report(tmp_path, table, WEIGHTS, raw=raw)
    assert page.read_text().count("stroke-dasharray") == 12
    assert "Dashed: before the transforms (two)" in page.read_text()
    with pytest.raises(
        ValueError, match=r"AUs of two before their correction: 1 of 20 rows are missing, the first is two/7"
    ):
        write_data_report(tmp_path, table, WEIGHTS, raw=raw[raw["id"] != "two/7"])


def test_the_page_is_made_again_only_where_something_changed(
    table: SampleTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    render = data_report.render
    monkeypatch.setattr(
        data_report, "render", lambda *arguments, **values: made.append(values["key"]) or render(*arguments, **values)
    )

    def again(weights: dict[str, float] = WEIGHTS, table: SampleTable = table) -> int:
        write_data_report(tmp_path, table, weights)
        return len(made)

    assert again() == 1
    assert again() == 1
    assert again({"one": 1.0, "two": 1.0}) == 2
    assert again({"one": 1.0, "two": 1.0}, SampleTable(table.frame.assign(caption="other"), table.counts)) == 3
    Image.new("RGB", (30, 30)).save(table.frame["image"][5])
    assert again({"one": 1.0, "two": 1.0}, SampleTable(table.frame.assign(caption="other"), table.counts)) == 4
    assert len(set(made)) == 4


def _peaks(table: SampleTable, subjects: int) -> pd.DataFrame:
    """Each with one peak of AU12, at frame 7, in images of the table; of the first, one image is missing and one is
    none."""
    images = table.frame["image"].tolist()
    rows = [
        (f"SN{number:03d}", 7, "AU12", frame, images[number + frame], float(frame == 7) * 4)
        for number in range(subjects)
        for frame in (5, 6, 7, 8, 9)
    ]
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    found.loc[0, "image"] = None
    return found


def test_labels_and_pictures_are_shown_beside_each_other(table: SampleTable, tmp_path: Path) -> None:
    peaks = _peaks(table, 2)
    path = write_data_report(tmp_path, table, WEIGHTS, peaks=peaks)
    page, text = Page(path.read_text()), _text(path.read_text())
    assert page.sections == SECTIONS | {"agree"}
    assert page.open == []
    assert text.count("AU12 lip corner puller, frame 7") == 2
    assert "– 5: 0 6: 0 7: 4 8: 0 9: 0" in text
    assert path.read_text().count('class="peak"') == 2
    faces = [reference for reference in page.references if reference.startswith("data:")]
    sizes = [Image.open(io.BytesIO(base64.b64decode(face.partition(",")[2]))).size for face in faces]
    assert sizes.count((SIDE, SIDE)) == 2 * 5 - 1  # the middle of 300 x 200
    before = path.read_text()
    assert write_data_report(tmp_path, table, WEIGHTS, peaks=peaks).read_text() == before
    Path(peaks["image"].iloc[1]).unlink()
    Path(peaks["image"].iloc[2]).write_bytes(b"no image")
    gone = table.frame["image"].isin(peaks["image"].iloc[1:3])
    left = SampleTable(table.frame[~gone], table.counts)
    assert "– 5: 0 – 6: 0 – 7: 4 8: 0 9: 0" in _text(
        write_data_report(tmp_path, left, WEIGHTS, peaks=peaks).read_text()
    )


def test_a_page_of_many_subjects_stays_small(table: SampleTable, tmp_path: Path) -> None:
    path = write_data_report(tmp_path, table, WEIGHTS, peaks=_peaks(table, SUBJECTS + 4))
    assert f"{SUBJECTS} of {SUBJECTS + 4} subjects are shown." in _text(path.read_text())
    assert path.read_text().count('class="peak"') == SUBJECTS
    assert path.stat().st_size < 3e6  # noise, of which a jpg takes thrice what a face does


def test_a_table_without_videos_has_no_such_section(table: SampleTable, tmp_path: Path) -> None:
    path = write_data_report(tmp_path, table, WEIGHTS, peaks=_peaks(table, 0))
    assert Page(path.read_text()).sections == SECTIONS


def test_processes_share_the_looking(table: SampleTable, tmp_path: Path) -> None:
    alone = write_data_report(tmp_path / "alone", table, WEIGHTS).read_text()
    barrier = threading.Barrier(2, timeout=60)

    def one(index: int) -> None:
        write_data_report(tmp_path / "alone2", table, WEIGHTS, crew=Crew(index, 2, barrier.wait, quiet=True))

    threads = [threading.Thread(target=one, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "alone2" / "report.html").read_text() == alone.replace("alone", "alone2")
    assert len(list((tmp_path / "alone2" / "looks").glob("rows-*.jsonl"))) == 1  # 60 images are one batch


def test_prepare_writes_it(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "corpus").symlink_to(corpus)
    assert main(["prepare", "data.toyfacs=null", f"data.root={tmp_path}"]) == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    text = _text((tmp_path / "report.html").read_text())
    for step, number in read_manifest(tmp_path)["sources"]["affectnet"].items():
        assert f"{step} {number}" in text
    assert "config.affectnet.low_cut 1.0" in text
    assert "Do labels and pictures agree?" in text
