"""AffectNet as its owners send it: their list tells faces only; what else is wanted, the images and the models tell."""

import dataclasses
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AU_KEYS
from fineface_train.cli import main
from fineface_train.data.affectnet.config import AffectNetConfig, AusFrom, CaptionsFrom, PhotoFilter, TotalFilter
from fineface_train.data.affectnet.layout import find_copy
from fineface_train.data.affectnet.reader import check
from fineface_train.data.annotators.config import AnnotateConfig, AnnotatorKind, OpenFaceConfig
from fineface_train.data.config import DataConfig
from fineface_train.data.crew import Crew
from fineface_train.data.prepare import prepare
from fineface_train.data.stages import Stages
from fineface_train.files import read_json
from tests.data.conftest import no_models, read_affectnet
from tests.data.rar_writer import Member, write_rar

COLUMNS = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
BY_MODELS = {"photo_filter": PhotoFilter.blip2, "aus": AusFrom.annotator, "captions": CaptionsFrom.blip2}


@dataclasses.dataclass(frozen=True)
class Told(Stages):
    """Stages whose models are tables by the image's name: photograph or not, status, the intensity of AU12, caption and
    its status."""

    told: dict[str, tuple[bool, str, float, str, str]] = dataclasses.field(default_factory=dict)
    asked: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def _of(self, stage: str, paths: Sequence[str]) -> list[tuple[bool, str, float, str, str]]:
        self.asked[stage] = [Path(path).name for path in paths]
        return [self.told[name] for name in self.asked[stage]]

    def answers(self, paths: Sequence[str]) -> pd.DataFrame:
        told = self._of("photographs", paths)
        return pd.DataFrame(
            {
                "path": paths,
                "answers": [["no" if one[0] else "yes", "yes"] for one in told],
                "status": "ok",
                "fault": "",
            }
        )

    def aus(self, paths: Sequence[str]) -> pd.DataFrame:
        told = self._of("aus", paths)
        levels = {key: [np.nan if one[1] == "no_face" else one[2] * (key == "AU12") for one in told] for key in AU_KEYS}
        return pd.DataFrame({"path": paths, "status": [one[1] for one in told], **levels})

    def captions(self, paths: Sequence[str]) -> pd.DataFrame:
        told = self._of("captions", paths)
        rows = {"caption": [one[3] for one in told], "status": [one[4] for one in told]}
        return pd.DataFrame(
            {
                "path": paths,
                **rows,
                "fault": ["cannot be read" * (one[4] == "unreadable") for one in told],
                "made_with": "a model",
            }
        )

    @property
    def annotator(self) -> str:
        return "a tool 1.0"


def official(root: Path, rows: list[tuple[str, int, tuple[int, int]]]) -> AffectNetConfig:
    """Images of (name, expression, size) and AffectNet's list of them."""
    for name, _, size in rows:
        path = root / "Manually_Annotated_Images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (200, 100, 50)).save(path)
    lines = [COLUMNS, *(f"{name},1,2,30,30,1.0;2.0,{expression},0.1,-0.2" for name, expression, _ in rows)]
    (root / "training.csv").write_text("\r\n".join(lines) + "\r\n")
    return AffectNetConfig(
        root=str(root), metadata="training.csv", images="Manually_Annotated_Images", min_side=64, **BY_MODELS
    )


def test_models_are_asked_about_what_is_left_only_and_every_loss_is_counted(tmp_path: Path) -> None:
    rows = [
        ("1/no_face.jpg", 10, (64, 64)),
        ("1/small.jpg", 1, (63, 64)),
        ("2/cartoon.jpg", 1, (64, 64)),
        ("2/missed.png", 0, (64, 64)),
        ("2/weak.png", 0, (64, 64)),
        ("3/silent.png", 0, (64, 64)),
        ("3/two.png", 7, (64, 70)),
        ("3/good.png", 7, (80, 64)),
        ("3/broken.jpg", 1, (64, 64)),
    ]
    config = official(tmp_path / "affectnet", rows)
    (tmp_path / "affectnet" / "Manually_Annotated_Images" / "3/broken.jpg").write_bytes(b"no image")
    told = {
        "cartoon.jpg": (False, "ok", 5.0, "", "ok"),
        "missed.png": (True, "no_face", 0.0, "", "ok"),
        "weak.png": (True, "ok", 0.9, "", "ok"),
        "silent.png": (True, "ok", 4.0, "", "empty"),
        "two.png": (True, "several_faces", 3.0, "two people", "ok"),
        "good.png": (True, "ok", 2.0, "a man", "ok"),
    }
    stages = Told(**vars(no_models(tmp_path / "prepared")) | {"skip_broken": True}, told=told)
    reading = read_affectnet(config, seed=0, stages=stages)
    assert {name: count for name, count in reading.table.counts["affectnet"].items() if count} == {
        "read": 9,
        "dropped: HasFace is false": 1,
        "dropped: image cannot be read": 1,
        "dropped: under min_side": 1,
        "dropped: 'Question: Is this a cartoon? Answer:' answered yes": 1,
        "dropped: the annotator found no face": 1,
        "dropped: low total": 1,
        "dropped: caption: empty": 1,
        "kept": 2,
    }
    assert [Path(path).name for path in reading.dropped] == [
        "broken.jpg",
        "small.jpg",
        "cartoon.jpg",
        "missed.png",
        "weak.png",
        "silent.png",
    ]
    assert stages.asked["aus"] == ["missed.png", "weak.png", "silent.png", "two.png", "good.png"]
    assert stages.asked["captions"] == ["silent.png", "two.png", "good.png"]
    frame = reading.table.frame
    assert frame["id"].tolist() == ["affectnet/3/two.png", "affectnet/3/good.png"]
    assert frame["AU12"].tolist() == [3.0, 2.0]
    assert frame["caption"].tolist() == ["two people", "a man"]
    assert set(frame["aus_from"]) == {"a tool 1.0, corrected (paper)"}
    assert set(frame["caption_from"]) == {"a model"}
    assert reading.raw is not None
    assert reading.raw["AU12"].tolist() == [3.0, 2.0]
    by_max = dataclasses.replace(config, total_filter=TotalFilter.max, total_threshold=0.5)
    assert read_affectnet(by_max, seed=0, stages=stages).table.frame["id"].tolist() == ["affectnet/3/two.png"]


def test_an_image_that_cannot_be_read_is_named_unless_it_is_to_be_skipped(tmp_path: Path) -> None:
    config = official(tmp_path / "affectnet", [("1/a.png", 1, (64, 64)), ("1/b.png", 1, (64, 64))])
    fine = (True, "ok", 4.0, "a man", "ok")
    for told in ((True, "unreadable", 0.0, "", "ok"), (True, "ok", 4.0, "", "unreadable")):
        stages = Told(**vars(no_models(tmp_path / "prepared")), told={"a.png": fine, "b.png": told})
        with pytest.raises(
            ValueError,
            match=r"cannot be read.* \(1 such images\); bring back whole copies, or leave them out with "
            r"data.skip_broken=true",
        ):
            read_affectnet(config, seed=0, stages=stages)
        reading = read_affectnet(config, seed=0, stages=dataclasses.replace(stages, skip_broken=True))
        assert reading.table.counts["affectnet"]["dropped: image cannot be read"] == 1
        assert [Path(path).name for path in reading.dropped] == ["b.png"]


def test_an_image_that_was_dropped_is_noticed_when_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = official(
        tmp_path / "affectnet",
        [
            ("1/a.png", 1, (64, 64)),
            ("1/b.png", 1, (64, 64)),
            ("1/small.png", 1, (63, 64)),
            ("1/cartoon.png", 1, (64, 64)),
        ],
    )
    told = {f"{name}.png": (name != "cartoon", "ok", 4.0, "a man", "ok") for name in ("a", "b", "small", "cartoon")}
    monkeypatch.setattr("fineface_train.data.prepare.Stages", lambda *arguments: Told(*arguments, told=told))
    config = DataConfig(
        name="affectnet", root=str(tmp_path / "prepared"), affectnet=dataclasses.replace(source, validation_share=0.0)
    )
    assert len(prepare(config, crew=Crew(quiet=True))) == 2
    for name, count in (("small.png", 3), ("cartoon.png", 4)):
        caplog.clear()
        prepare(config, crew=Crew(quiet=True))
        assert "nothing changed" in caplog.text
        told[name] = (True, "ok", 4.0, "a man", "ok")
        Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "affectnet" / "Manually_Annotated_Images" / "1" / name)
        assert len(prepare(config, crew=Crew(quiet=True))) == count
        assert "an image that was left out changed, preparing again" in caplog.text


def test_where_nothing_is_left_the_next_model_is_not_asked(tmp_path: Path) -> None:
    config = official(tmp_path / "affectnet", [("1/a.png", 1, (64, 64))])
    stages = Told(**vars(no_models(tmp_path / "prepared")), told={"a.png": (False, "ok", 4.0, "a man", "ok")})
    with pytest.raises(ValueError, match="no row passes the filters"):
        read_affectnet(config, seed=0, stages=stages)
    assert set(stages.asked) == {"photographs"}


def write_openface(images: list[Path], folder: Path) -> None:
    """Files as OpenFace's FaceLandmarkImg writes them: AU12 at 3.25, the others at 0.5."""
    names = [
        "AU01",
        "AU02",
        "AU04",
        "AU05",
        "AU06",
        "AU07",
        "AU09",
        "AU10",
        "AU12",
        "AU14",
        "AU15",
        "AU17",
        "AU20",
        "AU23",
        "AU25",
        "AU26",
        "AU45",
    ]
    for path in images:
        values = ["0.50" if name != "AU12" else "3.25" for name in names]
        out = folder / path.parent.name
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{path.stem}.csv").write_text(
            f"face, confidence, {', '.join(f'{name}_r' for name in names)}\n0, 0.98, {', '.join(values)}\n"
        )


def test_aus_of_openface_files_instead_of_the_metadatas(tmp_path: Path, own_corpus: Path) -> None:
    """Through the real stages: OpenFace's files are read for the images that the metadata's filters leave."""
    write_openface(list((own_corpus / "affectnet" / "images").rglob("*.png")), tmp_path / "openface")
    annotate = AnnotateConfig(kind=AnnotatorKind.openface, openface=OpenFaceConfig(folder=str(tmp_path / "openface")))
    stages = dataclasses.replace(no_models(tmp_path / "prepared"), annotate=annotate)
    config = AffectNetConfig(root=str(own_corpus / "affectnet"), min_side=64, aus=AusFrom.annotator)
    frame = read_affectnet(config, seed=0, stages=stages).table.frame
    assert len(frame) > 20
    assert set(frame["AU12"]) == {3.25}
    assert set(frame["AU2"]) == {0.0}  # under the low cut
    assert frame["aus_from"].str.startswith("openface").all()


@pytest.mark.parametrize("top", ["", "Manually_Annotated_Images/"])
def test_images_in_a_rar_archive_of_several_volumes(tmp_path: Path, own_corpus: Path, top: str) -> None:
    from fineface_train.data.config import DataConfig
    from fineface_train.data.crew import Crew
    from fineface_train.data.prepare import prepare

    root = own_corpus / "affectnet"
    usual = read_affectnet(AffectNetConfig(root=str(root), min_side=64), seed=0, stages=no_models(tmp_path)).table
    members = [
        Member(top + str(path.relative_to(root / "images")), path.read_bytes())
        for path in sorted((root / "images").rglob("*.png"))
    ]
    volumes = write_rar(root / "Manually_Annotated.part1.rar", members, volume_size=100_000)
    assert len(volumes) > 2
    shutil.rmtree(root / "images")
    config = DataConfig(
        root=str(tmp_path / "data"), affectnet=AffectNetConfig(root=str(root), min_side=64)
    )  # found by itself
    table = prepare(config, crew=Crew(quiet=True))
    assert table.fingerprint() == usual.fingerprint()
    assert all(path.startswith(str(tmp_path / "data" / "images")) for path in table.frame["image"])
    for number, harm in enumerate((Path.unlink, lambda path: path.write_bytes(b""))):
        harm(Path(table.frame["image"].iloc[number]))
        assert prepare(config, crew=Crew(quiet=True)).fingerprint() == usual.fingerprint()
        assert Path(table.frame["image"].iloc[number]).stat().st_size  # extracted again
    volumes[1].unlink()
    (tmp_path / "data" / "table.parquet").unlink()
    assert (
        prepare(config, crew=Crew(quiet=True)).fingerprint() == usual.fingerprint()
    )  # what is extracted is not extracted again
    official_name = dataclasses.replace(
        config, affectnet=AffectNetConfig(root=str(root), min_side=64, images="Manually_Annotated_Images")
    )
    assert (
        prepare(official_name, crew=Crew(quiet=True)).fingerprint() == usual.fingerprint()
    )  # found whatever the folder would be called
    (root / "more").mkdir()
    shutil.copy(volumes[0], root / "more" / "Others.rar")
    with pytest.raises(
        ValueError,
        match=r"images=images: .* has no such folder, and 2 archives \(.*Manually_Annotated\.part1\.rar, "
        r".*Others\.rar\)",
    ):
        prepare(config, crew=Crew(quiet=True))


@pytest.mark.parametrize(("key", "remedy"), [("photo_filter", "blip2"), ("aus", "annotator"), ("captions", "blip2")])
def test_what_the_owners_list_does_not_tell_is_named_with_the_remedy(tmp_path: Path, key: str, remedy: str) -> None:
    config = official(tmp_path / "affectnet", [("1/a.png", 0, (64, 64))])
    wrong = dataclasses.replace(config, **{key: type(getattr(config, key)).metadata})
    with pytest.raises(
        ValueError, match=rf"data\.affectnet\.{key}=metadata: .*training\.csv is AffectNet's own file.*{key}={remedy}"
    ):
        read_affectnet(wrong, seed=0, stages=no_models(tmp_path / "prepared"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1/a.png,1,2,3,4,x,11,0,0", r"line 3: expression='11': must be a number in 0\.\.10"),
        ("1/a.png,1,2,3,4,x,,0,0", r"line 3: expression='': must be a number"),
        ("1/a.png,1,2,3,4,x,1,0", r"line 3: 8 cells, but the header has 9"),
        (
            "1/a.jpg,1,2,3,4,x,10,0,0",
            r"line 3: subDirectory_filePath='1/a.jpg' occurs twice, first in line 2, with another face",
        ),
        ("../a.png,1,2,3,4,x,1,0,0", r"'\.\./a\.png': must lie below"),
        ("1/b.png,1,2,3,4,x,1,0,0", r"1 of 2 images are missing, the first is .*b\.png"),
    ],
)
def test_faults_of_the_owners_list(tmp_path: Path, line: str, message: str) -> None:
    config = official(tmp_path / "affectnet", [("1/a.jpg", 0, (64, 64))])
    with (tmp_path / "affectnet" / "training.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_affectnet(config, seed=0, stages=no_models(tmp_path / "prepared"))


def test_without_an_annotator_the_key_is_named(tmp_path: Path) -> None:
    config = dataclasses.replace(
        official(tmp_path / "affectnet", [("1/a.jpg", 0, (64, 64))]), photo_filter=PhotoFilter.none
    )
    with pytest.raises(ValueError, match=r"data\.annotate\.kind=none.*libreface"):
        read_affectnet(config, seed=0, stages=no_models(tmp_path / "prepared"))


def test_a_prepared_folder_keeps_the_correction(tmp_path: Path, own_corpus: Path) -> None:
    from fineface_train.data.config import DataConfig
    from fineface_train.data.crew import Crew
    from fineface_train.data.prepare import prepare

    first = AffectNetConfig(root=str(own_corpus / "affectnet"), min_side=64)
    table = prepare(DataConfig(root=str(tmp_path / "one"), affectnet=first), crew=Crew(quiet=True))
    kept = tmp_path / "one" / "correction.json"
    assert read_json(kept)["low_cut"] == 1.0
    metadata = own_corpus / "affectnet" / "affecnet_metadata.csv"
    rows = pd.read_csv(metadata)
    rows[rows["ImageName"].isin([name.removeprefix("affectnet/") for name in table.frame["id"][:7]])].to_csv(
        metadata, index=False
    )
    again = prepare(
        DataConfig(root=str(tmp_path / "two"), affectnet=dataclasses.replace(first, correction=str(kept))),
        crew=Crew(quiet=True),
    )
    assert len(again) == 7
    assert np.array_equal(again.aus(), table.aus()[:7])


def test_doctor_tells_what_a_prepare_would_stop_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official(tmp_path / "affectnet", [("1/a.png", 0, (64, 64))])
    (tmp_path / "affectnet" / "Manually_Annotated_Images").rename(tmp_path / "aside")
    members = [Member(f"1/{number}.png", bytes(3000)) for number in range(9)]
    volumes = write_rar(tmp_path / "affectnet" / "Faces.part1.rar", members, volume_size=10_000)
    volumes[1].unlink()
    where = [
        f"data.affectnet.root={tmp_path / 'affectnet'}",
        f"data.root={tmp_path}",
        f"run.root={tmp_path}",
        "data.blip2.model=null",
    ]
    where += ["data.affectnet.metadata=training.csv", "data.affectnet.images=Faces.part1.rar"]
    assert main(["doctor", "data=affectnet_official", *where]) == 2
    told = capsys.readouterr().err
    assert "  - data.blip2.model=null: captions and the photo filter by BLIP-2 need one" in told
    assert "Faces.part2.rar" in told
    assert main(["doctor", "data=affectnet", *where]) == 2
    assert "data.affectnet.photo_filter=metadata" in capsys.readouterr().err


def test_doctor_reads_labels_and_lists(own_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = own_corpus / "affectnet" / "affecnet_metadata.csv"
    lines = metadata.read_text().splitlines()
    metadata.write_text("\n".join([*lines, lines[-1].removesuffix('"') + ' and a hat"']) + "\n")
    next((own_corpus / "disfa" / "ActionUnit_Labels").glob("*/*_au20.txt")).unlink()
    where = [
        f"data.affectnet.root={own_corpus / 'affectnet'}",
        f"data.disfa.root={own_corpus / 'disfa'}",
        f"data.root={tmp_path}",
        f"run.root={tmp_path}",
    ]
    assert main(["doctor", "data=disfa_affectnet", *where]) == 2
    told = capsys.readouterr().err
    assert f"affecnet_metadata.csv, line {len(lines) + 1}: ImageName=" in told
    assert re.search(r"data\.disfa: 1 of \d+ subjects are not as they should be: .*_au20\.txt: missing", told)


def remedy(root: Path, **changes: str) -> str:
    """What is said of a copy that lies otherwise."""
    given = {"metadata": "lists/training.csv", "images": "Manually_Annotated_Images", **changes}
    with pytest.raises(ValueError, match=r"data\.affectnet\.") as told:
        check(find_copy(AffectNetConfig(**({"root": str(root)} | given), **BY_MODELS)))
    return str(told.value)


def test_what_is_visibly_there_is_named_with_what_to_set(tmp_path: Path) -> None:
    root = tmp_path / "sent" / "AffectNet"
    official(root, [("1/a.png", 0, (64, 64))])
    (root / "lists").mkdir()
    (root / "training.csv").rename(root / "lists" / "training.csv")
    check(find_copy(AffectNetConfig(str(root), "lists/training.csv", "Manually_Annotated_Images", **BY_MODELS)))
    for other in (root.parent, root.parents[1], root / "lists", root / "Manually_Annotated_Images"):
        assert f"{root} has it: set data.affectnet.root (or AFFECTNET_ROOT) to {root}." in remedy(other)
    assert f"{root}/lists/training.csv is there: set data.affectnet.metadata=lists/training.csv." in remedy(
        root, metadata="TRAINING.csv"
    )
    for name in ("validation.csv", "mine.csv"):
        (root / "lists" / "training.csv").rename(root / "lists" / name)
        told = remedy(root)
        assert (
            f"{root}/lists/{name} is AffectNet's own list: set data.affectnet.metadata=lists/{name} with "
            f"data=affectnet_official" in told
        )
        (root / "lists" / name).rename(root / "lists" / "training.csv")
    assert f"{root}/Manually_Annotated_Images is there: set data.affectnet.images=Manually_Annotated_Images." in remedy(
        root, images="manually_annotated_images"
    )
    for name, kind in (("lists", "zip"), ("Manually_Annotated_Images", "gztar")):
        archive = Path(shutil.make_archive(str(root / name), kind, root, name))
        shutil.rmtree(root / name)
        told = remedy(root)
        assert f"{archive} is still packed" in told
        assert ("`unzip " if kind == "zip" else "`tar -xf ") in told
        assert "AffectNet is licensed" not in told
        shutil.unpack_archive(archive, root)
        archive.unlink()
    packed = root / "Manually_Annotated_Images.zip"
    packed.write_bytes(b"PK")
    assert f"is still packed: unpack it (`unzip '{packed}'" in remedy(root, images=packed.name)
    assert "AffectNet.zip is a file; unpack it (`unzip " in remedy(Path(shutil.make_archive(str(root), "zip", root)))


def test_a_list_beside_the_one_that_is_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = official(
        tmp_path / "affectnet", [("1/a.jpg", 0, (64, 64)), ("1/b.jpg", 0, (64, 64)), ("2/c.jpg", 0, (64, 64))]
    )
    shutil.copy(tmp_path / "affectnet" / "training.csv", tmp_path / "affectnet" / "validation.csv")
    (tmp_path / "affectnet" / "Manually_Annotated_Images" / "2/c.jpg").unlink()
    shutil.copy(
        tmp_path / "affectnet" / "Manually_Annotated_Images" / "1/a.jpg",
        tmp_path / "affectnet" / "Manually_Annotated_Images" / "1/d.jpg",
    )
    told = {f"{name}.jpg": (True, "ok", 4.0, "a man", "ok") for name in "ab"}
    stages = dataclasses.replace(Told(**vars(no_models(tmp_path / "prepared")), told=told), skip_broken=True)
    assert len(read_affectnet(config, 0, stages).table) == 2
    assert (
        f"{tmp_path}/affectnet/validation.csv: is not read: validation is data.affectnet.validation_share of the "
        f"images in" in caplog.text
    )
    assert (
        f"1 of 3 images are missing, and skipped, such as {tmp_path}/affectnet/Manually_Annotated_Images/2/c.jpg"
        in caplog.text
    )
    assert "1 images are in no row of training.csv, and not used, such as 1/d.jpg" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", "\t"),
        lambda text: "sep=,\n" + text,
        lambda text: text.upper().replace("JPG", "jpg"),
        lambda text: re.sub(r"(?m)^(\d/\w+\.jpg)", r'"\1  "', text),
        lambda text: re.sub(r"(?m)^(\d)/", r".\\\1\\", text),
        lambda text: re.sub(r"(?m)^(\d)/", r"D:\\AffectNet\\\1\\", text),
        lambda text: re.sub(r"(?m)^\d/", "", text),
        lambda text: text + text.splitlines()[1] + "\n",
    ],
    ids=["tabs", "sep", "capitals", "quoted, with blanks", "Windows", "another machine", "base names", "twice"],
)
def test_one_table_of_lists_that_are_written_otherwise(tmp_path: Path, change: Callable[[str], str]) -> None:
    config = official(
        tmp_path / "affectnet", [("1/a.jpg", 0, (64, 64)), ("2/b.jpg", 10, (64, 64)), ("2/c.jpg", 3, (64, 64))]
    )
    told = {"a.jpg": (True, "ok", 4.0, "one", "ok"), "c.jpg": (True, "ok", 2.0, "two", "ok")}
    stages = Told(**vars(no_models(tmp_path / "prepared")), told=told)
    usual = read_affectnet(config, 0, stages).table.frame
    path = tmp_path / "affectnet" / "training.csv"
    path.write_text(change(path.read_text()))
    again = read_affectnet(config, 0, stages).table.frame
    assert again["image"].tolist() == usual["image"].tolist()
    assert again[["caption", *AU_KEYS]].equals(usual[["caption", *AU_KEYS]])


def test_names_that_start_at_several_machines_are_refused(tmp_path: Path) -> None:
    config = official(tmp_path / "affectnet", [("1/a.jpg", 0, (64, 64)), ("2/b.jpg", 1, (64, 64))])
    path = tmp_path / "affectnet" / "training.csv"
    path.write_text(path.read_text().replace("1/a.jpg", "/mnt/x/1/a.jpg").replace("2/b.jpg", "/home/y/2/b.jpg"))
    with pytest.raises(
        ValueError,
        match=r"2 of 2 images are missing, the first is /mnt/x/1/a\.jpg; the list's names start at another machine's "
        r"root",
    ):
        read_affectnet(config, 0, no_models(tmp_path / "prepared"))
