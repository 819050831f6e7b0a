"""AUs of images without labels: kept, resumed, shared, and never mixed with those of other weights. LibreFace itself is
in test_libreface.py."""

import dataclasses
import hashlib
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fineface_train.data.annotators.annotate as module
from fineface_train.aus import AUS
from fineface_train.data.annotators.annotate import annotate, annotated_by
from fineface_train.data.annotators.config import AnnotateConfig, AnnotatorKind, LibreFaceConfig, OpenFaceConfig
from fineface_train.data.annotators.libreface import check_environment, find_uv, find_weights, libreface
from fineface_train.data.annotators.program import Annotator
from fineface_train.data.contents import image_contents
from fineface_train.data.crew import Crew

STAND_IN = Path(__file__).parents[1] / "annotator_stand_in.py"
KEY = "data.annotate"


@pytest.fixture
def config(tmp_path: Path) -> AnnotateConfig:
    """LibreFace with weights that nobody loads, two images in a list."""
    folder = tmp_path / "weights" / "AU_Recognition" / "weights"
    folder.mkdir(parents=True)
    (folder / "combined_resnet.pt").write_bytes(b"weights")
    return AnnotateConfig(
        AnnotatorKind.libreface, LibreFaceConfig(weights=str(tmp_path / "weights"), batch_size=2, uv=sys.executable)
    )


@pytest.fixture
def images(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Nine images whose red is their number, the fourth without a face, the sixth broken; and their contents."""
    paths = [str(tmp_path / f"{number}.png") for number in range(9)]
    for number, path in enumerate(paths):
        Image.new("RGB", (4, 4), (0, 0, 0) if number == 3 else (number, 255, int(number == 7))).save(path)
    Path(paths[5]).write_bytes(b"no image")
    return paths, image_contents(paths, tmp_path / "contents.parquet", progress=False)


def use_stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, wrong: str = "nothing") -> None:
    """In LibreFace's place."""

    def program(config: LibreFaceConfig, key: str) -> Annotator:
        return Annotator("stand-in 1", [sys.executable, str(STAND_IN), wrong, str(folder / "log")])

    monkeypatch.setattr(module, "libreface", program)


def test_rows_go_on_after_a_crash(
    tmp_path: Path, config: AnnotateConfig, images: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in(monkeypatch, tmp_path, "dies at the third list")
    with pytest.raises(ChildProcessError, match="out of memory"):
        annotate(*images, tmp_path / "rows", config, KEY)
    use_stand_in(monkeypatch, tmp_path)
    frame = annotate(*images, tmp_path / "rows", config, KEY)
    assert (tmp_path / "log").read_text().split() == ["2", "2", "2", "2", "2", "1"], (
        "two lists were kept, the third was asked for again"
    )
    assert frame["path"].tolist() == images[0]
    assert frame["status"].tolist() == ["ok", "ok", "ok", "no_face", "ok", "unreadable", "ok", "several_faces", "ok"]
    expected = np.array([0, 1, 2, np.nan, 4, np.nan, 6, 7, 8], dtype=np.float32) / 51
    assert np.allclose(frame["AU1"], expected, equal_nan=True)
    assert frame["AU26"].isna().tolist() == np.isnan(expected).tolist()
    assert frame["AU26"].dtype == np.float32
    use_stand_in(monkeypatch, tmp_path, "dies at once")
    assert annotate(*images, tmp_path / "rows", config, KEY).equals(frame), "what is known starts no program"


def test_only_images_without_a_face(
    tmp_path: Path, config: AnnotateConfig, images: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in(monkeypatch, tmp_path)
    frame = annotate(images[0][3:4], images[1][3:4], tmp_path / "rows", config, KEY)
    assert frame["AU1"].dtype == np.float32
    assert frame["AU1"].isna().all()


def test_every_process_has_a_program_of_its_own(
    tmp_path: Path, config: AnnotateConfig, images: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in(monkeypatch, tmp_path)
    barrier, frames = threading.Barrier(2, timeout=20), {}

    def one(index: int) -> None:
        frames[index] = annotate(*images, tmp_path / "rows", config, KEY, Crew(index, 2, barrier.wait, quiet=True))

    threads = [threading.Thread(target=one, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert frames[0].equals(frames[1])
    assert sorted((tmp_path / "log").read_text().split()) == ["1", "2", "2", "2", "2"]


def test_rows_of_other_weights_are_refused(
    tmp_path: Path, config: AnnotateConfig, images: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in(monkeypatch, tmp_path)
    annotate(*images, tmp_path / "rows", config, KEY)
    weights, _ = find_weights(config.libreface, KEY)
    weights.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="made otherwise"):
        annotate(*images, tmp_path / "rows", config, KEY)


def test_what_openface_wrote(tmp_path: Path, images: tuple[list[str], list[str]]) -> None:
    for number in range(9):
        (tmp_path / "openface").mkdir(exist_ok=True)
        (tmp_path / "openface" / f"{number}_of_details.txt").touch()
    config = AnnotateConfig(AnnotatorKind.openface, openface=OpenFaceConfig(str(tmp_path / "openface")))
    frame = annotate(*images, tmp_path / "rows", config, KEY)
    assert frame["status"].tolist() == ["no_face"] * 9
    assert frame["AU1"].dtype == np.float32
    assert annotated_by(config, KEY) == annotated_by(config, KEY)
    (tmp_path / "openface" / "9_of_details.txt").touch()
    assert annotate(*images, tmp_path / "rows", config, KEY).equals(frame)


def test_weights_are_known_by_their_sha256(config: AnnotateConfig) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    assert annotated_by(config, KEY) == {"annotator": "libreface 0.2.0", "weights_sha256": digest}
    config.libreface.weights_sha256 = digest
    path, found = find_weights(config.libreface, KEY)
    assert found == digest
    path.with_name("combined_repvgg.pt").write_bytes(b"weights")
    assert find_weights(config.libreface, KEY)[1] == digest, "both of LibreFace's names for one download"
    path.with_name("combined_repvgg.pt").write_bytes(b"others")
    with pytest.raises(ValueError, match="should be the same"):
        find_weights(config.libreface, KEY)
    path.unlink()
    with pytest.raises(ValueError, match=r"combined_repvgg\.pt: SHA-256 is .*data\.annotate\.weights_sha256 is"):
        find_weights(config.libreface, KEY)
    path.with_name("combined_repvgg.pt").unlink()
    with pytest.raises(ValueError, match=r"holds no combined_repvgg\.pt or combined_resnet\.pt\. .*gdown"):
        find_weights(config.libreface, KEY)
    with pytest.raises(ValueError, match=r"data\.annotate\.weights=null.*LIBREFACE_WEIGHTS"):
        find_weights(LibreFaceConfig(), KEY)


def test_each_process_of_a_launch_takes_its_own_gpu(config: AnnotateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    for device, wanted in (("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")):
        config.libreface.device = device
        command = libreface(config.libreface, KEY).command
        assert command[command.index("--device") + 1] == wanted


def test_uv_is_found_and_asked_for_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    with pytest.raises(ValueError, match=r"data\.annotate\.uv=uv: no such program.*pip install uv"):
        find_uv(LibreFaceConfig(), KEY)
    uv = tmp_path / "beside" / "uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit $(/bin/cat {tmp_path}/status)\n')
    os.chmod(uv, 0o755)
    assert find_uv(LibreFaceConfig(), KEY) == str(uv)
    (tmp_path / "status").write_text("0")
    check_environment(LibreFaceConfig(), KEY)
    asked = (tmp_path / "asked").read_text()
    assert "--offline" in asked
    assert "--check" in asked
    (tmp_path / "status").write_text("1")
    with pytest.raises(ValueError, match=r"environment is not there.*uv sync --locked --script"):
        check_environment(LibreFaceConfig(), KEY)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LibreFaceConfig(batch_size=0), r"data\.annotate\.libreface\.batch_size=0: must be at least 1"),
        (LibreFaceConfig(device="gpu"), r"libreface\.device='gpu': use cpu, cuda or cuda:N"),
        (LibreFaceConfig(weights_sha256="ABC"), r"libreface\.weights_sha256='ABC': must be 64 digits"),
    ],
)
def test_config_values_out_of_range_are_named(config: LibreFaceConfig, message: str) -> None:
    AnnotateConfig().validate(KEY)
    with pytest.raises(ValueError, match=message):
        AnnotateConfig(libreface=config).validate(KEY)


def test_aus_that_all_lie_within_one_are_asked_about(
    tmp_path: Path, config: AnnotateConfig, images: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in(monkeypatch, tmp_path)
    for path in images[0]:
        Image.new("RGB", (4, 4), (20, 45, 0)).save(path)
    contents = image_contents(images[0], tmp_path / "contents.parquet", progress=False)
    asked = (
        r"data\.annotate\.scale=null: the AUs of all 9 images lie in 0\.\.1 \(the highest is 0\.882\): do they "
        r"count from 0 to 1\? Set .*scale=1 if.*scale=5"
    )
    with pytest.raises(ValueError, match=asked):
        annotate(images[0], contents, tmp_path / "rows", config, KEY)
    as_five = annotate(images[0], contents, tmp_path / "rows", dataclasses.replace(config, scale=5.0), KEY)
    as_one = annotate(images[0], contents, tmp_path / "rows", dataclasses.replace(config, scale=1.0), KEY)
    assert np.allclose(as_five["AU1"], 20 / 51)
    assert np.allclose(as_one["AU1"], 100 / 51)
    assert len((tmp_path / "log").read_text().split()) == 1, "nothing is read again for another scale"
    with pytest.raises(
        ValueError, match=r"data\.annotate\.scale=0\.5: the AUs of 9 of 9 images go beyond it, first those of .*0\.png"
    ):
        annotate(images[0], contents, tmp_path / "rows", dataclasses.replace(config, scale=0.5), KEY)
    with pytest.raises(ValueError, match=r"data\.annotate\.scale=0: must be the number that means intensity 5"):
        AnnotateConfig(scale=0).validate(KEY)


@pytest.mark.parametrize(
    ("cells", "scale", "expected"),
    [((0, 1), 1.0, 5.0), ((0, 50), 100.0, 2.5), ((0.5, 4), None, 4.0), ((0, 0), None, 0.0)],
)
def test_openface_files_on_another_scale(
    tmp_path: Path, cells: tuple[float, float], scale: float | None, expected: float
) -> None:
    columns = [f"AU{au:02d}_r" for au in AUS]
    for name in "ab":
        rows = [["confidence", *columns], [0.9, cells[1], *[cells[0]] * 11]]
        (tmp_path / f"{name}.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    chosen = AnnotateConfig(AnnotatorKind.openface, openface=OpenFaceConfig(str(tmp_path)), scale=scale)
    paths = [f"/x/{name}.jpg" for name in "ab"]
    frame = annotate(paths, paths, tmp_path, chosen, KEY)
    assert frame["AU1"].tolist() == [expected] * 2
    if cells == (0, 1):
        with pytest.raises(
            ValueError,
            match=r"scale=null: the AUs of all 2 images are 0 or 1, as if they told which are shown and not how "
            r"strongly",
        ):
            annotate(paths, paths, tmp_path, dataclasses.replace(chosen, scale=None), KEY)
