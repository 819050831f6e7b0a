"""Run folders: named by what the run is, found again by the same command, recording where their result comes from."""

import dataclasses
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fineface_train.files import check_name

FINISHED = "finished.json"
"""Written last, when training has ended and the bundle lies there."""
VALIDATION_FILE = "validation.json"
"""The error on held-out images at the last validation: its mean, by group, and example by example."""
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "numpy", "fineface-train")


@dataclasses.dataclass
class RunConfig:
    """Where run folders go."""

    root: str = "outputs"
    """Folder in which run folders are made."""
    fresh: bool = False
    """Start over in a new folder (-2, -3, ...) instead of going on in the one this config has; goes on in the newest of
    those if that was stopped."""
    extend: bool = False
    """Begin with the last checkpoint of the run that is the same but for fewer trainer.steps, instead of anew; exact,
    as every step's rate, examples and noise are the same (trainer.schedule=constant). Without such a run, an error."""
    name: str | None = None
    """First part of the folder's name; default: the experiment, or data and encoder."""

    def validate(self, key: str) -> None:
        if self.extend and self.fresh:
            raise ValueError(
                f"{key}.extend=true and {key}.fresh=true: go on from an earlier run, or start over; choose one"
            )
        if self.name is not None:
            check_name(f"{key}.name", self.name)


def signature(identity: dict[str, Any]) -> str:
    """Eight hex digits over everything that can change the result."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:8]


def choose_folder(config: RunConfig, name: str, identity: dict[str, Any], *, with_report: bool) -> Path:
    """The folder of this run: the same for the same identity, or with `fresh` a numbered one, which is new once the one
    before it is complete.

    Complete is trained and, `with_report`, evaluated.
    """
    first = Path(config.root) / f"{config.name or name}-{signature(identity)}"
    if not config.fresh:
        return first
    numbered = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(
        folder
        for folder in numbered
        if not is_finished(folder) or (with_report and not (folder / "report.html").is_file())
    )


def is_finished(folder: Path) -> bool:
    """Whether training ended there; evaluation and report come after it."""
    return (folder / "bundle" / "config.json").is_file() and (folder / FINISHED).is_file()


def versions() -> dict[str, str]:
    """Python's and each package's; this one runs from its source (PYTHONPATH=src) too, where it has no version."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def provenance() -> dict[str, Any]:
    """Versions, code revision and machine."""
    git = shutil.which("git")
    revision = git and subprocess.run(
        [git, "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "versions": versions(),
        "git": (revision.stdout.strip() or None) if revision else None,
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
    }


def _processor() -> str:
    """The CPU's own name where Linux tells it, else its architecture."""
    told = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", told.read_text(), re.MULTILINE) if told.is_file() else []
    return str(names[0]) if names else platform.machine()
