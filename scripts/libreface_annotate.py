# /// script requires-python = "==3.11.*" dependencies = [
#     "libreface==0.2.0",
#     "huggingface-hub<0.36",
#     "numpy<2",
#     "opencv-contrib-python==4.10.0.84",
#     "pillow<10",
#     "scipy<1.14",
#     "nvidia-cublas-cu11==11.10.3.66",
#     "nvidia-cuda-cupti-cu11==11.7.101",
#     "nvidia-cuda-nvrtc-cu11==11.7.99",
#     "nvidia-cuda-runtime-cu11==11.7.99",
#     "nvidia-cudnn-cu11==8.5.0.96",
#     "nvidia-cufft-cu11==10.9.0.58",
#     "nvidia-curand-cu11==10.2.10.91",
#     "nvidia-cusolver-cu11==11.4.0.1",
#     "nvidia-cusparse-cu11==11.7.4.91",
#     "nvidia-nccl-cu11==2.14.3",
#     "nvidia-nvtx-cu11==11.7.91",
# ]
#
# [tool.uv] # What LibreFace asks for and none of the code used here imports (dlib alone compiles for a quarter of an
# hour). override-dependencies = [
#     "bleach; sys_platform == 'never'",
#     "cmake; sys_platform == 'never'",
#     "dlib; sys_platform == 'never'",
#     "importlib-metadata; sys_platform == 'never'",
#     "importlib-resources; sys_platform == 'never'",
#     "imutils; sys_platform == 'never'",
#     "oauthlib; sys_platform == 'never'",
#     "opencv-python; sys_platform == 'never'",
#     "scikit-learn; sys_platform == 'never'",
#     "torchaudio; sys_platform == 'never'",
#     "triton; sys_platform == 'never'",
# ] ///
"""LibreFace 0.2.0 as a process that reads AUs in lists of images (docs/annotation.md): 12 intensities in [0, 5] for
each.

    uv run --locked --script scripts/libreface_annotate.py --weights combined_resnet.pt faces.txt    # rows in
    faces.txt.csv

A list is a text file with the path of an image on each line. Its rows, `path,status,AU1,...,AU26` in the list's order,
go to the list's path + ".csv". Lists are the arguments or, without any, come line by line on stdin; stdout gets one
line of JSON when the model is ready and one for each list. The environment is this script's own, since LibreFace pins
torch 2.0.0 and mediapipe 0.10.5; the nvidia packages are torch 2.0.0's, which a lock for all platforms leaves out.
Linux on x86-64.
"""

import argparse
import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Libraries print to stdout as they like; the answers keep it for themselves.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

import cv2  # noqa: E402
import mediapipe  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from libreface.AU_Recognition.inference import ConfigObject  # noqa: E402
from libreface.AU_Recognition.solver_inference_combine import solver_inference_image_task_combine as Solver  # noqa: E402
from libreface.detect_mediapipe_image import image_align  # noqa: E402
from PIL import Image  # noqa: E402

AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
"""Also LibreFace's own order (solver.au_recognition_aus)."""
FACES = 10
"""At most looked for in an image."""
MESH = mediapipe.solutions.face_mesh
LANDMARKS = [
    index
    for part in (MESH.FACEMESH_LEFT_EYE, MESH.FACEMESH_RIGHT_EYE, MESH.FACEMESH_LIPS)
    for index in sorted({i for edge in part for i in edge})
]
"""What `image_align` wants: 16 of each eye and 40 of the lips. It takes means and extremes of each, so their order does
not matter."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="LibreFace's combined_resnet.pt or combined_repvgg.pt")
    parser.add_argument("--sha256", help="refuse weights with another SHA-256")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--batch-size", type=int, default=32, help="faces that go through the network together")
    parser.add_argument(
        "lists", nargs="*", help="text files with an image path on each line; none: their paths come on stdin"
    )
    arguments = parser.parse_args()
    digest = hashlib.sha256(Path(arguments.weights).read_bytes()).hexdigest()
    if arguments.sha256 not in (None, digest):
        sys.exit(f"{arguments.weights}: SHA-256 is {digest}, wanted is {arguments.sha256}")
    solver = load_solver(arguments.weights, arguments.device)
    with MESH.FaceMesh(
        static_image_mode=True, refine_landmarks=True, max_num_faces=FACES, min_detection_confidence=0.5
    ) as mesh:
        answer({"ready": "libreface 0.2.0", "weights_sha256": digest})
        for line in arguments.lists or sys.stdin:
            request = Path(line.rstrip("\n"))
            paths = request.read_text(encoding="utf-8").splitlines()
            write_rows(Path(f"{request}.csv"), rows_of(paths, mesh, solver, arguments.batch_size))
            answer({"done": str(request), "rows": len(paths)})


def answer(value: dict[str, Any]) -> None:
    print(json.dumps(value), file=ANSWERS, flush=True)


def load_solver(weights: str, device: str) -> Solver:
    """The network of LibreFace's `get_au_intensities_and_detect_aus_video`, with its settings, but loaded once and not
    for each call."""
    # It would first fetch ImageNet's weights from the net, and then replace all of them, strictly.
    resnet18 = torchvision.models.resnet18
    torchvision.models.resnet18 = lambda weights: resnet18()
    settings = {
        "ckpt_path": weights,
        "weights_download_id": None,
        "model_name": "resnet",
        "device": device,
        "image_size": 256,
        "crop_size": 224,
    }
    labels = {"au_recognition_num_labels": 12, "au_detection_num_labels": 12}
    solver = Solver(ConfigObject({**settings, **labels, "dropout": 0.1, "fm_distillation": False}))
    assert tuple(solver.au_recognition_aus) == AUS
    return solver.eval()


def rows_of(paths: list[str], mesh: Any, solver: Solver, batch_size: int) -> Iterator[list[Any]]:
    """A row for each path: itself, its status, and the AUs of its largest face (empty without one)."""
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        found = [look(path, mesh) for path in batch]
        faces = [face for _, face in found if face is not None]
        read = iter(intensities(faces, solver) if faces else [])
        for path, (status, face) in zip(batch, found, strict=True):
            yield [path, status, *(next(read) if face is not None else [""] * len(AUS))]


def look(path: str, mesh: Any) -> tuple[str, Image.Image | None]:
    """The status of an image, and its largest face as LibreFace aligns it (`get_aligned_image`, which fails where there
    are two)."""
    pixels = read_pixels(path)
    if pixels is None:
        return "unreadable", None
    found = mesh.process(pixels).multi_face_landmarks or []
    if not found:
        return "no_face", None
    faces = [np.array([(point.x, point.y) for point in face.landmark]) for face in found]
    largest = max(faces, key=lambda face: float(np.prod(np.ptp(face, axis=0))))
    return "ok" if len(faces) == 1 else "several_faces", image_align(Image.fromarray(pixels), largest[LANDMARKS])


def read_pixels(path: str) -> np.ndarray | None:
    """RGB bytes (H, W, 3), read with cv2 as LibreFace does (turned as EXIF says); None, and a line on stderr, for what
    is no whole image."""
    try:
        with Image.open(path) as image:
            image.load()  # cv2 fills up what a truncated file lacks
    except Exception as error:  # decoders of damaged files raise all kinds
        print(f"{path}: {error}", file=sys.stderr)
        return None
    pixels = cv2.imread(path)
    if pixels is None:
        print(f"{path}: a format that cv2 does not read", file=sys.stderr)
        return None
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


@torch.no_grad()
def intensities(faces: list[Image.Image], solver: Solver) -> list[list[float]]:
    """AUs in [0, 5] of aligned faces, as the solver's `run_video` makes them of files."""
    batch = torch.stack([solver.image_transform(face) for face in faces]).to(solver.device)
    return (solver.model(batch, task_name="au_recognition") * 5).tolist()


def write_rows(path: Path, rows: Iterator[list[Any]]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "status", *(f"AU{au}" for au in AUS)])
        writer.writerows(rows)
    os.replace(partial, path)


if __name__ == "__main__":
    main()
