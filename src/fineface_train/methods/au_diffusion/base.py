"""Base pipelines: loaded from a folder or the hub, or the real architectures with random weights."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from fineface_train.files import plain
from fineface_train.methods.au_diffusion.config import Architecture, BaseConfig, is_hub_name

_SHAPES: dict[Architecture, dict[str, dict[str, Any]]] = {
    Architecture.sd21_random: {
        "unet": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
        "text": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
        },
    },
    Architecture.sd15_random: {
        "unet": {"cross_attention_dim": 768, "attention_head_dim": 8},
        "text": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
        },
    },
}


def load_base(config: BaseConfig) -> StableDiffusionPipeline:
    """The base pipeline in float32 on the CPU, in evaluation mode and without gradients."""
    pipe = _random_pipeline(config) if config.architecture is not Architecture.pretrained else _load_pretrained(config)
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        module.requires_grad_(False).eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def check_base(config: BaseConfig) -> None:
    """What can be seen of a base without loading it. Raises ValueError where `path` is a folder without a pipeline, or
    neither a folder nor a hub name."""
    if config.architecture is not Architecture.pretrained:
        return
    assert config.path is not None
    folder = Path(config.path)
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise ValueError(
            f"method.base.path={config.path}: holds no model_index.json; a Stable Diffusion pipeline is a folder that "
            f"save_pretrained wrote"
        )
    if not folder.exists() and not is_hub_name(config.path):
        raise ValueError(f"method.base.path={config.path}: no such folder, and no hub name, which reads owner/model")


def recorded(config: BaseConfig) -> dict[str, Any]:
    """The config of a base as a bundle keeps it: folders by where they lie, whatever the folder that one is in."""
    values: dict[str, Any] = plain(config)
    return values | {
        key: os.path.abspath(values[key]) for key in ("path", "tokenizer") if values[key] and Path(values[key]).is_dir()
    }


def _load_pretrained(config: BaseConfig) -> StableDiffusionPipeline:
    check_base(config)
    try:
        return StableDiffusionPipeline.from_pretrained(
            config.path,
            revision=config.revision,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            torch_dtype=torch.float32,
        )
    except (OSError, ValueError) as error:
        elsewhere = (
            f"neither a folder here nor a pipeline that the hub gave us; where there is a network: hf download "
            f"{config.path} --local-dir FOLDER; "
            "then method.base.path=FOLDER (or the environment variable SD21_PATH for base=sd21, SD15_PATH for sd15)"
        )
        where = "cannot be loaded" if Path(str(config.path)).exists() else elsewhere
        raise ValueError(f"method.base.path={config.path}: {where} ({' '.join(str(error).split())})") from error


def _random_pipeline(config: BaseConfig) -> StableDiffusionPipeline:
    """Stable Diffusion 2.1's or 1.5's architecture with random weights and the ToyFACS vocabulary, from a fixed
    seed."""
    shape = _SHAPES[config.architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(sample_size=config.resolution // 8, **shape["unet"])
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            sample_size=config.resolution,
        )
        tokenizer = CLIPTokenizer.from_pretrained(config.tokenizer, model_max_length=77)
        ids = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        text_encoder = CLIPTextModel(
            CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, projection_dim=512, **ids, **shape["text"])
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def fingerprint(module: nn.Module, dtype: torch.dtype = torch.float16) -> str:
    """A short hash of the base weights of `module`: names, shapes and 16 spread values of each tensor, rounded to
    `dtype`.

    For bundles, which must know their base on any machine in any precision; `weights_hash` counts every byte.
    Adapters and LoRA in place are not counted, so a pipeline keeps its fingerprint when an adapter is loaded. Rounding
    to float16 (or bfloat16) makes a float32 pipeline and its half-precision copy agree.
    """
    digest = hashlib.sha256(str(dtype).encode())
    for name, tensor in sorted(base_tensors(module).items()):
        flat = tensor.detach().flatten()
        places = (torch.arange(16) * (len(flat) - 1) // 15).to(flat.device)
        values = flat[places].to(dtype).cpu().view(torch.int16)
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:16]


ADAPTER_KEY = "encoder_hid_dim_type"
"""Keys of a UNet's config that loading an adapter sets."""


def weights_hash(module: nn.Module) -> str:
    """A hash of every byte of the base weights of `module`, with names, types and shapes, and of its config; adapters
    and LoRA are not counted.

    For what must never be taken for something else (caches, runs, evaluations); it takes a second per GB and core.
    """

    def digest(item: tuple[str, Tensor]) -> bytes:
        name, tensor = item
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return hashlib.sha256(
            f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode() + hashlib.sha256(values.data).digest()
        ).digest()

    config: Any = module.config
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    used = {
        key: str(value)
        for key, value in values.items()
        if not key.startswith("_") and key not in ("dtype", "transformers_version", ADAPTER_KEY)
    }
    with ThreadPoolExecutor() as pool:
        weights = pool.map(digest, sorted(base_tensors(module).items()))
        return hashlib.sha256(json.dumps(used, sort_keys=True).encode() + b"".join(weights)).hexdigest()[:16]


ENCODER_PLACES = ("encoder_hid_proj.", "au_encoder.")
"""Start of the names of the AU encoder's parameters in a UNet."""


def is_base(name: str) -> bool:
    """Whether the UNet's parameter of this name is the base's own, and no adapter's or LoRA's."""
    return not name.startswith(ENCODER_PLACES) and "lora_" not in name and "_ip." not in name


def base_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The base's own weights by the names that they have without adapter and LoRA."""
    return {name.replace(".base_layer.", "."): tensor for name, tensor in module.state_dict().items() if is_base(name)}
