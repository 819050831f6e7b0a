"""What OpenFace wrote becomes rows like LibreFace's, or the file and line at fault are named."""

from pathlib import Path

import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.data.openface import OpenFaceConfig, read_openface, stamp

ALL = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
HEADER = ["face", "confidence", *(f"{axis}_{index}" for axis in "xy" for index in range(68)), *(f"AU{au:02d}_r" for au in ALL), "AU12_c", "AU28_c"]


def face(number: int = 0, confidence: float = 0.95, side: float = 100.0, **aus: float) -> dict[str, str]:
    """A row of FaceLandmarkImg for a face of that many pixels; AUs that are not named are 0."""
    spread = [side * index / 67 for index in range(68)]
    values = [number, confidence, *spread, *spread, *(aus.get(f"AU{au:02d}_r", 0.0) for au in ALL), 1, 0]
    return dict(zip(HEADER, map(str, values), strict=True))


def write(folder: Path, name: str, rows: list[dict[str, str]], *, separator: str = ", ", end: str = "\n", start: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_of_details.txt").write_text(f"Input:{name}.jpg\n")
    lines = [rows[0].keys() if rows else HEADER, *(row.values() for row in rows)]
    (folder / f"{name}.csv").write_text(start + "".join(separator.join(line) + end for line in lines), encoding="utf-8", newline="")


def read(folder: Path, *images: str, min_confidence: float = 0.7) -> list[dict]:
    return read_openface([f"/data/images/{image}" for image in images], OpenFaceConfig(str(folder), min_confidence), "data.annotate.openface")


@pytest.mark.parametrize("style", [{}, {"separator": ","}, {"end": "\r\n"}, {"start": "\ufeff"}])
def test_our_twelve_are_chosen_by_name(tmp_path: Path, style: dict[str, str]) -> None:
    write(tmp_path, "a", [face(AU01_r=1.25, AU12_r=5.0, AU26_r=0.5, AU45_r=3.0, AU07_r=2.0)], **style)
    assert read(tmp_path, "a.jpg") == [{"status": "ok"} | dict.fromkeys(AU_KEYS, 0.0) | {"AU1": 1.25, "AU12": 5.0, "AU26": 0.5}]


def test_statuses(tmp_path: Path) -> None:
    small, large = face(0, side=80, AU04_r=1.0), face(1, side=120, AU04_r=2.0)
    write(tmp_path, "two", [small, large])
    write(tmp_path, "one_sure", [face(0, 0.3, side=200), small])
    write(tmp_path, "unsure", [face(confidence=0.69)])
    write(tmp_path, "frame", [{"frame": "1", "timestamp": "0", "success": "1"} | face()])
    write(tmp_path, "lost", [{"frame": "1", "timestamp": "0", "success": "0"} | face()])
    write(tmp_path, "header", [])
    (tmp_path / "nobody_of_details.txt").write_text("Input:nobody.png\n")
    rows = read(tmp_path, *(f"{name}.png" for name in ("two", "one_sure", "unsure", "frame", "lost", "header", "nobody")))
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
        (changed(AU26_r="nan"), "line 3: AU26_r='nan'"),
        (changed(AU26_r=""), "line 3: AU26_r=''"),
        (changed(AU09_r="strong"), "line 3: AU09_r='strong'"),
        (changed(confidence="1.5"), r"line 3: confidence='1.5' is no number in 0\.\.1"),
        (changed(confidence="-nan(ind)"), "line 3: confidence='-nan"),
        (changed(x_4="inf"), "line 3: x_4='inf'"),
        (changed(AU09_r=None, AU20_r=None), r"a\.csv: columns missing: AU09_r, AU20_r; write them with `FaceLandmarkImg .* -aus"),
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
    (tmp_path / "a.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.csv: columns missing: confidence, AU01_r"):
        read(tmp_path, "a.jpg")


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
    write(tmp_path, "a", [face()])
    config = OpenFaceConfig(str(tmp_path))
    first = stamp(config, "openface")
    assert stamp(config, "openface") == first
    write(tmp_path, "a", [face(AU12_r=1.5)])
    assert stamp(config, "openface") != first


def test_config_values_out_of_range_are_named() -> None:
    OpenFaceConfig().validate("openface")
    with pytest.raises(ValueError, match=r"openface\.min_confidence=95: must lie in 0\.\.1"):
        OpenFaceConfig(min_confidence=95).validate("openface")
