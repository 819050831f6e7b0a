"""How a run is evaluated, as the config tells."""

import dataclasses
import enum

from fineface_train.files import check_seed


class ProtocolName(enum.Enum):
    """`paper`: 15 prompts x (12 AUs x 5 intensities + 50 sets), 1,650 images. `quick`: a subset of it, 265 images.
    `glance`: 48 images of single AUs, for looks while training goes on. `calibration`: 240 of single AUs and 240 of
    sets, on prompts and sets of its own. All plus neutrals.
    """

    calibration = "calibration"
    glance = "glance"
    quick = "quick"
    paper = "paper"


@dataclasses.dataclass
class EvaluationConfig:
    """When and how a run's images are made and judged."""

    batch_size: int = 32
    """Images generated at once; changes nothing but speed and memory."""
    after_training: bool = True
    """Evaluate and write the report when training ends."""
    every: int = 0
    """Steps between two looks while training goes on (protocol `glance`: 50 images), as curves in metrics.jsonl and
    wandb; 0 for none."""
    seed: int = 1000
    """Starting noise of prompt k comes from seed + k; the noise of validation too."""

    @property
    def wanted(self) -> bool:
        """Whether a training asks the judges, while it goes on or at its end."""
        return self.after_training or self.every > 0

    def validate(self, key: str) -> None:
        if self.batch_size < 1:
            raise ValueError(f"{key}.batch_size={self.batch_size}: must be at least 1")
        if self.every < 0:
            raise ValueError(f"{key}.every={self.every}: must not be negative")
        check_seed(f"{key}.seed", self.seed)
