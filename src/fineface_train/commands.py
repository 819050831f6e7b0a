"""What the verbs beside `train` do: prepare, generate, evaluate, report."""

from pathlib import Path
from typing import Any

from accelerate import PartialState
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fineface_train import training
from fineface_train.aus import AU_KEYS, MAX_INTENSITY, format_aus, parse_aus
from fineface_train.comparison import comparison_tables, write_comparison
from fineface_train.config import Config
from fineface_train.data.prepare import PEAKS, RAW
from fineface_train.data.prepare import prepare as prepare_data
from fineface_train.data.table import SampleTable
from fineface_train.data_report import write_data_report
from fineface_train.doctor import doctor
from fineface_train.evaluation.judges import find_judges
from fineface_train.files import locked, read_parquet, replacing
from fineface_train.measure import calibrate_bundle, evaluation_folder, load_generator, measure_bundle, print_report
from fineface_train.methods.au_diffusion.base import check_base
from fineface_train.methods.au_diffusion.bundle import CALIBRATION_FILE, check_bundle, load_calibration
from fineface_train.methods.protocol import Request
from fineface_train.sweep_records import is_sweep, named_folder
from fineface_train.toyfacs.render import to_uint8
from fineface_train.tracking import log_tables
from fineface_train.trainer import launched

__all__ = ["calibrate", "doctor", "evaluate", "generate", "prepare", "report", "train"]


def prepare(config: Config) -> SampleTable:
    """`fineface prepare`: from the files of a dataset to one table and a page about it, on all processes of a launch."""
    crew, root = training.make_crew(launched()), Path(config.data.root)
    table = prepare_data(config.data, crew=crew)
    weights = config.data.weights(table)
    peaks = read_parquet(root / PEAKS) if (root / PEAKS).is_file() else None  # an older folder has none
    page = write_data_report(root, table, weights, config.data.rarity_weighting, raw=read_parquet(root / RAW), peaks=peaks, crew=crew)
    if crew.index == 0:
        print(f"report: {page}")
    PartialState().destroy_process_group()
    return table


def train(config: Config) -> Path:
    """`fineface train`: fit an adapter, evaluate it and write a report."""
    folder = training.train(config)
    PartialState().destroy_process_group()
    return folder


def generate(config: Config) -> list[Path]:
    """`fineface generate`: faces of one prompt with the wanted AUs, as PNGs that carry how they were made."""
    if not config.prompt:
        raise ValueError('prompt is empty: say what to draw, e.g. prompt="a person with short red hair"')
    values = parse_aus(config.aus, allow_beyond_range=True)
    beyond = [key for key, value in zip(AU_KEYS, values, strict=True) if not 0 <= value <= MAX_INTENSITY]
    if beyond:
        print(f"note: {', '.join(beyond)} lies outside 0..{MAX_INTENSITY:g}: the adapter extrapolates beyond its training")
    bundle = _need_bundle(config)
    folder = Path(config.out) if config.out else Path(config.run.root) / "generated"
    requests = [Request(config.prompt, tuple(values), config.seed + index) for index in range(config.n)]
    paths = [folder / f"{_slug(config.prompt)}_{_slug(format_aus(values))}_seed{request.seed}.png" for request in requests]
    taken = [path for path in paths if path.exists()]
    if taken:
        raise ValueError(f"{taken[0]} exists already; nothing is overwritten: choose another out=FOLDER or seed, or remove it")
    generator = load_generator(config, bundle)
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(requests), config.evaluation.batch_size):
        part = requests[start : start + config.evaluation.batch_size]
        for image, request, path in zip(to_uint8(generator.generate(part)), part, paths[start:], strict=False):
            _save_png(Image.fromarray(image), path, {"prompt": request.prompt, "aus": format_aus(values), "seed": str(request.seed), "bundle": str(bundle)})
            print(path)
    return paths


def evaluate(config: Config) -> dict[str, Any]:
    """`fineface evaluate`: generate the protocol's images with a bundle, judge them, write rows, metrics and a report."""
    bundle = _need_bundle(config)
    find_judges(config.judge)
    out = evaluation_folder(config, bundle)
    with locked(out):
        metrics = measure_bundle(config, bundle, out)
        print_report(out)
    return metrics


def calibrate(config: Config) -> Path:
    """`fineface calibrate`: measure how a bundle answers, and store in it what to ask for; used where calibrated=true."""
    bundle = _need_bundle(config)
    find_judges(config.judge)
    if (bundle / CALIBRATION_FILE).exists():
        raise ValueError(f"{bundle / CALIBRATION_FILE} exists already; nothing is overwritten: remove it to calibrate anew")
    path = calibrate_bundle(config, bundle)
    calibration, about = load_calibration(bundle)
    for kind, name in (("alone", "one AU alone, error of that AU"), ("several", "several AUs, mean error of 12 AUs")):
        before, after = (about["error"][way][kind] for way in ("as it is", "calibrated"))
        print(f"{name}: {before:.2f}, calibrated {after:.2f}; {'used' if getattr(calibration, kind) else 'not used: such requests stay as they are'}")
    asked = {key: calibration.ask([3.0 * (key == one) for one in AU_KEYS])[place] for place, key in enumerate(AU_KEYS)}
    print("to be measured at 3 alone, ask for: " + ", ".join(f"{key}={value:.2f}" for key, value in asked.items()))
    print(f"calibration: {path}")
    return path


def report(config: Config) -> Path:
    """`fineface report`: the page and tables of a run folder (out=FOLDER, or the one the bundle lies in) or of a sweep (sweep=NAME, out=FOLDER)."""
    if config.comparison.name and not config.out:
        config.out = str(named_folder(config.run.root, config.comparison.name))
        if not is_sweep(Path(config.out)):
            raise ValueError(
                f"sweep={config.comparison.name}: nothing of it in {config.out} yet; run it: fineface train -m +sweep={config.comparison.name} seed=0,1,2"
            )
    folder = Path(config.out) if config.out else _need_bundle(config).parent
    if is_sweep(folder):
        page = write_comparison(folder, config.comparison.reference)
        config.tracking.group = config.tracking.group or folder.name
        log_tables(folder, config.tracking, f"{folder.name}-comparison", lambda: comparison_tables(folder))
        print((folder / "report.md").read_text(encoding="utf-8"))
        print(f"report: {page}")
        return page
    if not any((folder / name).is_file() for name in ("config.yaml", "metrics.json")):
        raise ValueError(f"out={folder}: no run or evaluation lies there; give the folder that `fineface train` or `evaluate` printed")
    return print_report(folder)


def _need_bundle(config: Config) -> Path:
    check_base(config.base)
    if not config.bundle:
        raise ValueError("bundle is empty: give a trained adapter, e.g. bundle=data/toyfacs/bundle or bundle=outputs/<run>/bundle")
    check_bundle(Path(config.bundle))  # what is wrong with it is said before a model loads
    return Path(config.bundle)


def _slug(text: str, limit: int = 60) -> str:
    return "".join(letter if letter.isalnum() or letter in "=.-" else "_" for letter in text)[:limit].strip("_")


def _save_png(image: Image.Image, path: Path, facts: dict[str, str]) -> None:
    info = PngInfo()
    for key, value in facts.items():
        info.add_itxt(key, value)
    with replacing(path) as partial:
        image.save(partial, format="PNG", pnginfo=info)
