"""What the verbs beside `train` do: prepare, generate, evaluate, report."""

from pathlib import Path
from typing import Any

from accelerate import PartialState

from fineface_train.config import Config, GenerateConfig, PicturesConfig
from fineface_train.data.prepare import prepare as prepare_data
from fineface_train.data.prepared import PEAKS, RAW
from fineface_train.data.table import SampleTable
from fineface_train.files import read_parquet
from fineface_train.loop.accelerator import launched
from fineface_train.loop.processes import make_crew
from fineface_train.loop.tracking import log_tables
from fineface_train.methods.au_diffusion.base import check_base
from fineface_train.methods.au_diffusion.bundle import check_bundle
from fineface_train.overrides import choices
from fineface_train.reports.comparison.page import comparison_tables, write_comparison
from fineface_train.reports.data import write_data_report
from fineface_train.reports.sweep_records import has_report, is_sweep, named_folder, report_lines, what_lies_there
from fineface_train.verbs import calibrate as calibrating
from fineface_train.verbs import evaluate as evaluating
from fineface_train.verbs import generate as generating
from fineface_train.verbs import judge as judging
from fineface_train.verbs import train as training
from fineface_train.verbs.doctor import doctor
from fineface_train.verbs.evaluate import print_report

__all__ = ["calibrate", "doctor", "evaluate", "generate", "judge", "prepare", "report", "train"]


def prepare(config: Config) -> SampleTable:
    """`fineface prepare`: from the files of a dataset to one table and a page about it, on all processes of a
    launch."""
    crew, root = make_crew(launched()), Path(config.data.root)
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
    only), write rows, metrics and a report; all processes of a launch take their share."""
    metrics = evaluating.evaluate(config, _need_bundle(config))
    PartialState().destroy_process_group()
    return metrics


def judge(config: PicturesConfig) -> dict[str, Any]:
    """`fineface judge`: judge pictures that any program made, or measure the judge itself on labelled images; write
    rows, numbers and a report."""
    metrics = judging.judge(config)
    PartialState().destroy_process_group()
    return metrics


def calibrate(config: Config) -> Path:
    """`fineface calibrate`: measure how a bundle answers, and store in it what to ask for; used where
    calibrated=true."""
    return calibrating.calibrate(config, _need_bundle(config))


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
