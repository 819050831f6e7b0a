"""Shared by all tests: a tiny pipeline of Stable Diffusion's own classes with random weights."""

import logging
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("WANDB_MODE", "offline")

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from hypothesis import settings
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from fineface_train.toyfacs.config import CorpusConfig
from fineface_train.toyfacs.corpus import write_corpus

WIDTH = 96
SMALL = CorpusConfig(disfa_subjects=3, disfa_frames=12, affectnet_images=60, seed=5)
torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
"""The same inputs at every run; HYPOTHESIS_PROFILE=search looks for new ones."""


def tiny_unet() -> UNet2DConditionModel:
    """Two levels, cross-attention width `WIDTH`, 8x8 latents of 4 channels."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def byte_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer without merges: a token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(letter + "</w>" for letter in alphabet)]
    return CLIPTokenizer(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[], model_max_length=64)


def tiny_pipeline(prediction_type: str = "sample") -> StableDiffusionPipeline:
    """A whole pipeline for 16 px images; about 0.2M parameters."""
    torch.manual_seed(1)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        layers_per_block=1,
    )
    tokenizer = byte_tokenizer()
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            **ids,
        )
    )
    scheduler = DDIMScheduler(
        prediction_type=prediction_type,
        rescale_betas_zero_snr=prediction_type != "epsilon",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=tiny_unet(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        module.requires_grad_(False).eval()
    return pipe


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not tested, and how to test it: a reason names its remedy."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in skipped if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("not tested here, and how to", sep="-")
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count:>4} skipped: {reason}")


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> None:
    """accelerate keeps one state per process, with one precision; a command has a process of its own, tests share
    theirs."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command sets up our log for its process; tests share theirs."""
    log = logging.getLogger("fineface_train")
    level, handlers = log.level, list(log.handlers)
    yield
    log.setLevel(level)
    log.handlers = handlers


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ToyFACS corpus, drawn once; tests that change files copy it."""
    root = tmp_path_factory.mktemp("data") / "corpus"
    write_corpus(SMALL, root, progress=False)
    return root


@pytest.fixture
def pipe() -> StableDiffusionPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="session")
def saved_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline as a folder that `method.base.path` can name."""
    folder = tmp_path_factory.mktemp("base")
    tiny_pipeline().save_pretrained(folder)
    return folder
