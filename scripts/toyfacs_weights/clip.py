"""CLIP, whose text tower is the base's text encoder and whose image tower tells CLIP-I; and its tokenizer."""

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from fineface_train.toyfacs.render import RESOLUTION
from fineface_train.toyfacs.worlds import sample_drawings
from toyfacs_weights import models
from toyfacs_weights.batches import HELD_OUT, draw_batch
from toyfacs_weights.stage import SHIPPED, new_stage, scratch_folder

CLIP_SIBLINGS_FROM = 700
"""Step from which a batch holds images that differ in one attribute only."""


def build_clip() -> None:
    tokenizer = learned_tokenizer()
    stage = new_stage("clip", models.build_clip(tokenizer, RESOLUTION), 1.5e-3, ema=0.99)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        # Without siblings in a batch, colours alone tell images apart, and the text tower forgets glasses, beards and
        # expressions.
        batch = draw_batch(stage, step, 48, siblings=step >= CLIP_SIBLINGS_FROM)
        tokens = tokenizer(batch.captions, padding=True, truncation=True, return_tensors="pt").to(
            stage.accelerator.device
        )
        output = stage.model(**tokens, pixel_values=clip_pixels(batch.images), return_loss=True)
        return output.loss, {"loss": f"{output.loss.item():.3f}"}

    stage.fit(loss_at)
    hits = []
    with torch.no_grad():
        for index in range(10):
            batch = sample_drawings((HELD_OUT, index), 50, siblings=True)
            tokens = tokenizer(batch.captions, padding="max_length", truncation=True, return_tensors="pt")
            scores = stage.raw(**tokens, pixel_values=clip_pixels(batch.images)).logits_per_image
            hits.append((scores.argmax(1) == torch.arange(50)).float().mean().item())
    found = round(sum(hits) / len(hits), 4)
    passed = found >= 0.8
    if passed and stage.accelerator.is_main_process:
        side = {"height": RESOLUTION, "width": RESOLUTION}
        CLIPImageProcessorPil(
            size={"shortest_edge": RESOLUTION}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ).save_pretrained(SHIPPED / "clip")
        tokenizer.save_pretrained(SHIPPED / "clip")
    stage.ship("clip", {"caption_found_among_50_siblings": found}, passed=passed)


def learned_tokenizer() -> CLIPTokenizer:
    """A vocabulary of the captions; ties between merges fall at random, so one process learns it, once."""
    accelerator = Accelerator()
    folder = scratch_folder("clip") / "tokenizer"
    if accelerator.is_main_process and not (folder / "tokenizer_config.json").exists():
        captions = [text for index in range(40) for text in sample_drawings((HELD_OUT + 1, index), 50).captions]
        models.build_tokenizer(captions).save_pretrained(folder)
    accelerator.wait_for_everyone()
    return CLIPTokenizer.from_pretrained(folder)


def clip_pixels(images: Tensor) -> Tensor:
    """Images in [0, 1] as the shipped CLIP image processor hands them over."""
    return images * 2 - 1
