"""One typed config for all verbs: composed by Hydra from configs/, validated by the dataclasses beside each
component."""

import contextlib
import dataclasses
import itertools
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from fineface_train.data.cache import ImageTransform
from fineface_train.data.conditioning import ConditioningConfig, Entry
from fineface_train.data.config import DataConfig, Split
from fineface_train.data.labels import LabelsConfig
from fineface_train.evaluation.judges.judges import JUDGES, JudgeConfig, JudgeKind
from fineface_train.evaluation.plan import ProtocolName
from fineface_train.files import check_name, check_utf8, flat, plain
from fineface_train.loop.config import TrainerConfig
from fineface_train.loop.runs import RunConfig
from fineface_train.loop.tracking import TrackingConfig
from fineface_train.methods.au_diffusion.adapter import FinetuneConfig
from fineface_train.methods.au_diffusion.base import BaseConfig, PromptSet
from fineface_train.methods.au_diffusion.encoders import ENCODERS, EncoderConfig
from fineface_train.methods.au_diffusion.generate import SamplingConfig
from fineface_train.methods.au_diffusion.objective import ObjectiveConfig
from fineface_train.overrides import (
    CONFIGS,
    REPOSITORY,
    Kind,
    Override,
    check_choice,
    choices,
    no_such_choice,
    read_overrides,
    unknown_key,
    unreadable,
    unshielded,
)
from fineface_train.reads import TRAINING_VERBS, check_given, check_verb, is_read

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
class EvaluationConfig:
    batch_size: int = 32
    """Images generated at once; changes nothing but speed and memory."""
    after_training: bool = True
    """Evaluate and write the report when training ends."""
    every: int = 0
    """Steps between two looks while training goes on (protocol `glance`: 50 images), as curves in metrics.jsonl and
    wandb; 0 for none."""
    seed: int = 1000
    """Starting noise of prompt k comes from seed + k; the noise of validation too."""

    @property
    def wanted(self) -> bool:
        """Whether a training asks the judges, while it goes on or at its end."""
        return self.after_training or self.every > 0

    def validate(self, key: str) -> None:
        if self.batch_size < 1:
            raise ValueError(f"{key}.batch_size={self.batch_size}: must be at least 1")
        if self.every < 0:
            raise ValueError(f"{key}.every={self.every}: must not be negative")
        check_seed(f"{key}.seed", self.seed)


@dataclasses.dataclass
class ComparisonConfig:
    """Of a sweep: what it is called, and what its arms are compared with."""

    name: str | None = None
    reference: str | None = None
    """An arm, such as encoder=res_mlp64; default: the first."""

    def validate(self, key: str) -> None:
        if self.name is not None:
            check_name(f"{key}.name", self.name)


@dataclasses.dataclass
class Config:
    """Everything a verb may need. Groups first, then what single verbs read."""

    seed: int = 0
    experiment: str | None = None
    base: BaseConfig = dataclasses.field(default_factory=BaseConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    image_transform: ImageTransform = ImageTransform.crop
    labels: LabelsConfig = dataclasses.field(default_factory=LabelsConfig)
    conditioning: ConditioningConfig = dataclasses.field(default_factory=ConditioningConfig)
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    finetune: FinetuneConfig = dataclasses.field(default_factory=FinetuneConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    judge: JudgeConfig = dataclasses.field(default_factory=JudgeConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = dataclasses.field(default_factory=TrackingConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    comparison: ComparisonConfig = dataclasses.field(default_factory=ComparisonConfig)
    protocol: ProtocolName = ProtocolName.quick
    bundle: str | None = None
    any_base: bool = False
    """Accept a bundle trained on a base with other weights of the same shape."""
    prompt: str | None = None
    aus: str = ""
    n: int = 1
    scale: float | None = None
    """Adapter scale (lambda of equation 2) for images; null takes the bundle's."""
    calibrated: bool = False
    """Ask for what makes the judge measure the wanted AUs, as `fineface calibrate` has found for the bundle."""
    columns: int = 6
    """Pictures in a row of the sheet that `generate` draws of a range (aus="AU12=0..5")."""
    frames: int = 21
    """Pictures of its animation, from the range's start to its end; 0 for none."""
    beside_base: bool = False
    """`generate`: beside, the base's own picture of the same prompt and noise, without adapter and AUs."""
    images: str | None = None
    """`judge`: the folder of the pictures, which any program made."""
    requests: str | None = None
    """`judge`: a CSV file with a row for each picture: file, unit, the AUs asked for, and more (docs/judging.md)."""
    split: Split | None = None
    """`judge` of labelled data: whose images are read; null: test where there are such, else validation."""
    out: str | None = None


def load_config(arguments: list[str], verb: str | None = None) -> Config:
    """Compose and validate what stands on the command line (of `verb`: what it does not read is refused, see `reads`).

    Raises ValueError that names the key, the value and what is allowed.
    """
    overrides = read_overrides(arguments, Config)
    if verb is not None:
        check_verb(overrides, verb)
    for override in overrides:
        check_choice(override)
    register_schema()
    config = typed(_composed(overrides), verb)
    if verb is not None:
        check_given(overrides, verb, [config])
    return config


def _composed(overrides: list[Override]) -> DictConfig:
    try:
        with _configs():
            try:
                return compose("config", overrides=[override.for_hydra() for override in overrides])
            except AssertionError:  # Hydra's, where a key lies below one that is null; told by name
                chosen = compose(
                    "config", overrides=[override.for_hydra() for override in overrides if override.kind is Kind.group]
                )
                raise ValueError(_below_nothing(overrides, chosen)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_explain(error)) from error


def _below_nothing(overrides: list[Override], chosen: DictConfig) -> str:
    for override in overrides:
        holder = override.key.rpartition(".")[0]
        if override.kind is not Kind.group and holder and OmegaConf.select(chosen, holder) is None:
            group = holder.partition(".")[0]
            others = f"choose another {group}=NAME ({', '.join(choices(group))})" if choices(group) else f"set {holder}"
            return f"{override}: {holder} is null here, so that nothing reads this; {others}, or leave it out"
    raise AssertionError("Hydra refused overrides that all have their place")


@contextlib.contextmanager
def _configs() -> Iterator[None]:
    """Inside, Hydra composes from configs/; also within a sweep's arm, while Hydra itself is at work."""
    before, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def register_schema() -> None:
    """Make the dataclasses known to Hydra, as what config.yaml fills in."""
    if not CONFIGS.is_dir():
        raise ValueError(f"no configs in {CONFIGS}: install the project from its checkout with `pip install -e .`")
    ConfigStore.instance().store(name="schema", node=Config)


def sweep_parameters(arguments: list[str]) -> dict[str, str]:
    """What the named sweep among the overrides (sweep=table1), if any, varies: its keys, and their values with commas
    between."""
    register_schema()
    named = [override.for_hydra() for override in read_overrides(arguments, Config) if override.key == "sweep"]
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return dict(compose("config", overrides=named, return_hydra_config=True).hydra.sweeper.params or {})
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_explain(error)) from error


def combinations(arguments: list[str]) -> list[list[str]]:
    """The overrides of every arm of a sweep: all combinations where one has several values (a,b, or a function such as
    range(3)).

    Raises ValueError for what cannot be read.
    """
    values = [
        [f"{override.key}={value}" for value in override.values()] for override in read_overrides(arguments, Config)
    ]
    return [list(arm) for arm in itertools.product(*values)]


def multirun(arguments: list[str], folder: Path, arm: Callable[[int, DictConfig], None]) -> None:
    """Have Hydra's launcher call `arm` for every combination of the swept values: its number from 0, its config (see
    `typed`)."""
    register_schema()

    def job(node: DictConfig) -> None:
        arm(HydraConfig.get().job.num, node)

    quiet = (
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        f'hydra.sweep.dir="{folder}"',
        "hydra.sweep.subdir=.",
    )
    swept = [override.for_hydra(swept=True) for override in read_overrides(arguments, Config)]
    before, sys.argv = sys.argv, [sys.argv[0], "--multirun", *quiet, "hydra.sweeper.params=null", *swept]
    try:
        hydra.main(config_path=str(CONFIGS), config_name="config", version_base="1.3")(job)()
    finally:
        sys.argv = before


def typed(node: DictConfig, verb: str | None = None) -> Config:
    """What Hydra composed as validated dataclasses; raises ValueError as `load_config` does."""
    try:
        config = unshielded(OmegaConf.to_object(node))
    except OmegaConfBaseException as error:
        raise ValueError(_explain(error)) from error
    assert isinstance(config, Config)
    config.base.path, config.base.tokenizer = found(config.base.path), found(config.base.tokenizer) or ""
    for name in ("one", "two", "attributes", "clip"):
        setattr(config.judge, name, found(getattr(config.judge, name)))
    config.bundle = found(config.bundle)
    validate(config, verb)
    return config


def found(path: str | None) -> str | None:
    """What is shipped is found from any working directory: a path that is not there is looked for beside configs/."""
    if path and not Path(path).exists() and (REPOSITORY / path).exists():
        return str(REPOSITORY / path)
    return path


def validate(config: Config, verb: str | None = None) -> None:
    """Check every component's values, those of the root, and, as far as the verb reads them, how they go together."""
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
    reads_null = (
        "learned_null" in ENCODERS[config.encoder.name].options and config.conditioning.enters is not Entry.text
    )
    if config.encoder.learned_null and reads_null and not config.conditioning.au_dropout:
        raise ValueError(
            "encoder.learned_null=true: learns from examples whose AUs are hidden, and there are none; set "
            "conditioning.au_dropout, e.g. 0.1"
        )
    if config.protocol not in (ProtocolName.quick, ProtocolName.paper):
        raise ValueError(
            f"protocol={config.protocol.value}: no evaluation (evaluation.every=STEPS glances, `fineface calibrate` "
            f"calibrates); choose quick or paper"
        )
    if config.n < 1:
        raise ValueError(f"n={config.n}: must be at least 1")
    if config.columns < 2:
        raise ValueError(f"columns={config.columns}: a range has at least 2 pictures, its start and its end")
    if config.frames < 0 or config.frames == 1:
        raise ValueError(f"frames={config.frames}: an animation has at least 2 pictures; 0 for none")
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


def _check_judge(config: Config, verb: str | None) -> None:
    """Raises ValueError where the judge cannot look at what the base makes."""
    kind, looks, training = config.judge.kind, JUDGES[config.judge.kind], verb is None or verb in TRAINING_VERBS
    if looks.drawn_only and config.base.prompts is not PromptSet.toyfacs and (config.evaluation.wanted or not training):
        remedy = (
            "choose judge=none (pictures and a page, no numbers), or judge=libreface (docs/annotation.md says "
            "what it needs)"
        )
        if training:
            remedy += ", or evaluation.after_training=false" + (
                " evaluation.every=0" if config.evaluation.every else ""
            )
        raise ValueError(f"judge={kind.value} reads drawn faces, which base={config.base.name} does not make; {remedy}")
    if training and config.evaluation.every and kind is JudgeKind.none:
        raise ValueError(
            f"evaluation.every={config.evaluation.every}: judge=none measures nothing; choose a judge, or "
            f"evaluation.every=0"
        )


def check_seed(key: str, seed: int) -> None:
    """Raises ValueError for what no random generator takes; a run adds small numbers to its seed."""
    if not 0 <= seed < 2**62:
        raise ValueError(f"{key}={seed}: must lie in 0..2^62")


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


def to_yaml(config: Config) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(plain(config)))


def _explain(error: Exception) -> str:
    """One line that names the key, the value and what is allowed, from what Hydra and OmegaConf say in several."""
    text = unshielded(str(error))
    if isinstance(error, OverrideParseException):
        return unreadable(unshielded(error.override))
    several = re.search(r"Ambiguous value for argument '(.*)'\s+1\. To use it as a list", text, re.DOTALL)
    if several:
        return (
            f"{several[1]}: are several values, which only a sweep takes (fineface train -m {several[1]} ...); give one"
        )
    missing = re.search(r"Could not find '([^/']+)/([^']+)'", text)
    if missing:
        return no_such_choice(*missing.groups())
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Key '([^']+)' (?:is not in struct|not in)", text
    )
    cause: BaseException = error.__cause__ or error
    if unknown and not isinstance(cause, ValidationError):
        return unknown_key(getattr(cause, "full_key", None) or unknown[1], Config)
    reason = unshielded(str(cause)).split("\n")[0]
    key = getattr(cause, "full_key", None)
    if re.fullmatch(r"field '[\w.]+' is not Optional", reason):
        return f"{key}=null: must have a value; leave {key} out for its default"
    return f"{key}: {reason}" if key else " ".join(line.strip() for line in text.split("\n") if line.strip())
