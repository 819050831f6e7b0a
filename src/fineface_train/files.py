"""Small things about files: values as JSON's own types, and writing whole or not at all."""

import dataclasses
import enum
import json
import os
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Dataclasses, enums and tuples as the types that JSON and YAML know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def write_text(path: Path, text: str) -> Path:
    """Write beside its place, sync, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return path


def sync_folder(folder: Path) -> None:
    """Force the files of `folder` to disk, so that a rename that follows never exposes half-written ones."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> Path:
    """`write_text` of indented JSON; refuses not-a-number, which JSON has not."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
