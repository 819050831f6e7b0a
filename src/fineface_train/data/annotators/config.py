"""Who tells AUs and captions of images that come without them, as the config tells."""

import dataclasses
import enum
import re

HUB_NAME = "Salesforce/blip2-opt-2.7b"
HOW_TO_GET_BLIP2 = (
    f"give a folder that `huggingface-cli download {HUB_NAME}` made, or {HUB_NAME} itself where the hub is "
    f"within reach (15 GB)"
)


@dataclasses.dataclass
class LibreFaceConfig:
    """Where LibreFace's weights lie and how it runs."""

    weights: str | None = None
    """Folder with AU_Recognition/weights/combined_resnet.pt (or combined_repvgg.pt), as LibreFace itself lays it
    out."""
    weights_sha256: str | None = None
    """What the weights must be, in hex; null takes what lies there, and writes its SHA-256 down beside all that is made
    with it."""
    device: str = "cpu"
    """cpu, cuda (each process of a launch its own) or cuda:N."""
    batch_size: int = 32
    """Images in a list, which is also what a kill loses."""
    uv: str = "uv"
    """The program that makes LibreFace's environment, by name or path."""

    def validate(self, key: str) -> None:
        """Raise ValueError, naming the full key, for a value out of range."""
        if self.batch_size < 1:
            raise ValueError(f"{key}.batch_size={self.batch_size}: must be at least 1")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"{key}.device={self.device!r}: use cpu, cuda or cuda:N")
        if self.weights_sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.weights_sha256):
            raise ValueError(
                f"{key}.weights_sha256={self.weights_sha256!r}: must be 64 digits of lower-case hex, or null"
            )


@dataclasses.dataclass
class OpenFaceConfig:
    """Where OpenFace wrote, and what counts as a face."""

    folder: str | None = None
    """With NAME.csv and NAME_of_details.txt for each image, in subfolders named as the images' where names repeat."""
    min_confidence: float = 0.7
    """Least confidence in a face, in [0, 1]; what OpenFace is less sure of is none."""

    def validate(self, key: str) -> None:
        """Raise ValueError, naming the full key, for a value out of range."""
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"{key}.min_confidence={self.min_confidence}: must lie in 0..1")


class AnnotatorKind(enum.Enum):
    """`none`: the data has AUs already. `libreface`: the paper's tool is run. `openface`: CSV files that OpenFace 2 has
    written are read."""

    none = "none"
    libreface = "libreface"
    openface = "openface"


@dataclasses.dataclass
class AnnotateConfig:
    """Who reads AUs in images that have no labels."""

    kind: AnnotatorKind = AnnotatorKind.none
    """Who reads AUs where a source has none."""
    libreface: LibreFaceConfig = dataclasses.field(default_factory=LibreFaceConfig)
    openface: OpenFaceConfig = dataclasses.field(default_factory=OpenFaceConfig)
    scale: float | None = None
    """The number that is intensity 5: 5, or 1 where the tool counts from 0 to 1. null: 5, unless no AU of any image is
    above 1, which is asked about."""

    def validate(self, key: str) -> None:
        """Raise ValueError, naming the full key, for a value out of range."""
        if self.scale is not None and not 0 < self.scale <= 100:
            raise ValueError(
                f"{key}.scale={self.scale}: must be the number that means intensity 5, such as 5 or 1, or null"
            )
        self.libreface.validate(f"{key}.libreface")
        self.openface.validate(f"{key}.openface")


class Answer(enum.Enum):
    """What an answer begins with; `other` passes no filter."""

    yes = "yes"
    no = "no"
    other = "other"


@dataclasses.dataclass
class Question:
    """A question to an image, in the model's own form, and the answer of images that are kept."""

    prompt: str = ""
    wanted: Answer = Answer.yes


def _paper_questions() -> list[Question]:
    return [
        Question("Question: Is this a cartoon? Answer:", Answer.no),
        Question("Question: Is this photo real? Answer:", Answer.yes),
    ]


@dataclasses.dataclass
class Blip2Config:
    """Which BLIP-2 is asked, and what. Decoding is greedy, so the same image gets the same words."""

    model: str | None = None
    """A folder that `save_pretrained` wrote, or a name on the hub such as Salesforce/blip2-opt-2.7b; null: not used."""
    revision: str | None = None
    """Commit of a model on the hub, so that it is the same model next year."""
    batch_size: int = 16
    """Images at once, in each process."""
    caption_prompt: str = ""
    """What captions continue, such as "a photo of" (which is not part of the caption); empty: the model begins
    itself."""
    max_new_tokens: int = 40
    """Longest caption, in tokens."""
    questions: list[Question] = dataclasses.field(default_factory=_paper_questions)
    """What a photograph must answer as wanted, each of them."""

    def validate(self, key: str) -> None:
        for name in ("batch_size", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must be at least 1")
        if self.model is not None and not self.model.strip():
            raise ValueError(f"{key}.model is empty: {HOW_TO_GET_BLIP2}; or null for none")
        if not self.questions:
            raise ValueError(f"{key}.questions is empty: give one at least, or leave them as they are")
        for place, question in enumerate(self.questions):
            if not question.prompt.strip():
                raise ValueError(
                    f"{key}.questions[{place}].prompt is empty: write a question, such as "
                    f'"{_paper_questions()[0].prompt}"'
                )
            if question.wanted is Answer.other:
                raise ValueError(f"{key}.questions[{place}].wanted=other: must be yes or no")
