"""How much of the drawn world is drawn, as the config tells."""

import dataclasses

DISFA_SUBJECTS: tuple[str, ...] = tuple(f"SN{number:03d}" for number in (*range(1, 14), 16, 17, 18, 21, *range(23, 33)))
"""The names of DISFA's 27 subjects, gaps and all."""


@dataclasses.dataclass
class CorpusConfig:
    """How much ToyFACS is drawn."""

    disfa_subjects: int = 27
    """Subjects of the part in DISFA's layout, 1 to 27."""
    disfa_frames: int = 90
    """Frames per subject; every other subject has one less, as DISFA's counts vary too."""
    affectnet_images: int = 4800
    """Images of the part in AffectNet's layout."""
    annotator_noise: float = 0.02
    """Standard deviation of the AffectNet part's labels, on the metadata's 0-1 scale."""
    resolution: int = 64
    """Side of a drawing in pixels."""
    seed: int = 0
    """Chooses faces, expressions and nuisances."""

    def validate(self, key: str) -> None:
        if not 1 <= self.disfa_subjects <= len(DISFA_SUBJECTS):
            raise ValueError(f"{key}.disfa_subjects={self.disfa_subjects}: must lie in 1..{len(DISFA_SUBJECTS)}")
        if self.disfa_frames < 2:
            raise ValueError(f"{key}.disfa_frames={self.disfa_frames}: must be at least 2")
        if self.affectnet_images < 50:
            raise ValueError(
                f"{key}.affectnet_images={self.affectnet_images}: must be at least 50, so that every AU reaches 5 in a "
                f"row that filters keep"
            )
        if not 0 <= self.annotator_noise <= 0.2:
            raise ValueError(f"{key}.annotator_noise={self.annotator_noise}: must lie in 0..0.2 (on the 0-1 scale)")
        if self.resolution < 32:
            raise ValueError(f"{key}.resolution={self.resolution}: must be at least 32 pixels")
        if self.seed < 0:
            raise ValueError(f"{key}.seed={self.seed}: must not be negative")
