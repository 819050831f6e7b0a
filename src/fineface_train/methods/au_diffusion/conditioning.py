"""The three ways in which AUs enter: what the UNet is given in training, and what a pipeline call is given."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from fineface_train.data.conditioning import ConditioningConfig, Entry, with_au_text
from fineface_train.methods.au_diffusion.adapter import au_encoder


def unet_arguments(unet: UNet2DConditionModel, enters: Entry, text: Tensor, aus: Tensor) -> dict[str, Any]:
    """What an adapted UNet wants beside latents and timesteps, for captions' embeddings `text` (B, tokens, d) and `aus` (B, 12).

    With `Entry.text` the captions say the AUs already.
    """
    if enters is Entry.adapter:
        return {"encoder_hidden_states": text, "added_cond_kwargs": {"image_embeds": [aus[:, None]]}}
    return {"encoder_hidden_states": with_au_tokens(unet, text, aus) if enters is Entry.token else text}


def with_au_tokens(unet: UNet2DConditionModel, text: Tensor, aus: Tensor) -> Tensor:
    """Captions' embeddings (B, tokens, d) whose last tokens, padding behind all but the longest captions, are replaced by the AUs' (SPEC section 4)."""
    encoder = au_encoder(unet)
    assert encoder is not None
    tokens = encoder(aus)
    return torch.cat([text[:, : text.shape[1] - tokens.shape[1]], tokens.to(text.dtype)], dim=1)


def au_embeds(aus: Tensor, *, guidance: bool, negative: Tensor | None = None) -> list[Tensor]:
    """AUs (B, 12) as `ip_adapter_image_embeds`: [(2B, 1, 12)] with the negatives (default: all AUs 0) first under guidance.

    A plain `StableDiffusionPipeline` call takes one AU vector (B = 1) for all its prompts; see `generate.PerImagePipeline`.
    """
    if not guidance:
        return [aus[:, None]]
    return [torch.cat([torch.zeros_like(aus) if negative is None else negative, aus])[:, None]]


def pipeline_arguments(
    pipe: StableDiffusionPipeline,
    conditioning: ConditioningConfig,
    prompts: Sequence[str],
    aus: Tensor,
    *,
    guidance: bool = True,
    negative: Tensor | None = None,
) -> dict[str, Any]:
    """Prompts and AUs (B, 12) as a pipeline call's arguments; under guidance it moves away from no prompt with the AUs `negative` (default: all 0)."""
    negative = torch.zeros_like(aus) if negative is None else negative
    if conditioning.enters is Entry.adapter:
        return {"prompt": list(prompts), "ip_adapter_image_embeds": au_embeds(aus, guidance=guidance, negative=negative)}
    if conditioning.enters is Entry.text:
        said, denied = (
            [with_au_text(text, vector.tolist(), conditioning.au_text) for text, vector in zip(texts, vectors, strict=True)]
            for texts, vectors in ((prompts, aus), ([""] * len(prompts), negative))
        )
        return {"prompt": said, "negative_prompt": denied}
    wanted, without = pipe.encode_prompt(list(prompts), pipe.device, 1, guidance)
    arguments = {"prompt_embeds": with_au_tokens(pipe.unet, wanted, aus)}
    return arguments | ({"negative_prompt_embeds": with_au_tokens(pipe.unet, without, negative)} if guidance else {})
