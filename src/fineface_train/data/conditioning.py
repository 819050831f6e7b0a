"""How the AUs reach the model, and how often training hides them or the caption."""

import dataclasses
import enum
import math
from collections.abc import Sequence

from fineface_train.aus import AU_COUNT, au_phrases, describe_aus

NO_CONTROL = (math.nan,) * AU_COUNT
"""The AU vector that asks for nothing: the base's own face, unlike twelve zeros, which ask for a neutral one.

Not every encoder can tell these apart (see `encoders.py`); one that can not takes zeros, as the paper does.
"""


class Entry(enum.Enum):
    """Where AUs enter. `adapter`: keys and values of their own in every cross-attention (FineFace). `token`: AU tokens
    in the place of the last ones of the prompt's embedding (LoRA-AU). `text`: words at the end of the prompt.
    """

    adapter = "adapter"
    token = "token"
    text = "text"


@dataclasses.dataclass
class ConditioningConfig:
    """Where AUs enter the model, and how often training hides them or the caption, for guidance. No dropout in the
    published code."""

    enters: Entry = Entry.adapter
    """Where AUs enter the model."""
    au_text: str = "{strength} {name}"
    """How `text` says one AU: {strength} ("severe"), {name} ("lip corner puller"), {au} ("AU12") and {intensity} ("4"),
    rounded."""
    caption_dropout: float = 0.1
    """Share of examples whose caption is replaced by the empty one."""
    au_dropout: float = 0.0
    """Share of examples whose AUs are hidden, whatever the face shows (`NO_CONTROL`)."""

    def validate(self, key: str) -> None:
        for name in ("caption_dropout", "au_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{key}.{name}={getattr(self, name)}: must be a probability, from 0 to 1")
        try:
            said = {
                describe_aus([float(place == au) for place in range(AU_COUNT)], self.au_text) for au in range(AU_COUNT)
            }
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{key}.au_text={self.au_text!r}: can hold {{strength}}, {{name}}, {{au}} and {{intensity}} only "
                f"({error!r})"
            ) from error
        if len(said) < AU_COUNT:
            raise ValueError(f"{key}.au_text={self.au_text!r}: does not say which AU; use {{name}} or {{au}}")


def with_au_text(caption: str, aus: Sequence[float], au_text: str) -> str:
    """The caption with its AUs in words behind it: "a man, severe lip corner puller"; hidden AUs and those that round
    to 0 are not said."""
    return ", ".join(filter(None, (caption, *said_aus(aus, au_text))))


def said_aus(aus: Sequence[float], au_text: str) -> list[str]:
    """The AUs that are said, each in its words, strongest first."""
    return au_phrases([0.0 if math.isnan(value) else value for value in aus], au_text)
