"""LibreFace, the paper's label tool and judge, as an `Annotator`.

It pins torch 2.0.0 and mediapipe 0.10.5 and so cannot live in our environment: scripts/libreface_annotate.py has one of
its own, which uv makes from the lock beside it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fineface_train.data.annotators.config import LibreFaceConfig
from fineface_train.data.annotators.program import Annotator
from fineface_train.files import sha256

LIBREFACE = "libreface 0.2.0"
SCRIPT = Path(__file__).resolve().parents[4] / "scripts" / "libreface_annotate.py"
WEIGHTS = ("combined_repvgg.pt", "combined_resnet.pt")
"""What LibreFace's functions for videos and for images call one and the same download, in AU_Recognition/weights."""
HOW_TO_GET = (
    "LibreFace's weights are for research: put them there by hand, with "
    "`uv run --no-project --with gdown gdown 1CbnBr8OBt8Wb73sL1ENcrtrWAFWSSRv0 -O "
    "FOLDER/AU_Recognition/weights/combined_resnet.pt`"
)


def libreface(config: LibreFaceConfig, key: str) -> Annotator:
    """LibreFace, not yet started. Raises ValueError, naming what is missing, where its weights or uv are not there."""
    weights, digest = find_weights(config, key)
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if config.device == "cuda" else config.device
    command = [find_uv(config, key), "run", "--quiet", "--locked", "--script", str(SCRIPT)]
    return Annotator(
        LIBREFACE,
        [
            *command,
            "--weights",
            str(weights),
            "--sha256",
            digest,
            "--device",
            device,
            "--batch-size",
            str(config.batch_size),
        ],
    )


def find_weights(config: LibreFaceConfig, key: str) -> tuple[Path, str]:
    """The file of weights and its SHA-256. Raises ValueError where there is none, or another than `weights_sha256`."""
    if config.weights is None:
        raise ValueError(
            f"{key}.weights=null: set it, or the environment variable LIBREFACE_WEIGHTS, to a folder. {HOW_TO_GET}"
        )
    folder = Path(config.weights).absolute() / "AU_Recognition" / "weights"
    found = {sha256(folder / name): folder / name for name in WEIGHTS if (folder / name).is_file()}
    if not found:
        raise ValueError(f"{key}.weights={config.weights}: {folder} holds no {' or '.join(WEIGHTS)}. {HOW_TO_GET}")
    if len(found) > 1:
        raise ValueError(
            f"{key}.weights={config.weights}: {' and '.join(WEIGHTS)} in {folder} should be the same and are not; "
            f"remove one"
        )
    digest, path = found.popitem()
    if config.weights_sha256 not in (None, digest):
        raise ValueError(
            f"{path}: SHA-256 is {digest}, {key}.weights_sha256 is {config.weights_sha256}; bring the right file, or "
            f"correct the key"
        )
    return path, digest


def find_uv(config: LibreFaceConfig, key: str) -> str:
    """Where uv is: on the PATH, or beside our Python. Raises ValueError where it is not."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    found = shutil.which(config.uv, path=folders)
    if found is None:
        raise ValueError(f"{key}.uv={config.uv}: no such program; LibreFace's environment needs it: pip install uv")
    return found


def check_environment(config: LibreFaceConfig, key: str) -> None:
    """Raises ValueError, with the remedy, where LibreFace's environment is not there; downloads nothing."""
    check = [find_uv(config, key), "sync", "--quiet", "--locked", "--offline", "--check", "--script", str(SCRIPT)]
    if subprocess.run(check, capture_output=True).returncode != 0:
        raise ValueError(
            f"LibreFace's environment is not there, or not whole; `uv sync --locked --script {SCRIPT}` makes it (4.5 "
            f"GB from PyPI, once)"
        )
