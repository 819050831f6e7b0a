"""AUs of images that have no labels: read by LibreFace, or from what OpenFace wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fineface_train.aus import AU_KEYS, MAX_INTENSITY
from fineface_train.data.annotators.config import AnnotateConfig, AnnotatorKind
from fineface_train.data.annotators.libreface import LIBREFACE, find_weights, libreface
from fineface_train.data.annotators.openface import read_openface, stamp
from fineface_train.data.annotators.program import WITH_FACE
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.intensities import rounded_off, scale_doubt
from fineface_train.data.per_image import per_image


def annotated_by(config: AnnotateConfig, key: str) -> dict[str, Any] | None:
    """What decides the AUs: tool, version, and a hash of its weights or files; None where nothing annotates.

    Raises ValueError, naming the key, where weights or files are missing.
    """
    if config.kind is AnnotatorKind.none:
        return None
    if config.kind is AnnotatorKind.libreface:
        return {"annotator": LIBREFACE, "weights_sha256": find_weights(config.libreface, f"{key}.libreface")[1]}
    where = f"{key}.openface"
    return {
        "annotator": "openface csv",
        "files": stamp(config.openface, where),
        "min_confidence": config.openface.min_confidence,
    }


def annotate(
    paths: Sequence[str], contents: Sequence[str], folder: Path, config: AnnotateConfig, key: str, crew: Crew = ALONE
) -> pd.DataFrame:
    """A row for each of `paths`, in their order: path, status (ok, several_faces, no_face, unreadable) and AU1 .. AU26
    in [0, 5], float32.

    Where there is no face the AUs are not-a-number. Those on another `scale` are brought to 0..5.

    LibreFace's rows are kept in `folder`, one for each content ever seen: a run that was stopped goes on, and all
    processes of `crew` take part, each with a LibreFace of its own.

    Args:
        paths, contents: image files and their SHA-256 in hex (`contents.image_contents`).
        folder: of the rows of this annotator, with these weights.
        key: of `config`, such as "data.annotate", for messages.
    Raises:
        ValueError: weights, uv or OpenFace's files are missing or wrong; `folder` holds the rows of another annotator.
        ChildProcessError: LibreFace failed; the message has its last words.
    """
    made_by = annotated_by(config, key)
    assert made_by is not None, "nothing annotates"
    if config.kind is AnnotatorKind.openface:
        rows = read_openface(paths, config.openface, f"{key}.openface", config.scale or MAX_INTENSITY)
        frame = pd.DataFrame(rows, columns=["status", *AU_KEYS])
        frame.insert(0, "path", list(paths))
    else:
        with libreface(config.libreface, f"{key}.libreface") as read:
            batch_size = config.libreface.batch_size
            frame = per_image(
                paths,
                contents,
                folder,
                made_by,
                read,
                batch_size=batch_size,
                title="reading AUs with LibreFace",
                crew=crew,
            )
    _check_scale(frame, config, key)
    if config.scale not in (None, MAX_INTENSITY):
        frame[list(AU_KEYS)] = frame[list(AU_KEYS)].astype(float) * (MAX_INTENSITY / config.scale)
    return frame[["path", "status", *AU_KEYS]].astype(dict.fromkeys(AU_KEYS, "float32"))


def _check_scale(frame: pd.DataFrame, config: AnnotateConfig, key: str) -> None:
    """Raises ValueError where AUs lie beyond `scale`, or where it is not said and all of them may be on another."""
    faces = frame[frame["status"].isin(WITH_FACE)]
    aus = faces[list(AU_KEYS)].to_numpy(dtype=float)
    scale = config.scale or MAX_INTENSITY
    beyond = (rounded_off(aus, scale)[0] > scale).any(axis=1)
    if beyond.any():
        first = faces[beyond].iloc[0]
        raise ValueError(
            f"{key}.scale={config.scale}: the AUs of {beyond.sum()} of {len(faces)} images go beyond it, first those "
            f"of {first['path']}"
        )
    doubt = scale_doubt(aus, scale) if config.scale is None else ""
    if doubt:
        raise ValueError(
            f"{key}.scale=null: {doubt}: do they count from 0 to 1? Set {key}.scale=1 if so, or {key}.scale=5 if they "
            f"count to 5 and the faces are that "
            "weak; what was read of the images is kept"
        )
