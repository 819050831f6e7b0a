"""`fineface prepare` on miniatures of DISFA and AffectNet with one thing wrong: what can be read is read, all else is
told by name, nothing crashes."""

import dataclasses
import pickle
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AUS
from fineface_train.cli import main
from fineface_train.data.prepared import read_manifest
from fineface_train.data.table import SampleTable
from tests.data.rar_writer import Member, write_rar

CSV = "affectnet/affecnet_metadata.csv"
GOOD = 6
"""A row of AffectNet's CSV that no filter drops."""
OFF = ["data.disfa=null"]
PICKLE = ["data=manipulation", "data.manipulation.root={root}/faces"]
OURS = [*PICKLE, "data.manipulation.aus=[1,2,4,5,6,9,12,15,17,20,25,26]"]
SKIP = ["data.skip_broken=true"]


@dataclasses.dataclass
class Case:
    """What is done to the miniatures; what is then printed (refused), or how the table differs from that of the
    miniatures as they were."""

    name: str
    spoil: Callable[[Path], None]
    refused: str | None = None
    lost: int = 0
    told: str = ""
    overrides: list[str] = dataclasses.field(default_factory=list)


def subject(root: Path) -> str:
    return sorted(path.name for path in (root / "disfa" / "frames").iterdir())[0]


def labels(change: Callable[[list[str]], list[str]], au: int = 12) -> Callable[[Path], None]:
    """Changes the lines of one label file."""

    def spoil(root: Path) -> None:
        path = label_file(root, au)
        path.write_text("\n".join(change(path.read_text().splitlines())))

    return spoil


def label_file(root: Path, au: int = 12) -> Path:
    name = subject(root)
    return root / "disfa" / "ActionUnit_Labels" / name / f"{name}_au{au}.txt"


def line(number: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[: number - 1], text, *lines[number:]]


ONCE = r" \(the same in 36 files of 3 subjects\)"
COMMON = ["data.disfa.mismatch=common"]


def every(change: Callable[[list[str]], list[str]], encoding: str = "utf-8") -> Callable[[Path], None]:
    """Changes the lines of all label files alike."""

    def spoil(root: Path) -> None:
        for path in sorted((root / "disfa" / "ActionUnit_Labels").rglob("*.txt")):
            path.write_bytes(("\n".join(change(path.read_text().splitlines())) + "\n").encode(encoding))

    return spoil


def packed(folder: str, suffix: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        shutil.rmtree(root / "disfa" / folder)
        (root / "disfa" / f"{folder}{suffix}").write_bytes(b"not looked into")

    return spoil


def all_packed(root: Path) -> None:
    shutil.rmtree(root / "disfa")
    (root / "disfa").mkdir()
    (root / "disfa" / "DISFA.zip").write_bytes(b"not looked into")


def moved(before: str, after: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / after).parent.mkdir(parents=True, exist_ok=True)
        (root / before).rename(root / after)

    return spoil


def disfa_plus(root: Path) -> None:
    shutil.rmtree(root / "disfa" / "ActionUnit_Labels")
    for part, name, text in (("Labels", "AU1.txt", "000.jpg 0\n"), ("Images", "000.jpg", "")):
        folder = root / "disfa" / part / "SN001" / "A1_AU1_TrailNo_1"
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
    shutil.rmtree(root / "disfa" / "Images")


def flat_labels(root: Path) -> None:
    folder = root / "disfa" / "ActionUnit_Labels"
    for path in list(folder.rglob("*.txt")):
        path.rename(folder / path.name)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def capitals(root: Path) -> None:
    for path in list((root / "disfa" / "frames").rglob("*.png")):
        path.rename(path.with_suffix(".PNG"))


def last_frame(root: Path) -> None:
    max((root / "disfa" / "frames" / subject(root)).iterdir()).unlink()


def litter(root: Path) -> None:
    """What people and systems leave behind."""
    folder = root / "disfa" / "ActionUnit_Labels"
    for name in ("SN001.zip", "SN001_notes.txt", "Thumbs.db", "._SN001"):
        (folder / name).write_bytes(b"x")
    (folder / "SN001" / "broken.txt").symlink_to("nowhere")


def frames_deeper(root: Path) -> None:
    frames = root / "disfa" / "frames"
    frames.rename(root / "disfa" / "aside")
    frames.mkdir()
    (root / "disfa" / "aside").rename(frames / "frames")


def frame(change: Callable[[Path], None], number: int = 3) -> Callable[[Path], None]:
    return lambda root: change(sorted((root / "disfa" / "frames" / subject(root)).iterdir())[number])


def captions(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    return in_file("disfa/disfa_captions.csv", lambda text: "\n".join(change(text.splitlines())) + "\n")


def of_subjects_only(rows: list[str]) -> list[str]:
    """Without frames, the last one first."""
    told = [row.split(",", 2) for row in rows[:0:-1]]
    return ["subject,caption", *(f"{subject},{caption}" for subject, _, caption in told)]


def from_zero(rows: list[str]) -> list[str]:
    told = [row.split(",", 2) for row in rows[1:]]
    return [rows[0], *(f"{subject},{int(number) - 1},{caption}" for subject, number, caption in told)]


def in_file(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(change((root / name).read_text()))


def as_bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes()))


def windows(data: bytes) -> bytes:
    """With a byte order mark and CRLF."""
    return b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")


def table(change: Callable[[pd.DataFrame], pd.DataFrame | None], **options: object) -> Callable[[Path], None]:
    """Changes AffectNet's CSV."""

    def spoil(root: Path) -> None:
        rows = pd.read_csv(root / CSV, dtype=str, keep_default_na=False)
        changed = change(rows)
        (rows if changed is None else changed).to_csv(root / CSV, index=False, **options)

    return spoil


def cell(column: str, value: str) -> Callable[[Path], None]:
    return table(lambda rows: rows.__setitem__(column, rows[column].where(rows.index != GOOD, value)))


def prefixed(text: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda rows: rows.assign(ImageName=text + rows["ImageName"])


def no_flags_without_a_face(rows: pd.DataFrame) -> pd.DataFrame:
    empty = rows["HasFace"] == "False"
    assert empty.any()
    return rows.assign(IsPhoto=rows["IsPhoto"].mask(empty, ""), IsReal=rows["IsReal"].mask(empty, ""))


def twice(rows: pd.DataFrame) -> pd.DataFrame:
    """One image by two spellings of its name."""
    return pd.concat([rows, rows.iloc[[GOOD]].assign(ImageName="./" + rows["ImageName"][GOOD])])


def deeper(root: Path) -> None:
    """As an archive is unpacked."""
    images = root / "affectnet" / "images"
    images.rename(root / "affectnet" / "aside")
    (images / "Manually_Annotated").mkdir(parents=True)
    (root / "affectnet" / "aside").rename(images / "Manually_Annotated" / "Manually_Annotated_Images")
    (images / "Thumbs.db").write_bytes(b"x")


def upper_case(root: Path) -> None:
    for path in (root / "affectnet" / "images").rglob("*.png"):
        path.rename(path.with_name(path.name.upper()))


def two_extensions(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".jpg"))
    path.rename(path.with_suffix(".jpeg"))


def zipped(path: Path) -> None:
    """In its place."""
    shutil.make_archive(str(path), "zip", path.parent, path.name)
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def on_scale(scale: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    levels = [f"AU{au}_rec" for au in AUS]
    return lambda rows: rows.assign(
        **{key: [str(float(text) * scale) if text else "" for text in rows[key]] for key in levels}
    )


def image(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Changes the image of a row of AffectNet's that is used."""

    def spoil(root: Path) -> None:
        change(root / "affectnet" / "images" / pd.read_csv(root / CSV)["ImageName"][GOOD])

    return spoil


def saved(convert: Callable[[Image.Image], Image.Image], kind: str, **options: object) -> Callable[[Path], None]:
    """Stores the image otherwise, under its old name."""

    def change(path: Path) -> None:
        with Image.open(path) as opened:
            convert(opened.convert("RGB")).save(path, kind, **options)

    return image(change)


def bomb(path: Path) -> None:
    """A PNG of 70 bytes that says it has 2.5 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def grey16(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def archived(*members: Member, cut: int | None = None, without: int | None = None) -> Callable[[Path], None]:
    """AffectNet's images in RAR volumes."""

    def spoil(root: Path) -> None:
        images = root / "affectnet" / "images"
        own = [Member(path.relative_to(images).as_posix(), path.read_bytes()) for path in sorted(images.rglob("*.png"))]
        volumes = write_rar(root / "affectnet" / "faces.part1.rar", [*own, *members], volume_size=100_000)
        if cut is not None:
            volumes[-1].write_bytes(volumes[-1].read_bytes()[:cut])
        if without is not None:
            volumes[without].unlink()
        shutil.rmtree(images)

    return spoil


def pickled(value: Callable[[str], object]) -> Callable[[Path], None]:
    """A list of images with AUs, of one image."""

    def spoil(root: Path) -> None:
        (root / "faces").mkdir()
        found = sorted((root / "affectnet" / "images").rglob("*.png"))[0]
        shutil.copy(found, root / "faces" / "0.png")
        (root / "faces" / "aus_dataset.pkl").write_bytes(pickle.dumps(value("0.png")))

    return spoil


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.mkdir, (Path("pwned"),))


RAR = [*OFF, "data.affectnet.images=faces.part1.rar"]
CASES = [
    # DISFA's labels
    Case("label_file_missing", lambda root: label_file(root).unlink(), r"SN001_au12\.txt: missing"),
    Case("label_file_empty", lambda root: label_file(root).write_bytes(b""), r"_au12\.txt"),
    Case(
        "label_file_of_another_program",
        lambda root: label_file(root).write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00"),
        r"_au12\.txt",
    ),
    Case("label_in_words", labels(line(4, "4,strong")), r"_au12\.txt, line 4.*strong"),
    Case("label_of_6", labels(line(4, "4,6")), r"_au12\.txt, line 4.*6"),
    Case("label_below_0", labels(line(4, "4,-1")), r"_au12\.txt, line 4.*-1"),
    Case("label_nan", labels(line(4, "4,nan")), r"_au12\.txt, line 4.*nan"),
    Case("label_between_levels", labels(line(4, "4,2.5")), r"_au12\.txt, line 4.*2\.5"),
    Case("label_of_two_columns_more", labels(line(4, "4,2,1,1")), r"_au12\.txt, line 4"),
    Case("frame_twice", labels(line(4, "3,2")), r"_au12\.txt, line 4.*frame 3 stands in line 3 already"),
    Case("frames_go_back", labels(lambda lines: lines[::-1]), r"_au12\.txt, line 2.*frame 11 comes after frame 12"),
    Case(
        "frame_missing",
        labels(lambda lines: [*lines[:3], *lines[4:]]),
        r"_au12\.txt, line 4: frame 4 is missing before it",
    ),
    Case(
        "frames_counted_from_0",
        labels(lambda lines: [f"{number},{text.split(',')[1]}" for number, text in enumerate(lines)]),
        r"first_label",
    ),
    Case(
        "every_label_file_counted_from_0",
        every(lambda lines: [f"{n},{text.split(',')[1]}" for n, text in enumerate(lines)]),
        ONCE + r".*; data\.disfa\.first_label=0 would fit$",
    ),
    Case(
        "every_label_file_of_one_column",
        every(lambda lines: [text.split(",")[1] for text in lines]),
        r"line 1: '\d': must read .* 11 more such lines\)" + ONCE + ".*awk",
    ),
    Case(
        "every_label_file_of_three_columns",
        every(lambda lines: [f"{text},1" for text in lines]),
        r"line 1: '1,\d,1': must read .*" + ONCE,
    ),
    Case(
        "every_label_below_0",
        every(lambda lines: [text.split(",")[0] + ",-1" for text in lines]),
        r"line 1: '1,-1': the intensity must lie in 0\.\.5 .*" + ONCE,
    ),
    Case("every_label_file_with_a_header", every(lambda lines: ["frame,intensity", *lines])),
    Case("every_label_file_in_utf_16", every(lambda lines: lines, encoding="utf-16")),
    Case(
        "every_label_file_in_latin_1",
        every(lambda lines: [*lines, "\xe9"], encoding="latin-1"),
        r"is no UTF-8 text .*" + ONCE + ".*save it as plain text",
    ),
    Case("every_label_a_float", every(lambda lines: [f"{text}.0;" for text in lines])),
    Case(
        "every_label_file_quoted_with_bom",
        every(lambda lines: ['"' + text.replace(",", '","') + '"\r' for text in lines], encoding="utf-8-sig"),
    ),
    Case(
        "first_label_of_files_from_1",
        lambda root: None,
        ONCE + r".*data\.disfa\.first_label=1 would fit",
        overrides=["data.disfa.first_label=0"],
    ),
    Case(
        "labels_zipped", packed("ActionUnit_Labels", ".zip"), r"ActionUnit_Labels\.zip is still packed: unpack it there"
    ),
    Case("all_in_a_zip", all_packed, r"DISFA\.zip is still packed: unpack what holds it"),
    Case("frames_in_a_rar", packed("frames", ".rar"), r"frames\.rar is still packed: unpack it there"),
    Case(
        "labels_called_otherwise",
        moved("disfa/ActionUnit_Labels", "disfa/AU/Labels"),
        r"AU/Labels holds such files: set data\.disfa\.labels=AU/Labels",
    ),
    Case(
        "a_folder_too_high",
        lambda root: None,
        r"disfa/ActionUnit_Labels is it: set data\.disfa\.root=.*/disfa\.",
        overrides=["data.disfa.root={root}"],
    ),
    Case(
        "a_folder_too_low",
        lambda root: None,
        r"disfa holds it: set data\.disfa\.root=.*/disfa\.",
        overrides=["data.disfa.root={root}/disfa/frames"],
    ),
    Case("disfa_plus", disfa_plus, r"Labels/SN001/A1_AU1_TrailNo_1 is a trial of DISFA\+, another data set"),
    Case(
        "disfa_plus_named",
        disfa_plus,
        r"A1_AU1_TrailNo_1 is a trial of DISFA\+, another data set",
        overrides=["data.disfa.labels=Labels"],
    ),
    Case(
        "labels_without_folders",
        flat_labels,
        r"holds no folder per subject .*SN001_au1\.txt.*; a subject's files belong into a folder",
    ),
    Case("frames_called_jpg_in_capitals", capitals),
    Case(
        "spans_of_nobody",
        lambda root: None,
        r"data\.disfa\.spans: 'SN1:1\.\.12': must read like",
        overrides=["data.disfa.spans=[SN1:1..12]"],
    ),
    Case(
        "last_frame_missing",
        last_frame,
        r"nothing tells \(to compare: AU\d+ goes from .*data\.disfa\.spans=\[SUBJECT:FIRST\.\.LAST\]",
        overrides=COMMON,
    ),
    Case("labels_by_semicolon", labels(lambda lines: [text.replace(",", ";") for text in lines])),
    Case("labels_with_bom_and_crlf", lambda root: label_file(root).write_bytes(windows(label_file(root).read_bytes()))),
    Case("a_subject_without_labels", lambda root: shutil.rmtree(label_file(root).parent), r"SN\d{3}"),
    # DISFA's pictures
    Case("frame_image_missing", frame(Path.unlink), r"SN\d{3}.*\b1\b"),
    Case("one_image_more", frame(lambda path: shutil.copy(path, path.with_name("00999.png"))), r"SN\d{3}"),
    Case(
        "frame_cut_off",
        frame(lambda path: path.write_bytes(path.read_bytes()[:200])),
        lost=1,
        told="cannot be read",
        overrides=SKIP,
    ),
    Case(
        "pattern_of_no_file",
        lambda root: None,
        r"data\.disfa\.image_pattern",
        overrides=["data.disfa.image_pattern='{subject}/{index}.tif'"],
    ),
    Case("labels_with_litter", litter),
    Case("frames_a_folder_deeper", frames_deeper),
    # DISFA's captions
    Case("captions_missing", lambda root: (root / "disfa/disfa_captions.csv").unlink(), r"data\.disfa\.captions"),
    Case(
        "captions_without_a_column",
        captions(lambda rows: [rows[0].replace("caption", "text"), *rows[1:]]),
        r"disfa_captions\.csv: columns missing: caption",
    ),
    Case("caption_twice", captions(lambda rows: [*rows, rows[1]]), r"disfa_captions\.csv, line"),
    Case(
        "caption_missing",
        captions(lambda rows: rows[:-1]),
        r"disfa_captions\.csv: 1 of 35 frames have no caption, the first is SN003, frame 12",
    ),
    Case("captions_by_another_case", captions(lambda rows: ["Subject,FRAME,Caption", *rows[:0:-1]])),
    Case("captions_of_shuffled_subjects", captions(of_subjects_only), r"line 2: subject='SN003'.*of another subject"),
    Case(
        "captions_with_a_frame_alone",
        captions(lambda rows: [row.partition(",")[2] for row in rows]),
        r"has a column frame but none that is called subject",
    ),
    Case(
        "captions_counted_from_0",
        captions(from_zero),
        r"disfa_captions\.csv, line 2: frame='0': must be a number, counted from 1 .*; add 1 to every frame",
    ),
    Case(
        "caption_of_nan",
        captions(lambda rows: [*rows[:-1], ",".join([*rows[-1].split(",")[:2], "NaN"])]),
        r"1 of 35 frames have no caption",
    ),
    # AffectNet's CSV
    Case("csv_by_semicolon", table(lambda rows: None, sep=";")),
    Case("csv_by_tab", table(lambda rows: None, sep="\t")),
    Case("csv_with_bom_and_crlf", as_bytes(CSV, windows)),
    Case("csv_with_a_column_more", table(lambda rows: rows.assign(note="x"))),
    Case("csv_with_blank_lines", in_file(CSV, lambda text: text.replace("\n", "\n\n"))),
    Case(
        "csv_without_a_column",
        table(lambda rows: rows.drop(columns="AU6_rec")),
        r"affecnet_metadata\.csv: columns missing: AU6_rec",
    ),
    Case(
        "csv_with_a_column_twice",
        in_file(CSV, lambda text: text.replace("AU6_rec", "AU4_rec", 1)),
        r"columns missing: AU6_rec|AU4_rec occurs twice",
    ),
    Case(
        "row_with_a_cell_more",
        in_file(CSV, lambda text: "\n".join(line(7, text.splitlines()[6] + ",1")(text.splitlines()))),
        r"line 7: \d+ cells",
    ),
    Case("row_cut_off", in_file(CSV, lambda text: text[:-40]), r"line 61: cannot be read as CSV"),
    Case("intensity_nan", cell("AU12_rec", "nan"), rf"line {GOOD + 2}: AU12_rec='nan': must be a number in 0\.\.1"),
    Case("intensity_empty", cell("AU12_rec", ""), rf"line {GOOD + 2}: AU12_rec=''"),
    Case("intensity_over_1", cell("AU12_rec", "3.5"), rf"line {GOOD + 2}: AU12_rec='3\.5'"),
    Case("intensity_below_0", cell("AU12_rec", "-0.1"), rf"line {GOOD + 2}: AU12_rec='-0\.1'"),
    Case("intensity_infinite", cell("AU12_rec", "inf"), rf"line {GOOD + 2}: AU12_rec='inf'"),
    Case("intensity_with_a_comma", cell("AU12_rec", "0,3"), rf"line {GOOD + 2}: AU12_rec='0,3'"),
    Case(
        "flag_neither_true_nor_false",
        cell("IsPhoto", "maybe"),
        rf"line {GOOD + 2}: IsPhoto='maybe': must be True or False",
    ),
    Case("flags_empty_without_a_face", table(no_flags_without_a_face)),
    Case("size_in_words", cell("ImageResolutionX", "large"), rf"line {GOOD + 2}: ImageResolutionX='large'"),
    Case(
        "rows_twice",
        table(lambda rows: pd.concat([rows, rows.iloc[[GOOD]]])),
        told="1 row repeats another in all that is used, and is left out: '1/",
    ),
    Case(
        "rows_twice_with_other_aus",
        table(lambda rows: pd.concat([rows, rows.iloc[[GOOD]].assign(AU12_rec="0.9")])),
        rf"line 62: ImageName=.* occurs twice, first in line {GOOD + 2}, with another AU12; remove the rows that are "
        rf"wrong",
    ),
    Case(
        "name_out_of_the_folder",
        cell("ImageName", "../../etc/passwd"),
        rf"line {GOOD + 2}: ImageName='\.\./\.\./etc/passwd': must lie below",
    ),
    Case(
        "name_absolute", cell("ImageName", "/etc/passwd"), rf"line {GOOD + 2}: ImageName='/etc/passwd': must lie below"
    ),
    Case("csv_empty", as_bytes(CSV, lambda data: b""), r"affecnet_metadata\.csv"),
    Case(
        "csv_of_a_header_only",
        in_file(CSV, lambda text: text.splitlines()[0] + "\n"),
        r"affecnet_metadata\.csv: holds no rows",
    ),
    Case("quotes_in_a_caption", cell("TextDescription", 'a man said "hello"')),
    Case(
        "quote_opened_by_hand",
        in_file(CSV, lambda text: text + '"'),
        r"affecnet_metadata\.csv, line 62: cannot be read as CSV",
    ),
    Case("caption_in_latin_1", as_bytes(CSV, lambda data: data.replace(b" hair", b" h\xe4ir")), r"is not UTF-8"),
    Case("csv_in_utf_16", as_bytes(CSV, lambda data: data.decode().encode("utf-16"))),
    Case("csv_of_excel", as_bytes(CSV, lambda data: b"sep=,\r\n" + data)),
    Case(
        "csv_with_a_header_in_capitals",
        in_file(CSV, lambda text: "\n".join([text.splitlines()[0].upper(), *text.splitlines()[1:]])),
    ),
    Case(
        "csv_with_empty_lines_of_a_spreadsheet",
        in_file(CSV, lambda text: text + 3 * ("," * text.splitlines()[0].count(",") + "\n")),
    ),
    Case(
        "csv_without_a_header",
        in_file(CSV, lambda text: text.partition("\n")[2]),
        r"line 1: .*put back the line of columns .*: ImageName,HasFace,.*sed",
    ),
    Case(
        "csv_zipped",
        lambda root: zipped(root / CSV),
        r"affecnet_metadata\.csv does not exist; .*affecnet_metadata\.csv\.zip is still packed.*`unzip ",
    ),
    Case(
        "aus_from_0_to_5",
        table(on_scale(5)),
        r"AU1_rec='.*': must be a number in 0\.\.1; the AUs go up to 5: .*set data\.affectnet\.scale=5",
    ),
    Case("aus_from_0_to_5_said", table(on_scale(5)), overrides=["data.affectnet.scale=5"]),
    Case(
        "aus_beyond_by_rounding",
        cell("AU12_rec", "-0.0001"),
        told="1 AUs lie beyond 0..1 by rounding, and are taken for its ends",
    ),
    Case("no_caption", cell("TextDescription", " "), lost=1, told="no caption 1"),
    Case("no_caption_but_nan", cell("TextDescription", "nan"), lost=1, told="no caption 1"),
    Case("caption_of_several_lines", cell("TextDescription", "a man\nin a hat")),
    # images
    Case("image_missing", image(Path.unlink), r"1 of \d+ images are missing"),
    Case("image_missing_and_skipped", image(Path.unlink), lost=1, told="image is missing 1", overrides=SKIP),
    Case(
        "image_of_another_extension",
        image(lambda path: path.rename(path.with_suffix(".JPG"))),
        told="1 of 47 images are found in another folder",
    ),
    Case(
        "images_in_capitals",
        upper_case,
        told="47 of 47 images are found in another folder than the list says, or in another case or suffix",
    ),
    Case(
        "image_of_two_extensions",
        image(two_extensions),
        r"1 of 47 names of the list fit several files, such as .*\.jpeg, .*\.jpg\); remove",
    ),
    Case("images_deep_down", lambda root: [deeper(root), deeper(root)]),
    Case(
        "an_image_more",
        lambda root: shutil.copy(__file__, root / "affectnet/images/x.jpg"),
        told="1 images are in no row of affecnet_metadata.csv, and not",
    ),
    Case(
        "names_of_another_machine",
        table(prefixed("/home/somebody/AffectNet/")),
        told="begin with '/home/somebody/AffectNet/', which is taken off",
    ),
    Case(
        "names_of_a_windows_machine",
        table(prefixed("D:\\data\\AffectNet\\")),
        told="begin with 'D:/data/AffectNet/', which is taken off",
    ),
    Case(
        "names_with_a_folder_more",
        table(prefixed("Manually_Annotated/a/")),
        told="begin with 'Manually_Annotated/a/', which is taken off",
    ),
    Case(
        "images_zipped",
        lambda root: zipped(root / "affectnet/images"),
        r"images=images: .*images\.zip is still packed: unpack it, such as by `unzip",
    ),
    Case(
        "root_too_high",
        lambda root: None,
        r"affectnet has it: set data\.affectnet\.root",
        overrides=["data.affectnet.root={root}"],
    ),
    Case(
        "root_too_low",
        lambda root: None,
        r"affectnet has it: set data\.affectnet\.root",
        overrides=["data.affectnet.root={root}/affectnet/images"],
    ),
    Case("images_a_folder_deeper", deeper),
    Case("names_of_windows", table(lambda rows: rows.assign(ImageName=rows["ImageName"].str.replace("/", "\\")))),
    Case("names_with_a_dot", table(prefixed("./"))),
    Case(
        "names_of_one_image_twice", table(twice), told="1 row repeats another in all that is used, and is left out: '1/"
    ),
    Case("name_empty", cell("ImageName", ""), rf"line {GOOD + 2}: ImageName='': must name an image"),
    Case("image_is_a_folder", image(folder_instead), r"1 of \d+ images are missing"),
    Case(
        "image_cut_off",
        image(lambda path: path.write_bytes(path.read_bytes()[:200])),
        lost=1,
        told="cannot be read",
        overrides=SKIP,
    ),
    Case(
        "image_of_zero_bytes", image(lambda path: path.write_bytes(b"")), lost=1, told="cannot be read", overrides=SKIP
    ),
    Case(
        "image_is_a_page",
        image(lambda path: path.write_text("<html>404</html>")),
        lost=1,
        told="cannot be read",
        overrides=SKIP,
    ),
    Case("image_is_a_bomb", image(bomb), lost=1, told="cannot be read", overrides=SKIP),
    Case(
        "image_cut_off_and_kept", image(lambda path: path.write_bytes(path.read_bytes()[:200])), told="cannot be read"
    ),
    Case("cmyk", saved(lambda picture: picture.convert("CMYK"), "JPEG"), overrides=SKIP),
    Case("greyscale", saved(lambda picture: picture.convert("L"), "PNG"), overrides=SKIP),
    Case("16_bit", saved(grey16, "PNG"), overrides=SKIP),
    Case(
        "animated",
        saved(lambda picture: picture, "GIF", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
        overrides=SKIP,
    ),
    Case(
        "rotated_by_exif",
        saved(lambda picture: picture.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=turned()),
        overrides=SKIP,
    ),
    Case(
        "prepared_where_the_data_lies",
        lambda root: None,
        r"data\.root=.*: is data\.affectnet\.root",
        overrides=["data.affectnet.root={root}/prepared"],
    ),
    # archives and lists
    Case(
        "archive_with_a_way_out",
        archived(Member("../../x.png", b"x")),
        r"'\.\./\.\./x\.png': the path leads out of the folder",
        overrides=RAR,
    ),
    Case("archive_cut_off", archived(cut=3000), r"\.rar", overrides=RAR),
    Case("archive_without_a_volume", archived(without=1), r"faces\.part2\.rar", overrides=RAR),
    Case(
        "archive_that_is_none",
        lambda root: (root / "affectnet/faces.part1.rar").write_bytes(b"PK\x03\x04"),
        r"faces\.part1\.rar",
        overrides=RAR,
    ),
    Case(
        "pickle_that_calls",
        pickled(lambda name: [{"path": name, "aus": Evil()}]),
        r"aus_dataset\.pkl",
        overrides=PICKLE,
    ),
    Case(
        "pickle_of_another_length",
        pickled(lambda name: [{"path": name, "aus": np.zeros(5)}]),
        r"aus_dataset\.pkl: its vectors have 5 entries",
        overrides=PICKLE,
    ),
    Case(
        "pickle_of_nan",
        pickled(lambda name: [{"path": name, "aus": np.full(12, np.nan)}]),
        r"aus_dataset\.pkl.*nan",
        overrides=OURS,
    ),
]


def prepared(root: Path, case: Case) -> int:
    sources = [
        "data=disfa_affectnet",
        f"data.disfa.root={root}/disfa",
        f"data.affectnet.root={root}/affectnet",
        "data.affectnet.min_side=64",
    ]
    sources += ["data.disfa.image_pattern='{subject}/{index:05d}.png'", "data.disfa.neutral_share=1"]
    if case.overrides[:1] == PICKLE[:1]:
        sources = []
    return main(
        [
            "prepare",
            *sources,
            *(value.replace("{root}", str(root)) for value in case.overrides),
            f"data.root={root}/prepared",
        ]
    )


def rows(root: Path) -> pd.DataFrame:
    """The prepared table, without what tells where it lies."""
    return SampleTable.read(root / "prepared" / "table.parquet").frame.drop(columns="image").set_index("id")


@pytest.fixture(scope="module")
def usual(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = Path(shutil.copytree(corpus, tmp_path_factory.mktemp("usual") / "faces"))
    assert prepared(root, Case("usual", lambda root: None)) == 0
    return rows(root)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_thing_wrong(
    case: Case, corpus: Path, usual: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(corpus, tmp_path / "faces"))
    case.spoil(root)
    status, printed = prepared(root, case), "".join(capsys.readouterr())
    assert "Traceback" not in printed
    if case.refused:
        assert status == 2
        assert re.search(rf"^fineface prepare: .*{case.refused}", printed, re.MULTILINE), printed
        assert not (root / "prepared" / "table.parquet").exists()
        return
    assert status == 0, printed
    assert case.told in printed
    found = rows(root)
    counts = read_manifest(root / "prepared")["sources"]
    assert sum(source["kept"] for source in counts.values()) == len(found) == len(usual) - case.lost
    dropped = ("dropped: image cannot be read", "dropped: image is missing", "dropped: no caption")
    assert sum(source.get(name, 0) for source in counts.values() for name in dropped) == case.lost
    same = usual.loc[found.index]
    pd.testing.assert_frame_equal(found.drop(columns=["caption"]), same.drop(columns=["caption"]))
    assert (found["caption"] != same["caption"]).sum() == (
        case.name in ("quotes_in_a_caption", "caption_of_several_lines")
    )
