"""The AffectNet reader: its filters, its transforms, and that they bring ToyFACS's truth back."""

import dataclasses
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.data.affectnet.config import AffectNetConfig, PhotoFilter, TotalFilter
from fineface_train.data.crew import ALONE
from fineface_train.data.stages import Stages
from fineface_train.toyfacs.combinations import holds_held_out
from fineface_train.toyfacs.corpus import sample_expressions
from tests.conftest import SMALL
from tests.data.conftest import affectnet_config, read_affectnet

LEVELS = [f"{key}_rec" for key in AU_KEYS]


def _metadata(corpus: Path) -> pd.DataFrame:
    return pd.read_csv(corpus / "affectnet" / "affecnet_metadata.csv")


def _good(corpus: Path) -> pd.DataFrame:
    """The rows that ToyFACS meant to be usable."""
    rows = _metadata(corpus)
    return rows[rows["HasFace"] & rows["IsPhoto"] & rows["IsReal"] & (rows["ImageResolutionX"] >= 64)]


def _rewrite(corpus: Path, rows: pd.DataFrame) -> None:
    rows.to_csv(corpus / "affectnet" / "affecnet_metadata.csv", index=False)


def test_corrections_bring_the_truth_back_within_the_annotators_noise(corpus: Path, stages: Stages) -> None:
    table = read_affectnet(affectnet_config(corpus), seed=0, stages=stages).table
    truth = sample_expressions(np.random.default_rng((SMALL.seed, 2)), SMALL.affectnet_images, integers=False)
    names = ["affectnet/" + name for name in _metadata(corpus)["ImageName"]]
    expected = truth[[names.index(row) for row in table.frame["id"]]]
    error = table.aus() - expected
    assert np.array_equal(table.aus() > 0, expected > 0)
    # Noise of 0.02 is 0.1 on the 0-5 scale, and at most 0.18 after the power of 1.8.
    assert np.abs(error).max() < 0.75
    assert error[expected > 0].std() < 0.2
    assert abs(error[expected > 0].mean()) < 0.05
    assert (table.aus().max(axis=0) == 5).all()
    assert not holds_held_out(table.aus()).any()


def test_every_filter_drops_what_it_should_and_counts_it(corpus: Path, stages: Stages) -> None:
    rows, good = _metadata(corpus), _good(corpus)
    table = read_affectnet(affectnet_config(corpus), seed=0, stages=stages).table
    counts = table.counts["affectnet"]
    assert counts["read"] == 60
    assert [
        counts[f"dropped: {name}"]
        for name in ("HasFace is false", "IsPhoto is false", "IsReal is false", "under min_side")
    ] == [1, 1, 1, 1]
    low = good[LEVELS].sum(axis=1) < 0.2
    assert counts["dropped: low total"] == low.sum() > 0
    assert counts["kept"] == len(table) == 60 - 4 - low.sum()
    assert set(table.frame["id"]) == {f"affectnet/{name}" for name in good[~low]["ImageName"]}
    assert rows.loc[~rows["HasFace"], LEVELS].isna().all(axis=None)


def test_the_low_total_filter_takes_sum_or_max(own_corpus: Path, stages: Stages) -> None:
    good = _good(own_corpus)
    good.iloc[0, good.columns.get_indexer(LEVELS)] = [0.1, 0.11, *[0.0] * 10]
    good.iloc[1, good.columns.get_indexer(LEVELS)] = [0.2, *[0.0] * 11]
    _rewrite(own_corpus, good)
    ids = [f"affectnet/{name}" for name in good["ImageName"]]
    by_sum = set(read_affectnet(affectnet_config(own_corpus), seed=0, stages=stages).table.frame["id"])
    by_max = set(
        read_affectnet(affectnet_config(own_corpus, total_filter=TotalFilter.max), seed=0, stages=stages).table.frame[
            "id"
        ]
    )
    assert {ids[0], ids[1]} <= by_sum
    assert not {ids[0], ids[1]} & by_max
    assert by_max < by_sum


def test_both_sides_are_measured(own_corpus: Path, stages: Stages) -> None:
    good = _good(own_corpus).copy()
    good["ImageResolutionX"], good["ImageResolutionY"] = 512, 512
    good.iloc[0, good.columns.get_loc("ImageResolutionX")] = 511
    good.iloc[1, good.columns.get_loc("ImageResolutionY")] = 511
    _rewrite(own_corpus, good)

    def dropped(**changes: int) -> int:
        return read_affectnet(affectnet_config(own_corpus, **changes), seed=0, stages=stages).table.counts["affectnet"][
            "dropped: under min_side"
        ]

    assert dropped(min_side=512) == 2
    assert dropped(min_side=511) == 0
    # The published code's X >= 512 and Y > 512.
    good.iloc[2:, good.columns.get_loc("ImageResolutionY")] = 513
    _rewrite(own_corpus, good)
    assert dropped(min_side=512, min_height=513) == 2


def test_a_root_may_be_told_by_way_of_another_folder(corpus: Path, stages: Stages) -> None:
    detour = corpus / "disfa" / ".." / "affectnet"
    assert len(read_affectnet(AffectNetConfig(root=str(detour), min_side=64), seed=0, stages=stages).table) > 0


def test_a_tenth_is_validation_whatever_the_other_rows(own_corpus: Path, stages: Stages) -> None:
    table = read_affectnet(affectnet_config(own_corpus), seed=0, stages=stages).table.frame.set_index("id")["split"]
    assert set(table) == {"train", "validation"}
    assert 0.02 < (table == "validation").mean() < 0.25
    _rewrite(own_corpus, _metadata(own_corpus).iloc[::-2])
    fewer = read_affectnet(affectnet_config(own_corpus), seed=0, stages=stages).table.frame.set_index("id")["split"]
    assert 0 < len(fewer) < len(table)
    assert (table[fewer.index] == fewer).all()
    assert (
        read_affectnet(affectnet_config(own_corpus), seed=1, stages=stages).table.frame.set_index("id")["split"]
        != fewer
    ).any()


def test_faults_are_named(own_corpus: Path, stages: Stages) -> None:
    rows, config = _metadata(own_corpus), affectnet_config(own_corpus)
    with pytest.raises(ValueError, match=r"data\.affectnet\.root=null.*AFFECTNET_ROOT.*mohammadmahoor"):
        read_affectnet(AffectNetConfig(), seed=0, stages=stages)
    with pytest.raises(ValueError, match=r"data\.affectnet\.metadata=other\.csv.*does not exist"):
        read_affectnet(affectnet_config(own_corpus, metadata="other.csv"), seed=0, stages=stages)
    with pytest.raises(ValueError, match=r"no row passes the filters.*min_side=512"):
        read_affectnet(affectnet_config(own_corpus, min_side=512), seed=0, stages=stages)
    first_good = int(np.flatnonzero(rows.index.isin(_good(own_corpus).index))[0])
    for column, value, message in (
        ("AU12_rec", 3.5, rf"line {first_good + 2}: AU12_rec='3\.5': must be a number in 0\.\.1"),
        ("AU12_rec", None, rf"line {first_good + 2}: AU12_rec='': must be a number in 0\.\.1"),
        ("IsReal", "maybe", rf"line {first_good + 2}: IsReal='maybe': must be True or False"),
    ):
        broken = rows.astype({column: object})
        broken.loc[first_good, column] = value
        _rewrite(own_corpus, broken)
        with pytest.raises(ValueError, match=message):
            read_affectnet(config, seed=0, stages=stages)
    _rewrite(own_corpus, rows.drop(columns=["AU26_rec", "IsPhoto"]))
    with pytest.raises(ValueError, match=r"columns missing: IsPhoto, AU26_rec"):
        read_affectnet(config, seed=0, stages=stages)
    _rewrite(own_corpus, pd.concat([rows, rows.iloc[:1].assign(TextDescription="somebody else")]))
    with pytest.raises(
        ValueError,
        match=r"line 62: ImageName=.* occurs twice, first in line 2, with another caption; remove the rows that are "
        r"wrong",
    ):
        read_affectnet(config, seed=0, stages=stages)
    _rewrite(own_corpus, rows)
    (own_corpus / "affectnet" / "images" / rows["ImageName"][first_good]).unlink()
    with pytest.raises(ValueError, match=r"data\.affectnet\.images=.*: 1 of \d+ images are missing, the first is"):
        read_affectnet(config, seed=0, stages=stages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_side": -1}, r"data\.affectnet\.min_side=-1"),
        ({"min_height": -1}, r"min_height=-1"),
        ({"total_threshold": -0.1}, r"total_threshold=-0\.1"),
        ({"powers": {"AU4": 0.0}}, r"powers\.AU4=0\.0: must lie above 0"),
        ({"low_cut": 6.0}, r"low_cut=6\.0: must lie in 0\.\.5"),
    ],
)
def test_config_errors_name_key_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AffectNetConfig(**change).validate("data.affectnet")


def test_what_is_no_photograph_keeps_its_aus_where_another_filter_is_in_force(corpus: Path, stages: Stages) -> None:
    rows = _metadata(corpus)
    painted = rows[rows["HasFace"] & ~(rows["IsPhoto"] & rows["IsReal"])]
    assert len(painted) == 2
    read = read_affectnet(
        affectnet_config(corpus, photo_filter=PhotoFilter.none, total_threshold=0), seed=0, stages=stages
    )
    assert read.raw is not None
    raw = read.raw.set_index("id")
    for _, row in painted.iterrows():
        np.testing.assert_allclose(
            raw.loc[f"affectnet/{row['ImageName']}", list(AU_KEYS)].astype(float),
            5 * row[LEVELS].astype(float),
            rtol=1e-6,
        )
    assert "dropped: IsPhoto is false" not in read.table.counts["affectnet"]


def test_images_that_were_scaled_down_are_told(
    own_corpus: Path, stages: Stages, caplog: pytest.LogCaptureFixture
) -> None:
    rows = _metadata(own_corpus)
    rows[["ImageResolutionX", "ImageResolutionY"]] = rows[["ImageResolutionX", "ImageResolutionY"]] * 8
    _rewrite(own_corpus, rows)
    loud = dataclasses.replace(stages, crew=ALONE)
    read_affectnet(affectnet_config(own_corpus, min_side=48), seed=0, stages=loud)
    assert "smaller than" not in caplog.text
    read_affectnet(affectnet_config(own_corpus, min_side=512), seed=0, stages=loud)
    assert (
        "images looked at are smaller than affecnet_metadata.csv says and data.affectnet.min_side=512 wants"
        in caplog.text
    )
    assert "(64 x 64 pixels)" in caplog.text


def test_two_copies_or_parts_of_one_are_not_guessed_between(own_corpus: Path, stages: Stages) -> None:
    root = own_corpus / "affectnet"
    (root / "images").rename(root / "aligned")
    (root / "images").mkdir()
    (root / "aligned").rename(root / "images" / "aligned")
    assert len(read_affectnet(affectnet_config(own_corpus), seed=0, stages=stages).table)
    shutil.copytree(root / "images" / "aligned", root / "images" / "original")
    with pytest.raises(
        ValueError,
        match=r"the list's names begin in 2 folders \(.*aligned, .*original\); set data\.affectnet\.images to the one",
    ):
        read_affectnet(affectnet_config(own_corpus), seed=0, stages=stages)


def test_names_in_the_other_form_of_unicode_are_found(own_corpus: Path, stages: Stages) -> None:
    rows = _good(own_corpus).reset_index(drop=True)
    name = rows["ImageName"][0]
    old = own_corpus / "affectnet" / "images" / name
    old.rename(old.with_name(unicodedata.normalize("NFD", "Zo\u00e9.png")))
    rows.loc[rows["ImageName"] == name, "ImageName"] = str(
        Path(name).with_name(unicodedata.normalize("NFC", "Zo\u00e9.png"))
    )
    _rewrite(own_corpus, rows)
    assert len(read_affectnet(affectnet_config(own_corpus), seed=0, stages=stages).table)


def test_what_cannot_be_read_shapes_nothing(own_corpus: Path, stages: Stages) -> None:
    """Left out, an image that is broken leaves the others' AUs as if it had never been there: minima and maxima are of
    those that are used."""
    good = _good(own_corpus)
    names = good["ImageName"].tolist()
    good.iloc[0, good.columns.get_indexer(LEVELS)] = 1.0  # the largest of every AU
    good.iloc[1:, good.columns.get_indexer(LEVELS)] *= 0.8
    _rewrite(own_corpus, good)
    victim = own_corpus / "affectnet" / "images" / names[0]
    config, skipping = affectnet_config(own_corpus), dataclasses.replace(stages, skip_broken=True)
    whole = read_affectnet(config, 0, stages).table.aus()
    victim.write_bytes(b"")
    broken = read_affectnet(config, 0, skipping)
    victim.unlink()
    gone = read_affectnet(config, 0, skipping)
    assert broken.table.frame["id"].tolist() == gone.table.frame["id"].tolist()
    assert np.array_equal(broken.table.aus(), gone.table.aus())
    assert not np.allclose(broken.table.aus(), whole[1:], atol=0.1)
    assert broken.raw is not None
    assert broken.raw["id"].tolist() == broken.table.frame["id"].tolist()


def test_a_name_that_no_file_can_have_is_a_missing_image(own_corpus: Path, stages: Stages) -> None:
    rows = _good(own_corpus)
    rows.iloc[2, rows.columns.get_loc("ImageName")] = "1/" + 300 * "a" + ".png"
    _rewrite(own_corpus, rows)
    with pytest.raises(
        ValueError, match=r"data\.affectnet\.images=.*: 1 of \d+ images are missing, the first is .*/1/aaa"
    ):
        read_affectnet(affectnet_config(own_corpus), 0, stages)


def test_who_has_the_metadata_is_told(own_corpus: Path, stages: Stages) -> None:
    (own_corpus / "affectnet" / "affecnet_metadata.csv").rename(own_corpus / "affectnet" / "other.csv")
    with pytest.raises(
        ValueError,
        match=r"metadata=affecnet_metadata\.csv: .*comes with FineFace's published code.*data=affectnet_official",
    ):
        read_affectnet(affectnet_config(own_corpus), 0, stages)
    with pytest.raises(ValueError, match=r"images=nowhere: .*AffectNet is licensed: request it") as error:
        read_affectnet(affectnet_config(own_corpus, metadata="other.csv", images="nowhere"), 0, stages)
    assert "affecnet_metadata.csv" not in str(error.value)


def test_a_list_without_its_first_line_is_told(own_corpus: Path, stages: Stages) -> None:
    row = "1/a.jpg,10,20,300,300," + ";".join(str(number / 7) for number in range(136)) + ",1,0.1,-0.2"
    (own_corpus / "affectnet" / "training.csv").write_text(f"{row}\n{row.replace('a.jpg', 'b.jpg')}\n")
    with pytest.raises(
        ValueError, match=r"training\.csv, line 1: names neither .* and so on; if it is a row of the list already"
    ) as error:
        read_affectnet(affectnet_config(own_corpus, metadata="training.csv"), 0, stages)
    assert len(str(error.value)) < 700
