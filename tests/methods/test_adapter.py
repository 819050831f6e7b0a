"""The adapter against the paper's equation 2, and what is trainable, frozen and dead."""

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from fineface_train.methods.au_diffusion.adapter import (
    adapter_modules,
    au_encoder,
    audit,
    cross_attention_names,
    install_adapter,
    install_lora,
    mark_trainable,
)
from fineface_train.methods.au_diffusion.conditioning import au_embeds
from fineface_train.methods.au_diffusion.config import EncoderConfig, EncoderName
from tests.conftest import WIDTH, tiny_unet

ALL_ENCODERS = list(EncoderName)
TOKENS = dict.fromkeys(("none", "mlp", "res_mlp", "res_mlp64", "res_3mlp"), 1) | dict.fromkeys(
    ("individual", "per_au_tokens"), 13
)
"""Tokens of the paper's encoders and ours; another may write as many as it likes."""


def adapted(name: EncoderName, rank: int = 4) -> UNet2DConditionModel:
    unet = tiny_unet()
    torch.manual_seed(3)
    install_adapter(unet, EncoderConfig(name=name))
    if rank:
        install_lora(unet, rank, alpha=8)
    return unet


def run(unet: UNet2DConditionModel, aus: Tensor | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    x, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 7, WIDTH, generator=generator)
    extra = {} if aus is None else {"added_cond_kwargs": {"image_embeds": [aus[:, None]]}}
    return unet(x, torch.tensor([10, 900]), text, **extra).sample


@pytest.mark.parametrize("name", ALL_ENCODERS)
@pytest.mark.parametrize("width", [WIDTH, 768, 1024])
def test_encoders_write_their_tokens_at_any_width(name: EncoderName, width: int) -> None:
    from fineface_train.methods.au_diffusion.encoders import build_encoder

    encoder = build_encoder(EncoderConfig(name=name), width)
    out = encoder(torch.rand(3, 12) * 5)
    assert out.shape == (3, encoder.tokens, width)
    assert encoder.tokens == TOKENS.get(name.value, encoder.tokens)


@pytest.mark.parametrize("name", [EncoderName.individual, EncoderName.per_au_tokens])
def test_summed_tokens_are_one_of_as_many_parameters(name: EncoderName) -> None:
    from fineface_train.methods.au_diffusion.encoders import build_encoder

    kept, summed = (build_encoder(EncoderConfig(name=name, sum_tokens=together), WIDTH) for together in (False, True))
    summed.load_state_dict(kept.state_dict())
    aus = torch.rand(3, 12) * 5
    assert summed.tokens == 1
    torch.testing.assert_close(summed(aus)[:, 0], kept(aus).sum(1))


def test_res_mlp64_is_the_published_layout() -> None:
    from fineface_train.methods.au_diffusion.encoders import build_encoder

    encoder = build_encoder(EncoderConfig(name=EncoderName.res_mlp64), 1024)
    assert {name: tuple(value.shape) for name, value in encoder.state_dict().items()} == {
        "linear.weight": (64, 12),
        "linear.bias": (64,),
    }
    aus = torch.rand(2, 12) * 5
    token = encoder(aus)[:, 0]
    torch.testing.assert_close(token[:, :12], aus)
    torch.testing.assert_close(token[:, 12:76], aus @ encoder.linear.weight.T + encoder.linear.bias)
    assert token[:, 76:].abs().max() == 0


@pytest.mark.parametrize("name", ALL_ENCODERS)
def test_scale_zero_without_lora_is_the_base_exactly(name: EncoderName, pipe: StableDiffusionPipeline) -> None:
    expected = run(tiny_unet())
    unet = adapted(name)
    with torch.no_grad():
        for parameter in mark_trainable(unet).values():
            parameter.add_(torch.randn_like(parameter))
    unet.disable_adapters()
    pipe.unet = unet
    aus = torch.rand(2, 12) * 5
    assert not torch.equal(run(unet, aus), expected)
    pipe.set_ip_adapter_scale(0.0)
    assert torch.equal(run(unet, aus), expected)


@pytest.mark.parametrize("name", [EncoderName.res_mlp64, EncoderName.per_au_tokens])
def test_output_equals_equation_2_by_hand(name: EncoderName) -> None:
    """Z = softmax(Q K' / sqrt d) V + lambda softmax(Q K_au' / sqrt d) V_au, then the output projection."""
    unet = adapted(name, rank=0)
    place = cross_attention_names(unet)[1]
    attention = unet.get_submodule(place.removesuffix(".processor"))
    weights = adapter_modules(unet)
    weight_k, weight_v = weights["ip_adapter.3.to_k_ip"].weight, weights["ip_adapter.3.to_v_ip"].weight
    with torch.no_grad():
        weight_k.add_(torch.randn_like(weight_k))
        weight_v.add_(torch.randn_like(weight_v))
    torch.manual_seed(6)
    hidden, text, aus = torch.randn(2, 16, 32), torch.randn(2, 7, WIDTH), torch.rand(2, 12) * 5
    scale = 0.7
    attention.processor.scale = [scale]
    tokens = au_encoder(unet)(aus)
    got = attention(hidden, encoder_hidden_states=(text, [tokens[:, None]]))

    def heads(x: Tensor) -> Tensor:
        return x.reshape(2, -1, 4, 8).transpose(1, 2)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = torch.einsum("bhqd,bhkd->bhqk", heads(query), heads(key)) / 8**0.5
        mixed = torch.einsum(
            "bhqk,bhkd->bhqd", torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True), heads(value)
        )
        return mixed.transpose(1, 2).reshape(2, -1, 32)

    query = hidden @ attention.to_q.weight.T
    z = attend(query, text @ attention.to_k.weight.T, text @ attention.to_v.weight.T)
    z = z + scale * attend(query, tokens @ weight_k.T, tokens @ weight_v.T)
    torch.testing.assert_close(got, z @ attention.to_out[0].weight.T + attention.to_out[0].bias, atol=1e-5, rtol=1e-5)


def test_k_and_v_start_as_the_texts() -> None:
    unet = adapted(EncoderName.per_au_tokens)
    for number, name in enumerate(cross_attention_names(unet)):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        modules = adapter_modules(unet)
        assert torch.equal(modules[f"ip_adapter.{2 * number + 1}.to_k_ip"].weight, attention.to_k.base_layer.weight)
        assert torch.equal(modules[f"ip_adapter.{2 * number + 1}.to_v_ip"].weight, attention.to_v.base_layer.weight)


@pytest.mark.parametrize("name", ALL_ENCODERS)
def test_one_token_kills_the_keys_and_several_do_not(name: EncoderName) -> None:
    unet = adapted(name)
    for module in adapter_modules(unet).values():
        module.weight.requires_grad_(True)
    (run(unet, torch.rand(2, 12) * 5) ** 2).mean().backward()
    keys, values = (
        [module.weight.grad.norm() for key, module in adapter_modules(unet).items() if part in key]
        for part in ("to_k_ip", "to_v_ip")
    )
    ratios = [float(k / v) for k, v in zip(keys, values, strict=True)]
    if au_encoder(unet).tokens == 1:
        assert max(ratios) < 1e-6
    else:
        assert min(ratios) > 1e-4
    trainable = mark_trainable(unet)
    assert any("to_k_ip" in key for key in trainable) == (au_encoder(unet).tokens > 1)
    assert not any("to_k_ip" in key for key in mark_trainable(unet, keys=False))


@pytest.mark.parametrize("name", ALL_ENCODERS)
def test_every_trainable_gets_a_gradient_and_nothing_else_moves(name: EncoderName) -> None:
    unet = adapted(name)
    trainable = mark_trainable(unet)
    with torch.no_grad():
        for key, parameter in trainable.items():
            if ".lora_B." in key:  # A has no gradient while B is 0
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    fitted = {id(parameter) for parameter in trainable.values()}
    frozen = {key: value.clone() for key, value in unet.state_dict(keep_vars=True).items() if id(value) not in fitted}
    optimiser = torch.optim.AdamW(trainable.values(), lr=1e-3)
    (run(unet, torch.rand(2, 12) * 5) ** 2).mean().backward()
    without = [key for key, parameter in trainable.items() if parameter.grad is None or parameter.grad.abs().max() == 0]
    assert not without
    before = {key: parameter.detach().clone() for key, parameter in trainable.items()}
    optimiser.step()
    assert all(not torch.equal(before[key], parameter) for key, parameter in trainable.items())
    after = unet.state_dict()
    assert frozen
    assert all(torch.equal(value, after[key]) for key, value in frozen.items())


def test_audit_counts_by_part() -> None:
    one, many = adapted(EncoderName.res_mlp64), adapted(EncoderName.per_au_tokens)
    for unet in (one, many):
        mark_trainable(unet)
    rows_one = {row.part: row for row in audit(one, {})}
    rows_many = {row.part: row for row in audit(many, {})}
    assert (
        rows_one["adapter K"].dead
        == rows_many["adapter K"].trainable
        == rows_one["adapter V"].trainable
        == 4 * 32 * WIDTH
    )
    assert rows_one["AU encoder"].trainable == 12 * 64 + 64
    assert rows_one["base UNet"].trainable == 0
    assert rows_one["base UNet"].frozen == sum(parameter.numel() for parameter in tiny_unet().parameters())
    assert rows_one["LoRA"].trainable == sum(
        parameter.numel() for name, parameter in one.named_parameters() if "lora_" in name
    )


def test_a_second_adapter_is_refused() -> None:
    with pytest.raises(ValueError, match="holds an adapter already"):
        install_adapter(adapted(EncoderName.none), EncoderConfig())


def test_negative_aus_come_first() -> None:
    aus = torch.rand(2, 12)
    (embeds,) = au_embeds(aus, guidance=True)
    assert embeds.shape == (4, 1, 12)
    assert embeds[:2].abs().max() == 0
    assert torch.equal(embeds[2:, 0], aus)
