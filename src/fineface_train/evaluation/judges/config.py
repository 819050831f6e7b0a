"""Who judges the images, as the config tells, and what each kind of judge reads of it."""

import dataclasses
import enum

from fineface_train.data.annotators.config import LibreFaceConfig


class JudgeKind(enum.Enum):
    """`toyfacs`: the small networks that are shipped with the drawn world. `libreface`: LibreFace, for photographs.
    `none`: pictures without numbers."""

    toyfacs = "toyfacs"
    libreface = "libreface"
    none = "none"


@dataclasses.dataclass
class JudgeConfig:
    """Where the judges lie; judge one is the headlines' judge. Judges `one`, `two` and `attributes` read drawn faces
    only."""

    kind: JudgeKind = JudgeKind.toyfacs
    """Who reads AUs in made images."""
    one: str = "data/toyfacs/judges/judge_one"
    """Folder of the first judge of drawn faces, whose readings are the headlines."""
    two: str = "data/toyfacs/judges/judge_two"
    """Folder of the second judge of drawn faces, which checks the first."""
    attributes: str = "data/toyfacs/judges/attributes"
    """Folder of the network that reads a drawn face's attributes."""
    clip: str = "data/toyfacs/clip"
    """A folder, or for photographs also a hub name."""
    face_threshold: float = 0.6
    """Likeness in [-1, 1] (see `likeness`) from which a drawing counts as a face."""
    libreface: LibreFaceConfig = dataclasses.field(default_factory=LibreFaceConfig)

    def validate(self, key: str) -> None:
        """Raise ValueError, naming the full key, for a value out of range."""
        if not -1 <= self.face_threshold <= 1:
            raise ValueError(
                f"{key}.face_threshold is {self.face_threshold}, a likeness; use a number in [-1, 1], such as 0.6"
            )
        for name in ("one", "two", "attributes", "clip"):
            if not getattr(self, name):
                raise ValueError(f"{key}.{name} is empty; give the folder of a model saved with save_pretrained")
        self.libreface.validate(f"{key}.libreface")


@dataclasses.dataclass(frozen=True)
class Reads:
    """What a kind of judge reads of the config, and what it can look at."""

    keys: tuple[str, ...]
    """Keys of `JudgeConfig`; others that are given beside it are refused."""
    drawn_only: bool = False
    """It reads drawn faces and no photographs."""


READS: dict[JudgeKind, Reads] = {
    JudgeKind.toyfacs: Reads(("one", "two", "attributes", "clip", "face_threshold"), drawn_only=True),
    JudgeKind.libreface: Reads(("libreface", "clip")),
    JudgeKind.none: Reads(()),
}
