"""Where a list of images with their AUs lies and what its numbers are, as the config tells."""

import dataclasses
import enum

from fineface_train.aus import AUS, MAX_INTENSITY
from fineface_train.data.splits import VALIDATION_SHARE

SOURCE = "manipulation"


class Missing(enum.Enum):
    """AUs of ours that the file does not tell: `refuse` it, or take them for `zero`, which is a guess that the adapter
    then learns."""

    refuse = "refuse"
    zero = "zero"


@dataclasses.dataclass
class ManipulationConfig:
    """Where the list lies and what its numbers are. Paths are relative to `root` unless absolute."""

    root: str | None = None
    """Folder of the copy."""
    labels: str = "aus_dataset.pkl"
    """The pickled list of images and their AUs."""
    images: str = "."
    """Folder that the paths in the list start from."""
    strip: str = ""
    """Taken off the start of every path in the list before it is looked for below `images`, such as imgs/. Paths and
    this may be written with \\ or ./."""
    aus: list[int] | None = None
    """The AU number of each entry of a vector, in order."""
    missing: Missing = Missing.refuse
    """What to do with AUs of ours that the list does not tell."""
    scale: float = MAX_INTENSITY
    """The number in the list that is intensity 5: 5, or 1 where the list counts from 0 to 1."""
    captions: str | None = None
    """CSV with columns `file_path` (or `path`, as in the list) and `caption`; null: every image has `caption`."""
    caption: str = "a photo of a person"
    """Caption of every image, where `captions` is null."""
    validation_share: float = VALIDATION_SHARE
    """Share of the images, chosen by data.seed, that is never trained on."""
    weight: float | None = None
    """Share of training examples, relative to the other sources; null: the number of its training rows."""

    def validate(self, key: str) -> None:
        if self.aus is not None and (len(set(self.aus)) != len(self.aus) or not self.aus or min(self.aus) < 1):
            raise ValueError(f"{key}.aus={self.aus}: must list AU numbers (1, 2, 4, ...), each once")
        unknown = [au for au in AUS if self.aus is not None and au not in self.aus]
        if unknown and self.missing is Missing.refuse:
            raise ValueError(
                f"{key}.aus={self.aus}: AU{', AU'.join(map(str, unknown))} of ours are unknown in these labels, and "
                f"unknown is not 0; "
                f"use labels that tell all of {', '.join(map(str, AUS))}, or say that you take them for 0: "
                f"{key}.missing=zero"
            )
        if not 0 < self.scale <= 100:
            raise ValueError(f"{key}.scale={self.scale}: must be the number that means intensity 5, such as 5 or 1")
        if self.captions is None and not self.caption.strip():
            raise ValueError(f"{key}.caption is empty: set it, or {key}.captions to a CSV")
