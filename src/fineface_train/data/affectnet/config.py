"""Where AffectNet lies, which of its images are used, and who says what of them, as the config tells."""

import dataclasses
import enum

from fineface_train.aus import MAX_INTENSITY
from fineface_train.data.intensities import POWERS, Transform
from fineface_train.data.splits import VALIDATION_SHARE

SOURCE = "affectnet"
IMAGES = "images"
FINEFACE_METADATA = "affecnet_metadata.csv"


class TotalFilter(enum.Enum):
    """What of a row's raw AUs must exceed the threshold: their `sum` (paper) or their `max` (published code)."""

    sum = "sum"
    max = "max"


class PhotoFilter(enum.Enum):
    """Who says what is a photograph: the columns `IsPhoto` and `IsReal` of the `metadata`, `blip2`'s answers
    (data.blip2), or nobody (`none`)."""

    metadata = "metadata"
    blip2 = "blip2"
    none = "none"


class AusFrom(enum.Enum):
    """Who says the AUs: the metadata's columns, or data.annotate."""

    metadata = "metadata"
    annotator = "annotator"


class CaptionsFrom(enum.Enum):
    """Who says the captions: the metadata's column, or data.blip2."""

    metadata = "metadata"
    blip2 = "blip2"


@dataclasses.dataclass
class AffectNetConfig:
    """Where AffectNet lies and which of its images are used. Paths are relative to `root` unless absolute."""

    root: str | None = None
    """Folder of the copy of AffectNet."""
    metadata: str = FINEFACE_METADATA
    """FineFace's CSV, or AffectNet's own (training.csv): which it is, its header tells; or the folder of annotations of
    its copies since 2021."""
    images: str = IMAGES
    """Folder of the images, or the first volume of a RAR archive, which is extracted. Where there is no such folder, an
    archive is looked for."""
    photo_filter: PhotoFilter = PhotoFilter.metadata
    """Who tells which images are photographs of real faces; others are dropped."""
    aus: AusFrom = AusFrom.metadata
    """Who tells the AUs."""
    captions: CaptionsFrom = CaptionsFrom.metadata
    """Who tells the captions."""
    min_side: int = 512
    """Least width and height in pixels, by the metadata or, where it does not tell, the images."""
    min_height: int | None = None
    """Another least height; null: `min_side`. The published code asks for 513."""
    total_filter: TotalFilter = TotalFilter.sum
    """What of a row's raw AUs must exceed `total_threshold`, so that faces that show nothing are dropped."""
    total_threshold: float = 0.2
    """On the metadata's 0-1 scale: rows below it (sum), or not above it (max), are dropped."""
    transform: Transform = Transform.paper
    """How raw AUs become intensities."""
    powers: dict[str, float] = dataclasses.field(default_factory=lambda: dict(POWERS))
    """By AU: what raw intensities (0-1) are raised to before they are stretched to 0..5; those of 1 are taken as they
    are."""
    low_cut: float = 1.0
    """Intensities below this become 0, on the 0-5 scale, after the transform."""
    scale: float = 1.0
    """The number in FineFace's CSV that is intensity 5: 1, or 5 where its AUs count from 0 to 5."""
    correction: str | None = None
    """A correction.json of another `fineface prepare`: its curves and low cut, instead of `transform` and `low_cut`
    fitted to these images."""
    validation_share: float = VALIDATION_SHARE
    """Share of the images, chosen by data.seed, that is never trained on."""
    weight: float | None = None
    """Share of training examples, relative to the other sources; null: the number of its training rows."""

    def validate(self, key: str) -> None:
        if self.min_side < 0:
            raise ValueError(f"{key}.min_side={self.min_side}: must not be negative (pixels; 0 keeps all)")
        if self.min_height is not None and self.min_height < 0:
            raise ValueError(f"{key}.min_height={self.min_height}: must not be negative, or null")
        if not 0 <= self.total_threshold <= 12:
            raise ValueError(
                f"{key}.total_threshold={self.total_threshold}: must lie in 0..12 (twelve AUs on the 0-1 scale)"
            )
        for name, power in self.powers.items():
            if not 0 < power <= 10:
                raise ValueError(
                    f"{key}.powers.{name}={power}: must lie above 0 and up to 10 (1 takes the AU as it is)"
                )
        if not 0 < self.scale <= 100:
            raise ValueError(
                f"{key}.scale={self.scale}: must be the number that means intensity 5, such as 1, 5 or 100"
            )
        if not 0 <= self.low_cut <= MAX_INTENSITY:
            raise ValueError(f"{key}.low_cut={self.low_cut}: must lie in 0..{MAX_INTENSITY:g}")
