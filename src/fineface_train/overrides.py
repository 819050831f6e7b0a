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
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

logger = logging.getLogger(__name__)
REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"
HYDRAS = re.compile(
    r"hydra/launcher|hydra\.launcher\..+|hydra\.job\.env_(set|copy).*|hydra\.sweeper\.max_batch_size|hydra\.searchpath"
)
"""Hydra's own keys that change something here."""
TO_THE_LETTER = ("prompt",)
"""Texts to which quotes around the whole belong; other texts lose them, as with Hydra, and ~ at their start is the home
folder."""
RENAMED = {"evaluation.validation_every": "trainer.validate_every"}
"""Keys of before, and what they are called now."""
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

    def __str__(self) -> str:
        return f"{self.key}={self.value}"

    def for_hydra(self, *, swept: bool = False) -> str:
        """As Hydra reads it to what was meant; `swept`: with each of the values that a sweep gives it."""
        key, value = ("+sweep" if self.key == "sweep" else self.key), self.value
        if self.kind is Kind.text:
            texts = self._several(rf"{QUOTED}|null") if swept else [value]
            value = ",".join(one if one == "null" else shielded(self._text(one)) for one in texts)
        elif self.kind is Kind.texts and value != "null":
            lists = self._several(LIST) if swept else [value]
            if not all(re.fullmatch(LIST, one) for one in lists):
                raise ValueError(
                    f"{self}: is a list of texts, such as {key}=[a,b]; put those with commas or brackets in quotes: "
                    f"{key}=['a, b','c']"
                )
            value = ",".join(re.sub(ITEM, lambda found: shielded(_unquoted(found[0].strip())), one) for one in lists)
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


def read_overrides(arguments: list[str], schema: type) -> list[Override]:
    """The command line's overrides of a config of the dataclass `schema`, each key once: with its last value, which is
    told.

    Raises ValueError for what is no key=value, a key that there is not, or one that is taken away (~key).
    """
    read: dict[str, Override] = {}
    for argument in arguments:
        override = _read(argument, schema)
        before = read.get(override.key, override)
        if before.value != override.value:
            logger.warning("%s is given twice, %s and %s: the last counts", override.key, before, override)
        read[override.key] = override
    return list(read.values())


def _read(argument: str, schema: type) -> Override:
    signed, equals, value = argument.partition("=")
    key = signed.lstrip("+~")
    if signed.startswith("~"):
        raise ValueError(_not_taken_away(argument, key, schema))
    if not equals or not re.fullmatch(r"\+{0,2}[\w./]+", signed):
        raise ValueError(f"{argument!r} cannot be read; write key=value, such as seed=1 or trainer.steps=500")
    return Override(key, value, kind_of(key, value, schema))


def key_of(override: str) -> str:
    """The key of "key=value", without Hydra's signs."""
    return override.partition("=")[0].lstrip("+~")


def kind_of(key: str, value: str, schema: type) -> Kind:
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
    if "/" not in key and (CONFIGS / key).is_dir():
        return Kind.group
    kind = type_of(key, schema)
    if dataclasses.is_dataclass(kind) and value.startswith("{") and value.strip("{} "):
        raise ValueError(
            f"{key}={value}: set its keys one by one, such as {key}.{dataclasses.fields(kind)[0].name}=..."
        )
    if kind is str:
        return Kind.text
    return Kind.texts if get_origin(kind) is list and get_args(kind)[0] is str else Kind.value


def type_of(key: str, schema: type) -> Any:
    """The type of the config's value `key`, without the None of X | None. Raises ValueError where there is no such
    key."""
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
            raise ValueError(unknown_key(".".join(parts[: place + 1]), schema))
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


def choices(group: str) -> list[str]:
    """The names in a config group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def check_choice(override: Override) -> None:
    """Raises ValueError where a group is not given the one name of a choice."""
    if override.kind is Kind.group and (override.value == "null" or not re.fullmatch(r"\w[\w./-]*", override.value)):
        raise ValueError(no_such_choice(override.key, override.value))


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


def no_such_choice(group: str, name: str) -> str:
    near = difflib.get_close_matches(name, choices(group), n=1)
    left_out = f"; leave {group} out for none" if name == "null" and group in ("experiment", "method", "sweep") else ""
    return f"{group}={name}: no such choice; there are {', '.join(choices(group)) or 'none'}{left_out}" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def unknown_key(key: str, schema: type) -> str:
    if key in RENAMED:
        return f"{key}: is {RENAMED[key]} now; give that instead"
    near = difflib.get_close_matches(key, known_keys(schema), n=1)
    return f"{key}: no such config key" + (
        f"; did you mean {near[0]}?" if near else "; `fineface train --help` lists them"
    )


def _not_taken_away(argument: str, key: str, schema: type) -> str:
    key = key.partition("=")[0]
    if (CONFIGS / key).is_dir():
        instead = next((name for name in ("none", "nothing") if name in choices(key)), choices(key)[0])
        return (
            f"{argument}: nothing is taken away here; choose one of {', '.join(choices(key))}, such as {key}={instead}"
        )
    type_of(key, schema)
    return (
        f"{argument}: nothing is taken away here; leave {key} out for its default, or set {key}=VALUE (null where "
        f"it may be none)"
    )
