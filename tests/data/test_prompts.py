"""Prompts that are too long: AUs are kept, captions are cut at a word, and both are told; what fits is told as it
is."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from fineface_train.aus import AU_COUNT, au_phrases, parse_aus
from fineface_train.cli import main
from fineface_train.data.cache import text_cache
from fineface_train.data.conditioning import NO_CONTROL, ConditioningConfig, Entry, with_au_text
from fineface_train.data.prompts import PromptWriter, Told, counted, cut_at_word, in_words, longest
from fineface_train.methods.au_diffusion.adapter import adapt
from fineface_train.methods.au_diffusion.conditioning import pipeline_arguments
from fineface_train.methods.au_diffusion.config import (
    EncoderConfig,
    EncoderName,
    FinetuneConfig,
    SamplingConfig,
    Trained,
)
from fineface_train.methods.au_diffusion.encoders import build_encoder, count_tokens
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.protocol import Request
from tests.conftest import WIDTH, tiny_pipeline
from tests.methods.test_conditioning import small

LONG = (
    "a person with short red hair, light skin, glasses and a beard, who wears a blue shirt in front of a green "
    "background " * 5
)
SMILE, NEUTRAL = parse_aus("AU12=5,AU6=2"), [0.0] * AU_COUNT


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    """ToyFACS's: 64 tokens, 62 of them for words."""
    return CLIPTokenizer.from_pretrained("data/toyfacs/clip")


def ids(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    """What the text encoder is given."""
    return tokenizer(text, padding="max_length", truncation=True).input_ids


def test_the_aus_are_kept_and_the_caption_is_cut_at_a_word(tokenizer: CLIPTokenizer) -> None:
    writer = PromptWriter(tokenizer, ConditioningConfig(enters=Entry.text))
    (told,) = writer.write([LONG], [SMILE])
    assert told.text.endswith(", maximum lip corner puller, slight cheek raiser")
    kept = told.text.removesuffix(", maximum lip corner puller, slight cheek raiser")
    assert LONG.startswith(kept)
    assert LONG[len(kept)] in " ,"
    assert kept.count(" ") > 20
    assert LONG.strip().endswith(told.cut)
    assert LONG[len(kept) :].lstrip(" ,").startswith(told.cut)
    assert ids(tokenizer, told.text) != ids(tokenizer, writer.write([LONG], [NEUTRAL])[0].text)
    assert ids(tokenizer, told.text)[-1] == tokenizer.eos_token_id
    assert len(tokenizer(told.text).input_ids) <= tokenizer.model_max_length  # nothing is left for the tokenizer to cut
    assert writer.write([told.text.removesuffix(", maximum lip corner puller, slight cheek raiser")], [SMILE]) == [
        Told(told.text)
    ]  # told again as it is
    sentence = in_words(told, LONG, writer.room)
    assert len(sentence) == 1
    assert "the AUs are kept; its end is cut" in sentence[0]


def test_what_fits_is_told_as_it_is(tokenizer: CLIPTokenizer) -> None:
    captions = ["a man", "", "a man with  two blanks ", LONG[:150]]
    for entry in Entry:
        writer = PromptWriter(tokenizer, ConditioningConfig(enters=entry), 13 if entry is Entry.token else 0)
        told = writer.write(captions, [SMILE] * 4)
        assert told == [
            Told(with_au_text(caption, SMILE, "{strength} {name}") if entry is Entry.text else caption)
            for caption in captions
        ]
        assert not counted(told, captions, writer.room)


def test_a_caption_without_aus_behind_it_is_cut_by_the_text_encoder_as_ever_and_told(tokenizer: CLIPTokenizer) -> None:
    for entry, aus in ((Entry.adapter, SMILE), (Entry.text, NEUTRAL), (Entry.text, NO_CONTROL)):
        writer = PromptWriter(tokenizer, ConditioningConfig(enters=entry))
        (told,) = writer.write([LONG], [aus])
        assert told.text == LONG
        assert told.cut
        assert ids(tokenizer, LONG.removesuffix(told.cut)) == ids(tokenizer, LONG)
        assert "kept" not in in_words(told, LONG, writer.room)[0]


@pytest.mark.parametrize("name", list(EncoderName))
def test_an_encoders_tokens_are_known_before_it_is_built(name: EncoderName) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    count = count_tokens(EncoderConfig(name=name), WIDTH)
    assert torch.equal(torch.get_rng_state(), before)
    assert count == build_encoder(EncoderConfig(name=name), WIDTH).tokens


def test_au_tokens_leave_the_prompt_its_end(tokenizer: CLIPTokenizer) -> None:
    """The end-of-text token stands before the AUs' places."""
    writer = PromptWriter(tokenizer, ConditioningConfig(enters=Entry.token), 13)
    for caption in (LONG, "x" * 300, "a man " * 25):
        (told,) = writer.write([caption], [SMILE])
        assert tokenizer.eos_token_id in ids(tokenizer, told.text)[:-13]
        assert told.cut
        assert told.text
    assert (
        PromptWriter(tokenizer, ConditioningConfig(enters=Entry.token), 1).write(["a man " * 20], [SMILE])[0].text
        == "a man " * 20
    )


def test_too_many_aus_in_words_are_said_strongest_first(tokenizer: CLIPTokenizer) -> None:
    words = "{strength} {name} ({au}: {intensity} of 5)"
    writer, aus = PromptWriter(tokenizer, ConditioningConfig(enters=Entry.text, au_text=words)), [1.0, *[4.0] * 10, 5.0]
    (told,) = writer.write(["a man"], [aus])
    phrases = au_phrases(aus, words)
    said = [phrase for phrase in phrases if phrase in told.text]
    assert said == phrases[: len(said)]
    assert 1 < len(said) < AU_COUNT
    assert said[0].startswith("maximum jaw drop")
    assert told.unsaid == ", ".join(phrases[len(said) :])
    assert told.unsaid.endswith("trace inner brow raiser (AU1: 1 of 5)")
    assert any("not said: severe" in sentence for sentence in in_words(told, "a man", writer.room))
    with pytest.raises(ValueError, match=r"method\.conditioning\.au_text=.*one AU alone.*say it in fewer words"):
        PromptWriter(tokenizer, ConditioningConfig(enters=Entry.text, au_text="{name} " + "very " * 80)).write(
            ["a man"], [SMILE]
        )


@pytest.mark.parametrize(
    ("text", "letters", "expected"),
    [
        ("a man in a park", 100, "a man in a park"),
        ("a man in a park", 9, "a man in"),
        ("a man, in", 6, "a man"),
        ("supercalifragilistic", 5, ""),
        ("x" * 50, 7, "x" * 7),
        ("a " + "日本" * 20, 6, "a 日本日本"),
        ("   ", 1, ""),
        ("", 0, ""),
    ],
)
def test_a_text_is_cut_at_a_word_or_within_a_very_long_one(text: str, letters: int, expected: str) -> None:
    assert cut_at_word(text, lambda start: len(start) <= letters) == expected


def test_the_longest_that_fits() -> None:
    for most in range(5):
        for room in range(6):
            assert longest(lambda count, room=room: count <= room, most) == min(room, most)


@given(
    caption=st.text(max_size=150),
    tokens=st.integers(0, 13),
    intensities=st.lists(st.one_of(st.floats(0, 5), st.just(math.nan)), min_size=12, max_size=12),
)
def test_any_caption_leaves_its_aus_room(caption: str, tokens: int, intensities: list[float]) -> None:
    tokenizer = CLIPTokenizer.from_pretrained("data/toyfacs/clip")
    for entry in (Entry.text, Entry.token):
        writer = PromptWriter(tokenizer, ConditioningConfig(enters=entry), tokens + 1 if entry is Entry.token else 0)
        (told,) = writer.write([caption], [intensities])
        phrases = au_phrases([0.0 if math.isnan(value) else value for value in intensities])
        if entry is Entry.token or phrases:
            assert len(tokenizer(told.text).input_ids) <= 64 - writer.au_tokens
        if entry is Entry.text and phrases:
            assert told.text.endswith(", ".join(phrases).removesuffix(told.unsaid).removesuffix(", "))


@pytest.mark.parametrize("entry", list(Entry))
def test_aus_move_the_picture_behind_any_prompt(entry: Entry, caplog: pytest.LogCaptureFixture) -> None:
    """In each way in which they enter; a prompt that is cut is told once for all its AUs."""
    pipe = tiny_pipeline()
    adapt(pipe.unet, entry, EncoderConfig(name=EncoderName.per_au_tokens), FinetuneConfig(train=Trained.nothing))
    generator = PipelineGenerator(
        pipe, ConditioningConfig(enters=entry, au_text="{au} {intensity}"), SamplingConfig(steps=2), 16
    )
    with caplog.at_level(logging.WARNING, logger="fineface_train"):
        pictures = [
            generator.generate([Request(LONG, tuple(parse_aus(aus)), 0)]) for aus in ("AU12=5", "AU12=4", "AU4=5", "")
        ]
    assert not any(torch.equal(pictures[0], other) for other in pictures[1:])
    assert sum("is too long" in record.message for record in caplog.records) == 1


def test_token_arguments_keep_every_word_that_is_told(tokenizer: CLIPTokenizer) -> None:
    pipe = tiny_pipeline()
    adapt(pipe.unet, Entry.token, EncoderConfig(name=EncoderName.per_au_tokens), FinetuneConfig(train=Trained.nothing))
    conditioning = ConditioningConfig(enters=Entry.token)
    told = PromptWriter(pipe.tokenizer, conditioning, 13).write([LONG], [SMILE])[0].text
    embeds = pipeline_arguments(pipe, conditioning, [LONG], torch.tensor([SMILE]))["prompt_embeds"]
    end = ids(pipe.tokenizer, told).index(pipe.tokenizer.eos_token_id)
    assert torch.equal(embeds[:, : end + 1], pipe.encode_prompt([told], pipe.device, 1, False)[0][:, : end + 1])
    torch.testing.assert_close(embeds[:, -13:], pipe.unet.au_encoder(torch.tensor([SMILE])))
    assert end < embeds.shape[1] - 13


def test_a_cache_of_captions_tells_what_it_cuts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="fineface_train"):
        text_cache(["a man", LONG], tiny_pipeline(), "text", tmp_path)
    (told,) = [record.message for record in caplog.records]
    assert told.startswith(
        "1 of 3 captions are cut: the text encoder has room for 62 tokens; e.g. 'a person with short red hair"
    )


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("lora_t", "so that their AUs are kept"),
        ("lora_au", "so that their AUs are kept"),
        ("fineface", "captions are cut:"),
    ],
)
def test_training_says_what_it_cuts(
    method: str, sentence: str, tmp_path: Path, saved_base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The tiny base has a token for each letter, so that its captions are too long."""
    assert main(small(tmp_path, saved_base, f"method={method}", "trainer.steps=1")) == 0
    sentence = "captions are cut:" if method == "fineface" else "so that their AUs are kept"
    assert any(sentence in record.message and "e.g. '" in record.message for record in caplog.records)
    caches = sorted((tmp_path / "data" / "cache").glob("text-*"))
    assert len(caches) == (2 if method == "lora_t" else 1)
    assert len({np.load(cache / "embeddings.npy").tobytes() for cache in caches}) == len(caches)


def test_the_priors_prompt_is_told_too(tmp_path: Path, saved_base: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert (
        main(
            small(
                tmp_path,
                saved_base,
                "method=dreambooth",
                "trainer.steps=1",
                f"method.finetune.prior_prompt={'a person ' * 20}",
            )
        )
        == 0
    )
    assert any(record.message.startswith("method.finetune.prior_prompt: prompt 'a person") for record in caplog.records)
