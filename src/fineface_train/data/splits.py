"""Parts of a data set, and the share that is held out where nothing else is said."""

SPLITS: tuple[str, ...] = ("train", "validation", "test")
VALIDATION_SHARE = 0.1
"""Share of a source that is by default never trained on: of DISFA's subjects, of AffectNet's images."""
