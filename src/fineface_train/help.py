"""The pages of `fineface VERB --help` and `fineface VERB --help PART`, from the dataclasses and YAML of the config."""

import ast
import dataclasses
import difflib
import enum
import inspect
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fineface_train.compose import unchecked_config
from fineface_train.config import Config
from fineface_train.files import plain
from fineface_train.overrides import choices, config_folders
from fineface_train.reads import SWEEP, is_read

WIDTH = 110
INDENT = 24
"""Columns before what is said of a name."""
CHOSEN = ("experiment", "method.family")
"""Keys that a choice sets, and nobody else."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A value of the config, with its default and the sentences below it in its dataclass."""

    name: str
    default: Any
    sentences: str


@dataclasses.dataclass(frozen=True)
class Part:
    """A dataclass of the config: its place ("trainer", "method.encoder"; "" for the config itself), what it is for, and
    those of its own keys that the verb reads."""

    place: str
    about: str
    keys: list[Key]


def verb_help(verb: str, about: str, overrides: list[str]) -> str:
    """A page: what the verb does (`about`), its choices, a line about each part of its config, and its single keys."""
    config, folders = unchecked_config(overrides), config_folders(overrides)
    single, *parts = _parts(config, verb)
    shown = [part for part in parts if part.place.count(".") <= part.place.startswith("method.")]
    lines = [f"fineface {verb}: {about}", "", "choices (group=name):"]
    lines += [line for group in _groups(config, verb, folders) for line in _entry(group, choices(group, folders))]
    lines += ["", f"keys by part; `fineface {verb} --help PART` lists them with their defaults and choices:"]
    lines += [line for part in shown for line in _entry(part.place, re.split(r"(?<=[.;]) ", part.about)[0].rstrip(";"))]
    if single.keys:
        lines += ["", "single keys and their defaults:"]
        lines += [line for key in single.keys for line in _entry(f"{key.name}={key.default}", key.sentences)]
    return "\n".join(lines)


def part_help(verb: str, name: str, overrides: list[str]) -> str:
    """A page about one part of the config, "trainer" or "encoder": its choices, and every key with its default.

    Raises ValueError where the verb reads no such part.
    """
    config, folders = unchecked_config(overrides), config_folders(overrides)
    parts = {part.place: part for part in _parts(config, verb) if part.place}
    groups = _groups(config, verb, folders)
    group, place = name.removeprefix("method."), name if name in parts else f"method.{name}"
    below = [part for key, part in parts.items() if key == place or key.startswith(f"{place}.")]
    if not below and group not in groups:
        known = list(dict.fromkeys([*parts, *groups]))
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"--help {name}: fineface {verb} reads no such part of the config; there are {', '.join(known)}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    lines = [f"fineface {verb}: {place if below else name}"]
    lines += textwrap.wrap(below[0].about, WIDTH) if below else []
    if group in groups:
        lines += ["", f"choices ({group}=name):"]
        lines += [line for one in choices(group, folders) for line in _entry(one, _comment(group, one, folders))]
    if below:
        lines += ["", "keys and their defaults (other choices may set others):"]
        for key in (key for part in below for key in part.keys):
            lines += [f"  {key.name}={key.default}", *textwrap.wrap(key.sentences, WIDTH - 6, **_margins(6))]
    return "\n".join(lines)


def field_sentences(kind: type) -> dict[str, str]:
    """What stands below each field of a dataclass, by the field's name."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if not one.__module__.startswith("types") and dataclasses.is_dataclass(one):  # `with_method` makes one of types
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
            assert isinstance(definition, ast.ClassDef)
            for field, below in zip(definition.body, definition.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    found[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def _reads(key: str, verb: str, config: Config) -> bool:
    verbs = (verb, SWEEP) if verb == "train" else (verb,)
    return any(is_read(key, one, type(config.method)) for one in verbs)


def _groups(config: Config, verb: str, folders: Sequence[Path]) -> list[str]:
    """The groups that the verb reads."""
    names = sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})
    ours = {field.name for field in dataclasses.fields(config.method)}
    places = {name: f"method.{name}" if name in ours else name for name in names if choices(name, folders)}
    return [name for name, place in places.items() if _reads(place, verb, config)]


def _parts(config: Config, verb: str) -> list[Part]:
    """The config itself, and all its parts of which the verb reads something."""

    def walk(place: str, value: Any) -> list[Part]:
        sentences, keys, inner = field_sentences(type(value)), [], []
        for field in dataclasses.fields(value):
            name, item = f"{place}.{field.name}".removeprefix("."), getattr(value, field.name)
            if dataclasses.is_dataclass(item):
                inner += walk(name, item)
            elif _reads(name, verb, config) and name not in CHOSEN:
                allowed = f"One of {', '.join(one.value for one in type(item))}." if isinstance(item, enum.Enum) else ""
                said = " ".join(filter(None, (sentences.get(field.name), allowed)))
                keys.append(Key(name, _written(plain(item)), said))
        about = " ".join((inspect.getdoc(type(value)) or "").split())
        return [Part(place, about, keys), *inner] if keys or inner or not place else []

    return walk("", config)


def _written(value: Any) -> str:
    """As the command line takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or value is True or value is False
        else str(value)
    )


def _comment(group: str, name: str, folders: Sequence[Path]) -> str:
    """The first line of comment of a choice."""
    path = next(folder / group / f"{name}.yaml" for folder in folders if (folder / group / f"{name}.yaml").is_file())
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("#") and "@package" not in line), "")


def _entry(name: str, said: str | Sequence[str]) -> list[str]:
    """A name and what is said of it, in as many lines as it takes."""
    text = said if isinstance(said, str) else ", ".join(said)
    head = f"  {name:<{INDENT - 3}} "
    if len(head) > INDENT and text:
        return [head.rstrip(), *textwrap.wrap(text, WIDTH, **_margins(INDENT))]
    first, *rest = textwrap.wrap(text, WIDTH - INDENT) or [""]
    return [(head + first).rstrip(), *(" " * INDENT + line for line in rest)]


def _margins(columns: int) -> dict[str, Any]:
    return {"initial_indent": " " * columns, "subsequent_indent": " " * columns}
