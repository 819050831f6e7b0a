"""Hydra, asked to compose configs/ and to launch a sweep's arms; what it says in its own words is told in ours."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException, ValidationError

from fineface_train.config import Config
from fineface_train.overrides import Kind, Override, no_such_choice, unknown_key, unreadable, unshielded
from fineface_train.places import CONFIGS

MAIN = "config"
"""configs/config.yaml, which begins with the schema."""
SCHEMA = "schema"
ARM = "arm"


def compose_node(
    node: Any, lines: list[str], schema: type[Config], folders: Sequence[Path], *, return_hydra_config: bool = False
) -> DictConfig:
    """What Hydra composes with `node` as its schema; its errors in our words, for a config of type `schema`."""
    _register(node)
    try:
        with _configs():
            return compose(MAIN, overrides=lines, return_hydra_config=return_hydra_config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, schema, folders)) from error


@contextlib.contextmanager
def _configs() -> Iterator[None]:
    """Inside, Hydra composes from configs/; also within a sweep's arm, while Hydra itself is at work."""
    before, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def _register(node: Any) -> None:
    """Make `node` what config.yaml fills in."""
    if not CONFIGS.is_dir():
        raise ValueError(f"no configs in {CONFIGS}: install the project from its checkout with `pip install -e .`")
    ConfigStore.instance().store(name=SCHEMA, node=node)


def explain(error: Exception, schema: type[Config], folders: Sequence[Path] = (CONFIGS,)) -> str:
    """One line that names the key, the value and what is allowed, from what Hydra and OmegaConf say in several."""
    text = unshielded(str(error))
    if isinstance(error, OverrideParseException):
        return unreadable(unshielded(error.override))
    several = re.search(r"Ambiguous value for argument '(.*)'\s+1\. To use it as a list", text, re.DOTALL)
    if several:
        return (
            f"{several[1]}: are several values, which only a sweep takes (fineface train -m {several[1]} ...); give one"
        )
    missing = re.search(r"Could not find '([^/']+)/([^']+)'", text)
    if missing:
        return no_such_choice(missing[1], missing[2], folders)
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Key '([^']+)' (?:is not in struct|not in)", text
    )
    preset = re.search(r"In '([^']+)': \w+ raised", text)
    where = f"configs/{preset[1]}.yaml: " if preset else ""
    if beside := re.search(r"In '([^']+)': Could not override", text):
        return (
            f"configs/{beside[1]}.yaml cannot override {unknown[1] if unknown else 'this'}, which is chosen after it; "
            f"write `- /GROUP/NAME` in its defaults"
        )
    cause: BaseException = error.__cause__ or error
    if unknown and not isinstance(cause, ValidationError):
        return where + unknown_key(getattr(cause, "full_key", None) or unknown[1], schema)
    reason = unshielded(str(cause)).split("\n")[0]
    key = getattr(cause, "full_key", None)
    if re.fullmatch(r"field '[\w.]+' is not Optional", reason):
        return f"{key}=null: must have a value; leave {key} out for its default"
    return f"{key}: {reason}" if key else " ".join(line.strip() for line in text.split("\n") if line.strip())


def multirun(overrides: list[Override], arms: int, folder: Path, run: Callable[[int], None]) -> None:
    """Have Hydra's launcher call `run` with the number of each of a sweep's arms, from 0; it may do so in other
    processes.

    `overrides`: the sweep's, among them Hydra's own; the sweep and the experiment may choose a launcher too.
    """
    _register({})

    def job(node: DictConfig) -> None:
        run(node[ARM])

    quiet = (
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        f'hydra.sweep.dir="{folder}"',
        "hydra.sweep.subdir=.",
        "hydra.sweeper.params=null",
    )
    presets = [
        override.for_hydra()
        for override in overrides
        if override.kind is Kind.hydra or (override.key in ("sweep", "experiment") and len(override.values()) == 1)
    ]
    numbers = f"+{ARM}=" + ",".join(map(str, range(arms)))
    before, sys.argv = sys.argv, [sys.argv[0], "--multirun", *quiet, *presets, numbers]
    try:
        hydra.main(config_path=str(CONFIGS), config_name=MAIN, version_base="1.3")(job)()
    finally:
        sys.argv = before
