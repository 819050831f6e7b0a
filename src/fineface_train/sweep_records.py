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
    """The records in `folder`, in the order in which the sweep names its arms, then by seed; their folders are where they are now, if outputs were moved
    or are seen from another working directory. Raises ValueError that names a damaged one.
    """
    records = [_placed(read_json(path, *RECORD), folder) for path in folder.glob(RECORDS)]
    return sorted(records, key=lambda record: (record["place"], record["seed"]))


def _placed(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A record whose run, if it is not where it was written, lies where it does beside a sweep's folder: in the run root, <run.root>/sweeps/<name>/../.."""
    if "folder" not in record or Path(record["folder"]).exists():
        return record
    was, now = Path(record["folder"]), Path(folder).absolute().parents[1] / Path(record["folder"]).name
    evaluation = Path(record["evaluation"])
    if not now.is_dir() or not evaluation.is_relative_to(was):
        return record
    return record | {"folder": str(now), "evaluation": str(now / evaluation.relative_to(was))}


def first_runs(folder: Path) -> dict[str, Path]:
    """The run folder of the first seed of every arm that came to its end."""
    runs: dict[str, Path] = {}
    for record in read_records(folder):
        if "error" not in record:
            runs.setdefault(record["arm"], Path(record["folder"]))
    return runs
