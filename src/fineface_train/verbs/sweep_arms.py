"""The arms of a sweep, composed and checked before the first one starts. Imports no torch."""

import dataclasses

from fineface_train.compose import combinations, load_config, read_given, sweep_parameters
from fineface_train.config import Config
from fineface_train.reads import SWEEP, check_given, check_verb


@dataclasses.dataclass(frozen=True)
class Arms:
    """What a sweep's line comes to."""

    overrides: list[str]
    """The command line's, and what the named sweep varies."""
    parameters: dict[str, str]
    """What the named sweep varies: keys, and their values with commas between."""
    each: list[list[str]]
    """The overrides of every arm."""
    configs: list[Config]


def read_arms(arguments: list[str]) -> Arms:
    """Raises ValueError for a wrong key, choice or value of any arm."""
    said = {override.key: str(override) for override in read_given(arguments)}
    parameters = sweep_parameters(list(said.values()))
    # Hydra's sweeper would take both what the sweep and what the command line says, and leave it to the order which one
    # counts.
    overrides = [*said.values(), *(f"{key}={value}" for key, value in parameters.items() if key not in said)]
    each = combinations(overrides)
    configs = [load_config(arm) for arm in each]
    given = [override for override in read_given(overrides) if override.key in said]
    for method in dict.fromkeys(type(config.method) for config in configs):
        check_verb(given, SWEEP, method)
    check_given(given, SWEEP, configs)
    return Arms(overrides, parameters, each, configs)
