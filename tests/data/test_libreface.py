"""LibreFace itself, on photographs, with random weights of its shape: needs its environment (4.5 GB) and faces, so it
must be asked for.

FINEFACE_TEST_LIBREFACE=1 FINEFACE_TEST_FACES=<folder with photographs of one face each> pytest
tests/data/test_libreface.py
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fineface_train.aus import AU_KEYS
from fineface_train.data.annotators.annotate import annotate
from fineface_train.data.annotators.config import AnnotateConfig, AnnotatorKind, LibreFaceConfig
from fineface_train.data.annotators.libreface import SCRIPT, check_environment, find_uv, libreface
from fineface_train.data.contents import image_contents
from fineface_train.evaluation.judges.photographs import LibreFaceJudge

FACES = os.environ.get("FINEFACE_TEST_FACES", "")
pytestmark = pytest.mark.skipif(
    os.environ.get("FINEFACE_TEST_LIBREFACE") != "1" or not FACES,
    reason="LibreFace itself is not run: set FINEFACE_TEST_LIBREFACE=1 (fetches 4.5 GB once) and FINEFACE_TEST_FACES "
    "to a folder of photographs",
)
ITS_OWN = """
import json, sys, torchvision
resnet18 = torchvision.models.resnet18
torchvision.models.resnet18 = lambda weights: resnet18()
from libreface import get_aligned_image, get_au_intensities_and_detect_aus_video as read
weights, folder, *images = sys.argv[1:]
aligned = [get_aligned_image(image, folder)[0] for image in images]
_, aus = read(aligned, device="cpu", batch_size=8, num_workers=0, weights_download_dir=weights)
print("\\n" + json.dumps(aus.to_numpy().tolist()))
"""
"""LibreFace's own way, with the names it gives to the weights of its functions for videos."""


@pytest.fixture(scope="module")
def python() -> str:
    """The environment's."""
    uv = find_uv(LibreFaceConfig(), "libreface")
    subprocess.run([uv, "sync", "--locked", "--script", str(SCRIPT)], check=True)
    check_environment(LibreFaceConfig(), "libreface")
    return subprocess.run(
        [uv, "python", "find", "--script", str(SCRIPT)], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def config(python: str, tmp_path_factory: pytest.TempPathFactory) -> AnnotateConfig:
    folder = tmp_path_factory.mktemp("weights")
    subprocess.run([python, str(Path(__file__).parents[1] / "libreface_random_weights.py"), str(folder)], check=True)
    return AnnotateConfig(AnnotatorKind.libreface, LibreFaceConfig(weights=str(folder), batch_size=4))


@pytest.fixture(scope="module")
def photographs() -> list[str]:
    return sorted(str(path) for path in Path(FACES).iterdir() if path.suffix in (".jpg", ".png"))[:8]


@pytest.fixture(scope="module")
def odd(photographs: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Path and status of everything that a folder may hold."""
    folder = tmp_path_factory.mktemp("odd")
    with Image.open(photographs[0]) as first, Image.open(photographs[-1]) as second:
        large, small = (
            ImageOps.fit(image.convert("RGB"), (size, size)) for image, size in ((first, 256), (second, 180))
        )
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, parts in {"large.png": [large], "small.png": [small], "two.png": [large, small]}.items():
        canvas = Image.new("RGB", (1000, 400), (120, 120, 120))
        for part in parts:
            canvas.paste(part, (60 if part is large else 700, 70))
        canvas.save(folder / name)
    large.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif)
    large.convert("L").save(folder / "grey, and a comma.png")
    large.convert("CMYK").save(folder / "cmyk.jpg")
    large.save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:4000])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)).save(folder / "noise.png")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("1", (14000, 14000)).save(folder / "bomb.png")
    statuses = {"two.png": "several_faces", "noise.png": "no_face", "dot.png": "no_face"}
    statuses |= dict.fromkeys(("cut.jpg", "empty.png", "text.jpg", "bomb.png", "gone.png"), "unreadable")
    return {
        str(folder / name): statuses.get(name, "ok")
        for name in sorted({path.name for path in folder.iterdir()} | {"gone.png"})
    }


def test_every_image_gets_a_row(config: AnnotateConfig, photographs: list[str], odd: dict[str, str]) -> None:
    with libreface(config.libreface, "libreface") as read:
        rows = dict(zip([*photographs, *odd], read([*photographs, *odd]), strict=True))
    assert {path: row["status"] for path, row in rows.items()} == dict.fromkeys(photographs, "ok") | odd
    aus = {Path(path).name: np.array([row[key] for key in AU_KEYS], dtype=float) for path, row in rows.items()}
    first, other = aus[Path(photographs[0]).name], aus[Path(photographs[-1]).name]
    apart = np.abs(first - other).max()
    assert apart > 0.05, "random weights tell the faces apart"
    assert np.allclose(aus["turned.jpg"], first, atol=0.2 * apart), "turned as EXIF says"
    assert np.allclose(
        aus["two.png"], aus["large.png"], atol=0.2 * np.abs(aus["small.png"] - aus["large.png"]).max()
    ), "the larger face is read"


def test_rows_are_those_of_libreface(
    config: AnnotateConfig, photographs: list[str], python: str, tmp_path: Path
) -> None:
    weights = Path(str(config.libreface.weights)) / "AU_Recognition" / "weights"
    its = tmp_path / "weights" / "AU_Recognition" / "weights"
    its.mkdir(parents=True)
    (its / "combined_repvgg.pt").symlink_to(weights / "combined_resnet.pt")
    done = subprocess.run(
        [python, "-c", ITS_OWN, str(tmp_path / "weights"), str(tmp_path), *photographs],
        check=True,
        capture_output=True,
        text=True,
    )
    with libreface(config.libreface, "libreface") as read:
        rows = read(photographs)
    assert np.allclose(
        [[row[key] for key in AU_KEYS] for row in rows], json.loads(done.stdout.splitlines()[-1]), atol=1e-5
    )


def test_a_run_that_is_killed_goes_on(
    config: AnnotateConfig, photographs: list[str], odd: dict[str, str], tmp_path: Path
) -> None:
    paths = [*photographs, *(path for path in odd if Path(path).exists())]
    contents = image_contents(paths, tmp_path / "contents.parquet", progress=False)
    code = f"""if True:
        from pathlib import Path
        from fineface_train.data.annotators.annotate import AnnotateConfig, AnnotatorKind, annotate
        from fineface_train.data.annotators.libreface import LibreFaceConfig
        config = AnnotateConfig(AnnotatorKind.libreface, LibreFaceConfig({config.libreface.weights!r}, batch_size=2))
        annotate({paths!r}, {contents!r}, Path({str(tmp_path / "rows")!r}), config, "a")
    """
    us = subprocess.Popen([sys.executable, "-c", code])
    kept, deadline = tmp_path / "rows" / "rows-0.jsonl", time.monotonic() + 300
    while not kept.is_file() and us.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    us.send_signal(signal.SIGKILL)
    assert us.wait() == -signal.SIGKILL, "it was killed, and had not finished"
    lines = len(kept.read_text().splitlines())
    assert 0 < lines < len(set(contents))
    frame = annotate(paths, contents, tmp_path / "rows", config, "a")
    assert frame["path"].tolist() == paths
    assert frame["status"].tolist() == [
        *["ok"] * len(photographs),
        *(status for path, status in odd.items() if Path(path).exists()),
    ]
    assert len(kept.read_text().splitlines()) == len(set(contents))


def test_other_weights_are_refused_by_the_program_too(config: AnnotateConfig, photographs: list[str]) -> None:
    read = libreface(config.libreface, "libreface")
    read.command[read.command.index("--sha256") + 1] = "0" * 64
    with pytest.raises(ChildProcessError, match=r"(?s)ended \(status 1\).*SHA-256 is [0-9a-f]{64}, wanted is 0000"):
        read(photographs)


def test_it_judges_images(config: AnnotateConfig, photographs: list[str]) -> None:
    with Image.open(photographs[0]) as image:
        pixels = torch.from_numpy(np.array(ImageOps.fit(image.convert("RGB"), (128, 128)))).permute(2, 0, 1)[None] / 255
    aus, found = LibreFaceJudge(libreface(config.libreface, "libreface")).read(
        torch.cat([pixels, torch.zeros_like(pixels)])
    )
    assert found.tolist() == [True, False]
    assert aus[0].max() > 0
    assert aus[1].tolist() == [0.0] * 12
