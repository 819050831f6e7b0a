"""Pictures that any program made: judged as those of `evaluate` are; faults are told with file, line and value."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AU_KEYS
from fineface_train.cli import main
from fineface_train.evaluation.ceiling import DrawnFaces
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.evaluate import evaluate
from fineface_train.evaluation.given import given_media
from fineface_train.evaluation.judges.config import JudgeConfig
from fineface_train.evaluation.judges.judges import load_judges
from fineface_train.evaluation.plan import Kind, build_plan, toyfacs_combinations, toyfacs_prompts
from tests.reports.page_parser import Page

PLAN = build_plan(ProtocolName.quick, toyfacs_prompts(), toyfacs_combinations(), seed=3)[:150]
PLAN += [
    image
    for image in build_plan(ProtocolName.quick, toyfacs_prompts(), toyfacs_combinations(), seed=3)
    if image.kind is Kind.combination
][:40]
MEASURED = (
    "individual",
    "combination",
    "per_au",
    "subsets",
    "judges",
    "judge_disagreement",
    "leakage_matrix",
    "response_curve",
    "no_face_rate",
    "attributes",
    "images",
    "first_judge",
    "subset",
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """True drawings, evaluated; and beside it the table of them that another program would write."""
    root = tmp_path_factory.mktemp("given")
    evaluate(
        DrawnFaces(PLAN),
        load_judges(JudgeConfig()),
        PLAN,
        root / "out",
        protocol=ProtocolName.quick,
        bundle="true drawings",
        generator_fingerprint="drawn",
    )
    rows = pd.read_parquet(root / "out" / "images.parquet").rename(
        columns={"path": "file", "prompt_held_out": "held_out"}
    )
    rows[["file", "unit", "prompt", "held_out", "set_held_out", *AU_KEYS]].to_csv(root / "requests.csv", index=False)
    return root


def test_judged_from_files_the_numbers_are_those_of_evaluate(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last bit; the page shows the pictures, and the same command again does nothing."""
    command = ["judge", f"images={evaluated / 'out'}", f"requests={evaluated / 'requests.csv'}", f"run.root={tmp_path}"]
    assert main(command) == 0
    (out,) = tmp_path.iterdir()
    found, expected = (json.loads((path / "metrics.json").read_text()) for path in (out, evaluated / "out"))
    for part in MEASURED:
        assert found[part] == expected[part], part
    page = Page((out / "report.html").read_text())
    assert {"headline", "grid", "sweeps", "combinations", "response", "leakage", "per-au"} <= page.sections
    assert page.tags.count("img") > 100
    assert "pictures of" in (out / "report.html").read_text()
    rows = pd.read_parquet(out / "images.parquet")
    assert all((out / path).is_file() for path in rows["path"])
    before = {
        path: path.stat().st_mtime_ns for path in out.iterdir() if path.name in ("metrics.json", "images.parquet")
    }
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    capsys.readouterr()

    assert main([*command, f"out={out}", "judge.face_threshold=0.7"]) == 0  # another judge of the same pictures
    assert (out / "judged-toyfacs" / "metrics.json").is_file()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (tmp_path / "fewer.csv").write_text("".join((evaluated / "requests.csv").read_text().splitlines(True)[:-1]))
    assert main([*command[:2], f"requests={tmp_path / 'fewer.csv'}", f"out={out}"]) == 2
    assert "holds another evaluation" in capsys.readouterr().err


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a few pictures of several sizes and kinds."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (64, 64)), ("b.jpg", (90, 70)), ("deep/c.png", (300, 200)), ("n.png", (32, 32))):
        Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(folder / name)
    (folder / "words.png").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "deep" / "c.png").read_bytes()[:500])
    return folder


def table(pictures: Path, *lines: str) -> Path:
    path = pictures.parent / "requests.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("file,AU1", "a.png,1"), "columns missing: unit"),
        (("file,unit", "a.png,u"), "has no column of an AU"),
        (("file,unit,AU1,AU7", "a.png,u,1,2"), "line 1: column AU7: is none of the AUs"),
        (("file,unit,AU1", "a.png,u,1", "b.jpg,u,5.5"), "line 3: AU1='5.5': must be a number in 0..5"),
        (("file,unit,AU1", "a.png,u,-1"), "line 2: AU1='-1': must be a number in 0..5"),
        (("file,unit,AU1", "a.png,u,strong"), "line 2: AU1='strong': must be a number"),
        (("file;unit;AU1", "a.png;u;1,5"), "with a point, not a comma"),
        (("file,unit,AU1", "a.png,u,inf"), "line 2: AU1='inf'"),
        (("file,unit,AU1", "a.png,u,1", "gone.png,u,1"), "line 3: file='gone.png': there is no such file"),
        (("file,unit,AU1", "words.png,u,1"), "line 2: file='words.png'"),
        (("file,unit,AU1", "cut.png,u,1"), "line 2: file='cut.png'"),
        (("file,unit,AU1", "deep,u,1"), "line 2: file='deep'"),
        (("file,unit,AU1", "a.png,u,1", "./a.png,u,2"), "line 3: file='./a.png': is named in line 2 already"),
        (("file,unit,AU1", ",u,1"), "line 2: file='': must not be empty"),
        (("file,unit,AU1", "a.png,,1"), "line 2: unit='': must not be empty"),
        (("file,unit,AU1,neutral", "a.png,u,1,none.png"), "line 2: neutral='none.png': there is no such file"),
        (("file,unit,AU1,neutral", "a.png,u,1,words.png"), "line 2: neutral='words.png'"),
        (("file,unit,AU1,source", "a.png,u,1,none.png"), "line 2: source='none.png': there is no such file"),
        (("file,unit,AU1", "a.png,u,1", "b.jpg,u,0", "n.png,u,0"), "has 2 neutral pictures (lines 3, 4)"),
        (("file,unit,AU1,kind", "a.png,u,1,smile"), "line 2: kind='smile': must be one of neutral"),
        (("file,unit,AU1,kind", "a.png,u,1,neutral"), "line 2: kind='neutral': does not fit"),
        (("file,unit,AU1,AU2,kind", "a.png,u,1,2,individual"), "line 2: kind='individual': does not fit"),
        (("file,unit,AU1,held_out", "a.png,u,1,maybe"), "line 2: held_out='maybe': must be true or false"),
        (("file,unit,AU1,held_out", "a.png,u,1,true", "b.jpg,u,1,false"), "line 2: held_out of unit='u' is true"),
        (("file,unit,AU1",), "holds no rows"),
        (("file,unit,AU1", "a.png,u"), "line 2: 2 cells"),
    ],
)  # fmt: skip
def test_faults_are_told_with_their_line(
    pictures: Path, lines: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(pictures, *lines)
    with pytest.raises(ValueError, match="requests") as refused:
        given_media(pictures, path)
    assert told in str(refused.value)
    assert str(path) in str(refused.value)


def test_the_verb_refuses_before_a_judge_is_asked(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(pictures, "file,unit,AU1", "a.png,u,9")
    given = [f"images={pictures}", f"requests={path}", f"out={tmp_path / 'out'}"]
    for arguments, told in (
        (given, "AU1='9'"),
        (given[:1], "requests=FILE.csv"),
        ([f"images={tmp_path / 'none'}", *given[1:]], "is no folder"),
        ([given[0], "requests=none.csv", given[2]], "requests=none.csv: is no file"),
        ([*given, "judge=none"], "judge=none measures nothing"),
        ([*given, "seed=1"], "does not read seed"),
    ):
        assert main(["judge", *arguments]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_left_open(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No neutral: CLIP-I is null, not 0; no single AU, or no combination: that kind has no numbers. Pictures of any
    size are read; columns that nothing reads are named."""
    path = table(pictures, "file,unit,AU1,au12,note", "a.png,one,2,,x", "b.jpg,two,4,nan,", "deep/c.png,two,0.5,0,")
    assert main(["judge", f"images={pictures}", f"requests={path}", f"out={tmp_path / 'out'}"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["individual"]["clip_i"]["value"] is None
    assert metrics["combination"] == {}
    assert metrics["per_au"]["AU1"]["zero_reading"] is None
    assert "columns that are not read: note" in caplog.text
    assert "2 of 2 units have no neutral picture (one, two)" in caplog.text
    assert "found no face in any picture" in caplog.text
    text = (tmp_path / "out" / "report.html").read_text()
    assert Page(text).tags.count("img") >= 3
    assert "Combinations of AUs" not in text

    path = table(pictures, "file,unit,AU1,AU2,neutral", "a.png,one,2,3,n.png", "b.jpg,two,4,1,a.png")
    assert main(["judge", f"images={pictures}", f"requests={path}", f"out={tmp_path / 'sets'}"]) == 0
    metrics = json.loads((tmp_path / "sets" / "metrics.json").read_text())
    assert metrics["individual"] == metrics["response_curve"] == {}
    assert 0 < metrics["combination"]["clip_i"]["value"] < 1
    assert Page((tmp_path / "sets" / "report.html").read_text()).tags.count("img") >= 4


def test_units_and_kinds(pictures: Path) -> None:
    path = table(
        pictures,
        "file,unit,AU1,AU2,prompt,source",
        "n.png,u10,,,a man,",
        "a.png,u10,1,0,a man,n.png",
        "b.jpg,u10,0,0.0,a man,",
        "deep/c.png,u9,1,2,,",
    )
    with pytest.raises(ValueError, match="name the one to compare with"):
        given_media(pictures, path)
    path.write_text(path.read_text().replace("b.jpg,u10", "b.jpg,u9"))
    frame = given_media(pictures, path).frame
    assert frame["kind"].tolist() == ["neutral", "individual", "neutral", "combination"]
    assert frame["neutral"].tolist() == ["n.png", "n.png", "b.jpg", "b.jpg"]
    assert frame["prompt_index"].tolist() == [1, 1, 0, 0]  # u9 before u10
    assert frame["prompt"].tolist() == ["a man", "a man", "a man", "u9"]
    assert frame["source"].fillna("").tolist() == ["", "n.png", "", ""]
    first = given_media(pictures, path).fingerprint
    Image.new("RGB", (64, 64), "red").save(pictures / "a.png")
    assert given_media(pictures, path).fingerprint != first
