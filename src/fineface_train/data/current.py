"""Whether a prepared folder is what its config, its sources and its models would make anew."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd

from fineface_train.data.annotators.annotate import annotated_by
from fineface_train.data.config import DataConfig, wants_annotator, wants_blip2
from fineface_train.data.disfa.config import Mismatch
from fineface_train.data.prepared import DROPPED, MANIFEST, TABLE, read_manifest
from fineface_train.data.sources import Sources, input_files
from fineface_train.data.stages import ANNOTATE_KEY
from fineface_train.data.table import SampleTable
from fineface_train.files import flat, hash_of, hash_of_files, plain, sha256

UNUSED = ("cache", "flip", "colour", "colour_variants")
"""Settings of the data that `prepare` does not use."""
IMAGES_CHANGED = "images changed or are gone"
LAYOUT_VERSION = 5
"""Raised when readers change what they make of the same files and config."""
JOINS_VERSION = 6
"""The same where DISFA's labels and pictures may differ in number: before, a guess could join them wrongly."""


def identity(config: DataConfig, found: Sources, corpus: dict[str, Any] | None) -> dict[str, Any]:
    """What a prepared folder is made from: the same makes nothing new. Raises ValueError where the annotator's weights
    or files are missing.

    Args:
        corpus: the stamp of the corpus that was drawn for it, if one was.
    """
    bridged = config.disfa is not None and config.disfa.mismatch is Mismatch.common
    return {
        "layout": JOINS_VERSION if bridged else LAYOUT_VERSION,
        "config": {key: value for key, value in plain(config).items() if key not in UNUSED},
        "corpus": corpus,
        "inputs": _inputs(config, found),
    }


def what_changed(config: DataConfig, root: Path, made_from: dict[str, Any]) -> str | None:
    """What is no longer as it was when `root` was prepared, in words; None if nothing.

    Args:
        made_from: the `identity` of what would be made now.
    """
    try:
        manifest = read_manifest(root)
        if (other := _differences(config, manifest, made_from)) is not None:
            return other
        table = SampleTable.read(root / TABLE)
        damaged = [
            name
            for name, digest in manifest["files"].items()
            if not (root / name).is_file() or sha256(root / name) != digest
        ]
        if manifest["table"]["fingerprint"] != table.fingerprint() or damaged:
            return f"{', '.join(damaged) or TABLE} changed since it was written"
        if manifest["images"] != hash_of_files(table.frame["image"]):
            return IMAGES_CHANGED
        if manifest["dropped"] != hash_of_files(pd.read_parquet(root / DROPPED)["path"]):
            return "an image that was left out changed"
    except ValueError as error:
        return str(error)
    except (KeyError, TypeError) as error:
        return f"{root / MANIFEST} is damaged (without {error})"
    return None


def _differences(config: DataConfig, manifest: dict[str, Any], made_from: dict[str, Any]) -> str | None:
    """What of an `identity` is not as the manifest has it, in words."""
    if manifest["layout"] != made_from["layout"]:
        return "it was made by another version"
    defaults = {key: value for key, value in _defaults(config).items() if key not in UNUSED}
    before, now = dict(flat(_filled(manifest["config"], defaults))), dict(flat(made_from["config"]))
    before["root"], now["root"] = (str(Path(one["root"]).resolve()) for one in (before, now))  # however it is spelled
    keys = [key for key in before | now if before.get(key, "not set") != now.get(key, "not set")]
    if keys:
        shown = [f"data.{key}={now.get(key, 'not set')} (was {before.get(key, 'not set')})" for key in keys[:3]]
        return f"{', '.join(shown)}{' and more' if len(keys) > 3 else ''} changed"
    if manifest["corpus"] != made_from["corpus"]:
        return "the corpus changed"
    return "input files changed" if manifest["inputs"] != made_from["inputs"] else None


def _defaults(config: Any) -> dict[str, Any]:
    """The default values of a dataclass and of those that it holds, by key."""
    fresh, values = type(config)(), {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {
        name: _defaults(value) if dataclasses.is_dataclass(value) else plain(getattr(fresh, name))
        for name, value in values.items()
    }


def _filled(settings: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """`settings` that were written before some keys were known, these at their defaults."""
    parts = {
        key: value for key, value in defaults.items() if isinstance(value, dict) and isinstance(settings.get(key), dict)
    }
    return defaults | settings | {key: _filled(settings[key], value) for key, value in parts.items()}


def _inputs(config: DataConfig, found: Sources) -> str:
    """A hash over name, size and time of every file that labels and captions are read from, and over what decides the
    models' answers."""
    files = input_files(found)
    if wants_blip2(config) and config.blip2.model and (folder := Path(config.blip2.model).expanduser()).is_dir():
        files += sorted(path for path in folder.iterdir() if path.is_file())
    made_by = annotated_by(config.annotate, ANNOTATE_KEY) if wants_annotator(config) else None
    return hash_of([hash_of_files(files), made_by])
