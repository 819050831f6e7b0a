"""Bundles: written whole, loaded strictly, and the same image from a fresh process."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from fineface_train.data.conditioning import ConditioningConfig, Entry
from fineface_train.files import seal
from fineface_train.methods.au_diffusion.adapter import adapt, mark_trainable
from fineface_train.methods.au_diffusion.base import fingerprint, weights_hash
from fineface_train.methods.au_diffusion.bundle import base_fingerprints, load_adapter, save_bundle
from fineface_train.methods.au_diffusion.bundle_config import BundleConfig, read_bundle_config
from fineface_train.methods.au_diffusion.conditioning import au_embeds
from fineface_train.methods.au_diffusion.config import (
    EncoderConfig,
    EncoderName,
    FinetuneConfig,
    SamplingConfig,
    Trained,
)
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.protocol import Request
from tests.conftest import WIDTH, tiny_pipeline


def trained(
    name: EncoderName = EncoderName.per_au_tokens,
    train: Trained = Trained.lora,
    alpha: float = 8.0,
    enters: Entry = Entry.adapter,
) -> tuple[StableDiffusionPipeline, BundleConfig]:
    """A tiny pipeline in which all that is trained is random, and what its bundle says."""
    pipe = tiny_pipeline()
    finetune = FinetuneConfig(train=train, lora_rank=4, lora_alpha=alpha, adapter_scale=0.8)
    config = BundleConfig(
        ConditioningConfig(enters=enters),
        EncoderConfig(name=name),
        finetune,
        "tiny",
        base_fingerprints(pipe.unet),
        WIDTH,
        16,
    )
    adapt(pipe.unet, enters, config.encoder, finetune)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in mark_trainable(pipe.unet, whole=train is Trained.everything).values():
            parameter.add_((0.02 if train is Trained.everything else 0.2) * torch.randn_like(parameter))
    return pipe, config


def image(pipe: StableDiffusionPipeline, enters: Entry = Entry.adapter, au12: float = 5) -> torch.Tensor:
    generator = PipelineGenerator(pipe, ConditioningConfig(enters=enters), SamplingConfig(steps=3), 16)
    return generator.generate([Request("a person with red hair", (0, 0, 0, 0, 3.5, 0, au12, 0, 0, 0, 1, 0), 7)])


WAYS = [(name, train, Entry.adapter) for name in EncoderName for train in (Trained.nothing, Trained.lora)]
WAYS += [(EncoderName.res_mlp64, train, enters) for enters in (Entry.token, Entry.text) for train in Trained]
WAYS += [
    (EncoderName.per_au_tokens, Trained.everything, Entry.adapter),
    (EncoderName.per_au_tokens, Trained.lora, Entry.token),
]


@pytest.mark.parametrize(("name", "train", "enters"), WAYS)
def test_round_trip_gives_the_same_image(tmp_path: Path, name: EncoderName, train: Trained, enters: Entry) -> None:
    pipe, config = trained(name, train, enters=enters)
    save_bundle(pipe.unet, config, tmp_path / "bundle")
    files = {path.name for path in (tmp_path / "bundle").glob("*.safetensors")}
    expected = {
        "adapter.safetensors": enters is not Entry.text,
        "pytorch_lora_weights.safetensors": train is Trained.lora,
    }
    assert files == {
        file for file, there in (expected | {"unet.safetensors": train is Trained.everything}).items() if there
    }
    other = tiny_pipeline()
    loaded = load_adapter(other, tmp_path / "bundle")
    assert (loaded.finetune, loaded.conditioning) == (config.finetune, config.conditioning)
    assert torch.equal(image(other, enters), image(pipe, enters))
    assert not torch.equal(image(other, enters), image(other, enters, au12=0))
    untrained = train is Trained.nothing and enters is Entry.text
    assert torch.equal(image(tiny_pipeline(), Entry.text), image(other, enters)) == untrained
    with (
        pytest.raises(ValueError, match="holds an adapter or LoRA already")
        if enters is not Entry.text or train is Trained.lora
        else nullcontext()
    ):
        load_adapter(other, tmp_path / "bundle", any_base=True)


def test_a_fresh_process_gives_the_same_image(tmp_path: Path) -> None:
    pipe, config = trained()
    save_bundle(pipe.unet, config, tmp_path / "bundle")
    torch.save(image(pipe), tmp_path / "image.pt")
    code = (
        "import sys, torch; from pathlib import Path; from tests.conftest import tiny_pipeline; from "
        "tests.methods.test_bundle import image, load_adapter\n"
        "pipe = tiny_pipeline(); load_adapter(pipe, Path(sys.argv[1]) / 'bundle')\n"
        "assert torch.equal(image(pipe), torch.load(Path(sys.argv[1]) / 'image.pt', weights_only=True))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])


def test_alpha_is_restored(tmp_path: Path) -> None:
    """Half the alpha is half the LoRA update: a loader that assumed alpha = rank would give another image."""
    pipe, config = trained(alpha=2.0)
    save_bundle(pipe.unet, config, tmp_path / "bundle")
    other = tiny_pipeline()
    load_adapter(other, tmp_path / "bundle")
    module = other.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    assert module.scaling["default"] == pytest.approx(0.5)


def test_plain_pipeline_call_generates_with_it(tmp_path: Path) -> None:
    """What the documentation shows: no class of ours in the call."""
    pipe, config = trained()
    save_bundle(pipe.unet, config, tmp_path / "bundle")
    other = tiny_pipeline()
    load_adapter(other, tmp_path / "bundle")
    calls = [
        other(
            "a person",
            ip_adapter_image_embeds=au_embeds(torch.full((1, 12), value), guidance=True),
            guidance_scale=3.0,
            num_inference_steps=2,
            height=16,
            width=16,
            output_type="pt",
            generator=torch.Generator().manual_seed(0),
        ).images
        for value in (0.0, 5.0)
    ]
    assert (calls[0] - calls[1]).abs().max() > 1e-3


def test_fingerprint_ignores_adapters_and_precision_but_not_weights() -> None:
    pipe, _ = trained()
    clean = tiny_pipeline()
    assert fingerprint(pipe.unet) == fingerprint(clean.unet) == fingerprint(tiny_pipeline().unet.half())
    with torch.no_grad():
        clean.unet.conv_in.weight.mul_(1.01)
    assert fingerprint(clean.unet) != fingerprint(pipe.unet)


def test_a_weights_hash_counts_every_weight_of_the_base_and_none_of_the_adapter() -> None:
    pipe, _ = trained()
    clean = tiny_pipeline()
    before = weights_hash(clean.unet)
    assert weights_hash(pipe.unet) == before
    weights = clean.unet.mid_block.resnets[0].conv1.weight.data.view(-1)
    weights[1] += 1e-6  # not among those that a fingerprint looks at
    assert weights_hash(clean.unet) != before
    assert fingerprint(clean.unet) == fingerprint(pipe.unet)


def test_images_do_not_depend_on_their_batch() -> None:
    pipe, _ = trained()
    generator = PipelineGenerator(pipe, ConditioningConfig(), SamplingConfig(steps=3), 16)
    requests = [Request("a person", tuple(float(k == j) * 5 for k in range(12)), j) for j in range(3)]
    together = generator.generate(requests)
    torch.testing.assert_close(
        together, torch.cat([generator.generate([request]) for request in requests]), atol=1e-5, rtol=0
    )


def test_aus_are_guided_apart_from_the_prompt() -> None:
    """Away from no AUs as hard as the prompt (null), from the same AUs not at all (1), and in between from less of
    them, as a plain call does."""
    pipe, _ = trained()
    aus = torch.tensor([[0, 0, 0, 0, 3.5, 0, 5.0, 0, 0, 0, 1, 0]])

    def drawn(au_guidance: float | None) -> torch.Tensor:
        config = SamplingConfig(steps=3, guidance=4, au_guidance=au_guidance)
        return PipelineGenerator(pipe, ConditioningConfig(), config, 16).generate(
            [Request("a person", tuple(aus[0].tolist()), 7)]
        )

    def by_hand(negative: torch.Tensor) -> torch.Tensor:
        side = 16 // pipe.vae_scale_factor
        noise = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(7))
        embeds = au_embeds(aus, guidance=True, negative=negative)
        how = {"num_inference_steps": 3, "guidance_scale": 4.0, "height": 16, "width": 16, "output_type": "pt"}
        return pipe("a person", ip_adapter_image_embeds=embeds, latents=noise, **how).images.detach()

    for au_guidance, share in ((None, 0.0), (4, 0.0), (3, 1 / 3), (1, 1.0)):
        torch.testing.assert_close(drawn(au_guidance), by_hand(share * aus), atol=1e-5, rtol=0)
    assert not torch.equal(drawn(3), drawn(1))


@pytest.mark.parametrize(("value", "fault"), [(0.3, "is all of one colour"), (float("nan"), "is not finite")])
def test_a_picture_that_shows_nothing_is_refused_and_in_training_told(
    value: float, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    pipe, _ = trained()
    torch.nn.init.zeros_(pipe.vae.decoder.conv_out.weight)
    pipe.vae.decoder.conv_out.bias.data = torch.tensor([value, 0.1, -0.5])
    requests = [Request("a person", (0.0,) * 12, 7)]
    with pytest.raises(
        FloatingPointError,
        match=rf"the picture of 'a person' with neutral, seed 7, {fault}.*; lower what drives it: scale=1, "
        r"method\.sampling",
    ):
        PipelineGenerator(pipe, ConditioningConfig(), SamplingConfig(steps=2), 16, scale=1.0).generate(requests)
    PipelineGenerator(pipe, ConditioningConfig(), SamplingConfig(steps=2), 16, strict=False).generate(requests)
    assert any(fault in record.message for record in caplog.records)


def damage(folder: Path, kind: str) -> None:
    adapter, config = folder / "adapter.safetensors", folder / "config.json"
    if kind == "no folder":
        config.unlink()
    elif kind == "truncated":
        adapter.write_bytes(adapter.read_bytes()[:-100])
    elif kind == "missing lora":
        (folder / "pytorch_lora_weights.safetensors").unlink()
    else:
        values = json.loads(config.read_text())
        values |= {
            "other AUs": {"aus": [1, 2]},
            "other width": {"cross_attention_dim": 768},
            "no number": {"format": "3a"},
        }.get(kind, {})
        if kind == "other rank":
            values["finetune"]["lora_rank"] = 8
        if kind == "newer":
            values = {"format": 99, "code_version": "9.1", "parts": []}  # nothing of what we look for
        if kind == "newer keys":
            values |= {"palette": 3}
            values["encoder"]["depth"] = 2
        if kind == "newer choice":
            values["encoder"]["name"] = "transformer"
        if kind == "no dictionary":
            values = [1]
        config.write_text(json.dumps(values))
        seal(folder)  # whole, but not of this world


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no folder", "no config.json there"),
        ("truncated", "adapter.safetensors is not what was written"),
        ("missing lora", "pytorch_lora_weights.safetensors is missing"),
        ("other AUs", "trained for AUs"),
        (
            "newer",
            r"format 99 \(known: up to 3\), which this version of fineface-train .* does not know; .*by version 9\.1. "
            r"Update yours",
        ),
        ("no number", "format 3a .*Update yours"),
        ("newer keys", r"keys palette, encoder\.depth, which this version .* does not know.*Update yours"),
        (
            "newer choice",
            r"choice encoder\.name=transformer, which this version .* does not know.*Update yours",
        ),
        ("no dictionary", "config.json cannot be used: it holds no dictionary"),
        ("other width", "width 768"),
        ("other rank", "has shape"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    pipe, config = trained()
    save_bundle(pipe.unet, config, tmp_path / "bundle")
    damage(tmp_path / "bundle", kind)
    with pytest.raises(ValueError, match=message):
        load_adapter(tiny_pipeline(), tmp_path / "bundle")


def test_another_base_is_refused_unless_wanted(tmp_path: Path) -> None:
    pipe, config = trained()
    save_bundle(pipe.unet, config, tmp_path / "bundle")
    other = tiny_pipeline()
    with torch.no_grad():
        other.unet.conv_in.weight.mul_(1.5)
    with pytest.raises(ValueError, match="any_base"):
        load_adapter(other, tmp_path / "bundle")
    load_adapter(other, tmp_path / "bundle", any_base=True)


def test_saving_again_replaces_whole(tmp_path: Path) -> None:
    pipe, config = trained()
    save_bundle(pipe.unet, config, tmp_path / "bundle")
    save_bundle(pipe.unet, config, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert read_bundle_config(tmp_path / "bundle").encoder == config.encoder


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    pipe, config = trained()
    for name in ("one", "two"):
        save_bundle(pipe.unet, config, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
