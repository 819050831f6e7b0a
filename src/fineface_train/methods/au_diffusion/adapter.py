"""The AU adapter: a standard diffusers IP-Adapter whose image projection is an AU encoder, and LoRA through peft.

Every cross-attention computes  softmax(QK')V + scale * softmax(QK_au')V_au  (paper, equation 2), where K_au and V_au
are new projections of the AU tokens. diffusers' own `IPAdapterAttnProcessor2_0` does it, so that a plain
`StableDiffusionPipeline` generates with it, next to other IP-Adapters and with their scales and masks.
"""

import dataclasses
from typing import cast

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from peft import LoraConfig
from torch import nn

from fineface_train.data.conditioning import Entry
from fineface_train.methods.au_diffusion.base import ENCODER_PLACES, is_base
from fineface_train.methods.au_diffusion.config import EncoderConfig, FinetuneConfig, Trained
from fineface_train.methods.au_diffusion.encoders import build_encoder

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def cross_attention_names(unet: UNet2DConditionModel) -> list[str]:
    """Names of the cross-attention processors in IP-Adapter's order (down, up, mid: that of `unet.attn_processors`)."""
    return [name for name in unet.attn_processors if name.endswith("attn2.processor")]


def install_adapter(unet: UNet2DConditionModel, encoder_config: EncoderConfig, scale: float = 1.0) -> nn.Module:
    """Give `unet` an AU encoder and new K and V in every cross-attention, initialised from its text K and V.

    From then on the UNet wants `added_cond_kwargs={"image_embeds": [aus]}` with aus (B, 1, 12). Returns the encoder.
    Raises ValueError if an IP-Adapter is in place already: it would be replaced silently.
    """
    if unet.encoder_hid_proj is not None:
        raise ValueError(
            "this UNet holds an adapter already; load the pipeline anew, or call pipe.unload_ip_adapter() first"
        )
    width = unet.config.cross_attention_dim
    encoder = build_encoder(encoder_config, width)
    reference = next(unet.parameters())
    processors = dict(unet.attn_processors)
    for name in cross_attention_names(unet):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        to_k, to_v = (
            getattr(getattr(attention, part), "base_layer", getattr(attention, part)) for part in ("to_k", "to_v")
        )
        processor = IPAdapterAttnProcessor2_0(
            hidden_size=to_k.out_features, cross_attention_dim=width, num_tokens=(encoder.tokens,), scale=scale
        )
        processor.to_k_ip[0].weight.data.copy_(to_k.weight.data)
        processor.to_v_ip[0].weight.data.copy_(to_v.weight.data)
        processors[name] = processor.to(reference.device)
    unet.set_attn_processor(processors)
    unet.encoder_hid_proj = MultiIPAdapterImageProjection([encoder.to(reference.device)])
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    return encoder


def adapt(unet: UNet2DConditionModel, conditioning: Entry, encoder: EncoderConfig, finetune: FinetuneConfig) -> None:
    """Give `unet` all that is new to it: the adapter, or an AU encoder for tokens in the prompt's embedding, and
    LoRA."""
    if conditioning is Entry.adapter:
        install_adapter(unet, encoder, finetune.adapter_scale)
    elif conditioning is Entry.token:
        unet.au_encoder = build_encoder(encoder, unet.config.cross_attention_dim).to(next(unet.parameters()).device)
    if finetune.train is Trained.lora:
        install_lora(unet, finetune.lora_rank, finetune.lora_alpha)


def is_bare(unet: UNet2DConditionModel) -> bool:
    """Whether nothing was added to a UNet yet."""
    return (
        unet.encoder_hid_proj is None
        and getattr(unet, "au_encoder", None) is None
        and not getattr(unet, "peft_config", None)
    )


def install_lora(unet: UNet2DConditionModel, rank: int, alpha: float) -> None:
    """LoRA of `rank` on q, k, v and out of every self- and cross-attention (paper, section 3; published code)."""
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(LORA_TARGETS), init_lora_weights=True))


def adapter_modules(unet: UNet2DConditionModel) -> dict[str, nn.Linear]:
    """The new K and V projections by their IP-Adapter names, "ip_adapter.1.to_k_ip" and so on (odd numbers:
    cross-attentions); none without an adapter."""
    if unet.encoder_hid_proj is None:
        return {}
    processors = unet.attn_processors
    modules = {}
    for place, name in enumerate(cross_attention_names(unet)):
        for part in ("to_k_ip", "to_v_ip"):
            modules[f"ip_adapter.{2 * place + 1}.{part}"] = getattr(processors[name], part)[0]
    return modules


def au_encoder(unet: UNet2DConditionModel) -> nn.Module | None:
    """The AU encoder inside an adapted UNet; None where AUs enter as text."""
    encoder: nn.Module | None = (
        getattr(unet, "au_encoder", None)
        if unet.encoder_hid_proj is None
        else unet.encoder_hid_proj.image_projection_layers[0]
    )
    return encoder


def has_live_keys(unet: UNet2DConditionModel) -> bool:
    """Whether the adapter's keys can matter: the softmax over a single token is 1 whatever its key."""
    return int(au_encoder(unet).tokens) > 1  # type: ignore[union-attr, arg-type]


def mark_trainable(unet: UNet2DConditionModel, *, whole: bool = False, keys: bool = True) -> dict[str, nn.Parameter]:
    """Freeze the base (unless the `whole` of it is trained), make encoder, V, live K (unless `keys` is false) and LoRA
    trainable in float32.

    With one token the softmax over one key is 1 and K gets no gradient but rounding noise, which Adam would amplify:
    K is frozen and counted as dead. Returns the trainables by stable names, those of the bundle's tensors.
    """
    unet.requires_grad_(False)
    trainable: dict[str, nn.Parameter] = {}
    encoder = au_encoder(unet)
    for name, parameter in encoder.named_parameters() if encoder is not None else ():
        trainable[f"image_proj.{name}"] = parameter
    for name, module in adapter_modules(unet).items():
        if name.endswith("to_v_ip") or (keys and has_live_keys(unet)):
            trainable[f"{name}.weight"] = cast(nn.Parameter, module.weight)
    for name, parameter in unet.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            trainable[f"lora.{name}"] = parameter
        elif whole and is_base(name):
            trainable[f"unet.{name}"] = parameter
    for parameter in trainable.values():
        parameter.data = parameter.data.float() if parameter.dtype != torch.float64 else parameter.data
        parameter.requires_grad_(True)
    return trainable


@dataclasses.dataclass
class AuditRow:
    """Parameters of one part of the model: fitted, kept, and without effect (keys under a softmax of one)."""

    part: str
    trainable: int = 0
    frozen: int = 0
    dead: int = 0


def audit(unet: UNet2DConditionModel, others: dict[str, nn.Module]) -> list[AuditRow]:
    """Trainable, frozen and dead parameters by part: encoder, K, V, LoRA, base UNet, and `others` (text encoder,
    VAE)."""
    rows = {part: AuditRow(part) for part in ("AU encoder", "adapter K", "adapter V", "LoRA", "base UNet")}
    for name, parameter in unet.named_parameters():
        if name.startswith(ENCODER_PLACES):
            part = "AU encoder"
        elif ".to_k_ip." in name:
            part = "adapter K"
        elif ".to_v_ip." in name:
            part = "adapter V"
        else:
            part = "LoRA" if ".lora_" in name else "base UNet"
        if parameter.requires_grad:
            rows[part].trainable += parameter.numel()
        elif part == "adapter K" and not has_live_keys(unet):
            rows[part].dead += parameter.numel()
        else:
            rows[part].frozen += parameter.numel()
    for part, module in others.items():
        rows[part] = AuditRow(part, frozen=sum(parameter.numel() for parameter in module.parameters()))
    return list(rows.values())


def audit_table(rows: list[AuditRow]) -> str:
    """Trainable, frozen and dead parameters by part, as text."""
    lines = [f"{'part':<14}{'trainable':>14}{'frozen':>14}{'dead':>12}"]
    total = AuditRow("total", *(sum(getattr(row, kind) for row in rows) for kind in ("trainable", "frozen", "dead")))
    return "\n".join(
        lines + [f"{row.part:<14}{row.trainable:>14,}{row.frozen:>14,}{row.dead:>12,}" for row in [*rows, total]]
    )
