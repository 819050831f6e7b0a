"""`fineface evaluate`, and the evaluation at the end of `train`: from a bundle to numbers and a page, by all processes
of a launch."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fineface_train.config import Config
from fineface_train.data.crew import ALONE, Crew
from fineface_train.evaluation.ceiling import ceiling
from fineface_train.evaluation.evaluate import evaluate as evaluate_plan
from fineface_train.evaluation.judges.config import JudgeConfig
from fineface_train.evaluation.judges.judges import Judges, load_judges
from fineface_train.evaluation.media import METRICS, PICTURES
from fineface_train.evaluation.plan import build_plan, toyfacs_combinations
from fineface_train.files import write_json
from fineface_train.locks import locked, writable
from fineface_train.loop.accelerator import launched
from fineface_train.loop.processes import as_first, make_crew
from fineface_train.places import found
from fineface_train.reports.headline import headline_table
from fineface_train.reports.run import unjudged, write_report
from fineface_train.reports.run_folder import read_run
from fineface_train.verbs.evaluation_folder import (
    check_judge,
    evaluation_folder,
    evaluation_settings,
    judge_command,
    judge_command_of_run,
    measured_folder,
    read_evaluation,
)
from fineface_train.verbs.generators import draws, evaluation_prompts, load_generator, made_by


def evaluate(config: Config, bundle: Path) -> dict[str, Any]:
    """Make and judge the protocol's images with a bundle, and write the page; returns the metrics.

    Raises ValueError where the judge's models are missing, or the folder holds another evaluation or is in use.
    """
    check_judge(config)
    accelerator = launched()
    crew = make_crew(accelerator)
    out, place = as_first(accelerator, _where(config, bundle))
    if place is not None and not as_first(accelerator, writable(out)):  # by somebody else
        return read_evaluation(place)
    with crew.entered(locked(out)):
        place, metrics = measure_bundle(config, bundle, out, crew)
    if crew.index == 0:
        print_report(place)
    return metrics


def _where(config: Config, bundle: Path) -> tuple[Path, Path | None]:
    """The folder of the evaluation's images, and that of its numbers if it is finished."""
    out = evaluation_folder(config, bundle)
    return out, measured_folder(config, out)


def measure_bundle(config: Config, bundle: Path, out: Path, crew: Crew = ALONE) -> tuple[Path, dict[str, Any]]:
    """Generate and judge the protocol's images under `out`; where faces can be drawn, the same for true drawings as the
    ceiling.

    With judge=none the images are made, and nothing is measured. Returns the folder of the numbers (`out`, or, where
    another judge's lie there, judged-NAME in it) and what metrics.json there holds.
    """
    generator = load_generator(config, bundle)
    judges = load_judges(config.judge, generator.pipe.device)
    earlier = _earlier_judges(out)
    plan = build_plan(config.protocol, evaluation_prompts(config), toyfacs_combinations(), config.evaluation.seed)
    place, metrics = evaluate_plan(
        generator,
        judges,
        plan,
        out,
        protocol=config.protocol,
        bundle=str(bundle),
        generator_fingerprint=made_by(config, generator, bundle),
        batch_size=config.evaluation.batch_size,
        earlier=earlier,
        crew=crew,
    )
    if judges.aus and draws(config) and "ceiling" not in metrics:
        drawn = ceiling(judges, plan, out / "ceiling", config.protocol, earlier=earlier, crew=crew)
        metrics["ceiling"] = {part: drawn[part] for part in ("individual", "combination")}
    if judges.aus or "individual" not in metrics:  # else these are the images of an evaluation that has been judged
        metrics["settings"] = evaluation_settings(config)
        metrics["judge_it"] = judge_command(config, bundle, out)
        if crew.index == 0:
            write_json(place / (METRICS if judges.aus else PICTURES), metrics)
    return place, metrics


def _earlier_judges(out: Path) -> list[Judges]:
    """The judges of an evaluation in `out` by a version that knew images by who judged them; none where their models
    are no longer there."""
    found_here = read_evaluation(out)
    if not found_here or "images_fingerprint" in found_here or "judge" not in found_here.get("settings", {}):
        return []
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(JudgeConfig), found_here["settings"]["judge"]))
    assert isinstance(config, JudgeConfig)
    for name in ("one", "two", "attributes", "clip"):
        setattr(config, name, found(getattr(config, name)))
    try:
        return [load_judges(config)]
    except ValueError:
        return []


def measure_once(config: Config, bundle: Path, out: Path) -> Path:
    """`measure_bundle` into `out`, alone there, unless it has been done; returns the folder of the numbers."""
    with locked(out):
        return measured_folder(config, out) or measure_bundle(config, bundle, out)[0]


def print_report(folder: Path) -> Path:
    """Write the page of `folder`, unless it cannot be written; print the headline table, or how to get one, and where
    to look."""
    run = read_run(folder)
    page = write_report(run, judge_command_of_run(folder)) if writable(folder) else folder / "report.html"
    if run.metrics:
        print(headline_table(run))
    elif run.pictures:
        print(unjudged(run.pictures))
    if run.samples:
        print(f"samples: {run.samples[-1]}")
    print(f"report: {page}")
    return page
