"""What a new run has to do with the runs beside it: which one is near, and going on from one that is the same but for
fewer steps."""

import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fineface_train.earlier_keys import of_run
from fineface_train.files import flat, new_folder, read_json, write_text
from fineface_train.locks import locked
from fineface_train.loop.checkpoint import PROGRESS, latest_state, other_format
from fineface_train.loop.config import Schedule
from fineface_train.loop.runs import signature
from fineface_train.loop.tracking import METRICS_FILE, read_metrics

logger = logging.getLogger(__name__)
RESULT_KEYS = (
    "seed",
    "data",
    "image_transform",
    "labels",
    "method",
    "trainer",
)
"""Parts of a config that decide what is trained."""
INCIDENTAL_KEYS = (
    *(f"trainer.{key}" for key in ("workers", "checkpoint_every", "sample_every", "validate_every", "best_by")),
    "data.root",
)
NEAR = 3
"""Two runs that differ in no more values than this are near."""


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """Another run under the same root, and the values in which it differs: by their keys, here and there."""

    folder: Path
    differences: dict[str, tuple[Any, Any]]


def nearest_run(folder: Path, config: dict[str, Any]) -> Neighbour | None:
    """The run that differs in the fewest values, if these are few, among those that are called as the new one at
    `folder`."""
    ours = _deciding(config)
    found = []
    for run, theirs in _runs(folder.parent):
        if run.name.rpartition("-")[0] == folder.name.rpartition("-")[0]:
            found.append(
                Neighbour(
                    run,
                    {
                        key: (value, theirs[key])
                        for key, value in ours.items()
                        if key in theirs and theirs[key] != value
                    },
                )
            )
    near = [one for one in found if len(one.differences) <= NEAR]
    return min(near, key=lambda one: len(one.differences), default=None)


def shorter_run(folder: Path, identity: dict[str, Any]) -> Neighbour | None:
    """The longest run that is the same as the new one at `folder` in all but fewer trainer.steps, data and weights
    included: its name proves it."""
    found = {}
    for run, theirs in _runs(folder.parent):
        steps = theirs.get("trainer.steps")
        same = identity | {"trainer": identity["trainer"] | {"steps": steps}}
        if isinstance(steps, int) and steps < identity["trainer"]["steps"] and run.name.endswith(f"-{signature(same)}"):
            found[steps] = run
    return (
        Neighbour(found[max(found)], {"trainer.steps": (identity["trainer"]["steps"], max(found))}) if found else None
    )


def about_neighbours(folder: Path, config: dict[str, Any], identity: dict[str, Any]) -> str | None:
    """What to say when a new run starts at `folder` beside a run that one might take for it."""
    shorter = shorter_run(folder, identity)
    if shorter is not None:
        steps = shorter.differences["trainer.steps"][1]
        told = (
            f"note: {shorter.folder} is the same run with trainer.steps={steps}; it stays as it is, and {folder} is "
            f"another run, which starts anew"
        )
        if identity["trainer"]["schedule"] == Schedule.constant.value:
            return f"{told}. To go on from its last checkpoint instead: run.extend=true"
        schedule = identity["trainer"]["schedule"]
        return (
            f"{told}: the rates of its {schedule} schedule were made for {steps} steps (a run with "
            f"trainer.schedule=constant can be extended)"
        )
    near = nearest_run(folder, config)
    if near is None:
        return None
    differing = " and ".join(f"{key}={there} (here {here})" for key, (here, there) in near.differences.items())
    what = (
        f"differs in {differing}"
        if differing
        else "has the same settings, but its data, the base's weights, the precision or what was told of long captions "
        "were others"
    )
    goes_on = "; with its values the same command goes on with it" if differing else ""
    return f"note: {folder} is a new run. {near.folder} {what}, so it is not gone on with{goes_on}"


def run_to_extend(folder: Path, identity: dict[str, Any]) -> Path:
    """The run whose state the new one may take on (run.extend=true). Raises ValueError where there is none, and where
    its rates depended on its length."""
    shorter = shorter_run(folder, identity)
    if shorter is None:
        raise ValueError(
            f"run.extend=true: no run in {folder.parent} is the same but for fewer trainer.steps; leave run.extend out "
            f"to start anew"
        )
    if identity["trainer"]["schedule"] != Schedule.constant.value:
        raise ValueError(
            f"run.extend=true: trainer.schedule={identity['trainer']['schedule']} gives every step of {shorter.folder} "
            f"a rate that was made for "
            f"{shorter.differences['trainer.steps'][1]} steps, so that it cannot be gone on with; leave run.extend out "
            f"to start anew"
        )
    return shorter.folder


def take_on(earlier: Path, folder: Path) -> int:
    """Give the new run at `folder` the newest checkpoint of `earlier`, which is the same but for fewer steps, with its
    curve and pictures so far.

    Returns the checkpoint's step. The checkpoint comes last, so that a kill before it leaves a run that takes it on
    again. Raises ValueError where another process is at `earlier`, where no checkpoint is left there, and where it has
    another format.
    """
    with locked(earlier):
        newest = latest_state(earlier / "state")
        if newest is None:
            raise ValueError(
                f"run.extend=true: no checkpoint is left in {earlier / 'state'}; leave run.extend out to start anew"
            )
        if fault := other_format(newest):
            raise ValueError(f"run.extend=true: {fault}; leave run.extend out to start anew")
        progress = read_json(newest / PROGRESS, "run", "step")
        step = int(progress["step"])
        lines = [
            line for line in read_metrics(earlier / METRICS_FILE) if line["step"] <= step and "evaluation" not in line
        ]
        write_text(folder / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in lines))
        for picture in sorted((earlier / "samples").glob("step_*.png")):
            if int(picture.stem.removeprefix("step_")) <= step:
                (folder / "samples").mkdir(exist_ok=True)
                shutil.copyfile(picture, folder / "samples" / picture.name)
        with new_folder(folder / "state" / newest.name) as partial:
            shutil.copytree(newest, partial, dirs_exist_ok=True)
            write_text(partial / PROGRESS, json.dumps(progress | {"run": folder.name}) + "\n")
    return step


def _runs(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The run folders under `root` with what decides their results; one whose config cannot be read is named and left
    out."""
    for path in sorted(root.glob("*/config.yaml")):
        try:
            config = OmegaConf.to_container(OmegaConf.load(path))
        except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
            logger.warning(
                "%s cannot be read, so that its run is not compared with the new one (%s)",
                path,
                " ".join(str(error).split()),
            )
            continue
        if isinstance(config, dict):
            yield path.parent, _deciding(of_run({str(key): value for key, value in config.items()}))


def _deciding(config: dict[str, Any]) -> dict[str, Any]:
    """What decides the trained result, by dotted keys."""
    pairs = flat({key: config[key] for key in RESULT_KEYS if key in config})
    return {key: value for key, value in pairs if key not in INCIDENTAL_KEYS}
