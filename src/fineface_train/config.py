"""The config of all verbs, as plain dataclasses. `compose.py` has Hydra fill them in, from configs/ and the command
line.

Imports no torch, so that a wrong key or value is refused at once.
"""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fineface_train.data.config import DataConfig, ImageTransform, Split
from fineface_train.data.labels import LabelsConfig
from fineface_train.evaluation.config import EvaluationConfig, ProtocolName
from fineface_train.evaluation.judges.config import READS as JUDGES_READ
from fineface_train.evaluation.judges.config import JudgeConfig, JudgeKind
from fineface_train.files import check_name, check_seed, check_utf8, flat, plain
from fineface_train.loop.config import TrainerConfig
from fineface_train.loop.runs import RunConfig
from fineface_train.loop.tracking import TrackingConfig
from fineface_train.methods.config import MethodConfig
from fineface_train.places import found
from fineface_train.reads import TRAINING_VERBS, is_read

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
"""What names of pictures end in: of `generate`, an `out` that ends so is meant as one."""
FILES = (
    *PICTURES,
    ".svg",
    ".html",
    ".md",
    ".json",
    ".jsonl",
    ".csv",
    ".parquet",
    ".yaml",
    ".txt",
    ".pdf",
    ".safetensors",
)
"""What names of files end in, which folders are not called."""


@dataclasses.dataclass
class ComparisonConfig:
    """What a sweep is called, and what its arms are compared with."""

    name: str | None = None
    """Set by sweep=NAME; the sweep's records lie in run.root/sweeps/NAME."""
    reference: str | None = None
    """An arm, such as encoder=res_mlp64; default: the first."""

    def validate(self, key: str) -> None:
        if self.name is not None:
            check_name(f"{key}.name", self.name)


@dataclasses.dataclass
class TrainingConfig:
    """What a training reads, and what config.yaml of a run holds."""

    seed: int = 0
    """Chooses new weights, and every example's row, noise and timestep."""
    experiment: str | None = None
    """Name of the experiment; set by experiment=NAME."""
    method: Any = dataclasses.field(default_factory=MethodConfig)
    """The settings of the chosen family (`methods.config.MethodConfig`): method=NAME chooses it."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    image_transform: ImageTransform = ImageTransform.crop
    """How an image becomes square: its centre (crop), or all of it, narrower (squash, as the published code does)."""
    labels: LabelsConfig = dataclasses.field(default_factory=LabelsConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    judge: JudgeConfig = dataclasses.field(default_factory=JudgeConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = dataclasses.field(default_factory=TrackingConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    protocol: ProtocolName = ProtocolName.quick
    """Which images an evaluation makes: quick (265) or paper (1,650)."""
    scale: float | None = None
    """Adapter scale (lambda of equation 2) for images; null takes the bundle's."""


@dataclasses.dataclass
class Config(TrainingConfig):
    """A training's config, and what the other verbs read beside it."""

    comparison: ComparisonConfig = dataclasses.field(default_factory=ComparisonConfig)
    bundle: str | None = None
    """Folder of a trained adapter: bundle/ of a run."""
    any_base: bool = False
    """Accept a bundle trained on a base with other weights of the same shape."""
    calibrated: bool = False
    """Ask for what makes the judge measure the wanted AUs, as `fineface calibrate` has found for the bundle."""
    out: str | None = None
    """Folder to write to, or to report on."""


@dataclasses.dataclass
class GenerateConfig(Config):
    """What `generate` reads beside."""

    prompt: str | None = None
    """What to draw, in words."""
    aus: str = ""
    """The wanted AUs, such as AU12=5,AU6=2.5, or a range such as AU12=0..5; empty is a neutral face."""
    n: int = 1
    """Number of faces, with the seeds seed, seed+1, ..."""
    columns: int = 6
    """Pictures in a row of the sheet that is drawn of a range (aus="AU12=0..5")."""
    frames: int = 21
    """Pictures of its animation, from the range's start to its end; 0 for none."""
    beside_base: bool = False
    """Draw beside it the base's own picture of the same prompt and noise, without adapter and AUs."""


@dataclasses.dataclass
class PicturesConfig(Config):
    """What `judge` reads beside."""

    images: str | None = None
    """Folder of the pictures, which any program made."""
    requests: str | None = None
    """CSV file with a row for each picture: file, unit, the AUs asked for, and more (docs/judging.md)."""
    split: Split | None = None
    """Without pictures: whose labelled images the judge reads; null: test where there are such, else validation."""


@dataclasses.dataclass
class EveryConfig(GenerateConfig, PicturesConfig):
    """The config that has every key."""


EVERYTHING = EveryConfig
VERB_CONFIGS: dict[str | None, type[Config]] = {None: EveryConfig, "generate": GenerateConfig, "judge": PicturesConfig}
"""The config of a verb that reads more than `Config` has."""


def config_of(verb: str | None) -> type[Config]:
    """The config that the verb reads; for None, that which has every key."""
    return VERB_CONFIGS.get(verb, Config)


def with_method(config: type[Config], method: type[MethodConfig], family: str) -> type[Config]:
    """The class `config` whose `method` is that of the `family`."""
    field: Any = dataclasses.field(default_factory=functools.partial(method, family=family))
    return dataclasses.make_dataclass(config.__name__, [("method", method, field)], bases=(config,))


def training_values(config: TrainingConfig) -> dict[str, Any]:
    """What a training reads, as the types that JSON and YAML know."""
    return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(TrainingConfig)}


def to_yaml(config: TrainingConfig) -> str:
    """The text of a run's config.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(training_values(config)))


def locate(config: Config) -> None:
    """Make paths of what is shipped hold from any working directory."""
    config.method.locate()
    for name in ("one", "two", "attributes", "clip"):
        setattr(config.judge, name, found(getattr(config.judge, name)))
    config.bundle = found(config.bundle)


def validate(config: Config, verb: str | None = None) -> None:
    """Check every component's values, those of the root, and, as far as the verb reads them, how they go together.

    Raises ValueError that names the key, its value and what is allowed.
    """
    for key, value in flat(plain(config)):
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                check_utf8(key, text)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if hasattr(value, "validate"):
            value.validate(field.name)
    for key, value in flat(plain(config)):
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{key}={value}: must be a number, neither infinite nor none at all (nan)")
    if config.protocol not in (ProtocolName.quick, ProtocolName.paper):
        raise ValueError(
            f"protocol={config.protocol.value}: no evaluation (evaluation.every=STEPS glances, `fineface calibrate` "
            f"calibrates); choose quick or paper"
        )
    if isinstance(config, GenerateConfig):
        _check_pictures(config)
    check_seed("seed", config.seed)
    config.trainer.check_looks("trainer", config.evaluation.every)
    if verb is None or is_read("judge", verb):
        _check_judge(config, verb)
    for key, folder in (("run.root", config.run.root), ("data.root", config.data.root), ("out", config.out)):
        if folder is not None:
            _check_folder(key, folder)
            files = [ending for ending in FILES if (key, verb) != ("out", "generate") or ending not in PICTURES]
            if Path(folder).suffix.lower() in files and not Path(folder).is_dir():
                raise ValueError(
                    f"{key}={folder}: reads like a file's name; give a folder, such as "
                    f"{key}={Path(folder).with_suffix('')}"
                )


def _check_pictures(config: GenerateConfig) -> None:
    if config.n < 1:
        raise ValueError(f"n={config.n}: must be at least 1")
    if config.columns < 2:
        raise ValueError(f"columns={config.columns}: a range has at least 2 pictures, its start and its end")
    if config.frames < 0 or config.frames == 1:
        raise ValueError(f"frames={config.frames}: an animation has at least 2 pictures; 0 for none")


def _check_judge(config: Config, verb: str | None) -> None:
    """Raises ValueError where the judge cannot look at what the method draws."""
    kind, training = config.judge.kind, verb is None or verb in TRAINING_VERBS
    drawn_only = JUDGES_READ[kind].drawn_only
    if drawn_only and config.method.draws != "toyfacs" and (config.evaluation.wanted or not training):
        remedy = (
            "choose judge=none (pictures and a page, no numbers), or judge=libreface (docs/annotation.md says "
            "what it needs)"
        )
        if training:
            remedy += ", or evaluation.after_training=false" + (
                " evaluation.every=0" if config.evaluation.every else ""
            )
        raise ValueError(f"judge={kind.value} reads drawn faces, which {config.method.source} does not make; {remedy}")
    if training and config.evaluation.every and kind is JudgeKind.none:
        raise ValueError(
            f"evaluation.every={config.evaluation.every}: judge=none measures nothing; choose a judge, or "
            f"evaluation.every=0"
        )


def _check_folder(key: str, folder: str) -> None:
    """Raises ValueError where `folder` cannot be one, since it or what it lies in is a file."""
    if not folder.strip():
        raise ValueError(f"{key} is empty: give a folder, such as {key}=outputs")
    check_utf8(key, str(Path(folder).absolute()))
    file = next((path for path in (Path(folder), *Path(folder).parents) if path.is_file()), None)
    if file is not None:
        or_picture = (
            ", or for `fineface generate` the name of a picture that is not there yet; nothing is overwritten"
            if key == "out"
            else ""
        )
        raise ValueError(f"{key}={folder}: {file} is a file; give a folder{or_picture}")
    if "${" in folder:
        raise ValueError(
            f"{key}={folder}: ${{...}} is not replaced on the command line; leave that to the shell: "
            f'{key}="$HOME/outputs"'
        )
