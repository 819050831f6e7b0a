"""What the verbs beside `train` do: prepare, generate, evaluate, report."""

from pathlib import Path
from typing import Any

from accelerate import PartialState

from fineface_train.aus import AU_KEYS
from fineface_train.config import Config, GenerateConfig
from fineface_train.data.prepare import PEAKS, RAW
from fineface_train.data.prepare import prepare as prepare_data
from fineface_train.data.table import SampleTable
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.measure import (
    calibrate_bundle,
    check_judge,
    evaluation_folder,
    fitting_judge,
    is_measured,
    measure_bundle,
    print_report,
    read_evaluation,
)
from fineface_train.files import read_parquet
from fineface_train.locks import locked, writable
from fineface_train.loop.tracking import log_tables
from fineface_train.loop.trainer import launched
from fineface_train.methods.au_diffusion.base import check_base
from fineface_train.methods.au_diffusion.bundle import CALIBRATION_FILE, check_bundle, load_calibration
from fineface_train.overrides import choices
from fineface_train.reports.comparison.page import comparison_tables, write_comparison
from fineface_train.reports.data import write_data_report
from fineface_train.reports.sweep_records import has_report, is_sweep, named_folder, report_lines, what_lies_there
from fineface_train.verbs import generate as generating
from fineface_train.verbs import train as training
from fineface_train.verbs.doctor import doctor

__all__ = ["calibrate", "doctor", "evaluate", "generate", "prepare", "report", "train"]


def prepare(config: Config) -> SampleTable:
    """`fineface prepare`: from the files of a dataset to one table and a page about it, on all processes of a
    launch."""
    crew, root = training.make_crew(launched()), Path(config.data.root)
    table = prepare_data(config.data, crew=crew)
    weights = config.data.weights(table)
    peaks = read_parquet(root / PEAKS) if (root / PEAKS).is_file() else None  # an older folder has none
    page = write_data_report(
        root, table, weights, config.data.rarity_weighting, raw=read_parquet(root / RAW), peaks=peaks, crew=crew
    )
    if crew.index == 0 and page.is_file():
        print(f"report: {page}")
    PartialState().destroy_process_group()
    return table


def train(config: Config) -> Path:
    """`fineface train`: fit an adapter, evaluate it and write a report."""
    folder = training.train(config)
    PartialState().destroy_process_group()
    return folder


def generate(config: GenerateConfig) -> list[Path]:
    """`fineface generate`: faces of one prompt with the wanted AUs, as PNGs that carry how they were made."""
    wish = generating.read_wish(config)
    return generating.generate(config, wish, _need_bundle(config))


def evaluate(config: Config) -> dict[str, Any]:
    """`fineface evaluate`: generate the protocol's images with a bundle, judge them (with judge=none they are made
    only), write rows, metrics and a report."""
    bundle = _need_bundle(config)
    check_judge(config)
    out = evaluation_folder(config, bundle)
    if is_measured(config, out) and not writable(out):  # by somebody else
        metrics = read_evaluation(out)
    else:
        with locked(out):
            metrics = measure_bundle(config, bundle, out)
        print_report(out)
    return metrics


def calibrate(config: Config) -> Path:
    """`fineface calibrate`: measure how a bundle answers, and store in it what to ask for; used where
    calibrated=true."""
    bundle = _need_bundle(config)
    if config.judge.kind is JudgeKind.none:
        raise ValueError(
            f"judge=none measures nothing, and a calibration is made of measurements; choose "
            f"judge={fitting_judge(config)}"
        )
    check_judge(config)
    if not writable(bundle):
        raise ValueError(
            f"bundle={bundle}: cannot be written, and its calibration is kept in it; copy the folder, and calibrate "
            f"the copy"
        )
    if (bundle / CALIBRATION_FILE).exists():
        raise ValueError(
            f"{bundle / CALIBRATION_FILE} exists already; nothing is overwritten: remove it to calibrate anew"
        )
    path = calibrate_bundle(config, bundle)
    calibration, about = load_calibration(bundle)
    for kind, name in (("alone", "one AU alone, error of that AU"), ("several", "several AUs, mean error of 12 AUs")):
        before, after = (about["error"][way][kind] for way in ("as it is", "calibrated"))
        print(
            f"{name}: {before:.2f}, calibrated {after:.2f}; "
            f"{'used' if getattr(calibration, kind) else 'not used: such requests stay as they are'}"
        )
    asked = {key: calibration.ask([3.0 * (key == one) for one in AU_KEYS])[place] for place, key in enumerate(AU_KEYS)}
    print("to be measured at 3 alone, ask for: " + ", ".join(f"{key}={value:.2f}" for key, value in asked.items()))
    print(f"calibration: {path}")
    return path


def report(config: Config) -> Path:
    """`fineface report`: the page and tables of a run folder (out=FOLDER, or the one the bundle lies in) or of a sweep
    (sweep=NAME, out=FOLDER)."""
    if config.comparison.name and not config.out:
        config.out = str(named_folder(config.run.root, config.comparison.name))
        if not is_sweep(Path(config.out)):
            run = f"fineface train -m +sweep={config.comparison.name} seed=0,1,2"
            others = sorted(
                path for path in Path(config.out).parent.glob(f"{config.comparison.name}-*") if is_sweep(path)
            )
            raise ValueError(
                f"sweep={config.comparison.name}: nothing of it in {config.out} yet"
                + (f"; run it: {run}" if config.comparison.name in choices("sweep") else "")
                + (f"; with other values there are: {report_lines(others)}" if others else "")
            )
    folder = Path(config.out) if config.out else _run_of_bundle(config)
    if is_sweep(folder):
        page = write_comparison(folder, config.comparison.reference)
        name = folder.resolve().name
        config.tracking.group = config.tracking.group or name
        log_tables(folder, config.tracking, f"{name}-comparison", lambda: comparison_tables(folder))
        print((folder / "report.md").read_text(encoding="utf-8"))
        print(f"report: {page}")
        return page
    if not has_report(folder):
        raise ValueError(f"out={folder}: no run or evaluation lies there; {what_lies_there(folder)}")
    return print_report(folder)


def _run_of_bundle(config: Config) -> Path:
    """The run that bundle=FOLDER lies in."""
    if not config.bundle:
        raise ValueError(
            f"out is empty: give the folder of a run, an evaluation or a sweep (out=FOLDER); "
            f"{what_lies_there(Path(config.run.root))}"
        )
    check_bundle(Path(config.bundle))
    run = Path(config.bundle).absolute().parent
    if not has_report(run):
        raise ValueError(
            f"bundle={config.bundle} lies in no run that was evaluated; {what_lies_there(Path(config.bundle))}"
        )
    return run


def _need_bundle(config: Config) -> Path:
    check_base(config.method.base)
    if not config.bundle:
        raise ValueError(
            "bundle is empty: give a trained adapter, e.g. bundle=data/toyfacs/bundle or bundle=outputs/<run>/bundle"
        )
    check_bundle(Path(config.bundle))  # what is wrong with it is said before a model loads
    return Path(config.bundle)
