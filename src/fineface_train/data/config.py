"""The data of a run, as the config tells: its sources, and where the prepared table lies."""

import dataclasses
import enum
import math
from pathlib import Path
from typing import TYPE_CHECKING

from fineface_train.data.affectnet import config as affectnet
from fineface_train.data.affectnet.config import AffectNetConfig, AusFrom, CaptionsFrom, PhotoFilter
from fineface_train.data.annotators.config import AnnotateConfig, Blip2Config
from fineface_train.data.augmentation import MOST_COLOUR, MOST_VARIANTS, Augmentation
from fineface_train.data.disfa import config as disfa
from fineface_train.data.disfa.config import DisfaConfig
from fineface_train.data.manipulation import config as manipulation
from fineface_train.data.manipulation.config import ManipulationConfig
from fineface_train.files import check_name
from fineface_train.toyfacs.config import CorpusConfig

if TYPE_CHECKING:
    from fineface_train.data.table import SampleTable

AUGMENTATION = ("data.flip", "data.colour", "data.colour_variants")
"""Keys that only a training reads."""


class ImageTransform(enum.Enum):
    """`crop`: resize the short side, then crop the centre. `squash`: resize both sides (published code)."""

    crop = "crop"
    squash = "squash"


class Split(enum.Enum):
    """What a row of the table is for: training, the validation loss, or a measurement at the end."""

    train = "train"
    validation = "validation"
    test = "test"


@dataclasses.dataclass
class DataConfig:
    """Which sources the data has, and where the prepared table lies."""

    name: str = "toyfacs"
    """Name of the data, part of a run folder's name; set by data=NAME."""
    root: str = "outputs/data/toyfacs"
    """Folder of the prepared table, its manifest and, if ToyFACS is drawn, `corpus/`."""
    toyfacs: CorpusConfig | None = None
    """Set: draw a corpus into `root`/corpus; the sources' roots point there."""
    disfa: DisfaConfig | None = None
    """DISFA, or DISFA+; null leaves it out."""
    affectnet: AffectNetConfig | None = None
    """AffectNet, with FineFace\'s metadata or its own lists; null leaves it out."""
    manipulation: ManipulationConfig | None = None
    """Lists of images with AUs, as expression-manipulator has them; null leaves them out."""
    cache: str | None = None
    """Folder of what the base says about images and captions (latents, embeddings); null: `root`/cache. Of use where
    `root` cannot be written."""
    blip2: Blip2Config = dataclasses.field(default_factory=Blip2Config)
    """Who captions images and tells photographs from drawings, for sources that ask for it."""
    annotate: AnnotateConfig = dataclasses.field(default_factory=AnnotateConfig)
    """Who reads AUs, for sources that ask for it."""
    seed: int = 0
    """Chooses neutral frames and splits; not the run's seed, so that arms with different seeds share one table."""
    rarity_weighting: float = 0.0
    """Power of the mean inverse frequency of a row's active AUs in its chance to be drawn; 0 draws uniformly."""
    skip_broken: bool = False
    """Decode every image while preparing, and drop and count those that are missing or cannot be read; else the first
    one met is an error."""
    flip: float = 0.0
    """Share of the training examples whose image is mirrored; images whose captions tell left or right never are. 0 for
    none."""
    colour: float = 0.0
    """Largest change of the brightness, contrast and saturation of training images: each factor lies in 1 - colour ..
    1 + colour. 0 for none."""
    colour_variants: int = 4
    """Number of colours that an image is shown in, its own among them; each takes a cache of posteriors."""

    def validate(self, key: str) -> None:
        check_name(f"{key}.name", self.name)
        if not self.sources:
            raise ValueError(
                f"{key}: has no source; set {key}.disfa, {key}.affectnet or {key}.manipulation, or choose one of the "
                f"presets in configs/data"
            )
        if not 0 <= self.rarity_weighting <= 2:
            raise ValueError(f"{key}.rarity_weighting={self.rarity_weighting}: must lie in 0..2 (0 draws uniformly)")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"{key}.flip={self.flip}: must be a share, from 0 (no image is mirrored) to 1 (all are)")
        if not 0 <= self.colour <= MOST_COLOUR:
            raise ValueError(
                f"{key}.colour={self.colour}: must lie in 0..{MOST_COLOUR:g} (0 leaves colours as they are)"
            )
        if not 2 <= self.colour_variants <= MOST_VARIANTS:
            raise ValueError(
                f"{key}.colour_variants={self.colour_variants}: must lie in 2..{MOST_VARIANTS}, with the image's own "
                f"colours among them; {key}.colour=0 leaves colours as they are"
            )
        self.blip2.validate(f"{key}.blip2")
        self.annotate.validate(f"{key}.annotate")
        if self.toyfacs is not None:
            self.toyfacs.validate(f"{key}.toyfacs")
        for name, source in self.sources.items():
            source.validate(f"{key}.{name}")
            if not 0 <= source.validation_share < 1:
                raise ValueError(
                    f"{key}.{name}.validation_share={source.validation_share}: must lie in 0..1, and below 1"
                )
            if source.weight is not None and not 0 <= source.weight < math.inf:
                raise ValueError(
                    f"{key}.{name}.weight={source.weight}: must be 0 or more, or null (the number of the source's "
                    f"training rows)"
                )
        if len({source.weight is None for source in self.sources.values()}) > 1:
            raise ValueError(
                f"{key}: set {' and '.join(f'{key}.{name}.weight' for name in self.sources)}: all of them, or none"
            )

    @property
    def sources(self) -> dict[str, DisfaConfig | AffectNetConfig | ManipulationConfig]:
        """The configs of the sources that the data has, by name."""
        every = {disfa.SOURCE: self.disfa, affectnet.SOURCE: self.affectnet, manipulation.SOURCE: self.manipulation}
        return {name: source for name, source in every.items() if source is not None}

    @property
    def cache_folder(self) -> Path:
        """Where caches of latents and embeddings lie."""
        return Path(self.root) / "cache" if self.cache is None else Path(self.cache)

    @property
    def augmentation(self) -> Augmentation:
        """How images are varied while training goes on."""
        if not self.colour:
            return Augmentation(self.flip)
        return Augmentation(self.flip, self.colour, self.colour_variants, self.seed)

    def weights(self, table: "SampleTable") -> dict[str, float]:
        """Each source's share of the training examples, up to a factor, for `Mixture`."""
        training = table.frame.loc[table.frame["split"] == "train", "source"].value_counts()
        return {
            name: float(training.get(name, 0)) if source.weight is None else source.weight
            for name, source in self.sources.items()
        }


def wants_blip2(config: DataConfig) -> bool:
    """Whether captions or the photo filter are BLIP-2's."""
    one, other = config.disfa, config.affectnet
    by_disfa = one is not None and one.captions is None
    return by_disfa or (
        other is not None and (other.captions is CaptionsFrom.blip2 or other.photo_filter is PhotoFilter.blip2)
    )


def wants_annotator(config: DataConfig) -> bool:
    """Whether AUs are read by who `annotate` says."""
    return config.affectnet is not None and config.affectnet.aus is AusFrom.annotator
