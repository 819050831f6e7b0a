"""From the command line to the typed config: Hydra composes configs/, the dataclasses say what is allowed.

Which keys stand below `method` depends on the family that method=NAME chooses. So everything is composed twice: first
the groups alone, which tells the family; then all of it, with the family's dataclass as the type of `method`.
"""

import dataclasses
import functools
import importlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fineface_train.config import EVERYTHING, Config, config_of, locate, validate, with_method
from fineface_train.hydra_calls import MAIN, compose_node, explain
from fineface_train.methods.config import MethodConfig
from fineface_train.overrides import (
    SEARCHPATH,
    Kind,
    Override,
    check_choice,
    choices,
    config_folders,
    key_of,
    read_groups,
    read_overrides,
    unshielded,
)
from fineface_train.places import CONFIGS
from fineface_train.reads import check_given, check_verb

CHOOSING = ("method", "experiment", "sweep")
"""Groups that may choose the family."""


@dataclasses.dataclass(frozen=True)
class Family:
    """What the chosen family makes of the config."""

    name: str
    """Import path of its package."""
    method: type[MethodConfig]
    """The type of `config.method`."""
    left_out: tuple[str, ...]
    """Groups of configs/config.yaml that are another family's."""

    def schema(self, config: type[Config] = EVERYTHING) -> type[Config]:
        """The class `config`, by default that with every key, whose `method` is this family's."""
        return with_method(config, self.method, self.name)


def load_config(arguments: list[str], verb: str | None = None) -> Config:
    """Compose and validate what stands on the command line (of `verb`: what it does not read is refused, see `reads`).

    Raises ValueError that names the key, the value and what is allowed.
    """
    config, overrides = _typed_config(arguments, verb)
    validate(config, verb)
    if verb is not None:
        check_given(overrides, verb, [config])
    return config


def unchecked_config(arguments: list[str]) -> Config:
    """The config with every key, as its parts have it by themselves: of choices that do not go together too."""
    return _typed_config(arguments, None)[0]


def _typed_config(arguments: list[str], verb: str | None) -> tuple[Config, list[Override]]:
    folders = config_folders(arguments)
    family = chosen_family(arguments, folders)
    overrides = read_overrides(arguments, [family.schema()], folders)
    if verb is not None:
        check_verb(overrides, verb, family.method)
    schema = family.schema(config_of(verb))
    node = _composed(overrides, schema, family.left_out, folders)
    try:
        config = unshielded(OmegaConf.to_object(node))
    except OmegaConfBaseException as error:
        raise ValueError(explain(error, schema)) from error
    assert isinstance(config, Config)
    locate(config)
    return config, overrides


def read_given(arguments: list[str]) -> list[Override]:
    """The overrides of a command line, or of a sweep, whose arms may be of several families."""
    folders = config_folders(arguments)
    groups = {key: value for key, value in read_groups(arguments, folders).items() if key in CHOOSING}
    each = [Override(key, value, Kind.group, key).values() for key, value in groups.items()]
    searched = [one for one in arguments if key_of(one) == SEARCHPATH]
    arms = [[f"{key}={value}" for key, value in zip(groups, arm, strict=True)] for arm in itertools.product(*each)]
    families = dict.fromkeys(chosen_family([*searched, *arm], folders) for arm in arms)
    return read_overrides(arguments, [family.schema() for family in families], folders)


def chosen_family(arguments: list[str], folders: Sequence[Path]) -> Family:
    """The family that the arguments choose.

    Raises ValueError for a choice that there is not, and for one of another family.
    """
    groups = read_groups(arguments, folders)
    for key, value in groups.items():
        check_choice(key, value, folders)
    choosing = [f"{'+' if key == 'sweep' else ''}{key}={groups[key]}" for key in CHOOSING if key in groups]
    searched = [one for one in arguments if key_of(one) == SEARCHPATH][-1:]
    family, chosen, preset = _family((*choosing, *searched), tuple(folders))
    ours = {field.name for field in dataclasses.fields(family.method)}
    for key in (*groups, *preset):
        if key in family.left_out or (key not in ours and _owner(key, folders)):
            there = [one for one in choices_of(family.method, folders) if one not in family.left_out]
            listed = f"whose choices are {', '.join(there)}" if there else "which has no such choices"
            by = "" if key in groups else f" ({preset[key]} chooses {key})"
            raise ValueError(
                f"{key} is a choice of the family {_owner(key, folders)}{by}; {chosen} is of the family "
                f"{family.name}, {listed}; leave {key if key in groups else preset[key]} out, or choose "
                f"another method"
            )
    return family


@functools.cache
def _family(lines: tuple[str, ...], folders: tuple[Path, ...]) -> tuple[Family, str, dict[str, str]]:
    """The family that these choices lead to; the choice of its method; and of the groups that it leaves out, those that
    a preset chooses, with the preset."""
    node = compose_node({}, list(lines), EVERYTHING, folders, return_hydra_config=True)
    chosen = {key: f"{key}={name}" for key, name in node.hydra.runtime.choices.items() if name is not None}
    default_path, defaults = _default()
    path = str(node.method.family)
    family = Family(path, method_of(path), () if path == default_path else tuple(defaults))
    by = next((chosen[one] for one in ("experiment", "sweep") if one in chosen), "")
    preset = {key: by for key in family.left_out if chosen.get(key) != f"{key}={defaults[key]}" and by}
    return family, chosen.get("method") or chosen.get("experiment") or f"configs/{MAIN}.yaml", preset


def method_of(family: str) -> type[MethodConfig]:
    """The type of `config.method` of a family. Raises ValueError where the package is not there or has none."""
    where = f"method.family={family}"
    try:
        module = importlib.import_module(f"{family}.config")
    except ModuleNotFoundError as error:
        if not f"{family}.config".startswith(str(error.name)):
            raise
        raise ValueError(
            f"{where}: no module {error.name}; a family is a package with a module `config`, which Python finds "
            f"(PYTHONPATH, or pip install)"
        ) from error
    method = getattr(module, "Method", None)
    if not (isinstance(method, type) and issubclass(method, MethodConfig) and dataclasses.is_dataclass(method)):
        raise ValueError(f"{where}: {family}.config has no dataclass Method, a subclass of MethodConfig")
    return method


def choices_of(method: type[MethodConfig], folders: Sequence[Path] = (CONFIGS,)) -> list[str]:
    """The groups that choose parts of a family's method."""
    return [field.name for field in dataclasses.fields(method) if choices(field.name, folders)]


def _default() -> tuple[str, dict[str, str]]:
    """The family of configs/config.yaml, and the groups that it chooses there, with their choices."""
    main = yaml.safe_load((CONFIGS / f"{MAIN}.yaml").read_text(encoding="utf-8"))
    path = main["method"]["family"]
    parts = {field.name for field in dataclasses.fields(method_of(path))}
    chosen = {key: name for one in main["defaults"] if isinstance(one, dict) for key, name in one.items()}
    return path, {key: name for key, name in chosen.items() if key in parts}


def _owner(group: str, folders: Sequence[Path]) -> str | None:
    """The family that has a part of this name, of those that configs name."""
    files = [folder / f"{MAIN}.yaml" for folder in folders] + [
        path for folder in folders for path in sorted((folder / "method").glob("*.yaml"))
    ]
    texts = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    named = dict.fromkeys(
        found for text in texts for found in re.findall(r"^ +family: *([\w.]+) *$", text, re.MULTILINE)
    )
    return next((one for one in named if group in {field.name for field in dataclasses.fields(method_of(one))}), None)


def _composed(
    overrides: list[Override], schema: type[Config], left_out: Sequence[str], folders: Sequence[Path]
) -> DictConfig:
    lines = [*(override.for_hydra() for override in overrides), *(f"~{group}" for group in left_out)]
    try:
        return compose_node(schema, lines, schema, folders)
    except AssertionError:  # Hydra's, where a key lies below one that is null; told by name
        groups = [override.for_hydra() for override in overrides if override.kind is Kind.group]
        chosen = compose_node(schema, [*groups, *(f"~{group}" for group in left_out)], schema, folders)
        raise ValueError(_below_nothing(overrides, chosen)) from None


def _below_nothing(overrides: list[Override], chosen: DictConfig) -> str:
    for override in overrides:
        holder = override.key.rpartition(".")[0]
        if override.kind is not Kind.group and holder and OmegaConf.select(chosen, holder) is None:
            group = holder.partition(".")[0]
            others = f"choose another {group}=NAME ({', '.join(choices(group))})" if choices(group) else f"set {holder}"
            return f"{override}: {holder} is null here, so that nothing reads this; {others}, or leave it out"
    raise AssertionError("Hydra refused overrides that all have their place")


def sweep_parameters(arguments: list[str]) -> dict[str, str]:
    """What the named sweep among the overrides (sweep=table1), if any, varies: its keys, and their values with commas
    between."""
    folders = config_folders(arguments)
    named = [one for one in arguments if key_of(one) == SEARCHPATH]
    if (name := read_groups(arguments, folders).get("sweep")) is not None:
        check_choice("sweep", name, folders)
        named.append(f"+sweep={name}")
    node = compose_node({}, named, EVERYTHING, folders, return_hydra_config=True)
    return dict(node.hydra.sweeper.params or {})


def combinations(arguments: list[str]) -> list[list[str]]:
    """The overrides of every arm of a sweep: all combinations where one has several values (a,b, or a function such as
    range(3)).

    Raises ValueError for what cannot be read.
    """
    values = [[f"{override.key}={value}" for value in override.values()] for override in read_given(arguments)]
    return [list(arm) for arm in itertools.product(*values)]
