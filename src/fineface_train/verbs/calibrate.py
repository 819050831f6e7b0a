"""`fineface calibrate`: learn what to ask of a bundle so that the wanted AUs are measured."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fineface_train.aus import AU_KEYS
from fineface_train.config import Config
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.glance import read_images
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.judges.judges import load_judges
from fineface_train.evaluation.plan import CALIBRATION_SEED, build_plan, calibration_prompts, calibration_sets
from fineface_train.locks import writable
from fineface_train.methods.au_diffusion.bundle import CALIBRATION_FILE, load_calibration, save_calibration
from fineface_train.methods.calibration import fit_calibration
from fineface_train.verbs.evaluation_folder import check_judge, fitting_judge
from fineface_train.verbs.generators import draws, load_generator, way


def calibrate(config: Config, bundle: Path) -> Path:
    """`fineface calibrate`: measure how a bundle answers, and store in it what to ask for; used where
    calibrated=true."""
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


def calibrate_bundle(config: Config, bundle: Path) -> Path:
    """Measure how a bundle answers on the calibration prompts, and store in it what to ask for (see
    `methods.calibration`).

    The same images are then made calibrated: requests of one AU, and of several, are calibrated where that has lowered
    the error (on the commanded AU; over all 12).
    """
    generator = load_generator(dataclasses.replace(config, calibrated=False), bundle)
    judges = load_judges(config.judge, generator.pipe.device)
    judge = next(iter(judges.aus))
    prompts = calibration_prompts(draws(config))
    plan = build_plan(ProtocolName.calibration, prompts, calibration_sets(), config.evaluation.seed + CALIBRATION_SEED)
    requested = np.array([image.request.aus for image in plan])

    def read() -> NDArray[np.float64]:
        frame = read_images(generator, judges, plan, config.evaluation.batch_size)
        return frame[[f"{judge}_{key}" for key in AU_KEYS]].to_numpy(float)

    measured = read()
    generator.calibration = fitted = fit_calibration(requested, measured)
    before, after = _calibration_errors(requested, measured), _calibration_errors(requested, read())
    calibration = dataclasses.replace(
        fitted, alone=after["alone"] < before["alone"], several=after["several"] < before["several"]
    )
    about = {
        "judge": judge,
        "images": len(plan),
        "seed": config.evaluation.seed + CALIBRATION_SEED,
        "error": {"as it is": before, "calibrated": after},
    }
    return save_calibration(bundle, calibration, about | way(config))


def _calibration_errors(requested: NDArray[np.float64], measured: NDArray[np.float64]) -> dict[str, float]:
    """Mean squared errors: of requests of one AU on that AU, of several over all 12."""
    commanded, squared = requested != 0, (measured - requested) ** 2
    one, several = commanded.sum(1) == 1, commanded.sum(1) > 1
    return {"alone": float(squared[one][commanded[one]].mean()), "several": float(squared[several].mean())}
