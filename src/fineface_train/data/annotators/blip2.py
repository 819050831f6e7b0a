"""What BLIP-2 says of images: captions, and answers to questions that tell photographs from drawings.

Rows are kept as `per_image` keeps them, in a folder whose name is a hash of what decided them: the weights, the
prompts, the version of transformers. Another prompt asks again; going back to the first one finds what was kept.
"""

import enum
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from accelerate import PartialState
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoTokenizer, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil

from fineface_train.data.annotators.config import HOW_TO_GET_BLIP2, Answer, Blip2Config
from fineface_train.data.contents import INDEX, image_contents
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.formats.images import image_or_fault
from fineface_train.data.per_image import Row, per_image
from fineface_train.files import hash_of, read_json

logger = logging.getLogger(__name__)
KEY = "data.blip2"
ANSWER_TOKENS = 10
"""Tokens of an answer: more than "yes" or "no" take."""
REPEATS = re.compile(r"\b(\w+(?:\W+\w+){0,3})(?:\W+\1\b){2,}", re.IGNORECASE)
"""One to four words, three times in a row: a language model that found no end."""


class Status(enum.Enum):
    """Faults of a caption or of answers: `empty` and `repeats` are of captions, `unreadable` is an image that cannot be
    decoded."""

    ok = "ok"
    empty = "empty"
    repeats = "repeats"
    unreadable = "unreadable"


def caption_images(
    config: Blip2Config, paths: Sequence[str], contents: Sequence[str], folder: Path, crew: Crew = ALONE
) -> pd.DataFrame:
    """A caption for each of `paths`, in their order; only those that `folder` does not hold are asked for.

    Returns the columns path, caption, status (of `Status`: rows that are not ok want dropping), fault (of an unreadable
    image, in words) and made_with (the model, a hash of its weights, the precision). Raises ValueError that names the
    key where the model cannot be used.
    """
    kept = {"caption_prompt": config.caption_prompt, "max_new_tokens": config.max_new_tokens}

    def say(model: "_Blip2", images: list[Image.Image]) -> list[Row]:
        captions = [
            " ".join(text.split())
            for text in model.continue_prompt(images, config.caption_prompt, config.max_new_tokens)
        ]
        return [{"caption": caption, "status": _caption_status(caption).value} for caption in captions]

    frame = _ask_each(config, paths, contents, folder, "captions", kept, say, {"caption": ""}, crew)
    _warn("captions", frame, crew)
    return frame


def ask_images(
    config: Blip2Config, paths: Sequence[str], contents: Sequence[str], folder: Path, crew: Crew = ALONE
) -> pd.DataFrame:
    """The answers to `config.questions` for each of `paths`, in their order; only those that `folder` does not hold are
    asked for.

    Returns the columns path, answers (a list, as the questions), status, fault and made_with, as `caption_images`;
    `photo_filter` reads them.
    """
    prompts = [question.prompt for question in config.questions]

    def say(model: "_Blip2", images: list[Image.Image]) -> list[Row]:
        answers = zip(*(model.continue_prompt(images, prompt, ANSWER_TOKENS) for prompt in prompts), strict=True)
        return [{"answers": list(those), "status": Status.ok.value} for those in answers]

    frame = _ask_each(
        config, paths, contents, folder, "answers", {"questions": prompts}, say, {"answers": [""] * len(prompts)}, crew
    )
    _warn("answers", frame, crew)
    return frame


def photo_filter(config: Blip2Config, answered: pd.DataFrame) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows of `ask_images` pass every question (N,) bool, and how many each question drops, by what they
    answered.

    A row is counted by the first question it fails; one whose image cannot be read is dropped before any.
    """
    kept = (answered["status"] == Status.ok.value).to_numpy()
    counts = {"dropped: image cannot be read": int((~kept).sum())}
    for place, question in enumerate(config.questions):
        kinds = np.array([answer_kind(answers[place]).value for answers in answered["answers"]], dtype=object)
        for kind, words in (
            (Answer.no, "answered no"),
            (Answer.yes, "answered yes"),
            (Answer.other, "answered neither yes nor no"),
        ):
            if kind is not question.wanted:
                counts[f"dropped: {question.prompt!r} {words}"] = int((kept & (kinds == kind.value)).sum())
        kept = kept & (kinds == question.wanted.value)
    return kept, counts


def answer_kind(text: str) -> Answer:
    """By the answer's first word."""
    first = re.match(r"\W*(\w*)", text.lower())
    assert first is not None
    return {"yes": Answer.yes, "no": Answer.no}.get(first[1], Answer.other)


def _caption_status(caption: str) -> Status:
    if not any(letter.isalpha() for letter in caption):
        return Status.empty
    return Status.repeats if REPEATS.search(caption) else Status.ok


def _warn(what: str, frame: pd.DataFrame, crew: Crew) -> None:
    """Rows that are not ok are named: how many, and the first."""
    for status, rows in frame.groupby("status"):
        if status != Status.ok.value and crew.index == 0:
            logger.warning(
                "%s: %d of %d images are %s, the first is %s",
                what,
                len(rows),
                len(frame),
                status,
                rows["fault"].iloc[0] or rows["path"].iloc[0],
            )


def _ask_each(
    config: Blip2Config,
    paths: Sequence[str],
    contents: Sequence[str],
    folder: Path,
    what: str,
    asked: dict[str, Any],
    say: "Callable[[_Blip2, list[Image.Image]], list[Row]]",
    nothing: Row,
    crew: Crew,
) -> pd.DataFrame:
    """`per_image` of what `say` makes of images, or `nothing` where they cannot be read; the model is loaded if there
    is any left to do."""
    source = find_model(config)
    weights = _weights(source, folder / "weights", crew)
    made_by = {"weights": weights, "transformers": transformers.__version__, **asked}
    name = f"{what}-{hash_of(made_by)}"
    digest_of = dict(zip(paths, contents, strict=True))
    model = _Blip2(source)

    def make(batch: list[str]) -> list[Row]:
        opened = [image_or_fault(path, digest_of[path]) for path in batch]
        images = [image for image in opened if isinstance(image, Image.Image)]
        try:
            said = iter(say(model, images) if images else [])
        except torch.OutOfMemoryError as error:
            raise ValueError(f"{KEY}.batch_size={config.batch_size}: out of memory; lower it ({error})") from error
        unreadable = nothing | {"status": Status.unreadable.value}
        rows = [unreadable | {"fault": one} if isinstance(one, str) else next(said) | {"fault": ""} for one in opened]
        return [
            row
            | {"made_with": f"{Path(config.model or '').name} {weights[:8]} {str(model.dtype).removeprefix('torch.')}"}
            for row in rows
        ]

    try:
        return per_image(
            paths,
            contents,
            folder / name,
            made_by,
            make,
            batch_size=config.batch_size,
            title=f"BLIP-2: {what}",
            crew=crew,
        )
    finally:
        model.free()


class _Blip2:
    """The model in `folder` on accelerate's device, loaded when it is first asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.device = folder, PartialState().device
        half = (
            torch.bfloat16
            if self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float16
        )
        self.dtype = half if self.device.type == "cuda" else torch.float32

    @torch.no_grad()
    def continue_prompt(self, images: list[Image.Image], prompt: str, max_new_tokens: int) -> list[str]:
        """What the model says of each image after `prompt`: the likeliest token, again and again, without the prompt
        itself."""
        model, processor = self._loaded
        inputs = processor(images=images, text=[prompt] * len(images), return_tensors="pt").to(self.device, self.dtype)
        said = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)
        return [
            text.strip()
            for text in processor.batch_decode(said[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        ]

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any]:
        try:
            model, loaded = Blip2ForConditionalGeneration.from_pretrained(
                self.folder, dtype=self.dtype, output_loading_info=True
            )
            if loaded["missing_keys"]:
                raise ValueError(
                    f"{len(loaded['missing_keys'])} weights are missing, the first is {min(loaded['missing_keys'])}"
                )
            # The processor by its parts: Blip2Processor.from_pretrained takes another image processor where torchvision
            # is installed.
            parts = (BlipImageProcessorPil.from_pretrained(self.folder), AutoTokenizer.from_pretrained(self.folder))
            processor = Blip2Processor(*parts, num_query_tokens=model.config.num_query_tokens)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"{KEY}.model={self.folder}: cannot be loaded as a BLIP-2 ({' '.join(str(error).split())}); "
                f"{HOW_TO_GET_BLIP2}"
            ) from error
        wanted = [model.config.image_token_index] * model.config.num_query_tokens + [
            model.config.text_config.bos_token_id
        ]
        found = processor(images=Image.new("RGB", (32, 32)), text="")["input_ids"][0]
        if not model.config.use_decoder_only_language_model or found != wanted:
            raise ValueError(
                f"{KEY}.model={self.folder}: its prompts would begin with tokens {found[-3:]}, where the model was "
                f"trained with {wanted[-3:]} after "
                f"the image; use a BLIP-2 with OPT, and a copy of 2024 or newer whose config.json has "
                f"image_token_index; {HOW_TO_GET_BLIP2}"
            )
        return model.to(self.device).eval(), processor

    def free(self) -> None:
        """Give its memory back."""
        if self.__dict__.pop("_loaded", None) is not None and self.device.type == "cuda":
            torch.cuda.empty_cache()


def find_model(config: Blip2Config) -> Path:
    """The folder of the model; one on the hub is downloaded to its cache."""
    if config.model is None:
        raise ValueError(
            f"{KEY}.model=null: captions and the photo filter by BLIP-2 need one; set it, or the environment variable "
            f"BLIP2_PATH: {HOW_TO_GET_BLIP2}"
        )
    folder = Path(config.model)
    try:
        if not folder.is_dir():
            folder = Path(
                snapshot_download(
                    config.model, revision=config.revision, allow_patterns=["*.json", "*.txt", "*.safetensors"]
                )
            )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{KEY}.model={config.model}: neither a folder nor a model that the hub gave us "
            f"({' '.join(str(error).split())}); {HOW_TO_GET_BLIP2}"
        ) from error
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ValueError(f"{KEY}.model={config.model}: holds no config.json with *.safetensors; {HOW_TO_GET_BLIP2}")
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "blip-2":
        raise ValueError(f"{KEY}.model={config.model}: is a {kind}, not a blip-2; {HOW_TO_GET_BLIP2}")
    return folder


def _weights(source: Path, index: Path, crew: Crew) -> str:
    """A hash over every file of the model, read again only where one was touched."""
    files = sorted(path for path in source.iterdir() if path.suffix in (".json", ".txt", ".safetensors"))
    digests = image_contents(
        [str(path) for path in files], index / INDEX, title="hashing BLIP-2's files", progress=not crew.silent
    )
    return hashlib.sha256(
        "".join(f"{path.name} {digest}\n" for path, digest in zip(files, digests, strict=True)).encode()
    ).hexdigest()
