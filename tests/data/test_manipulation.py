"""The list of images with AUs: what it tells comes through, what it does not is not made up, and every fault is
named."""

import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fineface_train.aus import AU_KEYS, AUS
from fineface_train.data.config import DataConfig
from fineface_train.data.crew import Crew
from fineface_train.data.formats.images import image_size, read_image
from fineface_train.data.formats.pickles import read_plain_pickle
from fineface_train.data.manipulation.config import ManipulationConfig, Missing
from fineface_train.data.manipulation.reader import (
    OPENFACE,
    find_copy,
    input_files,
    write_manipulation,
)
from fineface_train.data.prepare import prepare
from fineface_train.data.table import SampleTable
from tests.data.conftest import affectnet_config, no_models, read_affectnet, read_manipulation

ENTRIES = 30
REAL = "FINEFACE_REAL_FACES"


def make(root: Path, corpus: Path, entries: list[Any] | None = None) -> Path:
    """A list with vectors as OpenFace's, in which entry n of vector k is (n + k) % 6, of images that are drawn."""
    images = sorted((corpus / "affectnet" / "images").rglob("*.png"))[:ENTRIES]
    (root / "imgs").mkdir(parents=True)
    for number, image in enumerate(images):
        shutil.copy(image, root / "imgs" / f"{number:07d}{image.suffix}")
    vectors = (np.arange(ENTRIES)[:, None] + np.arange(len(OPENFACE))) % 6.0
    names = sorted(path.name for path in (root / "imgs").iterdir())
    default = [
        {"path" if number % 2 else "file_path": f"imgs/{name}", "aus": vectors[number]}
        for number, name in enumerate(names)
    ]
    (root / "aus_dataset.pkl").write_bytes(pickle.dumps(default if entries is None else entries))
    return root


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> Path:
    return make(tmp_path / "faces", corpus)


def config(root: Path, **changes: Any) -> ManipulationConfig:
    return ManipulationConfig(**({"root": str(root), "aus": list(OPENFACE)} | changes))


def entries(root: Path) -> list[Any]:
    return pickle.loads((root / "aus_dataset.pkl").read_bytes())


def rewrite(root: Path, value: Any) -> None:
    (root / "aus_dataset.pkl").write_bytes(pickle.dumps(value))


def test_each_number_goes_to_its_au(root: Path) -> None:
    table = read_manipulation(config(root), seed=0)
    frame = table.frame
    assert len(frame) == table.counts["manipulation"]["read"] == table.counts["manipulation"]["kept"] == ENTRIES
    for au in AUS:
        assert frame[f"AU{au}"].tolist() == [(number + OPENFACE.index(au)) % 6 for number in range(ENTRIES)]
    assert frame["id"].iloc[1] == frame["subject"].iloc[1] == "manipulation/imgs/0000001.png"
    assert frame["image"].iloc[1] == str(root / "imgs" / "0000001.png")
    assert set(frame["caption"]) == {"a photo of a person"}


def test_numbers_may_count_to_one(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = read_manipulation(config(root), seed=0)
    rewrite(root, [entry | {"aus": [float(number) / 5 for number in entry["aus"]]} for entry in entries(root)])
    assert np.allclose(read_manipulation(config(root, scale=1.0), seed=0).aus(), before.aus())
    assert "scale" not in caplog.text
    assert read_manipulation(config(root), seed=0).aus().max() == 1
    assert "no number is greater than 1; if they count from 0 to 1, set data.manipulation.scale=1" in caplog.text


def test_what_is_unknown_is_zero_only_if_one_says_so(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = [au for au in OPENFACE if au not in (5, 20)] + [28, 43]
    with pytest.raises(
        ValueError,
        match=r"data\.manipulation\.aus=\[.*\]: AU5, AU20 of ours are unknown in these labels, and unknown is not "
        r"0.*missing=zero",
    ):
        config(root, aus=known).validate("data.manipulation")
    chosen = config(root, aus=known, missing=Missing.zero)
    chosen.validate("data.manipulation")
    table = read_manipulation(chosen, seed=0)
    assert (table.frame[["AU5", "AU20"]] == 0).all(axis=None)
    assert (
        table.frame.drop(columns=["AU5", "AU20"])[[key for key in AU_KEYS if key not in ("AU5", "AU20")]].max() == 5
    ).all()
    assert table.counts["manipulation"]["AU5 unknown, taken for 0"] == ENTRIES
    assert "AU5, AU20 of ours are not among data.manipulation.aus, and taken for 0 in every image" in caplog.text


def test_paths_may_start_elsewhere(root: Path) -> None:
    before = read_manipulation(config(root), seed=0).frame
    (root / "imgs").rename(root / "photographs")
    with pytest.raises(
        ValueError,
        match=r"30 of 30 images are missing, the first is .*imgs/0000000\.png; set data\.manipulation\.images.*strip",
    ):
        read_manipulation(config(root), seed=0)
    after = read_manipulation(config(root, images="photographs", strip="imgs/"), seed=0).frame
    assert after.drop(columns="image").equals(before.drop(columns="image"))
    assert after["image"].iloc[0] == str(root / "photographs" / "0000000.png")
    with pytest.raises(
        ValueError,
        match=r"entry 1: the path 'imgs/0000000\.png' does not start with data\.manipulation\.strip='images/'",
    ):
        read_manipulation(config(root, strip="images/"), seed=0)


def test_captions_are_joined_by_path(root: Path) -> None:
    names = [entry.get("path", entry.get("file_path")) for entry in entries(root)]
    rows = pd.DataFrame({"path": names, "caption": [f"face {number}" for number in range(ENTRIES)]})
    path = root / "captions.csv"
    rows.sample(frac=1, random_state=0).to_csv(path, index=False)
    chosen = config(root, captions="captions.csv")
    assert read_manipulation(chosen, seed=0).frame["caption"].tolist() == rows["caption"].tolist()
    assert input_files(find_copy(chosen)) == [root / "aus_dataset.pkl", path]
    for broken, message in (
        (rows.iloc[1:], r"captions\.csv: 1 of 30 images have no caption, the first is 'imgs/0000000\.png'"),
        (rows.assign(caption=" "), r"30 of 30 images have no caption"),
        (
            rows.rename(columns={"path": "file"}),
            r"captions\.csv: has the columns file, caption; it needs 'caption', and 'file_path' or 'path'",
        ),
        (
            pd.concat([rows, rows.iloc[:1].assign(caption="x")]),
            r"captions\.csv, line 32: path='imgs/0000000\.png' occurs twice, .*another caption",
        ),
    ):
        broken.to_csv(path, index=False)
        with pytest.raises(ValueError, match=message):
            read_manipulation(chosen, seed=0)


def test_however_a_path_is_written_it_is_one_image(root: Path) -> None:
    pd.DataFrame(
        {"path": [f"imgs/{n:07d}.png" for n in range(ENTRIES)], "caption": [f"face {n}" for n in range(ENTRIES)]}
    ).to_csv(root / "a.csv", index=False)
    before = read_manipulation(config(root, captions="a.csv"), seed=0).frame
    changes = [
        lambda name: f"./{name}",
        lambda name: name.replace("/", "\\"),
        lambda name: name.replace("/", "//"),
        lambda name: f"x/../{name}",
    ]
    listed = [
        {"path": changes[number % 4](f"imgs/{number:07d}.png"), "aus": entry["aus"]}
        for number, entry in enumerate(entries(root))
    ]
    rewrite(root, listed)
    (root / "a.csv").write_text((root / "a.csv").read_text().replace("imgs/", ".\\imgs\\"))
    assert read_manipulation(config(root, captions="a.csv"), seed=0).frame.equals(before)
    (root / "imgs").rename(root / "photographs")
    for strip in ("imgs/", "./imgs/", "imgs\\"):
        after = read_manipulation(config(root, captions="a.csv", images="photographs", strip=strip), seed=0).frame
        assert after.drop(columns="image").equals(before.drop(columns="image"))
    with (root / "a.csv").open("a") as file:
        file.write("imgs/0000004.png,another\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 32: path='imgs/0000004\.png' occurs twice, first in line 6"):
        read_manipulation(config(root, captions="a.csv", images="photographs", strip="imgs/"), seed=0)


def test_a_tenth_is_validation_whatever_the_other_rows(root: Path) -> None:
    every = read_manipulation(config(root), seed=0).frame.set_index("id")["split"]
    rewrite(root, entries(root)[::-2])
    fewer = read_manipulation(config(root), seed=0).frame.set_index("id")["split"]
    assert len(fewer) == ENTRIES / 2
    assert (every[fewer.index] == fewer).all()
    shares = [(read_manipulation(config(root), seed=seed).frame["split"] == "validation").mean() for seed in range(10)]
    assert 0.03 < np.mean(shares) < 0.2


def test_what_is_written_is_read_again(corpus: Path, tmp_path: Path) -> None:
    table = read_affectnet(affectnet_config(corpus), seed=0, stages=no_models(tmp_path)).table
    images = corpus / "affectnet" / "images"
    write_manipulation(table, tmp_path / "aus_dataset.pkl", images)
    chosen = ManipulationConfig(root=str(tmp_path), images=str(images), captions="captions.csv", aus=list(AUS))
    again = read_manipulation(chosen, seed=0)
    assert np.array_equal(again.aus(), table.aus())
    for column in ("image", "caption"):
        assert again.frame[column].tolist() == table.frame[column].tolist()
    first = pickle.loads((tmp_path / "aus_dataset.pkl").read_bytes())[0]  # as its other readers open it
    assert images / first["file_path"] == Path(table.frame["image"].iloc[0])
    assert first["aus"].dtype == np.float64
    with pytest.raises(ValueError, match=r"lies outside .*disfa; give a folder that all images"):
        write_manipulation(table, tmp_path / "x.pkl", corpus / "disfa")


NAME = "imgs/0000000.png"
GOOD = [0.0] * len(OPENFACE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"holds an empty list; it must be a list of dictionaries"),
        ({}, r"holds an empty dict; it must be a list of dictionaries"),
        (
            {NAME: 3.0},
            r"holds a dict; it must be a list of dictionaries with 'file_path' and 'aus', or a dictionary of paths "
            r"with their AUs",
        ),
        ({"path": [NAME], "aus": [GOOD, GOOD]}, r"has 1 paths in 'path', but 2 vectors in 'aus'"),
        (
            [{"path": NAME, "aus": GOOD}, NAME],
            r"entry 2: is a str; it must be a dictionary with 'file_path' \(or 'path'\) and 'aus'",
        ),
        ([{"image": NAME, "aus": GOOD}], r"entry 1: has 'image', 'aus'; it must have 'aus' and one path"),
        ([{"path": NAME, "AUs": GOOD}], r"entry 1: has 'path', 'AUs'; it must have 'aus' and one path"),
        ([{"path": NAME, "file_path": "other.png", "aus": GOOD}], r"one path as text"),
        ([{"path": 7, "aus": GOOD}], r"one path as text"),
        ([{"path": "", "aus": GOOD}], r"one path as text"),
        (
            [{"path": NAME, "aus": GOOD}, {"file_path": NAME, "aus": [2.0, *GOOD[1:]]}],
            r"entry 2: the image 'imgs/0000000\.png' is entry 1 too",
        ),
        (
            [{"path": NAME, "aus": GOOD}, {"path": f"./{NAME}", "aus": [1.0, *GOOD[1:]]}],
            r"entry 2: .* is entry 1 too, with other AUs; remove one",
        ),
        (
            [{"path": NAME.replace("/", "\\"), "aus": GOOD}, {"path": NAME, "aus": [2.0, *GOOD[1:]]}],
            r"entry 2: the image 'imgs/0000000\.png' is entry 1 too",
        ),
        (
            [{"path": NAME, "aus": GOOD[:11]}],
            r"entry 1 \('imgs/0000000\.png'\): aus has 11 entries, but data\.manipulation\.aus lists 17 AUs",
        ),
        ([{"path": NAME, "aus": [*GOOD, 1.0]}], r"aus has 18 entries, but data\.manipulation\.aus lists 17"),
        ([{"path": NAME, "aus": []}], r"aus has 0 entries"),
        ([{"path": NAME, "aus": [[1.0, 2.0]]}], r"entry 1: aus is a list; it must be an array or a list of numbers"),
        ([{"path": NAME, "aus": "1 2 3"}], r"entry 1: aus is a str"),
        ([{"path": NAME, "aus": None}], r"entry 1: aus is a NoneType"),
        ([{"path": NAME, "aus": np.zeros((1, 17))}], r"entry 1: aus has the shape \(1, 17\)"),
        (
            [{"path": NAME, "aus": [float("nan"), *GOOD[1:]]}],
            r"entry 1 \('imgs/0000000\.png'\): aus holds nan, outside 0\.\.5",
        ),
        (
            [{"path": NAME, "aus": np.float32([5.5, *GOOD[1:]])}],
            r"aus holds 5\.5, outside 0\.\.5; set data\.manipulation\.scale",
        ),
        ([{"path": NAME, "aus": [-0.1, *GOOD[1:]]}], r"aus holds -0\.1, outside 0\.\.5"),
        ([{"path": NAME, "aus": [10**400, *GOOD[1:]]}], r"entry 1: aus holds a number that is too large"),
        ([{"path": "../faces2/x.png", "aus": GOOD}], r"entry 1: the path '\.\./faces2/x\.png' leads out of .*faces"),
        ([{"path": "/etc/passwd", "aus": GOOD}], r"entry 1: the path '/etc/passwd' leads out of"),
        ([{"path": "imgs", "aus": GOOD}], r"1 of 1 images are missing, the first is .*/imgs;"),
        ([{"path": NAME, "aus": np.array([None] * 17)}], r"asks for an array of 'O8'"),
        ([{"path": Path(NAME), "aus": GOOD}], r"asks for 'pathlib.*PosixPath'"),
    ],
)
def test_a_bad_entry_is_named(value: Any, message: str, root: Path) -> None:
    rewrite(root, value)
    with pytest.raises(ValueError, match=message):
        read_manipulation(config(root), seed=0)


def test_faults_of_the_config_are_named(root: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.manipulation\.root=null.*MANIPULATION_ROOT.*aus_dataset\.pkl"):
        read_manipulation(ManipulationConfig(), seed=0)
    with pytest.raises(ValueError, match=r"data\.manipulation\.labels=other\.pkl: .*other\.pkl does not exist"):
        read_manipulation(config(root, labels="other.pkl"), seed=0)
    with pytest.raises(
        ValueError,
        match=r"its vectors have 17 entries; say which AUs they are, in order: data\.manipulation\.aus=.*17 are "
        r"\[1,2,4,5,6,7",
    ):
        read_manipulation(config(root, aus=None), seed=0)
    for change, message in (
        ({"aus": [1, 1, 2]}, r"aus=\[1, 1, 2\]: must list AU numbers .* each once"),
        ({"aus": []}, r"aus=\[\]: must list"),
        ({"aus": [0, *AUS]}, r"aus=\[0, .*: must list AU numbers"),
        ({"scale": 0.0}, r"scale=0\.0"),
        ({"caption": " "}, r"caption is empty"),
    ):
        with pytest.raises(ValueError, match=r"data\.manipulation\." + message):
            config(root, **change).validate("data.manipulation")


def test_it_is_prepared_beside_other_sources(corpus: Path, root: Path, tmp_path: Path) -> None:
    chosen = DataConfig(root=str(tmp_path / "data"), affectnet=affectnet_config(corpus), manipulation=config(root))
    chosen.validate("data")
    table = prepare(chosen, crew=Crew(quiet=True))
    assert set(table.frame["source"]) == {"affectnet", "manipulation"}
    weights = chosen.weights(table)
    assert (
        weights["manipulation"]
        == ((table.frame["source"] == "manipulation") & (table.frame["split"] == "train")).sum()
        > 0
    )
    rewrite(root, entries(root)[1:])
    assert len(prepare(chosen, crew=Crew(quiet=True))) == len(table) - 1
    chosen.manipulation = config(root, weight=2.0)
    with pytest.raises(
        ValueError, match=r"data\.affectnet\.weight and data\.manipulation\.weight: all of them, or none"
    ):
        chosen.validate("data")


@pytest.mark.skipif(
    REAL not in os.environ, reason=f"set {REAL} to a folder of photographs with an aus_dataset.pkl to run this on them"
)
def test_photographs_are_read() -> None:
    folder = Path(os.environ[REAL])
    with pytest.raises(ValueError, match=r"say which AUs they are"):
        read_manipulation(ManipulationConfig(root=str(folder)), seed=0)
    listed = read_plain_pickle(folder / "aus_dataset.pkl")
    length = len(listed[0]["aus"])
    chosen = config(
        folder, aus=list(OPENFACE[:length]), missing=Missing.zero, strip="" if (folder / "imgs").is_dir() else "imgs/"
    )
    table: SampleTable = read_manipulation(chosen, seed=0)
    assert len(table) == len(listed)
    assert np.allclose(table.frame["AU1"], [entry["aus"][0] for entry in listed])
    for path in table.frame["image"]:
        assert read_image(path).size == image_size(path)
        assert np.asarray(read_image(path)).std() > 10


def shapes(listed: list[Any]) -> dict[str, Any]:
    """The list in the other shapes that labs pickle."""
    vectors = {entry.get("path", entry.get("file_path")): entry["aus"] for entry in listed}
    return {
        "path: vector": vectors,
        "path: list": {name: vector.tolist() for name, vector in vectors.items()},
        "path: entry": {name: {"aus": vector, "id": 3} for name, vector in vectors.items()},
        "columns": {"path": list(vectors), "aus": list(vectors.values())},
        "columns, one array": {"file_path": list(vectors), "aus": np.stack(list(vectors.values()))},
        "numpy's texts": [
            {np.str_("file_path"): np.str_(name), np.str_("aus"): vector} for name, vector in vectors.items()
        ],
        "numpy's texts as keys": {np.str_(name): vector.astype(np.float32) for name, vector in vectors.items()},
        "bytes": [{"path": name.encode(), "aus": tuple(vector.astype(np.float16))} for name, vector in vectors.items()],
        "integers": [{"path": name, "aus": vector.astype(np.int64)} for name, vector in vectors.items()],
        "twice": [*listed, *listed[:2]],
    }


@pytest.mark.parametrize("shape", list(shapes([{"path": NAME, "aus": np.zeros(1)}])))
def test_lists_in_other_shapes(shape: str, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = read_manipulation(config(root), seed=0).frame
    rewrite(root, shapes(entries(root))[shape])
    assert read_manipulation(config(root), seed=0).frame.equals(before)
    told = (
        "2 entries repeat another, and are left out: 'imgs/0000000.png' in entries 1, 31; 'imgs/0000001.png' in "
        "entries 2, 32"
    )
    assert (told in caplog.text) == (shape == "twice")


def test_names_without_suffix_or_in_another_case_are_found(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = read_manipulation(config(root), seed=0).frame
    rewrite(root, {Path(entry.get("path", entry.get("file_path"))).stem: entry["aus"] for entry in entries(root)})
    after = read_manipulation(config(root), seed=0).frame
    assert after["image"].tolist() == before["image"].tolist()
    assert after[list(AU_KEYS)].equals(before[list(AU_KEYS)])
    assert (
        "30 of 30 images are found in another folder than the list says, or in another case or suffix: '0000000' is"
        in caplog.text
    )


def test_what_would_find_the_images_is_told(root: Path) -> None:
    for prefix in ("/home/somebody/faces/", "C:\\faces\\"):
        rewrite(
            root,
            [
                {"path": prefix + entry.get("path", entry.get("file_path")), "aus": entry["aus"]}
                for entry in entries(root)
            ],
        )
        with pytest.raises(
            ValueError,
            match=r"\(data\.manipulation\.images=.*faces data\.manipulation\.strip=.*/faces/ finds 30 of 30\)",
        ) as told:
            read_manipulation(config(root), seed=0)
        strip = re.search(r"strip=(\S+) finds", str(told.value))
        assert strip is not None
        assert len(read_manipulation(config(root, strip=strip[1]), seed=0)) == ENTRIES
        rewrite(root, [{"path": entry["path"].removeprefix(prefix), "aus": entry["aus"]} for entry in entries(root)])
    (root / "imgs").rename(root / "photographs")
    with pytest.raises(
        ValueError,
        match=r"30 of 30 images are missing.* \(data\.manipulation\.images=\S+ data\.manipulation\.strip=imgs/ finds "
        r"30 of 30\)",
    ):
        read_manipulation(config(root), seed=0)
    with pytest.raises(
        ValueError, match=rf"aus_dataset\.pkl does not exist; {root} has it: set data\.manipulation\.root"
    ):
        read_manipulation(config(root.parent), seed=0)


def test_what_is_missing_or_no_number_is_left_out_if_one_says_so(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "imgs" / "0000003.png").unlink()
    (root / "imgs" / "0000004.png").write_bytes(b"")
    void = np.full(len(OPENFACE), np.nan)
    rewrite(
        root,
        [entry | {"aus": void if number in (7, 8) else entry["aus"]} for number, entry in enumerate(entries(root))],
    )
    chosen = DataConfig(root=str(tmp_path / "data"), manipulation=config(root))
    with pytest.raises(
        ValueError,
        match=r"entry 8 .*: aus holds nan, outside 0\.\.5; data\.skip_broken=true leaves such entries out \(2 of 30 "
        r"entries",
    ):
        prepare(chosen, crew=Crew(quiet=True))
    chosen.skip_broken = True
    table = prepare(chosen, crew=Crew(quiet=True))
    assert {int(Path(path).stem) for path in table.frame["image"]} == set(range(ENTRIES)) - {3, 4, 7, 8}
    counts = table.counts["manipulation"]
    assert (
        counts["read"],
        counts["dropped: AUs are no numbers"],
        counts["dropped: image cannot be read"],
        counts["kept"],
    ) == (30, 2, 2, 26)
    assert "images are in no row" not in caplog.text
    shutil.copy(root / "imgs" / "0000005.png", root / "imgs" / "0000003.png")
    assert len(prepare(chosen, crew=Crew(quiet=True))) == 27, "one that was missing is noticed when it is there"
    shutil.rmtree(root / "imgs")
    with pytest.raises(ValueError, match=r"28 of 28 images are missing"):
        read_manipulation(config(root), seed=0, skip_broken=True)
    rewrite(root, [entry | {"aus": void} for entry in entries(root)])
    with pytest.raises(
        ValueError,
        match=r"aus holds nan, outside 0\.\.5; no entry has AUs that are numbers: make the list again \(30 of 30",
    ):
        read_manipulation(config(root), seed=0, skip_broken=True)


def test_numbers_beyond_the_scale_by_rounding_alone_are_taken_for_its_ends(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(root, [entry | {"aus": entry["aus"] + 0.01} for entry in entries(root)])
    assert read_manipulation(config(root), seed=0).aus().max() == 5
    assert "AUs lie beyond 0..5 by rounding, and are taken for its ends" in caplog.text
    rewrite(root, [entry | {"aus": entry["aus"] * 20} for entry in entries(root)])
    with pytest.raises(
        ValueError,
        match=r"outside 0\.\.5; set data\.manipulation\.scale to the number that is intensity 5 \(the highest is 100",
    ):
        read_manipulation(config(root), seed=0)


def test_vectors_of_another_length_are_counted(root: Path) -> None:
    listed = entries(root)
    rewrite(root, [entry | {"aus": entry["aus"][: 12 if number < 2 else 17]} for number, entry in enumerate(listed)])
    with pytest.raises(
        ValueError, match=r"entry 1 .*aus has 12 entries.*2 of 30 have another length; remove them from the list"
    ):
        read_manipulation(config(root), seed=0)
    rewrite(root, [entry | {"aus": entry["aus"][:12]} for entry in listed])
    with pytest.raises(
        ValueError, match=r"entry 1 .*aus has 12 entries.*all 30 have 12: list their AUs in data\.manipulation\.aus"
    ):
        read_manipulation(config(root), seed=0)
