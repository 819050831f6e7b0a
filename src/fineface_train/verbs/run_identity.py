"""What a run is: what it starts from, and all that can change its result, whose hash names its folder."""

import dataclasses
import hashlib
from typing import Any

from accelerate import Accelerator
from diffusers import StableDiffusionPipeline

from fineface_train.config import Config
from fineface_train.data.conditioning import Entry
from fineface_train.data.prompts import PromptWriter, Told
from fineface_train.data.table import SampleTable
from fineface_train.files import hash_of, plain
from fineface_train.loop.accelerator import weight_dtype
from fineface_train.loop.config import VALIDATION_LOSS
from fineface_train.methods.au_diffusion.encoders import count_tokens

LOOKING = ("validate_every", "best_by", "patience")
"""Keys of `trainer` that decide where a run ends, if it may be stopped early, and else nothing of what is trained."""


@dataclasses.dataclass
class Given:
    """What a run starts from: the table with its images' contents, and the base with the hashes of its parts."""

    table: SampleTable
    contents: list[str]
    pipe: StableDiffusionPipeline
    hashes: dict[str, str]
    told: list[Told]
    """What the text encoder is told for each row."""


def prompt_writer(config: Config, pipe: StableDiffusionPipeline) -> PromptWriter:
    """How captions and AUs become text for this config's method."""
    tokens = (
        count_tokens(config.method.encoder, pipe.unet.config.cross_attention_dim)
        if config.method.conditioning.enters is Entry.token
        else 0
    )
    return PromptWriter(pipe.tokenizer, config.method.conditioning, tokens)


def told_captions(config: Config, table: SampleTable, pipe: StableDiffusionPipeline) -> list[Told]:
    """For each row its caption, with the AUs' words where they enter as text, and with room for the AUs where they want
    it.

    The AUs are the labels as they are, rounded: smoothed ones differ from example to example, and could not be cached.
    """
    captions = table.frame["caption"].tolist()
    if config.method.conditioning.enters is Entry.adapter:
        return [Told(caption) for caption in captions]
    return prompt_writer(config, pipe).write(captions, table.aus().tolist())


def run_identity(config: Config, accelerator: Accelerator, given: Given) -> dict[str, Any]:
    """All that can change the result; the run folder's name holds a hash of it."""
    identity = _method_identity(config)
    scheduler = {key: str(value) for key, value in sorted(given.pipe.scheduler.config.items())}
    identity["base"] = given.hashes | {"resolution": config.method.base.resolution, "scheduler": scheduler}
    if config.method.trains:
        everything = plain(config)
        identity |= {key: everything[key] for key in ("seed", "image_transform", "labels")}
        identity["objective"] = plain(config.method.objective)
        identity["trainer"] = {
            key: value
            for key, value in everything["trainer"].items()
            if key not in ("workers", "checkpoint_every", "sample_every", *LOOKING)
        }
        if config.trainer.patience is not None:
            identity["stopping"] = _stopping(config)
        identity["data"] = {
            "table": given.table.fingerprint(),
            "images": hashlib.sha256("".join(given.contents).encode()).hexdigest(),
        }
        identity["mixture"] = {"weights": config.data.weights(given.table), "rarity": config.data.rarity_weighting}
        if augmented := config.data.augmentation.identity():
            identity["augmentation"] = augmented
        identity["precision"] = str(weight_dtype(config.trainer, accelerator))
        if any(one.cut or one.unsaid for one in given.told):
            identity["told"] = hash_of([one.text for one in given.told])
    return identity


def _stopping(config: Config) -> dict[str, Any]:
    """All that decides whether a run is stopped early."""
    trainer = plain(config.trainer)
    stopping = {key: trainer[key] for key in LOOKING} | {"seed": config.evaluation.seed}
    if config.trainer.best_by == VALIDATION_LOSS:
        return stopping
    glancing = {"sampling": plain(config.method.sampling), "judge": plain(config.judge)}
    return stopping | {"glance": config.evaluation.every} | glancing


def _method_identity(config: Config) -> dict[str, Any]:
    """All that is used of how AUs enter and what is trained: two arms that differ in an unused value are one run."""
    method = config.method
    conditioning, finetune, encoder = (plain(part) for part in (method.conditioning, method.finetune, method.encoder))
    unused = set(method.unused())
    unused |= {"finetune.adapter_rate"} if method.finetune.adapter_rate == 1 else set()
    identity = {"conditioning": conditioning, "finetune": finetune} | (
        {} if method.conditioning.enters is Entry.text else {"encoder": encoder}
    )
    if method.finetune.prior_weight:
        identity["prior"] = {"steps": method.sampling.steps, "guidance": method.sampling.guidance}
    else:
        unused.add("finetune.prior_weight")
    return {
        part: {key: value for key, value in values.items() if f"{part}.{key}" not in unused}
        for part, values in identity.items()
    }
