"""Captions and the photo filter, by a tiny BLIP-2 of the real classes with random weights."""

import dataclasses
import json
import logging
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import (
    Blip2Config as Blip2Shape,
)
from transformers import (
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    GPT2Tokenizer,
    OPTConfig,
)

from fineface_train.data.annotators.blip2 import answer_kind, ask_images, caption_images, photo_filter
from fineface_train.data.annotators.config import Answer, Blip2Config, Question
from fineface_train.data.crew import Crew
from fineface_train.files import sha256

QUERIES = 4


def tiny_blip2() -> tuple[Blip2ForConditionalGeneration, Blip2Processor]:
    """BLIP-2 with OPT for 28 px images, and its processor with a tokenizer without merges."""
    symbols = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>", "add_bos_token": True}
    tokenizer = GPT2Tokenizer(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[], **words)
    processor = Blip2Processor(
        BlipImageProcessorPil(size={"height": 28, "width": 28}), tokenizer, num_query_tokens=QUERIES
    )
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
    shape = Blip2Shape(
        vision_config=Blip2VisionConfig(**small, intermediate_size=32, image_size=28, initializer_range=0.3),
        qformer_config=Blip2QFormerConfig(**small, vocab_size=8, intermediate_size=32, initializer_range=0.3),
        text_config=OPTConfig(
            **small,
            **ids,
            vocab_size=len(tokenizer),
            ffn_dim=32,
            word_embed_proj_dim=32,
            max_position_embeddings=128,
            init_std=0.3,
        ),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(shape)
    torch.nn.init.normal_(model.query_tokens)
    return model.eval(), processor


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip2") / "tiny"
    for part in tiny_blip2():
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def config(model_folder: Path) -> Blip2Config:
    return Blip2Config(model=str(model_folder), batch_size=3, max_new_tokens=8)


@pytest.fixture
def images(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Paths and contents of eight pictures of different sizes."""
    paths = []
    for number in range(8):
        paths.append(tmp_path / f"{number}.png")
        Image.effect_mandelbrot((20 + 5 * number, 30), (-2 + 0.2 * number, -1, 1, 1), 50).convert("RGB").save(paths[-1])
    return list(map(str, paths)), [sha256(path) for path in paths]


class Asked:
    """What `Blip2ForConditionalGeneration.generate` was given, batch by batch; fails after some batches if told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[Tensor] = []
        self.pixels: list[Tensor] = []
        self.fail_at: int | None = None
        original = Blip2ForConditionalGeneration.generate

        def generate(
            model: Blip2ForConditionalGeneration, pixel_values: Tensor, input_ids: Tensor, **options: object
        ) -> Tensor:
            if len(self.ids) == self.fail_at:
                raise KeyboardInterrupt
            self.ids.append(input_ids)
            self.pixels.append(pixel_values)
            return original(model, pixel_values=pixel_values, input_ids=input_ids, **options)

        monkeypatch.setattr(Blip2ForConditionalGeneration, "generate", generate)

    @property
    def images(self) -> int:
        return sum(map(len, self.pixels))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def test_captions_are_what_the_model_says_of_each_image_alone(
    config: Blip2Config, images: tuple[list[str], list[str]], asked: Asked, model_folder: Path, tmp_path: Path
) -> None:
    frame = caption_images(config, *images, tmp_path / "rows")
    assert frame["path"].tolist() == images[0]
    assert [len(batch) for batch in asked.pixels] == [3, 3, 2]
    assert all(pixels.dtype == torch.float32 and pixels.shape[1:] == (3, 28, 28) for pixels in asked.pixels)
    model, processor = (
        Blip2ForConditionalGeneration.from_pretrained(model_folder),
        Blip2Processor.from_pretrained(model_folder),
    )
    start = [model.config.image_token_index] * QUERIES + [model.config.text_config.bos_token_id]
    assert all(row == start for ids in asked.ids for row in ids.tolist())
    for path, caption in zip(images[0], frame["caption"], strict=True):
        ids = model.generate(
            **processor(images=Image.open(path).convert("RGB"), text="", return_tensors="pt"),
            max_new_tokens=8,
            do_sample=False,
        )
        assert caption == " ".join(processor.batch_decode(ids[:, len(start) :], skip_special_tokens=True)[0].split())
    assert frame["caption"].nunique() > 1
    assert frame["made_with"].str.fullmatch(r"tiny [0-9a-f]{8} float32").all()


def test_questions_are_asked_in_the_models_form(
    config: Blip2Config, images: tuple[list[str], list[str]], asked: Asked, model_folder: Path, tmp_path: Path
) -> None:
    frame = ask_images(config, *images, tmp_path / "rows")
    tokenizer = Blip2Processor.from_pretrained(model_folder).tokenizer
    prompts = {tokenizer.decode(ids[QUERIES + 1 :]) for batch in asked.ids for ids in batch}
    assert prompts == {"Question: Is this a cartoon? Answer:", "Question: Is this photo real? Answer:"}
    assert all((ids[:, :QUERIES] == tokenizer.convert_tokens_to_ids("<image>")).all() for ids in asked.ids)
    assert asked.images == 2 * len(images[0])
    assert all(len(answers) == 2 and "Question" not in answers[0] for answers in frame["answers"])


def test_nothing_is_asked_twice(
    config: Blip2Config,
    images: tuple[list[str], list[str]],
    asked: Asked,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked.fail_at = 2
    with pytest.raises(KeyboardInterrupt):
        caption_images(config, *images, tmp_path / "rows")
    asked.fail_at = None
    first = caption_images(config, *images, tmp_path / "rows")
    assert asked.images == len(images[0])
    other = dataclasses.replace(config, caption_prompt="a photo of")
    assert caption_images(other, *images, tmp_path / "rows")["caption"].tolist() != first["caption"].tolist()
    assert asked.images == 2 * len(images[0])
    monkeypatch.setattr(
        Blip2ForConditionalGeneration, "from_pretrained", None
    )  # what is kept is read without the model
    assert caption_images(config, *images, tmp_path / "rows").equals(first)


def test_processes_share_the_images(
    config: Blip2Config,
    images: tuple[list[str], list[str]],
    asked: Asked,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = caption_images(config, *images, tmp_path / "alone")
    seen, barrier, loading, frames = asked.images, threading.Barrier(2, timeout=60), threading.Lock(), {}
    load = Blip2ForConditionalGeneration.from_pretrained

    def one_by_one(*arguments: object, **options: object) -> object:
        with loading:  # from_pretrained is not for threads, which stand for processes here
            return load(*arguments, **options)

    monkeypatch.setattr(Blip2ForConditionalGeneration, "from_pretrained", one_by_one)

    def one(index: int) -> None:
        frames[index] = caption_images(config, *images, tmp_path / "shared", Crew(index, 2, barrier.wait, quiet=True))

    threads = [threading.Thread(target=one, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked.images - seen == len(images[0])
    assert sorted(
        len(path.read_text().splitlines()) for path in (tmp_path / "shared").glob("captions-*/rows-*.jsonl")
    ) == [3, 5]
    assert frames[0].equals(alone)
    assert frames[1].equals(alone)


def test_faults_are_told_in_the_rows(
    config: Blip2Config,
    images: tuple[list[str], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    paths, _ = images
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:60])
    said = iter(
        [
            "a man",
            " \n ",
            "a beard and a beard and a beard and a beard",
            "...",
            "very very happy",
            "a man with a hat, with a hat, with a hat",
            "A a",
        ]
    )
    monkeypatch.setattr(Blip2Processor, "batch_decode", lambda self, ids, **_: [next(said) for _ in ids])
    caplog.set_level(logging.WARNING)
    frame = caption_images(config, paths, [sha256(Path(path)) for path in paths], tmp_path / "rows")
    assert frame["status"].tolist() == ["ok", "unreadable", "empty", "repeats", "empty", "ok", "repeats", "ok"]
    assert frame["caption"].tolist()[:3] == ["a man", "", ""]
    assert paths[1] in frame["fault"][1]
    assert "captions: 2 of 8 images are empty, the first is " + paths[2] in caplog.text
    assert "1 of 8 images are unreadable" in caplog.text


def test_an_image_that_went_is_no_fault_of_the_image(
    config: Blip2Config, images: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    (paths, contents) = images
    Path(paths[4]).write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"4\.png: was changed by somebody else"):
        caption_images(config, paths, contents, tmp_path / "rows")
    Path(paths[4]).unlink()
    with pytest.raises(OSError, match=r"4\.png"):
        caption_images(config, paths, contents, tmp_path / "rows")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("yes", Answer.yes),
        ("Yes, it is", Answer.yes),
        (" No.", Answer.no),
        ("no", Answer.no),
        ("'yes'", Answer.yes),
        ("not really", Answer.other),
        ("yesterday", Answer.other),
        ("it is a photo, yes", Answer.other),
        ("", Answer.other),
    ],
)
def test_an_answer_is_known_by_its_first_word(text: str, kind: Answer) -> None:
    assert answer_kind(text) is kind


def test_the_photo_filter_counts_each_row_once() -> None:
    answers = [
        ["no", "yes"],
        ["yes", "no"],
        ["maybe", "yes"],
        ["no", "no"],
        ["no", "a man"],
        ["no", "yes it is"],
        ["", ""],
    ]
    answered = pd.DataFrame({"answers": answers, "status": ["ok"] * 6 + ["unreadable"]})
    kept, counts = photo_filter(Blip2Config(), answered)
    assert kept.tolist() == [True, False, False, False, False, True, False]
    cartoon, real = "'Question: Is this a cartoon? Answer:'", "'Question: Is this photo real? Answer:'"
    assert counts == {
        "dropped: image cannot be read": 1,
        f"dropped: {cartoon} answered yes": 1,
        f"dropped: {cartoon} answered neither yes nor no": 1,
        f"dropped: {real} answered no": 1,
        f"dropped: {real} answered neither yes nor no": 1,
    }


def _without_image_token(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    values.pop("image_token_index", None)
    values.pop("image_token_id", None)
    (folder / "config.json").write_text(json.dumps(values))


def _without_weights_of(part: str, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = {key: value for key, value in load_file(folder / "model.safetensors").items() if part not in key}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _another_model(folder: Path) -> None:
    shutil.rmtree(folder)
    CLIPTextModel(
        CLIPTextConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: shutil.rmtree(folder),
            r"data\.blip2\.model=.*: neither a folder nor a model that the hub gave us",
        ),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            r"data\.blip2\.model=.*holds no config\.json with \*\.safetensors",
        ),
        (_another_model, r"data\.blip2\.model=.*: is a clip_text_model, not a blip-2"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\1" * 100),
            r"data\.blip2\.model=.*cannot be loaded as a BLIP-2",
        ),
        (
            lambda folder: _without_weights_of("qformer.layernorm", folder),
            r"data\.blip2\.model=.*2 weights are missing, the first is qformer\.layernorm\.bias",
        ),
        (
            _without_image_token,
            r"data\.blip2\.model=.*a copy of 2024 or newer whose config\.json has image_token_index",
        ),
    ],
)
def test_another_model_is_refused(
    change: object, message: str, config: Blip2Config, images: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(str(config.model), tmp_path / "changed"))
    change(folder)
    with pytest.raises(ValueError, match=message):
        caption_images(dataclasses.replace(config, model=str(folder)), *images, tmp_path / "rows")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"data\.blip2\.batch_size=0: must be at least 1"),
        ({"max_new_tokens": -1}, r"data\.blip2\.max_new_tokens=-1: must be at least 1"),
        ({"model": " "}, r"data\.blip2\.model is empty"),
        (
            {"questions": [Question("Question: Real? Answer:"), Question(" ")]},
            r"data\.blip2\.questions\[1\]\.prompt is empty",
        ),
        ({"questions": []}, r"data\.blip2\.questions is empty"),
        (
            {"questions": [Question("Real?", Answer.other)]},
            r"data\.blip2\.questions\[0\]\.wanted=other: must be yes or no",
        ),
    ],
)
def test_wrong_values_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Blip2Config(**changes).validate("data.blip2")
    with pytest.raises(ValueError, match=r"data\.blip2\.model=null"):
        caption_images(Blip2Config(), [], [], Path("unused"))
