"""How frames of videos are kept as files."""

import enum


class FrameFormat(enum.Enum):
    """How frames are kept: `jpg`, or `png`, which loses nothing and takes about five times the space."""

    jpg = "jpg"
    png = "png"
