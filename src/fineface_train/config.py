"""One typed config for all verbs: composed by Hydra from configs/, validated by the dataclasses beside each component."""

import contextlib
import dataclasses
import difflib
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from fineface_train.data.cache import ImageTransform
from fineface_train.data.conditioning import ConditioningConfig
from fineface_train.data.labels import LabelsConfig
from fineface_train.data.prepare import DataConfig
from fineface_train.evaluation.judges import JudgeConfig, JudgeKind
from fineface_train.evaluation.protocol import ProtocolName
from fineface_train.files import check_name, check_utf8, flat, plain
from fineface_train.methods.au_diffusion.adapter import FinetuneConfig
from fineface_train.methods.au_diffusion.base import BaseConfig, PromptSet
from fineface_train.methods.au_diffusion.encoders import EncoderConfig
from fineface_train.methods.au_diffusion.generate import SamplingConfig
from fineface_train.methods.au_diffusion.objective import ObjectiveConfig
from fineface_train.runs import RunConfig
from fineface_train.tracking import TrackingConfig
from fineface_train.trainer import TrainerConfig

TEXT_KEYS = ("prompt", "aus", "out", "bundle")
PATH_KEYS = re.compile(r".*\.(root|path|tokenizer|images|labels|captions|metadata|videos|folder|weights|model|clip|correction|image_pattern|video_pattern)")
"""Values of these may hold what Hydra reads as a list or a dictionary: commas, brackets, equal signs."""
REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"


@dataclasses.dataclass
class EvaluationConfig:
    batch_size: int = 32
    """Images generated at once; changes nothing but speed and memory."""
    after_training: bool = True
    """Evaluate and write the report when training ends."""
    every: int = 0
    """Steps between two looks while training goes on (protocol `glance`: 50 images), as curves in metrics.jsonl and wandb; 0 for none."""
    validation_every: int | None = None
    """Steps between two looks at the error on 128 examples of images held out of training (split "validation"), and one at the end; 0 for none;
    null: 500 where judge=none leaves nothing else to go by, else none."""
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
        if self.validation_every is not None and self.validation_every < 0:
            raise ValueError(f"{key}.validation_every={self.validation_every}: must not be negative (0 for none)")
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
    out: str | None = None


def load_config(overrides: list[str]) -> Config:
    """Compose and validate; raises ValueError that names the key, the value and what is allowed."""
    register_schema()
    try:
        with _configs():
            node = compose("config", overrides=[quoted(override) for override in overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_explain(error)) from error
    return typed(node)


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


def key_of(override: str) -> str:
    """The key of "key=value", without Hydra's signs."""
    return override.partition("=")[0].lstrip("+~")


def sweep_parameters(overrides: list[str]) -> dict[str, str]:
    """What the named sweep among the overrides (sweep=table1), if any, varies: its keys, and their values with commas between."""
    register_schema()
    named = [quoted(override) for override in overrides if key_of(override) == "sweep"]
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return dict(compose("config", overrides=named, return_hydra_config=True).hydra.sweeper.params or {})
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_explain(error)) from error


def combinations(overrides: list[str]) -> list[list[str]]:
    """The overrides of every arm of a sweep: all combinations where one has several values (a,b, or a function such as range(3)).

    Raises ValueError for what cannot be read.
    """
    parser = OverridesParser.create()
    values = []
    for override in overrides:
        try:
            parsed = parser.parse_override(quoted(override))
            if not parsed.is_sweep_override():
                values.append([override])
                continue
            swept = parsed.value()
            each = swept.filter(choices(parsed.key_or_group)) if isinstance(swept, Glob) else parsed.sweep_string_iterator()
            values.append([f"{parsed.get_key_element()}={value}" for value in each])
        except HydraException as error:
            raise ValueError(_unreadable(override)) from error
    return [list(arm) for arm in itertools.product(*values)]


def multirun(overrides: list[str], folder: Path, arm: Callable[[int, DictConfig], None]) -> None:
    """Have Hydra's launcher call `arm` for every combination of the swept values: its number from 0, its config (see `typed`)."""
    register_schema()

    def job(node: DictConfig) -> None:
        arm(HydraConfig.get().job.num, node)

    quiet = ("hydra/job_logging=none", "hydra/hydra_logging=none", f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=.", "hydra.sweeper.params=null")
    before, sys.argv = sys.argv, [sys.argv[0], "--multirun", *quiet, *(quoted(override) for override in overrides)]
    try:
        hydra.main(config_path=str(CONFIGS), config_name="config", version_base="1.3")(job)()
    finally:
        sys.argv = before


def typed(node: DictConfig) -> Config:
    """What Hydra composed as validated dataclasses; raises ValueError as `load_config` does."""
    try:
        config = OmegaConf.to_object(node)
    except OmegaConfBaseException as error:
        raise ValueError(_explain(error)) from error
    assert isinstance(config, Config)
    config.base.path, config.base.tokenizer = found(config.base.path), found(config.base.tokenizer) or ""
    for name in ("one", "two", "attributes", "clip"):
        setattr(config.judge, name, found(getattr(config.judge, name)))
    config.bundle = found(config.bundle)
    validate(config)
    return config


def found(path: str | None) -> str | None:
    """What is shipped is found from any working directory: a path that is not there is looked for beside configs/."""
    if path and not Path(path).exists() and (REPOSITORY / path).exists():
        return str(REPOSITORY / path)
    return path


def quoted(override: str) -> str:
    """Free text as Hydra wants it, so that prompt="a man, smiling" and aus="AU12=5,AU6=2.5" need no quotes within quotes; sweep=table1 as +sweep=table1."""
    key, equals, value = override.partition("=")
    if key == "sweep":
        key = "+sweep"
        override = f"{key}={value}"
    if not re.fullmatch(r"\+{0,2}[\w./@]+", key) if equals else not override.startswith("~"):
        raise ValueError(f"{override!r} cannot be read; write key=value, such as seed=1 or trainer.steps=500")
    added = key.lstrip("+")
    if key != added and added not in _known_keys() and not added.startswith("hydra") and not (CONFIGS / added.split("@")[0]).is_dir():
        raise ValueError(_unknown_key(added))  # with a + Hydra would add it, and nothing would read it
    if not (key in TEXT_KEYS or PATH_KEYS.fullmatch(key)) or not equals or value in ("", "null") or value[0] in "\"'":
        return override
    if value.startswith("~"):
        value = os.path.expanduser(value)
    return key + '="' + value.replace('"', '\\"') + '"'


def validate(config: Config) -> None:
    """Check every component's values and those of the root."""
    for key, value in flat(plain(config)):
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                check_utf8(key, text)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if hasattr(value, "validate"):
            value.validate(field.name)
    if config.evaluation.wanted and config.judge.kind is JudgeKind.toyfacs and config.base.prompts is not PromptSet.toyfacs:
        remedy = "choose judge=none, or evaluation.after_training=false" + (" evaluation.every=0" if config.evaluation.every else "")
        raise ValueError(f"judge=toyfacs reads drawn faces, which base={config.base.name} does not make; {remedy}")
    if config.encoder.learned_null and not config.conditioning.au_dropout:
        raise ValueError("encoder.learned_null=true: learns from examples whose AUs are hidden, and there are none; set conditioning.au_dropout, e.g. 0.1")
    if config.evaluation.every and config.judge.kind is JudgeKind.none:
        raise ValueError(f"evaluation.every={config.evaluation.every}: judge=none measures nothing; choose a judge, or evaluation.every=0")
    if config.protocol not in (ProtocolName.quick, ProtocolName.paper):
        raise ValueError(
            f"protocol={config.protocol.value}: no evaluation (evaluation.every=STEPS glances, `fineface calibrate` calibrates); choose quick or paper"
        )
    if config.scale is not None and not math.isfinite(config.scale):
        raise ValueError(f"scale={config.scale}: must be a number, or null for the bundle's own")
    if config.n < 1:
        raise ValueError(f"n={config.n}: must be at least 1")
    if config.columns < 2:
        raise ValueError(f"columns={config.columns}: a range has at least 2 pictures, its start and its end")
    if config.frames < 0 or config.frames == 1:
        raise ValueError(f"frames={config.frames}: an animation has at least 2 pictures; 0 for none")
    check_seed("seed", config.seed)
    for key, folder in (("run.root", config.run.root), ("data.root", config.data.root), ("out", config.out)):
        if folder is not None:
            _check_folder(key, folder)


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
        or_picture = ", or for `fineface generate` the name of a picture that is not there yet; nothing is overwritten" if key == "out" else ""
        raise ValueError(f"{key}={folder}: {file} is a file; give a folder{or_picture}")


def to_yaml(config: Config) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(plain(config)))


def choices(group: str) -> list[str]:
    """The names in a config group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _known_keys(kind: type = Config, prefix: str = "") -> list[str]:
    keys = []
    for field in dataclasses.fields(kind):
        keys.append(prefix + field.name)
        for part in (field.type, *get_args(field.type)):  # the parts of X | None
            if dataclasses.is_dataclass(part) and isinstance(part, type):
                keys += _known_keys(part, f"{prefix}{field.name}.")
    return keys


def _explain(error: Exception) -> str:
    """One line that names the key, the value and what is allowed, from what Hydra and OmegaConf say in several."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    missing = re.search(r"Could not find '([^/']+)/([^']+)'", text)
    if missing:
        group, name = missing.groups()
        near = difflib.get_close_matches(name, choices(group), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{group}={name}: no such choice; there are {', '.join(choices(group)) or 'none'}{hint}"
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' (?:is not in struct|not in)", text)
    cause: BaseException = error.__cause__ or error
    if unknown and not isinstance(cause, ValidationError):
        return _unknown_key(getattr(cause, "full_key", None) or unknown[1])
    reason = str(cause).split("\n")[0]
    key = getattr(cause, "full_key", None)
    return f"{key}: {reason}" if key else " ".join(line.strip() for line in text.split("\n") if line.strip())


def _unreadable(override: str) -> str:
    return f"{override!r} cannot be read; put text with signs in quotes within quotes, such as 'run.name=\"a-b\"'"


def _unknown_key(key: str) -> str:
    near = difflib.get_close_matches(key, _known_keys(), n=1)
    return f"{key}: no such config key" + (f"; did you mean {near[0]}?" if near else "; `fineface train --help` lists them")
