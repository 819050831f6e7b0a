"""The sample table: its columns, files and fingerprint."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fineface_train.data.table import COLUMNS, SampleTable, hash_fraction


def _table(source: str = "a", count: int = 5) -> SampleTable:
    names = [f"{source}/{index}" for index in range(count)]
    aus = np.linspace(0, 5, count * 12).reshape(count, 12)
    table = SampleTable.build(
        source,
        ids=names,
        images=[f"/x/{n}" for n in names],
        captions=names,
        aus=aus,
        subjects=names,
        splits=["train"] * count,
        aus_from="x",
        caption_from="y",
    )
    return dataclasses.replace(table, counts={source: {"kept": count}})


def test_columns_and_types() -> None:
    table = _table()
    assert tuple(table.frame.columns) == COLUMNS
    assert table.aus().shape == (5, 12)
    assert table.aus().dtype == np.float32
    assert len(table) == 5


def test_written_and_read_again(tmp_path: Path) -> None:
    table = _table()
    table.write(tmp_path / "new" / "table.parquet")
    again = SampleTable.read(tmp_path / "new" / "table.parquet")
    assert again.frame.equals(table.frame)
    assert again.fingerprint() == table.fingerprint()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.parquet"]


def test_fingerprint_sees_contents_but_not_where_the_images_lie() -> None:
    table = _table()
    moved = SampleTable(table.frame.assign(image="/elsewhere/" + table.frame["id"]))
    assert moved.fingerprint() == table.fingerprint()
    for column, value in (("caption", "other"), ("AU12", np.float32(0.5)), ("split", "validation"), ("subject", "z")):
        frame = table.frame.copy()
        frame.loc[2, column] = value
        assert SampleTable(frame).fingerprint() != table.fingerprint()
    assert SampleTable(table.frame.iloc[::-1]).fingerprint() != table.fingerprint()


def test_concatenate_keeps_order_and_counts() -> None:
    both = SampleTable.concatenate([_table("a", 2), _table("b", 3)])
    assert both.frame["id"].tolist() == ["a/0", "a/1", "b/0", "b/1", "b/2"]
    assert both.counts == {"a": {"kept": 2}, "b": {"kept": 3}}
    assert both.frame.index.tolist() == [0, 1, 2, 3, 4]


def test_impossible_tables_are_refused() -> None:
    frame = _table().frame
    with pytest.raises(ValueError, match=r"columns missing: AU9, split"):
        SampleTable(frame.drop(columns=["AU9", "split"]))
    with pytest.raises(ValueError, match=r"id 'a/0' occurs twice"):
        SampleTable(frame.assign(id="a/0"))
    with pytest.raises(ValueError, match=r"split 'dev' is not one of train, validation, test"):
        SampleTable(frame.assign(split="dev"))
    for value in (5.5, -0.5, np.nan):
        with pytest.raises(ValueError, match=r"AU intensities must lie in 0\.\.5"):
            SampleTable(frame.assign(AU1=np.float32(value)))


def test_hash_fraction_is_uniform_and_fixed() -> None:
    values = np.array([hash_fraction(0, "x", index) for index in range(4000)])
    assert values.min() >= 0
    assert values.max() < 1
    assert np.histogram(values, bins=4, range=(0, 1))[0].min() > 900
    assert hash_fraction(0, "a") == hash_fraction(0, "a") != hash_fraction(1, "a")
