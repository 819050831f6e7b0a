"""What stands on the command line, key=value: the key known, given once, and texts taken to the letter.

Hydra and OmegaConf have grammars of their own, in which 2024_01 is a number, ${seed} another key's value and ???
nothing at all. Where the config's type says that a value is a text, it goes through them as letters and digits
(`shielded`) and is itself again in the typed config (`unshielded`).
"""

import dataclasses
import difflib
import enum
import logging
import os
import re
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

from fineface_train.earlier_keys import new_name
from fineface_train.places import CONFIGS

logger = logging.getLogger(__name__)
SEARCHPATH = "hydra.searchpath"
"""Hydra's key for further folders of configs."""
HYDRAS = re.compile(
    r"hydra/launcher|hydra\.launcher\..+|hydra\.job\.env_(set|copy).*|hydra\.sweeper\.max_batch_size|hydra\.searchpath"
)
"""Hydra's own keys that change something here."""
TO_THE_LETTER = ("prompt",)
"""Texts to which quotes around the whole belong; other texts lose them, as with Hydra, and ~ at their start is the home
folder."""
QUOTED = r'"(?:[^"\\]|\\[\s\S])*"|\'(?:[^\'\\]|\\[\s\S])*\''
ITEM = rf"\s*(?:{QUOTED})\s*(?=[,\]])|[^\[\],]*[^\[\],\s][^\[\],]*"
LIST = rf"\[(?:\s*|(?:{ITEM})(?:,(?:{ITEM}))*)\]"
"""A list of texts; one that holds a comma or a bracket is in quotes."""
SHIELDED = re.compile(r"as_given_((?:[0-9a-f]{2})*)_")


class Kind(enum.Enum):
    """What a key stands for: the choice of a file in configs/, a text, a list of texts, another value, or a key of
    Hydra's own."""

    group = "group"
    text = "text"
    texts = "texts"
    value = "value"
    hydra = "hydra"


@dataclasses.dataclass(frozen=True)
class Override:
    """One of the command line's, without Hydra's signs."""

    key: str
    value: str
    kind: Kind
    place: str
    """Where in the config it counts: at its key, but encoder=mlp, a choice of the method's, at method.encoder."""

    def __str__(self) -> str:
        return f"{self.key}={self.value}"

    def for_hydra(self) -> str:
        """As Hydra reads it to what was meant."""
        key, value = ("+sweep" if self.key == "sweep" else self.key), self.value
        if self.kind is Kind.text and value != "null":
            value = shielded(self._text(value))
        elif self.kind is Kind.texts and value != "null":
            if not re.fullmatch(LIST, value):
                raise ValueError(
                    f"{self}: is a list of texts, such as {key}=[a,b]; put those with commas or brackets in quotes: "
                    f"{key}=['a, b','c']"
                )
            value = re.sub(ITEM, lambda found: shielded(_unquoted(found[0].strip())), value)
        return f"{key}={value}"

    def values(self) -> list[str]:
        """Each value that a sweep gives the key: a,b, or a function such as range(3). Of texts, which may hold commas,
        "a","b" and [a],[b]."""
        if self.kind is Kind.text:
            return self._several(rf"{QUOTED}|null")
        if self.kind is Kind.texts:
            return self._several(LIST)
        try:
            parsed = OverridesParser.create().parse_override(f"{self.key}={self.value}")
            if not parsed.is_sweep_override():
                return [self.value]
            swept = parsed.value()
            if isinstance(swept, Glob):
                return [str(one) for one in swept.filter(choices(self.key))]
            return [str(one) for one in parsed.sweep_string_iterator()]
        except HydraException as error:
            raise ValueError(unreadable(str(self))) from error

    def _several(self, one: str) -> list[str]:
        """The parts of a list with commas whose every part looks like `one`; else the value as it is."""
        if not re.fullmatch(rf"(?:{one})(?:\s*,\s*(?:{one}))+", self.value):
            return [self.value]
        return [found[0] for found in re.finditer(one, self.value)]

    def _text(self, value: str) -> str:
        if self.key in TO_THE_LETTER:
            return value
        value = _unquoted(value)
        return os.path.expanduser(value) if value.startswith("~") else value


def read_overrides(
    arguments: list[str], schemas: Sequence[type], folders: Sequence[Path] = (CONFIGS,)
) -> list[Override]:
    """The command line's overrides, each key once: with its last value, which is told.

    Args:
        schemas: dataclasses of which one at least must have the key: a sweep's arms may be of several families.
        folders: of configs (`config_folders`).
    Raises:
        ValueError: what is no key=value, a key that there is not, or one that is taken away (~key).
    """
    read: dict[str, Override] = {}
    for argument in arguments:
        override = _read(argument, schemas, folders)
        before = read.get(override.key, override)
        if before.value != override.value:
            logger.warning("%s is given twice, %s and %s: the last counts", override.key, before, override)
        read[override.key] = override
    return list(read.values())


def _read(argument: str, schemas: Sequence[type], folders: Sequence[Path]) -> Override:
    signed, equals, value = argument.partition("=")
    key = signed.lstrip("+~")
    if signed.startswith("~"):
        raise ValueError(_not_taken_away(argument, key, schemas, folders))
    if not equals or not re.fullmatch(r"\+{0,2}[\w./]+", signed):
        raise ValueError(f"{argument!r} cannot be read; write key=value, such as seed=1 or trainer.steps=500")
    kind = kind_of(key, value, schemas, folders)
    of_method = kind is Kind.group and any(f"method.{key}" in known_keys(schema) for schema in schemas)
    return Override(key, value, kind, f"method.{key}" if of_method else key)


def read_groups(arguments: list[str], folders: Sequence[Path]) -> dict[str, str]:
    """The groups among the arguments and the names they are given, before it is known which other keys there are."""
    pairs = [(key_of(argument), argument.partition("=")[2]) for argument in arguments if not argument.startswith("~")]
    return {key: value for key, value in pairs if is_group(key, folders)}


def config_folders(arguments: list[str]) -> list[Path]:
    """The folders of configs: ours, and those of hydra.searchpath=[file:///...]."""
    given = next((one for one in reversed(arguments) if key_of(one) == SEARCHPATH), None)
    if given is None:
        return [CONFIGS]
    try:
        listed = OverridesParser.create().parse_override(given).value()
    except HydraException as error:
        raise ValueError(f"{given}: cannot be read; write {SEARCHPATH}=[file:///a/folder]") from error
    paths = [str(getattr(one, "text", one)) for one in (listed if isinstance(listed, list) else [listed])]
    folders = [Path(path.removeprefix("file://")) for path in paths if not path.startswith("pkg://")]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{given}: no folder {folder}; write {SEARCHPATH}=[file:///a/folder]")
    return [*folders, CONFIGS]


def key_of(override: str) -> str:
    """The key of "key=value", without Hydra's signs."""
    return override.partition("=")[0].lstrip("+~")


def is_group(key: str, folders: Sequence[Path] = (CONFIGS,)) -> bool:
    """Whether the key stands for a choice of a file."""
    return re.fullmatch(r"\w+", key) is not None and any((folder / key).is_dir() for folder in folders)


def kind_of(key: str, value: str, schemas: Sequence[type], folders: Sequence[Path] = (CONFIGS,)) -> Kind:
    """What the key stands for. Raises ValueError where nothing of this name is there."""
    if key.startswith("hydra"):
        if not HYDRAS.fullmatch(key):
            raise ValueError(
                f"{key}={value}: changes nothing here; of Hydra's own keys there are hydra/launcher, hydra.launcher.*, "
                f"hydra.job.env_set.* and "
                "hydra.sweeper.max_batch_size for train -m, and hydra.searchpath (folders and sweeps are named by "
                "run.root, run.name and key=a,b)"
            )
        return Kind.hydra
    if is_group(key, folders):
        return Kind.group
    if key == "method.family":
        raise ValueError(f"{key}={value}: is set by method=NAME; there are {', '.join(choices('method', folders))}")
    kind = type_of(key, schemas)
    if dataclasses.is_dataclass(kind) and value.startswith("{") and value.strip("{} "):
        raise ValueError(
            f"{key}={value}: set its keys one by one, such as {key}.{dataclasses.fields(kind)[0].name}=..."
        )
    if kind is str:
        return Kind.text
    return Kind.texts if get_origin(kind) is list and get_args(kind)[0] is str else Kind.value


def type_of(key: str, schemas: Sequence[type]) -> Any:
    """The type of the config's value `key`, without the None of X | None. Raises ValueError where no schema has the
    key."""
    faults = []
    for schema in schemas:
        try:
            return _type_in(key, schema)
        except ValueError as error:
            faults.append(error)
    raise faults[0]


def _type_in(key: str, schema: type) -> Any:
    kind: Any = schema
    parts = key.split(".")
    for place, part in enumerate(parts):
        fields = (
            {field.name: field.type for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
        )
        if part in fields:
            kind = _without_none(fields[part])
        elif get_origin(kind) is dict or (get_origin(kind) is list and part.isdigit()):
            kind = get_args(kind)[-1]
        else:
            raise ValueError(unknown_key(".".join(parts[: place + 1]), schema, key))
    return kind


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(kind) if part is not types.NoneType)
    return kind


def known_keys(schema: type, prefix: str = "") -> list[str]:
    """Every key of a config, those that hold others too."""
    keys = []
    for field in dataclasses.fields(schema):
        keys.append(prefix + field.name)
        kind = _without_none(field.type)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            keys += known_keys(kind, f"{prefix}{field.name}.")
    return keys


def choices(group: str, folders: Sequence[Path] = (CONFIGS,)) -> list[str]:
    """The names in a config group."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def check_choice(group: str, name: str, folders: Sequence[Path] = (CONFIGS,)) -> None:
    """Raises ValueError where a group is not given the one name of a choice."""
    if name == "null" or not re.fullmatch(r"\w[\w./-]*", name):
        raise ValueError(no_such_choice(group, name, folders))


def shielded(text: str) -> str:
    """A text as a word that Hydra and OmegaConf leave alone."""
    return f"as_given_{text.encode('utf-8', 'surrogatepass').hex()}_"


def unshielded(value: Any) -> Any:
    """The same value with every shielded text in it, however deep, as it was."""
    if isinstance(value, str):
        return SHIELDED.sub(lambda found: bytes.fromhex(found[1]).decode("utf-8", "surrogatepass"), value)
    if isinstance(value, list):
        return [unshielded(item) for item in value]
    if isinstance(value, dict):
        return {key: unshielded(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            setattr(value, field.name, unshielded(getattr(value, field.name)))
    return value


def _unquoted(value: str) -> str:
    if not re.fullmatch(QUOTED, value):
        return value
    return value[1:-1].replace("\\" + value[0], value[0])


def unreadable(override: str) -> str:
    return (
        f"{override!r} cannot be read; put text with signs in quotes within quotes, such as 'tracking.tags=[\"a, b\"]'"
    )


def no_such_choice(group: str, name: str, folders: Sequence[Path] = (CONFIGS,)) -> str:
    known = choices(group, folders)
    near = difflib.get_close_matches(name, known, n=1)
    left_out = f"; leave {group} out for none" if name == "null" and group in ("experiment", "method", "sweep") else ""
    return f"{group}={name}: no such choice; there are {', '.join(known) or 'none'}{left_out}" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def unknown_key(key: str, schema: type, whole: str | None = None) -> str:
    """What to say of a key that is not there; `whole`: with what stood behind it."""
    known, now = known_keys(schema), new_name(whole or key)
    if now in known:
        return f"{whole or key} is now {now}; write {now}=VALUE"
    key = (whole or key) if now else key
    near = difflib.get_close_matches(now or key, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    if key.startswith("method."):
        holder = max((one for one in known if key.startswith(f"{one}.")), key=len, default="method")
        there = [one for one in known if one.rpartition(".")[0] == holder and one != "method.family"]
        listed = f"; there are {', '.join(there)}" if there else ""
        return f"{key}: no such key of the family {schema().method.family}{listed}{meant}"
    return f"{key}: no such config key" + (meant or "; `fineface train --help` lists them")


def _not_taken_away(argument: str, key: str, schemas: Sequence[type], folders: Sequence[Path]) -> str:
    key = key.partition("=")[0]
    if is_group(key, folders):
        known = choices(key, folders)
        instead = next((name for name in ("none", "nothing") if name in known), known[0])
        return f"{argument}: nothing is taken away here; choose one of {', '.join(known)}, such as {key}={instead}"
    type_of(key, schemas)
    return (
        f"{argument}: nothing is taken away here; leave {key} out for its default, or set {key}=VALUE (null where "
        f"it may be none)"
    )
