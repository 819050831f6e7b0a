"""Where an evaluation lies and whether it is there already, by the settings that decide its numbers; and the command
that has a judge read its images."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fineface_train.compose import load_config
from fineface_train.config import Config
from fineface_train.earlier_keys import of_evaluation
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.judges.judges import find_judges
from fineface_train.evaluation.media import METRICS, PICTURES
from fineface_train.files import flat, hash_of, plain, read_json
from fineface_train.locks import writable
from fineface_train.loop.best import BEST
from fineface_train.loop.runs import FINISHED
from fineface_train.methods.au_diffusion.bundle_config import CONFIG_FILE
from fineface_train.overrides import choices
from fineface_train.reports.words import command
from fineface_train.verbs.base_of_bundle import base_is_found, fitting_base, read_run_config, with_base
from fineface_train.verbs.generators import base_values, draws, way


def evaluation_settings(config: Config) -> dict[str, Any]:
    """What of the config decides an evaluation's numbers; kept in metrics.json."""
    everything = plain(config)
    chosen = {key: everything[key] for key in ("protocol", "judge", "calibrated")}
    return chosen | way(config) | {"seed": config.evaluation.seed}


def measured_folder(config: Config, out: Path) -> Path | None:
    """The folder of a finished evaluation of these settings: `out`, or, of a second judge, judged-NAME in it; without a
    judge, `out` with these images, whoever has judged them. None where there is none."""
    ours = evaluation_settings(config)
    if config.judge.kind is JudgeKind.none:
        found = read_evaluation(out).get("settings")
        return out if found and found | {"judge": None} == ours | {"judge": None} else None
    folders = (out, *sorted(out.glob("judged-*")))
    return next((folder for folder in folders if read_evaluation(folder).get("settings") == ours), None)


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What is known of an evaluation in `folder`, of judged images or else of pictures; nothing where there is none."""
    found = next((read_json(folder / name) for name in (METRICS, PICTURES) if (folder / name).is_file()), {})
    return of_evaluation(found)


def fitting_judge(config: Config) -> str:
    """The judge that reads what the base draws."""
    return "toyfacs" if draws(config) else "libreface"


def check_judge(config: Config) -> None:
    """Raises ValueError where the judge's models are missing."""
    try:
        find_judges(config.judge)
    except ValueError as error:
        raise ValueError(
            f"{error}; without a judge: judge=none makes pictures and a page, which a judge can measure later"
        ) from error


def judge_command(config: Config, bundle: Path, out: Path) -> str:
    """The command that measures these very images, by the judge that fits: nothing of them is made again."""
    base: list[str] = []
    if not base_is_found(bundle):
        ours = config.method.base
        base = [f"base={ours.name if ours.name in choices('base') else fitting_base(ours.prompts)}"]
        if ours.path:
            base.append(f"method.base.path={os.path.abspath(ours.path) if Path(ours.path).is_dir() else ours.path}")
    return _judging(bundle, out, fitting_judge(config), _of_images(config), base)


def _judging(bundle: Path, out: Path, judge: str, wanted: dict[str, Any], base: Sequence[str] = ()) -> str:
    """The command that evaluates a bundle in `out` as `wanted` (see `_of_images`)."""
    said = [f"bundle={bundle.absolute()}", f"out={out.absolute()}", f"judge={judge}", *base]
    default = dict(flat(_of_images(load_config(with_base(said, tell=False)))))
    return command(
        "evaluate",
        *said,
        *(f"{key}={_written(value)}" for key, value in flat(wanted) if key in default and default[key] != value),
    )


def _of_images(config: Config) -> dict[str, Any]:
    """What of the config decides an evaluation's images, beside the bundle's own base."""
    everything = plain(config)
    chosen: dict[str, Any] = {key: everything[key] for key in ("protocol", "scale", "calibrated", "any_base")}
    method = {"sampling": plain(config.method.sampling), "base": base_values(config)}
    return chosen | {"evaluation": {"seed": config.evaluation.seed}, "method": method}


def _written(value: Any) -> str:
    """As an override has it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def evaluation_folder(config: Config, bundle: Path) -> Path:
    """Where an evaluation goes by default: the bundle's run if that holds none of another protocol or way of sampling,
    else a folder in it. Evaluations of a run's best weights (its bundle `best`) go to its folder `evaluation-best`.

    A bundle outside a run, or in one that cannot be written and does not hold this evaluation, gets a folder under
    `run.root` that is named by its weights.
    """
    if config.out:
        return Path(config.out)
    if (bundle.parent / FINISHED).is_file():
        folder = _folder_in_run(config, bundle)
        if writable(folder) or measured_folder(config, folder):
            return folder
    weights = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(bundle.glob("*.safetensors")))).hexdigest()
    return Path(config.run.root) / f"evaluation-{weights[:8]}-{config.protocol.value}"


def _folder_in_run(config: Config, bundle: Path) -> Path:
    home = bundle.parent / "evaluation-best" if bundle.name == BEST else bundle.parent
    found, ours = read_evaluation(home), evaluation_settings(config)
    if not found:
        return home
    theirs = found.get("settings") or {}
    others = {
        key: ours[key]
        for key in ("sampling", "scale", "calibrated", "seed")
        if key in theirs and theirs[key] != ours[key]
    }
    if not others and found["protocol"] == config.protocol.value:
        return home
    way = hash_of(others, 4)
    return home / f"evaluation-{config.protocol.value}{f'-{way}' if others else ''}"


def judge_command_of_run(run: Path) -> str | None:
    """The command that evaluates a run's bundle as its config says, by the judge that fits its base; None where there
    is no such bundle."""
    if (
        not (run / "bundle" / CONFIG_FILE).is_file()
        or not (run / "config.yaml").is_file()
        or not base_is_found(run / "bundle")
    ):
        return None
    config = read_run_config(run)
    wanted: dict[str, Any] = {key: config[key] for key in ("protocol", "scale") if key in config}
    wanted |= {"method": {key: value for key, value in (config.get("method") or {}).items() if key == "sampling"}}
    wanted |= (
        {"evaluation": {"seed": config["evaluation"]["seed"]}} if "seed" in (config.get("evaluation") or {}) else {}
    )
    judge = fitting_judge(load_config(with_base([f"bundle={run / 'bundle'}"], tell=False)))
    return _judging(run / "bundle", run, judge, wanted)
