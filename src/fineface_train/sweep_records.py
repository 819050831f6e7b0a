"""What a sweep writes down of its arms, read back: <run.root>/sweeps/<name>/arm_*.json."""

from pathlib import Path
from typing import Any

from fineface_train.config import Config
from fineface_train.files import read_json

RECORDS = "arm_*.json"
RECORD = ("arm", "seed", "place", "overrides")
"""What every record holds; that of a finished arm also its "folder" and "evaluation", another's an "error"."""
UNFINISHED = "not finished"
"""Why an arm has no result before it ended: of one that is running, or was killed."""


def named_folder(root: str, name: str | None) -> Path:
    """Where the records of the sweep of this name lie."""
    return Path(root) / "sweeps" / str(name)


def chosen_folder(config: Config) -> Path:
    """Of the records that a script is asked about: out=FOLDER, or those of sweep=NAME."""
    return Path(config.out or named_folder(config.run.root, config.comparison.name))


def is_sweep(folder: Path) -> bool:
    """Whether records of a sweep lie there."""
    return next(folder.glob(RECORDS), None) is not None


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records in `folder`, in the order in which the sweep names its arms, then by seed. Raises ValueError that names a damaged one."""
    return sorted((read_json(path, *RECORD) for path in folder.glob(RECORDS)), key=lambda record: (record["place"], record["seed"]))


def first_runs(folder: Path) -> dict[str, Path]:
    """The run folder of the first seed of every arm that came to its end."""
    runs: dict[str, Path] = {}
    for record in read_records(folder):
        if "error" not in record:
            runs.setdefault(record["arm"], Path(record["folder"]))
    return runs
