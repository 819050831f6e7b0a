"""AU encoders: intensities (B, 12) to AU tokens (B, tokens, d) for cross-attention of width d (paper, Table 2).

An intensity of NaN is an AU that nothing is said about (`NO_CONTROL`). The paper's encoders take it for 0;
`per_au_tokens` can learn a token for it, so that AUs at 0 ask for a neutral face and AUs left open for the base's own.
"""

import abc

import torch
from torch import Tensor, nn

from fineface_train.aus import AU_COUNT, MAX_INTENSITY
from fineface_train.methods.au_diffusion.config import EncoderConfig, EncoderName


def _mlp(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, hidden), nn.GELU(), nn.Linear(hidden, width_out))


def _pad(vector: Tensor, width: int) -> Tensor:
    """(B, n) to one token (B, 1, width), zeros behind."""
    if vector.shape[1] > width:
        raise ValueError(f"this encoder writes {vector.shape[1]} values, more than the cross-attention's width {width}")
    return nn.functional.pad(vector, (0, width - vector.shape[1]))[:, None]


class AUEncoder(nn.Module, abc.ABC):
    """From intensities to tokens; what nothing is said about counts as 0."""

    tokens = 1

    def forward(self, aus: Tensor) -> Tensor:
        """(B, 12), on the 0-5 scale, to (B, tokens, d)."""
        return self.encode(aus.nan_to_num(0.0))

    @abc.abstractmethod
    def encode(self, aus: Tensor) -> Tensor:
        """The same, of AUs that are all said."""


class NoEncoding(AUEncoder):
    """The 12 raw values, zero-padded to d."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.width = width

    def encode(self, aus: Tensor) -> Tensor:
        return _pad(aus, self.width)


class MLP(AUEncoder):
    """MLP 12 -> d."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.mlp = _mlp(AU_COUNT, config.hidden, width)

    def encode(self, aus: Tensor) -> Tensor:
        return self.mlp(aus)[:, None]


class ResMLP(AUEncoder):
    """The 12 raw values beside an MLP 12 -> d - 12."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.mlp = _mlp(AU_COUNT, config.hidden, width - AU_COUNT)

    def encode(self, aus: Tensor) -> Tensor:
        return torch.cat([aus, self.mlp(aus)], dim=1)[:, None]


class ResMLP64(AUEncoder):
    """The 12 raw values beside one Linear 12 -> 64, zero-padded to d: the paper's choice and the published
    checkpoint's."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(AU_COUNT, 64)

    def encode(self, aus: Tensor) -> Tensor:
        return _pad(torch.cat([aus, self.linear(aus)], dim=1), self.width)


class Res3MLP(AUEncoder):
    """Like Res+MLP64 with three layers, layer normalisation and leaky ReLU."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(
            nn.Linear(AU_COUNT, 64),
            nn.LayerNorm(64),
            nn.LeakyReLU(),
            nn.Linear(64, 64),
            nn.LayerNorm(64),
            nn.LeakyReLU(),
            nn.Linear(64, 64),
        )

    def encode(self, aus: Tensor) -> Tensor:
        return _pad(torch.cat([aus, self.mlp(aus)], dim=1), self.width)


class IndividualCoding(AUEncoder):
    """An MLP 1 -> d per AU and one MLP 12 -> d for their interactions: 13 tokens, or their sum as one."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.tokens = 1 if config.sum_tokens else AU_COUNT + 1
        self.each = nn.ModuleList(_mlp(1, config.hidden, width) for _ in range(AU_COUNT))
        self.together = _mlp(AU_COUNT, config.hidden, width)

    def encode(self, aus: Tensor) -> Tensor:
        tokens = [mlp(aus[:, index : index + 1]) for index, mlp in enumerate(self.each)]
        stacked = torch.stack([*tokens, self.together(aus)], dim=1)
        return stacked.sum(1, keepdim=True) if self.tokens == 1 else stacked


class PerAUTokens(AUEncoder):
    """Ours: token i = learned embedding i + (intensity i / 5) x learned direction i, and an optional interaction token.

    With several tokens the adapter's keys matter, so that each AU can attend to its own place in the face; with one
    token the softmax over a single key is 1 and nothing in the branch is spatial. The embeddings start small, so that a
    face without AUs starts as the base's own (at size 1 the first steps raised the base's loss by half).
    """

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        vectors = AU_COUNT + int(config.interaction_token)
        self.tokens = 1 if config.sum_tokens else vectors
        self.embedding = nn.Parameter(0.1 * torch.randn(AU_COUNT, width))
        self.direction = nn.Parameter(torch.randn(AU_COUNT, width))
        self.interaction = _mlp(AU_COUNT, config.hidden, width) if config.interaction_token else None
        self.null = nn.Parameter(0.1 * torch.randn(vectors, width)) if config.learned_null else None

    def forward(self, aus: Tensor) -> Tensor:
        tokens = self.encode(aus.nan_to_num(0.0))
        if self.null is not None:
            said = ~aus.isnan()
            if self.interaction is not None:
                said = torch.cat([said, said.any(1, keepdim=True)], dim=1)
            tokens = torch.where(said[:, :, None], tokens, self.null)
        return tokens.sum(1, keepdim=True) if self.tokens == 1 else tokens

    def encode(self, aus: Tensor) -> Tensor:
        tokens = self.embedding + (aus / MAX_INTENSITY)[:, :, None] * self.direction
        if self.interaction is not None:
            tokens = torch.cat([tokens, self.interaction(aus / MAX_INTENSITY)[:, None]], dim=1)
        return tokens


ENCODERS: dict[EncoderName, type[AUEncoder]] = {
    EncoderName.none: NoEncoding,
    EncoderName.mlp: MLP,
    EncoderName.res_mlp: ResMLP,
    EncoderName.res_mlp64: ResMLP64,
    EncoderName.res_3mlp: Res3MLP,
    EncoderName.individual: IndividualCoding,
    EncoderName.per_au_tokens: PerAUTokens,
}


def count_tokens(config: EncoderConfig, cross_attention_dim: int) -> int:
    """How many tokens the configured encoder writes."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return build_encoder(config, cross_attention_dim).tokens


def build_encoder(config: EncoderConfig, cross_attention_dim: int) -> AUEncoder:
    """The configured encoder for cross-attentions of width `cross_attention_dim`; `.tokens` says how many tokens it
    writes."""
    return ENCODERS[config.name](cross_attention_dim, config)
