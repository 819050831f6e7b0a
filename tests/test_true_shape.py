"""Stable Diffusion's true shape with random weights: the parameter counts of the paper's set-up, and real steps."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from fineface_train.cli import main
from fineface_train.methods.au_diffusion.adapter import adapter_modules, install_adapter, install_lora
from fineface_train.methods.au_diffusion.base import _SHAPES
from fineface_train.methods.au_diffusion.config import Architecture, EncoderConfig, EncoderName

COUNTS = {
    Architecture.sd21_random: (865_910_724, 25_559_040, 6_639_616),
    Architecture.sd15_random: (859_520_964, 19_169_280, 6_377_472),
}


@pytest.mark.parametrize("architecture", COUNTS)
def test_parameter_counts(architecture: Architecture) -> None:
    """UNet, adapter K and V, LoRA of rank 32; on the meta device, which allocates nothing."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, **_SHAPES[architecture]["unet"])
        base = sum(parameter.numel() for parameter in unet.parameters())
        install_adapter(unet, EncoderConfig(name=EncoderName.res_mlp64))
        install_lora(unet, 32, 8)
    adapter = sum(module.weight.numel() for module in adapter_modules(unet).values())
    lora = sum(parameter.numel() for name, parameter in unet.named_parameters() if ".lora_" in name)
    assert (base, adapter, lora) == COUNTS[architecture]


def test_two_steps_at_256_pixels(tmp_path: Path) -> None:
    """The very trainer, on the whole SD 2.1 pipeline: VAE and text encoder to caches, then two steps of the UNet."""
    arguments = [
        *("train", "base=sd21_random", "encoder=res_mlp64", "method.finetune.lora_alpha=8"),
        *(
            "data.toyfacs.disfa_subjects=1",
            "data.toyfacs.disfa_frames=4",
            "data.toyfacs.affectnet_images=50",
            "data.affectnet=null",
        ),
        *(f"data.root={tmp_path / 'data'}", f"run.root={tmp_path / 'runs'}", "trainer.steps=2", "trainer.batch_size=1"),
        *("trainer.sample_every=0", "evaluation.after_training=false", "tracking.wandb=false", "tracking.log_every=1"),
    ]
    assert main(arguments) == 0
    (run,) = (tmp_path / "runs").iterdir()
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert all(0 < loss < 10 for loss in losses)
    parts = {row["part"]: row for row in json.loads((run / "audit.json").read_text())["parts"]}
    assert parts["base UNet"]["frozen"] == 865_910_724
    assert parts["adapter V"]["trainable"] == parts["adapter K"]["dead"] == 25_559_040 // 2
    assert parts["LoRA"]["trainable"] == 6_639_616
