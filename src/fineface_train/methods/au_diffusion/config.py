"""The config of the AU diffusion family, `config.method`. Imports no torch."""

import dataclasses
import enum
import math
import re
from typing import Any, ClassVar, Literal

from fineface_train.data.conditioning import ConditioningConfig, Entry
from fineface_train.data.config import AUGMENTATION
from fineface_train.methods.config import MethodConfig
from fineface_train.places import found


class Architecture(enum.Enum):
    """`pretrained` loads `path`; the others build Stable Diffusion's true shape with random weights."""

    pretrained = "pretrained"
    sd21_random = "sd21_random"
    sd15_random = "sd15_random"


class PromptSet(enum.Enum):
    toyfacs = "toyfacs"
    real = "real"


@dataclasses.dataclass
class BaseConfig:
    """The frozen text-to-image pipeline that the adapter steers."""

    name: str = "toyfacs"
    """Name of the base; set by base=NAME."""
    architecture: Architecture = Architecture.pretrained
    """Whether the weights are pretrained, or random in the shape of a Stable Diffusion (for tests and benchmarks)."""
    path: str | None = None
    """A folder written by `save_pretrained`, or a hub name."""
    revision: str | None = None
    """Pinned revision on the hub."""
    resolution: int = 64
    """Side of the square images in pixels."""
    sampling_steps: int = 50
    """Default of `method.sampling.steps` for this base."""
    prompts: PromptSet = PromptSet.real
    """Which prompts evaluate it: ToyFACS's identities, or the paper's."""
    tokenizer: str = "data/toyfacs/clip"
    """Only for random architectures, which have no vocabulary of their own."""

    def validate(self, key: str) -> None:
        if self.architecture is Architecture.pretrained and not self.path:
            raise ValueError(
                f"{key}.path is empty: give a folder written by save_pretrained or a hub name, e.g. "
                f"{key}.path=models/stable-diffusion-2-1-base"
            )
        if self.resolution < 8 or self.resolution % 8:
            raise ValueError(f"{key}.resolution={self.resolution}: must be a positive multiple of 8")


def is_hub_name(path: str) -> bool:
    """Whether `path` reads owner/model."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None


class EncoderName(enum.Enum):
    none = "none"
    mlp = "mlp"
    res_mlp = "res_mlp"
    res_mlp64 = "res_mlp64"
    res_3mlp = "res_3mlp"
    individual = "individual"
    per_au_tokens = "per_au_tokens"


OPTIONS: dict[EncoderName, tuple[str, ...]] = {
    EncoderName.none: (),
    EncoderName.mlp: ("hidden",),
    EncoderName.res_mlp: ("hidden",),
    EncoderName.res_mlp64: (),
    EncoderName.res_3mlp: (),
    EncoderName.individual: ("hidden", "sum_tokens"),
    EncoderName.per_au_tokens: ("hidden", "interaction_token", "learned_null", "sum_tokens"),
}
"""Keys of `EncoderConfig` that each encoder reads beside the name; others that are given beside it are refused."""


@dataclasses.dataclass
class EncoderConfig:
    """Which AU encoder, and its options. Each option says which encoders read it."""

    name: EncoderName = EncoderName.per_au_tokens
    """Kind of AU encoder (FineFace, arXiv 2407.20175, Table 2, and ours)."""
    hidden: int = 64
    """Width inside the MLPs of `mlp`, `res_mlp`, `individual` and of the interaction token."""
    interaction_token: bool = True
    """`per_au_tokens`: a 13th token from an MLP over all AUs."""
    learned_null: bool = False
    """`per_au_tokens`: a token of its own for each AU that nothing is said about; wants
    method.conditioning.au_dropout."""
    sum_tokens: bool = False
    """`individual`, `per_au_tokens`: sum the vectors into one token instead of keeping them apart (the paper does not
    say which of its own)."""

    def validate(self, key: str) -> None:
        if self.hidden < 1:
            raise ValueError(f"{key}.hidden={self.hidden}: must be at least 1")


class Trained(enum.Enum):
    """What of the base's UNet is trained, beside the AU encoder and the adapter's K and V, which always are where there
    are any."""

    nothing = "nothing"
    lora = "lora"
    everything = "everything"


@dataclasses.dataclass
class FinetuneConfig:
    """What of the base is trained, and how."""

    train: Trained = Trained.lora
    """What of the base's UNet is trained beside encoder and adapter."""
    base_rate: float = 0.1
    """Learning rate of the base's own weights, where they are trained, as a share of trainer.learning_rate."""
    lora_rank: int = 32
    """Rank of LoRA's two matrices."""
    lora_alpha: float = 32.0
    """The update is scaled by alpha / rank; stored in the bundle. Both paper presets use 8 (peft's default)."""
    adapter_scale: float = 1.0
    """lambda of equation 2."""
    adapter_keys: bool = True
    """Train the adapter's keys; false keeps them as copies of the text's (with one token they are dead either way)."""
    adapter_rate: float = 1.0
    """Learning rate of the adapter's keys and values as a share of trainer.learning_rate; the paper has one rate for
    all."""
    prior_weight: float = 0.0
    """Weight of DreamBooth's prior-preservation loss, on what the untrained base makes of `prior_prompt`; 0 trains
    without it."""
    prior_prompt: str = "a person"
    """Prompt of the images that DreamBooth's prior preservation is trained on."""
    prior_images: int = 200
    """Number of these images; the untrained base makes them once."""

    def validate(self, key: str) -> None:
        if self.lora_rank < 1:
            raise ValueError(
                f"{key}.lora_rank={self.lora_rank}: must be at least 1 (finetune=nothing trains without LoRA)"
            )
        if not 0 < self.base_rate < math.inf:
            raise ValueError(f"{key}.base_rate={self.base_rate}: must be positive")
        if not 0 < self.adapter_rate < math.inf:
            raise ValueError(f"{key}.adapter_rate={self.adapter_rate}: must be positive")
        if not 0 <= self.prior_weight < math.inf:
            raise ValueError(f"{key}.prior_weight={self.prior_weight}: must be 0 (no prior preservation) or more")
        if self.prior_images < 1:
            raise ValueError(f"{key}.prior_images={self.prior_images}: must be at least 1")
        if not 0 < self.lora_alpha < math.inf:
            raise ValueError(f"{key}.lora_alpha={self.lora_alpha}: must be positive")
        if not math.isfinite(self.adapter_scale):
            raise ValueError(f"{key}.adapter_scale={self.adapter_scale}: must be a number")


class Weighting(enum.Enum):
    """`none`: 1. `min_snr`: Min-SNR (arXiv 2303.09556). `snr_plus_one`: min(SNR + 1, gamma) on the error of the sample.

    All weights are stated for the error of x0 (the sample) and divided out for epsilon and v, whose unweighted loss
    weighs the error of x0 by SNR and SNR + 1. `none` leaves the error of what the base predicts as it is.
    """

    none = "none"
    min_snr = "min_snr"
    snr_plus_one = "snr_plus_one"


@dataclasses.dataclass
class ObjectiveConfig:
    """How the loss of each noise level is weighted."""

    weighting: Weighting = Weighting.none
    """Weight of the loss at each noise level."""
    gamma: float = 5.0
    """Upper limit of the weight on the error of the sample."""

    def validate(self, key: str) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"{key}.gamma={self.gamma}: must be positive")


class Negative(enum.Enum):
    """The AUs that guidance moves away from. `zero`: none, a neutral face, as in the paper; `no_control`: the base's
    own face, where the encoder knows it from a neutral one; `auto`: that where it does, else zero.
    """

    auto = "auto"
    zero = "zero"
    no_control = "no_control"


@dataclasses.dataclass
class SamplingConfig:
    """How images are drawn from the pipeline, everywhere: `generate`, `evaluate` and pictures during training."""

    steps: int = 25
    """Denoising steps of an image."""
    guidance: float = 3.0
    """Classifier-free guidance on the prompt; 1 is none."""
    au_guidance: float | None = None
    """How hard guidance pushes the AUs, from 1 (not at all: the prompt alone is guided) to `guidance`; null: as hard as
    the prompt. An adapter that overshoots is brought back by less. Guidance then moves away from a weaker request of
    the same AUs: by a third of the intensities asked for where `guidance` is 4 and this 3.
    """
    negative: Negative = Negative.auto
    """The AUs that guidance moves away from."""

    def validate(self, key: str) -> None:
        if not 1 <= self.steps <= 1000:
            raise ValueError(
                f"{key}.steps={self.steps}: must lie in 1..1000, the steps of Stable Diffusion's noise schedule"
            )
        if not 1 <= self.guidance < math.inf:
            raise ValueError(f"{key}.guidance={self.guidance}: must be at least 1 (1 is no guidance)")
        if self.au_guidance is None:
            return
        if not 1 <= self.au_guidance <= self.guidance:
            raise ValueError(
                f"{key}.au_guidance={self.au_guidance}: must lie in 1..{self.guidance:g} ({key}.guidance), or be null "
                f"for as much"
            )
        if self.negative is Negative.no_control:
            raise ValueError(
                f"{key}.au_guidance={self.au_guidance}: moves away from a weaker request of the same AUs, so "
                f"{key}.negative cannot be no_control"
            )


@dataclasses.dataclass
class Method(MethodConfig):
    """A latent diffusion base steered by AUs: how they enter it, and what of it is trained."""

    family: str = "fineface_train.methods.au_diffusion"
    """Import path of the family's package. method=NAME sets it."""
    base: BaseConfig = dataclasses.field(default_factory=BaseConfig)
    conditioning: ConditioningConfig = dataclasses.field(default_factory=ConditioningConfig)
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    finetune: FinetuneConfig = dataclasses.field(default_factory=FinetuneConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)

    asked: ClassVar[tuple[str, ...]] = ("base", "sampling")

    @property
    def trains(self) -> bool:
        """Whether there is anything to train: the base as it is, with AUs as text, is exported only."""
        return self.finetune.train is not Trained.nothing or self.conditioning.enters is not Entry.text

    @property
    def draws(self) -> Literal["toyfacs", "photographs"]:
        return "toyfacs" if self.base.prompts is PromptSet.toyfacs else "photographs"

    @property
    def short_name(self) -> str:
        """How AUs enter and what is trained."""
        if self.conditioning.enters is Entry.adapter:
            return self.encoder.name.value
        return f"{self.conditioning.enters.value}-{self.finetune.train.value}"

    @property
    def source(self) -> str:
        return f"base={self.base.name}"

    def locate(self) -> None:
        self.base.path, self.base.tokenizer = found(self.base.path), found(self.base.tokenizer) or ""

    def validate(self, key: str) -> None:
        for name in ("base", "conditioning", "encoder", "finetune", "objective", "sampling"):
            getattr(self, name).validate(f"{key}.{name}")
        reads_null = "learned_null" in OPTIONS[self.encoder.name] and self.conditioning.enters is not Entry.text
        if self.encoder.learned_null and reads_null and not self.conditioning.au_dropout:
            raise ValueError(
                f"{key}.encoder.learned_null=true: learns from examples whose AUs are hidden, and there are none; set "
                f"{key}.conditioning.au_dropout, e.g. 0.1"
            )

    def unused(self) -> dict[str, str]:
        finetune, entry = self.finetune, self.conditioning.enters
        enters = f"method.conditioning.enters={entry.value}"
        trained = f"method.finetune.train={finetune.train.value}"
        unused = {
            "conditioning.au_text": enters if entry is not Entry.text else None,
            **dict.fromkeys(
                ("conditioning.caption_dropout", "conditioning.au_dropout"),
                None if self.trains else f"{enters} and {trained}",
            ),
            "finetune.base_rate": trained if finetune.train is not Trained.everything else None,
            **dict.fromkeys(
                [f"finetune.adapter_{one}" for one in ("scale", "keys", "rate")],
                enters if entry is not Entry.adapter else None,
            ),
            **dict.fromkeys(
                ("finetune.lora_rank", "finetune.lora_alpha"), trained if finetune.train is not Trained.lora else None
            ),
            **dict.fromkeys(
                ("finetune.prior_prompt", "finetune.prior_images"),
                "method.finetune.prior_weight=0" if not finetune.prior_weight else None,
            ),
            "encoder": enters if entry is Entry.text else None,
        }
        return {key: why for key, why in unused.items() if why}

    def idle(self) -> dict[str, str]:
        encoder, options = f"method.encoder.name={self.encoder.name.value}", OPTIONS[self.encoder.name]
        untrained = "method.conditioning.enters=text and method.finetune.train=nothing, where nothing is trained"
        pretrained = self.base.architecture is Architecture.pretrained
        architecture = f"method.base.architecture={self.base.architecture.value}"
        rules: list[tuple[bool, str, tuple[str, ...]]] = [
            (True, encoder, _others("method.encoder", self.encoder, ("name", *options))),
            (
                "interaction_token" in options and not self.encoder.interaction_token,
                f"{encoder} method.encoder.interaction_token=false",
                ("method.encoder.hidden",),
            ),
            (
                self.objective.weighting is Weighting.none,
                "method.objective.weighting=none",
                ("method.objective.gamma",),
            ),
            (
                self.conditioning.enters is Entry.text,
                "method.conditioning.enters=text, which says the labels as they are",
                ("labels",),
            ),
            (
                not self.trains,
                untrained,
                ("image_transform", *AUGMENTATION, "method.objective", "method.finetune.prior_weight"),
            ),
            (self.sampling.guidance == 1, "method.sampling.guidance=1", ("method.sampling.negative",)),
            (pretrained, architecture, ("method.base.tokenizer",)),
            (not pretrained, architecture, ("method.base.path", "method.base.revision")),
        ]
        return super().idle() | {key: why for applies, why, keys in rules if applies for key in keys}


def _others(prefix: str, config: Any, kept: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of a part of the config but for `kept`."""
    return tuple(f"{prefix}.{field.name}" for field in dataclasses.fields(config) if field.name not in kept)
