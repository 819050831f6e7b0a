"""The base that a bundle was trained on, as overrides: `bundle=FOLDER` needs no `base=` beside it."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import yaml

from fineface_train.compose import load_config
from fineface_train.earlier_keys import of_run
from fineface_train.methods.au_diffusion.bundle_config import BundleConfig, read_bundle_config
from fineface_train.methods.au_diffusion.config import Architecture, BaseConfig, PromptSet, is_hub_name
from fineface_train.overrides import choices, key_of
from fineface_train.places import found

logger = logging.getLogger(__name__)


def with_base(overrides: list[str], *, tell: bool = True) -> list[str]:
    """The overrides, and before them the base that their bundle was trained on, unless they choose a base (base=NAME)
    or name no bundle.

    What goes with a base (judge, guidance, ...) comes with it, and what is chosen beside it stays chosen. Raises
    ValueError where the bundle's base is not known here, or no longer where it was.
    """
    given = {key_of(override): override.partition("=")[2] for override in overrides}
    folder = found(os.path.expanduser(given.get("bundle", "").strip("\"'")))
    if not folder or folder == "null" or "base" in given:
        return overrides
    bundle = read_bundle_config(Path(folder))
    recorded = bundle.base or _of_run(Path(folder).parent, bundle)
    choice = _choice(folder, bundle, recorded)
    known = {field.name for field in dataclasses.fields(BaseConfig)} - {"path", "tokenizer"}
    values = {key: value for key, value in recorded.items() if key in known}
    pretrained = recorded.get("architecture", "pretrained") == Architecture.pretrained.value
    path = _path(folder, choice, recorded) if pretrained and "method.base.path" not in given else None
    if path is not None:
        values["path"] = path
    if (
        not pretrained and recorded.get("tokenizer") and Path(recorded["tokenizer"]).is_dir()
    ):  # a pretrained base brings its own
        values["tokenizer"] = recorded["tokenizer"]
    if tell:
        where = f" in {path}" if path is not None else ""
        logger.info(
            "base: %s%s, which %s was trained on (another: base=NAME)", recorded.get("name", choice), where, folder
        )
    recalled = [
        f"method.base.{key}={_value(value)}" for key, value in values.items() if f"method.base.{key}" not in given
    ]
    return [f"base={choice}", *recalled, *overrides]


def _value(value: Any) -> str:
    """As an override has it: text in quotes."""
    return '"' + value.replace('"', '\\"') + '"' if isinstance(value, str) else "null" if value is None else str(value)


def _of_run(run: Path, bundle: BundleConfig) -> dict[str, Any]:
    """For a bundle that holds no more than its base's name and resolution: what the run tells that it lies in, if it is
    one of this base."""
    base = (read_run_config(run).get("method") or {}).get("base")
    if not isinstance(base, dict) or base.get("name") != bundle.base_name:
        base = {}
    return base | {"name": bundle.base_name, "resolution": bundle.resolution}


def read_run_config(run: Path) -> dict[str, Any]:
    """What config.yaml of a run holds, by the present names of its keys; nothing where there is none.

    Raises ValueError that names a damaged one.
    """
    path = run / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(
            f"{path} is damaged ({' '.join(str(error).split())}); bring back a copy, or remove it"
        ) from error
    return of_run(values) if isinstance(values, dict) else {}


def _choice(folder: str, bundle: BundleConfig, recorded: dict[str, Any]) -> str:
    """The choice of configs/base to start from: that of the base's name; for a name of one's own, that which brings
    what suits its prompts."""
    if bundle.base_name in choices("base"):
        return bundle.base_name
    if "prompts" not in recorded:
        raise ValueError(
            f"bundle={folder} was trained on the base {bundle.base_name!r}, which is no choice here (there are "
            f"{', '.join(choices('base'))}) and of which "
            f"it does not tell more; give the nearest choice and the base's folder: base=sd21 method.base.path=FOLDER"
        )
    return fitting_base(PromptSet(recorded["prompts"]))


def fitting_base(prompts: PromptSet) -> str:
    """The choice that brings what suits the prompts."""
    return "toyfacs" if prompts is PromptSet.toyfacs else "sd21"


def base_is_found(bundle: Path) -> bool:
    """Whether `with_base` finds the base of a bundle."""
    try:
        with_base([f"bundle={bundle}"], tell=False)
    except ValueError:
        return False
    return True


def _path(folder: str, choice: str, recorded: dict[str, Any]) -> str | None:
    """Where the base is: where it was in training, else where the choice says (None). Raises ValueError where it is
    neither there nor on the hub."""
    was = recorded.get("path")
    if was is None or Path(was).is_dir():
        return was
    try:
        here = load_config([f"base={choice}"]).method.base.path
    except ValueError:  # the environment variable of its path is empty
        here = None
    if here is not None and (Path(here).is_dir() or here == was):
        return None
    if is_hub_name(was):
        return was
    raise ValueError(
        f"bundle={folder} was trained on the base {recorded.get('name', choice)} in {was}, which is no longer there; "
        f"say where it is now: method.base.path=FOLDER, "
        f"or choose a base yourself: base={choice}"
    )
