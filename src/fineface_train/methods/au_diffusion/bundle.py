"""Bundles: what others use of a trained adapter. A folder with

adapter.safetensors                    image_proj.* (the AU encoder) and ip_adapter.{1,3,..}.to_{k,v}_ip.weight (absent
where AUs enter as text)
pytorch_lora_weights.safetensors       unet.*.lora_{A,B}.weight, as diffusers writes them (absent without LoRA)
unet.safetensors                       the base's UNet, where the whole of it was trained
config.json                            how AUs enter, encoder, AU order, LoRA rank and alpha, adapter scale, base and
its fingerprints
README.md                              the model card
calibration.json                       what to ask for so that a judge measures what is wanted, if `fineface calibrate`
has found it
checksums.json                         SHA-256 of the others but README.md and calibration.json
"""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fineface_train.data.conditioning import Entry
from fineface_train.files import SEAL, damage, new_folder, plain, read_json, sha256, write_json
from fineface_train.methods.au_diffusion.adapter import LORA_TARGETS, adapt, adapter_modules, au_encoder, is_bare
from fineface_train.methods.au_diffusion.base import base_tensors, fingerprint
from fineface_train.methods.au_diffusion.bundle_config import CONFIG_FILE, BundleConfig, read_bundle_config
from fineface_train.methods.au_diffusion.config import FinetuneConfig, Trained
from fineface_train.methods.calibration import Calibration

CALIBRATION_FILE = "calibration.json"
ADAPTER_FILE, LORA_FILE, UNET_FILE = "adapter.safetensors", "pytorch_lora_weights.safetensors", "unet.safetensors"


def base_fingerprints(unet: UNet2DConditionModel) -> dict[str, str]:
    return {"float16": fingerprint(unet, torch.float16), "bfloat16": fingerprint(unet, torch.bfloat16)}


def adapter_tensors(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Encoder, K and V of an adapted UNet by their names in the bundle; what is not there is left out."""
    encoder = au_encoder(unet)
    tensors = (
        {f"image_proj.{name}": tensor for name, tensor in encoder.state_dict().items()} if encoder is not None else {}
    )
    return tensors | {f"{name}.weight": module.weight.data for name, module in adapter_modules(unet).items()}


def lora_tensors(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """LoRA's weights by the names that diffusers gives them."""
    return {f"unet.{name}": tensor for name, tensor in get_peft_model_state_dict(unet, adapter_name="default").items()}


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def save_bundle(unet: UNet2DConditionModel, config: BundleConfig, folder: Path) -> None:
    """Write a bundle beside its place, then move it there whole; an older one in its place is removed last."""
    with new_folder(folder) as partial:
        try:
            if config.conditioning.enters is not Entry.text:
                save_file(_on_cpu(adapter_tensors(unet)), partial / ADAPTER_FILE)
            if config.finetune.train is Trained.lora:
                save_file(_on_cpu(lora_tensors(unet)), partial / LORA_FILE, metadata=_lora_metadata(config.finetune))
            if config.finetune.train is Trained.everything:
                save_file(_on_cpu(base_tensors(unet)), partial / UNET_FILE)
        except SafetensorError as error:  # which a full disk is to it
            raise OSError(f"{partial} could not be written ({error}); mend this and start again") from error
        (partial / CONFIG_FILE).write_text(json.dumps(plain(config), indent=2) + "\n")
        (partial / "README.md").write_text(model_card(config), encoding="utf-8")


def _lora_metadata(finetune: FinetuneConfig) -> dict[str, str]:
    """Rank and alpha where diffusers' own loader looks for them; one key, as safetensors writes several in any
    order."""
    values = {
        "unet.r": finetune.lora_rank,
        "unet.lora_alpha": finetune.lora_alpha,
        "unet.target_modules": list(LORA_TARGETS),
    }
    return {"lora_adapter_metadata": json.dumps(values)}


def save_calibration(folder: Path, calibration: Calibration, about: dict[str, Any]) -> Path:
    """Put a calibration into a bundle, with what it was fitted on."""
    return write_json(
        folder / CALIBRATION_FILE, {"weights": sha256(folder / SEAL), "about": about} | plain(calibration)
    )


def load_calibration(folder: Path) -> tuple[Calibration, dict[str, Any]]:
    """A bundle's calibration and what it was fitted on. Raises ValueError where there is none, or one of another
    bundle's."""
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        raise ValueError(
            f"calibrated=true: {folder} holds no {CALIBRATION_FILE}; make one with fineface calibrate "
            f"{shlex.quote(f'bundle={folder}')}"
        )
    fields = [field.name for field in dataclasses.fields(Calibration)]
    values = read_json(path, "weights", "about", *fields)
    if values["weights"] != sha256(folder / SEAL):
        raise ValueError(
            f"{path} belongs to another bundle; remove it and calibrate this one: fineface calibrate "
            f"{shlex.quote(f'bundle={folder}')}"
        )
    return Calibration(**{name: values[name] for name in fields}), values["about"]


def check_bundle(folder: Path) -> BundleConfig:
    """A bundle's config; raises ValueError as `read_bundle_config` does, and where a file is not what was written."""
    config = read_bundle_config(folder)
    fault = damage(folder)
    if fault:
        raise ValueError(f"bundle={folder} is refused: {fault}; copy it again or train anew")
    return config


def load_adapter(pipe: StableDiffusionPipeline, folder: str | Path, *, any_base: bool = False) -> BundleConfig:
    """Put a bundle into a Stable Diffusion pipeline; with an adapter it then generates with
    `ip_adapter_image_embeds=au_embeds(...)`.

        pipe = StableDiffusionPipeline.from_pretrained("data/toyfacs/base")
        load_adapter(pipe, "data/toyfacs/bundle")
        aus = torch.tensor([parse_aus("AU12=5,AU6=2.5")])
        image = pipe("a person", ip_adapter_image_embeds=au_embeds(aus, guidance=True), guidance_scale=3.0).images[0]

    Args:
        pipe: a pipeline whose UNet has the width and the weights that the bundle was trained on.
        folder: the bundle.
        any_base: accept a UNet with other weights of the same shape (a fine-tuned variant of the base).
    Raises:
        ValueError: not a bundle, damaged, of another shape or for another base.
    """
    folder = Path(folder)
    config = check_bundle(folder)
    unet = pipe.unet
    if not is_bare(unet):
        raise ValueError(f"bundle={folder}: this pipeline holds an adapter or LoRA already; load the pipeline anew")
    if unet.config.cross_attention_dim != config.cross_attention_dim:
        raise ValueError(
            f"bundle={folder} is for {config.base_name} with cross-attention width {config.cross_attention_dim}; "
            f"this pipeline's is {unet.config.cross_attention_dim}; choose its base, e.g. base={config.base_name}, or "
            f"leave base= out: the bundle tells it"
        )
    precision = "bfloat16" if unet.dtype == torch.bfloat16 else "float16"
    if not any_base and fingerprint(unet, getattr(torch, precision)) != config.base_fingerprints[precision]:
        was = f", then in {config.base['path']}" if config.base and config.base.get("path") else ""
        raise ValueError(
            f"bundle={folder} was trained on {config.base_name}{was}, whose weights differ from this pipeline's; "
            f"choose that base (base={config.base_name}, or method.base.path=FOLDER where it lies elsewhere), or "
            f"accept another of its shape with any_base=true, in Python load_adapter(..., any_base=True)"
        )
    with torch.random.fork_rng(devices=[]):  # for weights that are replaced at once
        adapt(unet, config.conditioning.enters, config.encoder, config.finetune)
    if config.conditioning.enters is not Entry.text:
        _copy(folder / ADAPTER_FILE, adapter_tensors(unet))
    if config.finetune.train is Trained.lora:
        lora = _checked(folder / LORA_FILE, lora_tensors(unet))
        set_peft_model_state_dict(
            unet, {name.removeprefix("unet."): tensor for name, tensor in lora.items()}, adapter_name="default"
        )
    if config.finetune.train is Trained.everything:
        _copy(folder / UNET_FILE, base_tensors(unet))
    unet.requires_grad_(False)
    unet.to(unet.dtype)
    return config


def _copy(path: Path, target: dict[str, Tensor]) -> None:
    """Fill `target` from a file of the same names and shapes."""
    for name, tensor in _checked(path, target).items():
        target[name].copy_(tensor)


def _checked(path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a file holds. Raises ValueError unless names and shapes are those expected."""
    found = load_file(path)
    if set(found) != set(expected):
        missing, extra = sorted(set(expected) - set(found))[:3], sorted(set(found) - set(expected))[:3]
        raise ValueError(
            f"{path} does not fit this UNet: missing {missing or 'nothing'}, unexpected {extra or 'nothing'}"
        )
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, this UNet wants {tuple(expected[name].shape)}"
            )
    return found


def _entry_in_words(config: BundleConfig) -> str:
    scale = f"scale {config.finetune.adapter_scale:g}"
    return {
        Entry.adapter: f"AUs enter through an adapter (encoder `{config.encoder.name.value}`, {scale}).",
        Entry.token: f"AUs enter as tokens of the prompt (encoder `{config.encoder.name.value}`).",
        Entry.text: f"AUs enter as text at the end of the prompt (`{config.conditioning.au_text}`).",
    }[config.conditioning.enters]


def _training_in_words(finetune: FinetuneConfig) -> str:
    return {
        Trained.nothing: "The base's own weights are not trained.",
        Trained.lora: f"LoRA of rank {finetune.lora_rank} (alpha {finetune.lora_alpha:g}).",
        Trained.everything: "The whole UNet is trained.",
    }[finetune.train]


def model_card(config: BundleConfig) -> str:
    """The bundle's README.md."""
    helper, call = "pipeline_arguments", '**pipeline_arguments(pipe, config.conditioning, ["a person"], aus)'
    if config.conditioning.enters is Entry.adapter:
        helper, call = "au_embeds", '"a person", ip_adapter_image_embeds=au_embeds(aus, guidance=True)'
    facts = "\n".join(f"- {key}: {value}" for key, value in config.training.items())
    return f"""---
library_name: diffusers
tags: [facial-expression, action-units, ip-adapter, lora]
---
# AU adapter for {config.base_name}

Controls 12 facial Action Units ({", ".join(f"AU{au}" for au in config.aus)}; 0 absent, 5 maximum) in images of the base
pipeline `{config.base_name}` at {config.resolution} px. {_entry_in_words(config)} {_training_in_words(config.finetune)}
Written by fineface-train {config.code_version}.

```python
import torch
from diffusers import StableDiffusionPipeline
from fineface_train import {helper}, load_adapter, parse_aus
pipe = StableDiffusionPipeline.from_pretrained("path/to/{config.base_name}")
config = load_adapter(pipe, "path/to/this/folder")
aus = torch.tensor([parse_aus("AU12=5,AU6=2.5")])
image = pipe({call}).images[0]
```

## Training
{facts or "- not recorded"}

## Limits
Faces and expressions follow the training data and its labels; measured AU control is in the run's report.
"""
