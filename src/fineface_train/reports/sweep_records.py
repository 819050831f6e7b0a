"""The records that a sweep writes of its arms, <run.root>/sweeps/<name>/arm_*.json, and which folders can be reported
on."""

from pathlib import Path
from typing import Any

from fineface_train.config import Config
from fineface_train.earlier_keys import renamed
from fineface_train.evaluation.media import METRICS, NOTE, PICTURES, ROWS
from fineface_train.files import read_json
from fineface_train.methods.au_diffusion.bundle_config import CONFIG_FILE
from fineface_train.reports.words import command

LISTED = 20
"""Runs named in a message."""
RECORDS = "arm_*.json"
RECORD = ("arm", "seed", "place", "overrides")
"""Keys of every record; a finished arm's also has "folder" and "evaluation", another's "error"."""
UNFINISHED = "not finished"
"""The error in the record of an arm that is running or was killed."""


def named_folder(root: str, name: str | None) -> Path:
    """Where the records of the sweep of this name lie."""
    return Path(root) / "sweeps" / str(name)


def chosen_folder(config: Config) -> Path:
    """The folder of the records that a script shall read: out=FOLDER, or that of sweep=NAME."""
    return Path(config.out or named_folder(config.run.root, config.comparison.name))


def is_sweep(folder: Path) -> bool:
    """Whether records of a sweep lie there."""
    return next(folder.glob(RECORDS), None) is not None


def has_report(folder: Path) -> bool:
    """Whether a run or an evaluation lies there."""
    return any((folder / name).is_file() for name in ("config.yaml", METRICS, PICTURES))


def what_lies_there(folder: Path) -> str:
    """Why a folder cannot be reported on, what it is or holds instead, and the command that reports on that."""
    if not folder.is_dir():
        return "there is no such folder; give the one that `fineface train` or `evaluate` printed"
    if (folder / CONFIG_FILE).is_file():
        bundle = "it is a bundle; "
        return bundle + (
            f"its run: {report_lines([folder.parent])}"
            if has_report(folder.parent)
            else command("evaluate", f"bundle={folder}") + " measures it"
        )
    if any((folder / name).exists() for name in (ROWS, NOTE)):
        return "an evaluation has begun there and was stopped; start the same command again"
    if has_report(folder.parent):
        return f"it is a part of a run: {report_lines([folder.parent])}"
    try:
        below = sorted(
            path
            for pattern in ("*", "sweeps/*")
            for path in folder.glob(pattern)
            if path.is_dir() and (has_report(path) or is_sweep(path))
        )
    except OSError:  # a folder that may not be read
        below = []
    if below:
        more = f", and {len(below) - LISTED} more" if len(below) > LISTED else ""
        return f"{len(below)} {'lies' if len(below) == 1 else 'lie'} in it: {report_lines(below[:LISTED])}{more}"
    return "give the folder that `fineface train` or `evaluate` printed"


def report_lines(folders: list[Path]) -> str:
    """The commands that report on folders, in one line."""
    return ", ".join(command("report", f"out={folder}") for folder in folders)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records in `folder`, in the order in which the sweep names its arms, then by seed; their folders are where
    they are now, if outputs were moved or are seen from another working directory. Raises ValueError that names a
    damaged one.
    """
    records = [_placed(_renamed(read_json(path, *RECORD)), folder) for path in folder.glob(RECORDS)]
    return sorted(records, key=lambda record: (record["place"], record["arm"], record["seed"]))


def _renamed(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose arm, reference and overrides have the present names of keys."""
    now = {key: renamed(record[key]) for key in ("arm", "reference") if record.get(key)}
    return record | now | {"overrides": [renamed(one) for one in record["overrides"]]}


def _placed(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A record whose run, if it is not where it was written, lies where it does beside a sweep's folder: in the run
    root, <run.root>/sweeps/<name>/../.."""
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
