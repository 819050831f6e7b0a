"""AUs of images that have no labels: read by LibreFace, or from what OpenFace wrote."""

import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fineface_train.aus import AU_KEYS
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.libreface import LIBREFACE, LibreFaceConfig, find_weights, libreface
from fineface_train.data.openface import OpenFaceConfig, read_openface, stamp
from fineface_train.data.per_image import per_image


class AnnotatorKind(enum.Enum):
    """`none`: the data has AUs already. `libreface`: the paper's tool is run. `openface`: CSV files that OpenFace 2 has written are read."""

    none = "none"
    libreface = "libreface"
    openface = "openface"


@dataclasses.dataclass
class AnnotateConfig:
    """Who reads AUs in images that have no labels."""

    kind: AnnotatorKind = AnnotatorKind.none
    libreface: LibreFaceConfig = dataclasses.field(default_factory=LibreFaceConfig)
    openface: OpenFaceConfig = dataclasses.field(default_factory=OpenFaceConfig)

    def validate(self, key: str) -> None:
        """Raise ValueError, naming the full key, for a value out of range."""
        self.libreface.validate(f"{key}.libreface")
        self.openface.validate(f"{key}.openface")


def annotated_by(config: AnnotateConfig, key: str) -> dict[str, Any] | None:
    """What decides the AUs: tool, version, and a hash of its weights or files; None where nothing annotates.

    Raises ValueError, naming the key, where weights or files are missing.
    """
    if config.kind is AnnotatorKind.none:
        return None
    if config.kind is AnnotatorKind.libreface:
        return {"annotator": LIBREFACE, "weights_sha256": find_weights(config.libreface, f"{key}.libreface")[1]}
    where = f"{key}.openface"
    return {"annotator": "openface csv", "files": stamp(config.openface, where), "min_confidence": config.openface.min_confidence}


def annotate(paths: Sequence[str], contents: Sequence[str], folder: Path, config: AnnotateConfig, key: str, crew: Crew = ALONE) -> pd.DataFrame:
    """A row for each of `paths`, in their order: path, status (ok, several_faces, no_face, unreadable) and AU1 .. AU26 in [0, 5], float32.

    Where there is no face the AUs are not-a-number. LibreFace's rows are kept in `folder`, one for each content ever seen: a run that was stopped goes on, and
    all processes of `crew` take part, each with a LibreFace of its own.

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
        frame = pd.DataFrame(read_openface(paths, config.openface, f"{key}.openface"), columns=["status", *AU_KEYS])
        frame.insert(0, "path", list(paths))
    else:
        with libreface(config.libreface, f"{key}.libreface") as read:
            batch_size = config.libreface.batch_size
            frame = per_image(paths, contents, folder, made_by, read, batch_size=batch_size, title="reading AUs with LibreFace", crew=crew)
    return frame[["path", "status", *AU_KEYS]].astype(dict.fromkeys(AU_KEYS, "float32"))
