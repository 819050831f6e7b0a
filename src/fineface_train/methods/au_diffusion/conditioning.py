"""The three ways in which AUs enter: what the UNet is given in training, and what a pipeline call is given."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from fineface_train.data.conditioning import ConditioningConfig, Entry
from fineface_train.data.prompts import PromptWriter, in_words
from fineface_train.methods.au_diffusion.adapter import au_encoder

logger = logging.getLogger(__name__)


def unet_arguments(unet: UNet2DConditionModel, enters: Entry, text: Tensor, aus: Tensor) -> dict[str, Any]:
    """What an adapted UNet wants beside latents and timesteps, for captions' embeddings `text` (B, tokens, d) and `aus`
    (B, 12).

    With `Entry.text` the captions say the AUs already.
    """
    if enters is Entry.adapter:
        return {"encoder_hidden_states": text, "added_cond_kwargs": {"image_embeds": [aus[:, None]]}}
    return {"encoder_hidden_states": with_au_tokens(unet, text, aus) if enters is Entry.token else text}


def with_au_tokens(unet: UNet2DConditionModel, text: Tensor, aus: Tensor) -> Tensor:
    """Captions' embeddings (B, tokens, d) whose last tokens, padding (see `prompts.py`), are replaced by the AUs', as
    in the paper's LoRA-AU (FineFace, arXiv 2407.20175, Table 1)."""
    encoder = au_encoder(unet)
    assert encoder is not None
    tokens = encoder(aus)
    return torch.cat([text[:, : text.shape[1] - tokens.shape[1]], tokens.to(text.dtype)], dim=1)


def au_embeds(aus: Tensor, *, guidance: bool, negative: Tensor | None = None) -> list[Tensor]:
    """AUs (B, 12) as `ip_adapter_image_embeds`: [(2B, 1, 12)] with the negatives (default: all AUs 0) first under
    guidance.

    A plain `StableDiffusionPipeline` call takes one AU vector (B = 1) for all its prompts; see
    `generate.PerImagePipeline`.
    """
    if not guidance:
        return [aus[:, None]]
    return [torch.cat([torch.zeros_like(aus) if negative is None else negative, aus])[:, None]]


def log_all(prompt: str, sentences: Sequence[str]) -> None:
    """What had no room of one prompt, as warnings."""
    for sentence in sentences:
        logger.warning("%s", sentence)


def pipeline_arguments(
    pipe: StableDiffusionPipeline,
    conditioning: ConditioningConfig,
    prompts: Sequence[str],
    aus: Tensor,
    *,
    guidance: bool = True,
    negative: Tensor | None = None,
    tell: Callable[[str, Sequence[str]], None] = log_all,
) -> dict[str, Any]:
    """Prompts and AUs (B, 12) as a pipeline call's arguments; under guidance it moves away from no prompt with the AUs
    `negative` (default: all 0).

    A prompt that is too long for the text encoder is cut so that its AUs are kept; `tell` is called with it and what
    had no room, in sentences.
    """
    negative = torch.zeros_like(aus) if negative is None else negative
    encoder = au_encoder(pipe.unet) if conditioning.enters is Entry.token else None
    writer = PromptWriter(pipe.tokenizer, conditioning, 0 if encoder is None else int(encoder.tokens))  # type: ignore[arg-type]
    told = writer.write(prompts, aus.tolist())
    for prompt, one in zip(prompts, told, strict=True):
        tell(prompt, in_words(one, prompt, writer.room))
    texts = [one.text for one in told]
    if conditioning.enters is Entry.adapter:
        return {"prompt": texts, "ip_adapter_image_embeds": au_embeds(aus, guidance=guidance, negative=negative)}
    if conditioning.enters is Entry.text:
        return {
            "prompt": texts,
            "negative_prompt": [one.text for one in writer.write([""] * len(texts), negative.tolist())],
        }
    wanted, without = pipe.encode_prompt(texts, pipe.device, 1, guidance)
    arguments = {"prompt_embeds": with_au_tokens(pipe.unet, wanted, aus)}
    return arguments | ({"negative_prompt_embeds": with_au_tokens(pipe.unet, without, negative)} if guidance else {})
