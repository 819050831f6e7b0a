"""AffectNet as it is sent since 2021: instead of a list, four small files of numpy for each image.

    train_set/images/0.jpg
    train_set/annotations/0_exp.npy  0_val.npy  0_aro.npy  0_lnd.npy      expression, valence, arousal, landmarks
    val_set/...

What is taken from it is what the list tells: whether there is a face, by the expression.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.data.formats.folders import below

ANNOTATIONS, EXPRESSION = "annotations", "_exp.npy"
NO_FACE = 10
"""The expression that AffectNet's annotators gave to images without a face."""


def expression_files(folder: Path) -> list[Path]:
    """The annotations of each image, in the order of their numbers; empty where `folder` holds none."""
    files = [path for path in folder.glob(f"*{EXPRESSION}") if not path.name.startswith(".")]
    return sorted(files, key=lambda path: (len(path.name), path.name))


def find_annotations(root: Path) -> Path | None:
    """The folder of annotations in `root` or a folder in it, train_set's before val_set's."""
    folders = [
        one / ANNOTATIONS for one in below(root) if next((one / ANNOTATIONS).glob(f"*{EXPRESSION}"), None) is not None
    ]
    return min(folders, key=lambda folder: (folder.parent.name.startswith("val"), len(folder.parts)), default=None)


def read_annotations(files: Sequence[Path]) -> pd.DataFrame:
    """`name` (0.jpg) and `HasFace` of each of `expression_files`. Raises ValueError that names the files that cannot be
    read, or hold no expression."""
    with ThreadPoolExecutor(8) as pool:
        expressions = list(pool.map(_expression, files))
    bad = [(path, told) for path, told in zip(files, expressions, strict=True) if isinstance(told, str)]
    if bad:
        path, told = bad[0]
        more = f" ({len(bad)} such files)" if len(bad) > 1 else ""
        raise ValueError(f"{path}: {told}; bring back whole copies{more}")
    names = [f"{path.name.removesuffix(EXPRESSION)}.jpg" for path in files]
    return pd.DataFrame({"name": names, "HasFace": [told != NO_FACE for told in expressions]})


def _expression(path: Path) -> int | str:
    """0 to 10, or in words what is wrong."""
    try:
        value = np.load(path, allow_pickle=False)
        number = float(value.item()) if value.size == 1 else float("nan")  # text in the copies that are sent
    except (OSError, ValueError, EOFError, TypeError) as error:
        return f"cannot be read as an expression ({error})"
    return (
        int(number)
        if number in range(NO_FACE + 1)
        else f"holds {str(value)[:40]!r}, which is no expression in 0..{NO_FACE}"
    )
