"""Where DISFA lies and which of its frames are used, as the config tells."""

import dataclasses
import enum
import re

from fineface_train.data.disfa.clues import subject_of
from fineface_train.data.formats.frame_format import FrameFormat
from fineface_train.data.splits import VALIDATION_SHARE

SOURCE = "disfa"
FOLDS: tuple[tuple[str, ...], ...] = (
    ("SN003", "SN004", "SN005", "SN007", "SN008", "SN017", "SN023", "SN025", "SN029"),
    ("SN006", "SN011", "SN012", "SN013", "SN018", "SN021", "SN024", "SN028", "SN031"),
    ("SN001", "SN002", "SN009", "SN010", "SN016", "SN026", "SN027", "SN030", "SN032"),
)
"""Test subjects of the three folds in AU detection papers, as in the published code of ME-GraphAU (Luo et al., IJCAI
2022): its folds 1, 2, 3."""
MOST_AT_AN_END = 2
"""Frames that pictures or labels may have more at the start or the end, where it is known which; what differs more is
another recording."""
EVERYONE = "all"
SPAN = re.compile(rf"(SN\d+|{EVERYONE}):(-?\d+)\.\.(\d+)")
AUTO = "auto"


class Camera(enum.Enum):
    """DISFA was filmed by two."""

    left = "left"
    right = "right"


class Mismatch(enum.Enum):
    """Where labels and images do not cover the same frames: an `error`, or the frames that they have in `common` are
    used, and the loss is told."""

    error = "error"
    common = "common"


@dataclasses.dataclass
class DisfaConfig:
    """Where DISFA lies and which of its frames are used. Paths are relative to `root` unless absolute; case, blanks, -
    and _ of a folder's name may differ."""

    root: str | None = None
    """Folder of the copy of DISFA or DISFA+."""
    labels: str = "ActionUnit_Labels"
    """Folder of the label files, below `root` unless absolute; auto looks for it."""
    images: str = "frames"
    """Folder of extracted frames."""
    videos: str | None = AUTO
    """Folder of videos, whose frames `prepare` extracts; "auto": where there is no folder `images`, one such as
    Videos_LeftCamera; null: none."""
    video_pattern: str = "*{subject}*"
    """Names of videos, without .avi or .mp4; * stands for anything. Those that name the other camera are left out."""
    camera: Camera = Camera.left
    """Which of DISFA's two cameras, where videos of both are there."""
    frame_format: FrameFormat = FrameFormat.jpg
    """Image format of the frames that are extracted from videos."""
    frame_quality: int = 95
    """Quality of jpg frames, 1 to 100."""
    captions: str | None = "disfa_captions.csv"
    """CSV with columns `subject`, `frame` (from 1) and `caption`; or with `caption` alone, in the order of subjects and
    frames."""
    image_pattern: str = "{subject}/{index:05d}.jpg"
    """Names below `images`. An index may have any number of digits."""
    first_index: int = 0
    """Number of a subject's first image below `images`."""
    first_label: int = 1
    """Number of a subject's first frame in its label files."""
    mismatch: Mismatch = Mismatch.error
    """What to do with frames that have labels or pictures only."""
    spans: list[str] = dataclasses.field(default_factory=list)
    """[SN001:2..4845]: the labels, from 1, of a subject's first and last picture, where numbers and clock do not tell;
    found by looking at both. `all:2..4845` is for each subject that has no span of its own and needs one."""
    subjects: list[str] | None = None
    """Only these, such as [SN001, SN002]; they must be there. null: all that are."""
    neutral_share: float = 0.1
    """Share of the frames without any AU that is kept."""
    min_side: int = 0
    """Subjects whose frames are narrower or lower than this many pixels are dropped."""
    fold: int | None = None
    """Test subjects are those of the literature's fold 0, 1 or 2; null: a share `test_share`, chosen by the seed."""
    test_share: float = 0.0
    """Share of the subjects, chosen by data.seed, that is kept for the test."""
    validation_share: float = VALIDATION_SHARE
    """Share of the subjects that are not for the test, chosen by data.seed, that is never trained on."""
    weight: float | None = None
    """Share of training examples, relative to the other sources; null: the number of its training rows."""

    def validate(self, key: str) -> None:
        if len(re.findall(r"\{index(?::0\d+d)?\}", self.image_pattern)) != 1 or "{subject}" not in self.image_pattern:
            raise ValueError(
                f"{key}.image_pattern={self.image_pattern!r}: must contain {{subject}}, and once {{index}} or "
                f"{{index:05d}}"
            )
        if "{subject}" not in self.video_pattern:
            raise ValueError(
                f"{key}.video_pattern={self.video_pattern!r}: must contain {{subject}}, as in LeftVideo{{subject}}_comp"
            )
        if not 1 <= self.frame_quality <= 100:
            raise ValueError(f"{key}.frame_quality={self.frame_quality}: must lie in 1..100")
        for name in ("first_index", "first_label", "min_side"):
            if getattr(self, name) < 0:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must not be negative")
        for subject in self.subjects or []:
            if subject_of(subject) != subject:
                raise ValueError(f"{key}.subjects: {subject!r} is no subject; they are called SN001 and so on")
        for told in self.spans:
            match = SPAN.fullmatch(told)
            named = match is not None and match[1] in (EVERYONE, subject_of(match[1]))
            if match is None or not named or abs(int(match[2]) - 1) > MOST_AT_AN_END or int(match[3]) <= int(match[2]):
                allowed = (
                    f"the labels of a subject's first and last picture, the first from {1 - MOST_AT_AN_END} to "
                    f"{1 + MOST_AT_AN_END}"
                )
                raise ValueError(
                    f"{key}.spans: {told!r}: must read like SN001:2..4845 or {EVERYONE}:2..4845, {allowed}"
                )
        if len({told.partition(":")[0] for told in self.spans}) < len(self.spans):
            raise ValueError(f"{key}.spans: {', '.join(self.spans)}: a subject has one span")
        for name in ("neutral_share", "test_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must be a share, from 0 to 1")
        if self.fold is not None and (self.fold not in range(len(FOLDS)) or self.test_share):
            raise ValueError(f"{key}.fold={self.fold}: must be 0, 1 or 2, with {key}.test_share=0; or null")
