"""What OpenFace wrote becomes rows like LibreFace's, or the file and line at fault are named."""

from pathlib import Path

import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.data.annotators.config import OpenFaceConfig
from fineface_train.data.annotators.openface import read_openface, stamp

ALL = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
HEADER = [
    "face",
    "confidence",
    *(f"{axis}_{index}" for axis in "xy" for index in range(68)),
    *(f"AU{au:02d}_r" for au in ALL),
    "AU12_c",
    "AU28_c",
]


def face(number: int = 0, confidence: float | str = 0.95, side: float = 100.0, **aus: float | str) -> dict[str, str]:
    """A row of FaceLandmarkImg for a face of that many pixels; AUs that are not named are 0."""
    spread = [side * index / 67 for index in range(68)]
    values = [number, confidence, *spread, *spread, *(aus.get(f"AU{au:02d}_r", 0.0) for au in ALL), 1, 0]
    return dict(zip(HEADER, map(str, values), strict=True))


def write(
    folder: Path, name: str, rows: list[dict[str, str]], *, separator: str = ", ", end: str = "\n", start: str = ""
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_of_details.txt").write_text(f"Input:{name}.jpg\n")
    lines = [rows[0].keys() if rows else HEADER, *(row.values() for row in rows)]
    (folder / f"{name}.csv").write_text(
        start + "".join(separator.join(line) + end for line in lines), encoding="utf-8", newline=""
    )


def read(folder: Path, *images: str, min_confidence: float = 0.7) -> list[dict]:
    return read_openface(
        [f"/data/images/{image}" for image in images],
        OpenFaceConfig(str(folder), min_confidence),
        "data.annotate.openface",
    )


@pytest.mark.parametrize("style", [{}, {"separator": ","}, {"separator": ";"}, {"end": "\r\n"}, {"start": "\ufeff"}])
def test_our_twelve_are_chosen_by_name(tmp_path: Path, style: dict[str, str]) -> None:
    write(tmp_path, "a", [face(AU01_r=1.25, AU12_r=5.0, AU26_r=0.5, AU45_r=3.0, AU07_r=2.0)], **style)
    assert read(tmp_path, "a.jpg") == [
        {"status": "ok"} | dict.fromkeys(AU_KEYS, 0.0) | {"AU1": 1.25, "AU12": 5.0, "AU26": 0.5}
    ]


def test_statuses(tmp_path: Path) -> None:
    small, large = face(0, side=80, AU04_r=1.0), face(1, side=120, AU04_r=2.0)
    write(tmp_path, "two", [small, large])
    write(tmp_path, "one_sure", [face(0, 0.3, side=200), small])
    write(tmp_path, "unsure", [face(confidence=0.69)])
    write(tmp_path, "frame", [{"frame": "1", "timestamp": "0", "success": "1"} | face()])
    write(tmp_path, "lost", [{"frame": "1", "timestamp": "0", "success": "0"} | face()])
    write(tmp_path, "header", [])
    (tmp_path / "nobody_of_details.txt").write_text("Input:nobody.png\n")
    rows = read(
        tmp_path, *(f"{name}.png" for name in ("two", "one_sure", "unsure", "frame", "lost", "header", "nobody"))
    )
    assert [row["status"] for row in rows] == ["several_faces", "ok", "no_face", "ok", "no_face", "no_face", "no_face"]
    assert [row["AU4"] for row in rows] == [2.0, 1.0, None, 0.0, None, None, None]
    assert read(tmp_path, "unsure.png", min_confidence=0.5)[0]["status"] == "ok"


def test_names_that_repeat_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for level, folder in enumerate(("SN001", "SN002", "left/SN002")):
        write(tmp_path / folder, "00000", [face(AU05_r=level)])
    write(tmp_path, "a.b", [face(AU05_r=4)])
    rows = read(tmp_path, "SN002/00000.png", "SN001/00000.png", "left/SN002/00000.png", "a.b.jpg", "SN001/00000.png")
    assert [row["AU5"] for row in rows] == [1.0, 0.0, 2.0, 4.0, 0.0]


def changed(**cells: str | None) -> list[dict[str, str]]:
    """A good row and one with other cells; None takes the column out of both."""
    rows = [face(0), face(1) | {key: cell for key, cell in cells.items() if cell is not None}]
    return [{key: cell for key, cell in row.items() if cells.get(key, "") is not None} for row in rows]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(AU01_r="5.2"), r"a\.csv, line 3: AU01_r='5.2' is no number in 0\.\.5"),
        (changed(AU01_r="-0.1"), "line 3: AU01_r='-0.1'"),
        ([face(AU26_r="-nan(ind)")], r"line 2: AU26_r='-nan\(ind\)' is no number in 0\.\.5$"),
        ([face(), face(1, side=120) | {"AU26_r": "nan"}], "line 3: AU26_r='nan'"),
        (
            [face(AU26_r="5.06")],
            r"line 2: AU26_r='5.06' is no number in 0\.\.5; where 5 is not the strongest, data\.annotate\.scale says "
            r"what is",
        ),
        (changed(AU26_r=""), "line 3: AU26_r=''"),
        (changed(AU09_r="strong"), "line 3: AU09_r='strong'"),
        (changed(confidence="1.5"), r"line 3: confidence='1.5' is no number in 0\.\.1"),
        (changed(x_4="inf"), "line 3: x_4='inf'"),
        (
            changed(AU09_r=None, AU20_r=None),
            r"a\.csv: columns missing: AU09_r, AU20_r; write them with `FaceLandmarkImg .* -aus",
        ),
        (changed(confidence=None), "columns missing: confidence"),
        (changed(x_0=None), "line 2: which of several faces is the largest, only landmarks tell"),
        ([{"frame": str(number)} | face() for number in (1, 2)], "has 2 frames, so it is of a video"),
        ([face(), dict.fromkeys(HEADER[:-1], "0")], "line 3: more or fewer cells than columns"),
        ([face(), face() | {"more": "1"}], "line 3: more or fewer cells than columns"),
    ],
)
def test_what_cannot_be_right_is_named(rows: list[dict[str, str]], message: str, tmp_path: Path) -> None:
    write(tmp_path, "a", rows)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "a.jpg")


def test_files_that_are_no_csv_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00 zip")
    with pytest.raises(ValueError, match=r"a\.csv: cannot be read as CSV"):
        read(tmp_path, "a.jpg")
    (tmp_path / "a.csv").write_bytes(b"\n")
    with pytest.raises(ValueError, match=r"a\.csv: columns missing: confidence, AU01_r"):
        read(tmp_path, "a.jpg")


def test_a_cause_that_is_in_every_file_is_told_once(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, name, [face(AU12_r=7.5)])
    with pytest.raises(
        ValueError, match=r"a\.csv, line 2: AU12_r='7\.5' .* \(3 of 3 files cannot be used, this is the first\)$"
    ):
        read(tmp_path, "a.jpg", "b.jpg", "c.jpg")


@pytest.mark.parametrize("nothing", ["nan", "-nan", "-nan(ind)", "inf", "-inf", "-1.#IND"])
def test_what_is_no_number_in_a_face_that_does_not_count_does_not_matter(nothing: str, tmp_path: Path) -> None:
    void = dict.fromkeys([*HEADER[2:-2]], nothing)
    write(tmp_path, "unsure", [face(0, 0.02) | void])
    write(tmp_path, "diverged", [face(0) | void | {"confidence": nothing}])
    write(tmp_path, "lost", [{"frame": "1", "success": "0"} | face() | void])
    write(tmp_path, "lost_too", [{"frame": "1", "success": "0"} | face() | void | {"confidence": nothing}])
    write(tmp_path, "beside", [face(0, 0.02) | void, face(1, AU12_r=2.5), face(2, 0.3) | void])
    write(tmp_path, "behind", [face(0, side=90) | {"AU12_r": nothing}, face(1, side=95, AU12_r=1.5)])
    rows = read(tmp_path, "unsure.jpg", "diverged.jpg", "lost.jpg", "lost_too.jpg", "beside.jpg", "behind.jpg")
    assert [row["status"] for row in rows] == ["no_face"] * 4 + ["ok", "several_faces"]
    assert [row["AU12"] for row in rows[4:]] == [2.5, 1.5]


def test_faces_of_one_frame_are_no_video(tmp_path: Path) -> None:
    """FaceLandmarkVidMulti writes frame and face_id for each."""
    write(
        tmp_path,
        "a",
        [
            {"frame": "1", "face_id": str(number), "success": "1"} | face(side=50 + number, AU12_r=number)
            for number in range(3)
        ],
    )
    assert [(row["status"], row["AU12"]) for row in read(tmp_path, "a.jpg")] == [("several_faces", 2.0)]


def test_what_is_taken_otherwise_than_written_is_told_with_its_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a", [face(AU12_r=5.01, AU01_r=-0.01, AU04_r=5.05)])
    write(tmp_path, "b", [face(AU12_r="5.004")])
    (tmp_path / "c.csv").write_bytes(b"")
    (tmp_path / "d.csv").write_bytes(b"")
    write(tmp_path, "e", [face(confidence="nan")])
    rows = read(tmp_path, *(f"{name}.jpg" for name in "abcde"))
    assert [row["AU12"] for row in rows] == [5.0, 5.0, None, None, None]
    assert (rows[0]["AU1"], rows[0]["AU4"]) == (0.0, 5.0)
    for told in (
        "4 AUs lie beyond 0..5 by rounding",
        "2 files are empty, and taken for images without a face",
        "1 faces have no number for their confidence",
    ):
        assert told in caplog.text


def test_images_that_openface_has_not_seen_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "SN001", "00000", [face()])
    with pytest.raises(ValueError, match=r"has not seen 2 of 3 images, the first is /data/images/SN002/00000\.png"):
        read(tmp_path, "SN001/00000.png", "SN002/00000.png", "b.png")
    write(tmp_path, "b", [face()])
    with pytest.raises(ValueError, match=r"b\.csv: of /data/images/1/b\.png or of /data/images/2/b\.png\?"):
        read(tmp_path, "1/b.png", "2/b.png")
    with pytest.raises(ValueError, match=r"data\.annotate\.openface\.folder=None: is no folder"):
        read_openface([], OpenFaceConfig(), "data.annotate.openface")


def test_the_stamp_follows_the_files(tmp_path: Path) -> None:
    config = OpenFaceConfig(str(tmp_path))
    (tmp_path / "out.zip").write_bytes(b"PK")
    with pytest.raises(
        ValueError,
        match=r"openface\.folder=.*: holds nothing that OpenFace wrote .* .*out\.zip is still packed: unpack it",
    ):
        stamp(config, "openface")
    write(tmp_path, "a", [face()])
    first = stamp(config, "openface")
    assert stamp(config, "openface") == first
    write(tmp_path, "a", [face(AU12_r=1.5)])
    assert stamp(config, "openface") != first


def test_config_values_out_of_range_are_named() -> None:
    OpenFaceConfig().validate("openface")
    with pytest.raises(ValueError, match=r"openface\.min_confidence=95: must lie in 0\.\.1"):
        OpenFaceConfig(min_confidence=95).validate("openface")
