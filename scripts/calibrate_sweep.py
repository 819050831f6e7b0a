#!/usr/bin/env python
"""What calibration gains, for every arm of a sweep alike, beside what training gains.

    python scripts/calibrate_sweep.py sweep=table1 --out docs/results/calibration [key=value ...]

Calibrates the first seed's bundle of each arm (fitted with judge one on prompts and noise of its own), evaluates it
with and without on the configured protocol, and writes a table of what judge two reads, which no curve was fitted to,
with its 95% intervals and paired differences.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from fineface_train.compose import load_config
from fineface_train.config import Config
from fineface_train.evaluation.compare import compare
from fineface_train.evaluation.metrics import nulled
from fineface_train.files import write_json
from fineface_train.methods.au_diffusion.bundle import CALIBRATION_FILE
from fineface_train.reports.sweep_records import chosen_folder, first_runs
from fineface_train.reports.words import interval, markdown_table, number
from fineface_train.verbs.calibrate import calibrate_bundle
from fineface_train.verbs.evaluate import measure_once
from fineface_train.verbs.evaluation_folder import evaluation_folder

COLUMNS = (
    ("individual", "au_mse_active"),
    ("individual", "slope"),
    ("individual", "leakage"),
    ("combination", "au_mse_mean"),
    ("combination", "leakage"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="sweep=NAME or out=FOLDER, and what else the evaluation wants")
    parser.add_argument("--out", type=Path, required=True, help="folder of calibration.md and calibration.json")
    arguments = parser.parse_args()
    config = load_config(arguments.overrides)
    folder = chosen_folder(config)
    config.out = None
    runs = first_runs(folder)
    if not runs:
        parser.error(f"no finished arm of a sweep in {folder}")
    found: dict[str, Any] = {}
    for arm, run in runs.items():
        print(arm, flush=True)
        bundle = run / "bundle"
        if not (bundle / CALIBRATION_FILE).exists():
            calibrate_bundle(config, bundle)
        rows = {way: {0: _rows(config, bundle, calibrated=way == "calibrated")} for way in ("as it is", "calibrated")}
        judges = [column.removesuffix("_AU1") for column in rows["as it is"][0].columns if column.endswith("_AU1")]
        found[arm] = compare(rows, "as it is", judges[1])
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = [["arm", "", *(f"{kind}: {name}" for kind, name in COLUMNS)]]
    for arm, kinds in found.items():
        for way in ("as it is", "calibrated"):
            cells = [kinds[kind][way][name] for kind, name in COLUMNS]
            table.append([f"`{arm}`", way, *(f"{number(cell['value'])} ({interval(cell)})" for cell in cells)])
    (arguments.out / "calibration.md").write_text(markdown_table(table))
    write_json(
        arguments.out / "calibration.json",
        nulled({arm: {way: _plain(kinds, way) for way in ("as it is", "calibrated")} for arm, kinds in found.items()}),
    )
    print(markdown_table(table))


def _rows(config: Config, bundle: Path, *, calibrated: bool) -> pd.DataFrame:
    """The images of an evaluation with or without calibration, made if it is not there."""
    config.calibrated = calibrated
    return pd.read_parquet(measure_once(config, bundle, evaluation_folder(config, bundle)) / "images.parquet")


def _plain(kinds: dict[str, Any], way: str) -> dict[str, Any]:
    """Value, interval, difference and p of each column, by kind and name."""
    parts = ("value", "low", "high", "difference", "difference_low", "difference_high", "p")
    return {
        f"{kind}/{name}": {part: kinds[kind][way][name][part] for part in parts if part in kinds[kind][way][name]}
        for kind, name in COLUMNS
    }


if __name__ == "__main__":
    main()
