"""What the text encoder is told, within the number of tokens that it reads: AUs are kept, what stands before them is
cut.

A text encoder reads so many tokens (Stable Diffusion's 77, ToyFACS's 64, two of them for start and end) and loses the
rest without a word. AUs stand at the end: as words behind the caption (`Entry.text`), or as tokens in the last places
of its embedding (`Entry.token`). So the caption is cut, where it must be, at the end of a word, so that the AUs have
room behind it. If the words of all AUs have no room by themselves, the strongest are said. What fits is told as it is.
"""

import bisect
import dataclasses
import re
from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from fineface_train.data.conditioning import ConditioningConfig, Entry, said_aus, with_au_text
from fineface_train.texts import shown

LONG_WORD = 20
"""Letters: a run of more without a blank (a script that writes none, an address) may be cut within."""
AT_ONCE = 1024
"""Texts: what a tokenizer returns takes many times the room of the ids."""


@dataclasses.dataclass(frozen=True)
class Told:
    """What the text encoder is told of one face, and what had no room."""

    text: str
    cut: str = ""
    """The end of the caption."""
    unsaid: str = ""
    """The weakest AUs, in words."""


@dataclasses.dataclass(frozen=True)
class PromptWriter:
    """Captions and AUs to what the text encoder is told, in one way for training and for pictures."""

    tokenizer: PreTrainedTokenizerBase
    conditioning: ConditioningConfig
    au_tokens: int = 0
    """Places at the end of the embedding that `Entry.token` takes."""

    @property
    def room(self) -> int:
        """Tokens that there are for words."""
        return int(self.tokenizer.model_max_length) - self.tokenizer.num_special_tokens_to_add() - self.au_tokens

    def write(self, captions: Sequence[str], aus: Sequence[Sequence[float]]) -> list[Told]:
        """What is told for each caption with its 12 AUs; equal ones are worked out once.

        Raises ValueError where the words of a single AU are longer than what the text encoder reads.
        """
        as_text, au_text = self.conditioning.enters is Entry.text, self.conditioning.au_text
        full = [
            with_au_text(caption, vector, au_text) if as_text else caption
            for caption, vector in zip(captions, aus, strict=True)
        ]
        unique = list(dict.fromkeys(full))
        too_long = {text for text, tokens in zip(unique, self._tokens(unique), strict=True) if tokens > self.room}
        told: dict[tuple[str, str], Told] = {}
        for text, caption, vector in zip(full, captions, aus, strict=True):
            if text in too_long and (text, caption) not in told:
                told[text, caption] = self._shortened(caption, said_aus(vector, au_text) if as_text else [])
        return [told.get((text, caption)) or Told(text) for text, caption in zip(full, captions, strict=True)]

    def _shortened(self, caption: str, phrases: Sequence[str]) -> Told:
        if not phrases and not self.au_tokens:  # no AUs want its room: it stays as it is, and the text encoder cuts it
            return Told(caption, cut=caption[self._end_of_room(caption) :])
        said = longest(lambda count: self._fits(", ".join(phrases[:count])), len(phrases))
        if phrases and not said:
            raise ValueError(
                f"method.conditioning.au_text={self.conditioning.au_text!r}: one AU alone, {phrases[0]!r}, takes "
                f"{self._tokens([phrases[0]])[0]} tokens, "
                f"and the text encoder reads {self.room}; say it in fewer words"
            )
        kept = cut_at_word(caption, lambda start: self._fits(", ".join(filter(None, (start, *phrases[:said])))))
        text = ", ".join(filter(None, (kept, *phrases[:said])))
        return Told(text, cut=caption[len(kept) :].strip(" ,;"), unsaid=", ".join(phrases[said:]))

    def _fits(self, text: str) -> bool:
        return self._tokens([text])[0] <= self.room

    def _tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text takes."""
        parts = (list(texts[first : first + AT_ONCE]) for first in range(0, len(texts), AT_ONCE))
        return [
            len(ids)
            for part in parts
            for ids in self.tokenizer(part, add_special_tokens=False, verbose=False).input_ids
        ]

    def _end_of_room(self, text: str) -> int:
        """Where in `text` the tokens that are read end."""
        return int(
            self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False).offset_mapping[
                self.room - 1
            ][1]
        )


def cut_at_word(text: str, fits: Callable[[str], bool]) -> str:
    """The longest start of `text` that `fits`, up to the end of a word; within a word only if that is very long. May be
    empty."""
    words = list(re.finditer(r"\S+", text))
    kept = longest(lambda count: fits(text[: words[count - 1].end()]), len(words))
    end = words[kept - 1].end() if kept else 0
    if kept < len(words) and len(words[kept][0]) > LONG_WORD:
        begins = words[kept].start()
        letters = longest(lambda count: fits(text[: begins + count]), len(words[kept][0]))
        end = begins + letters if letters else end
    return text[:end].rstrip(" ,;")


def longest(fits: Callable[[int], bool], most: int) -> int:
    """The largest count from 1 to `most` that fits, given that less fits where more does; 0 if none does."""
    return bisect.bisect_left(range(1, most + 1), True, key=lambda count: not fits(count))


def in_words(told: Told, caption: str, room: int) -> list[str]:
    """What had no room, as sentences; none if everything had."""
    sentences = []
    if told.cut:
        kept = "" if told.text == caption else "; the AUs are kept"
        sentences.append(
            f"prompt {shown(caption)} is too long: the text encoder has room for {room} tokens{kept}; its end is cut: "
            f"{shown(told.cut)}"
        )
    if told.unsaid:
        sentences.append(
            f"too many AUs in words for the {room} tokens that the text encoder has room for (prompt "
            f"{shown(caption)}); not said: {told.unsaid}"
        )
    return sentences


def counted(told: Sequence[Told], captions: Sequence[str], room: int) -> list[str]:
    """What had no room in a whole table, as sentences with an example each."""
    sentences = []
    losses = {
        "cut": "captions are cut at their ends, so that their AUs are kept",
        "unsaid": "captions say the strongest of their AUs only",
    }
    for lost, what in losses.items():
        short = [(one, caption) for one, caption in zip(told, captions, strict=True) if getattr(one, lost)]
        if short:
            example = f"{shown(short[0][1])} without {shown(getattr(short[0][0], lost))}"
            sentences.append(
                f"{len(short)} of {len(told)} {what}: the text encoder has room for {room} tokens; e.g. {example}"
            )
    return sentences
