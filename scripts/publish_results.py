#!/usr/bin/env python
"""Copy a sweep's comparison to where it is kept: tables, pictures, the rows of every image, and the config of every
arm.

    python scripts/publish_results.py sweep=table1 --out docs/results/table1 [key=value ...]
    python scripts/publish_results.py --redraw --out docs/results/table1    # the charts of what is published there

Compares the sweep's arms anew (as `fineface report sweep=...`) and writes into <out>: report.md, comparison.json,
figures/ and configs/<arm>.yaml. What the judges read of every image goes into rows.parquet in the folder above <out>,
each run once, however many sweeps show it. Refuses a sweep with arms that failed or are not evaluated, unless
--unfinished, and text that names this machine's folders.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from fineface_train.compose import load_config
from fineface_train.files import read_json, read_parquet, replacing, write_text
from fineface_train.reports.comparison.figures import write_figures
from fineface_train.reports.comparison.page import write_comparison
from fineface_train.reports.comparison.tables import FIGURES, short_name
from fineface_train.reports.sweep_records import chosen_folder, first_runs, read_records

ROWS, COMPARISON = "rows.parquet", "comparison.json"
NOT_PUBLISHED = ("path",)
"""Columns of a sweep's rows that say nothing without its images."""


def published_rows(out: Path) -> dict[str, dict[int, pd.DataFrame]]:
    """By arm and seed, the rows of the sweep that is published in `out`, as `evaluation.compare` takes them."""
    names, rows = _run_names(out / COMPARISON), read_parquet(out.parent / ROWS)
    shown = _unpacked(rows[rows["run"].isin(_all(names))])
    runs = {run: own.drop(columns="run").reset_index(drop=True) for run, own in shown.groupby("run")}
    return {arm: {int(seed): runs[run] for seed, run in seeds.items()} for arm, seeds in names.items()}


def publish_rows(sweep: pd.DataFrame, out: Path) -> list[str]:
    """Put the rows of a sweep (with `arm` and `seed_of_training`) into rows.parquet above `out`, where its
    comparison.json already lies; runs that no published sweep shows any longer leave the file.

    Returns the other published sweeps that show a run whose rows are now others: they are to be published again.
    """
    path, names = out.parent / ROWS, _run_names(out / COMPARISON)
    shown = {
        other.parent.name: _all(_run_names(other))
        for other in out.parent.glob(f"*/{COMPARISON}")
        if other.parent.name != out.name
    }
    own = sweep.drop(columns=["arm", "seed_of_training", *NOT_PUBLISHED], errors="ignore")
    asked = zip(sweep["arm"], sweep["seed_of_training"], strict=True)
    own.insert(0, "run", [names[arm][str(seed)] for arm, seed in asked])
    own = own[~own.duplicated()]  # seeds of an arm that is not trained are one run
    before = read_parquet(path) if path.exists() else own.iloc[:0]
    others = before[before["run"].isin(set().union(*shown.values())) & ~before["run"].isin(own["run"])]
    changed = {
        run for run, rows in own.groupby("run") if not _unpacked(rows).equals(_unpacked(before[before["run"] == run]))
    }
    _write_light(path, pd.concat([rows for rows in (others, own) if len(rows)], ignore_index=True))
    return sorted(name for name, runs in shown.items() if runs & changed)


def _unpacked(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of some runs as they were before they lay beside others: without columns that only others have, and in
    double precision."""
    rows = rows.dropna(axis="columns", how="all").infer_objects().reset_index(drop=True)
    return rows.astype(dict.fromkeys(rows.select_dtypes("float32").columns, float))


def _run_names(comparison: Path) -> dict[str, dict[str, str]]:
    """arm -> seed -> name of the run's folder."""
    folders = read_json(comparison, "folders")["folders"]
    return {arm: {seed: Path(folder).name for seed, folder in seeds.items()} for arm, seeds in folders.items()}


def _all(names: dict[str, dict[str, str]]) -> set[str]:
    return {run for seeds in names.values() for run in seeds.values()}


def _write_light(path: Path, rows: pd.DataFrame) -> None:
    """As small as Parquet gets without losing a bit: single precision where that is exact, its four bytes compressed
    apart, zstd's high level."""
    numbers = rows.select_dtypes("float64")
    single = [name for name in numbers if numbers[name].astype(np.float32).astype(float).equals(numbers[name])]
    rows = rows.astype(dict.fromkeys(single, np.float32))
    readings = [name for name in rows.select_dtypes("floating") if rows[name].nunique() > 1000]
    with replacing(path) as partial:
        rows.to_parquet(
            partial,
            index=False,
            compression="zstd",
            compression_level=15,  # higher levels come out larger here
            use_dictionary=[name for name in rows if name not in readings],
            column_encoding=dict.fromkeys(readings, "BYTE_STREAM_SPLIT"),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides", nargs="*", help="sweep=NAME, and other values of the config (comparison.reference=...)"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--unfinished", action="store_true", help="publish what there is; report.md says what is missing"
    )
    parser.add_argument("--redraw", action="store_true", help="draw the charts anew from <out>/comparison.json")
    arguments = parser.parse_args()
    if arguments.redraw:
        write_figures(arguments.out / FIGURES, read_json(arguments.out / "comparison.json", "numbers"))
        return
    if not arguments.overrides:
        parser.error("give sweep=NAME, or --redraw")
    config = load_config(arguments.overrides)
    folder = chosen_folder(config)
    missing = [f"{record['arm']} seed={record['seed']}" for record in read_records(folder) if "error" in record]
    if missing and not arguments.unfinished:
        parser.error(
            f"{folder}: {len(missing)} arms have no result ({', '.join(missing[:3])}...); finish the sweep, or say "
            f"--unfinished"
        )
    write_comparison(folder, config.comparison.reference)
    found = read_json(folder / COMPARISON, "judges")
    if not found["judges"]:
        parser.error(f"{folder}: no arm of this sweep was judged, so there are no numbers to publish")
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "report.md", arguments.out / "report.md")
    write_text(arguments.out / COMPARISON, json.dumps(found, separators=(",", ":")) + "\n")
    for name in publish_rows(read_parquet(folder / ROWS), arguments.out):
        print(f"{arguments.out.parent / name} shows runs whose rows have changed: publish it again")
    shutil.copytree(folder / FIGURES, arguments.out / FIGURES, dirs_exist_ok=True)
    (arguments.out / "configs").mkdir(exist_ok=True)
    for arm, run in first_runs(folder).items():
        shutil.copyfile(run / "config.yaml", arguments.out / "configs" / f"{short_name(arm)}.yaml")
    here = [str(Path.cwd()), str(Path.home())]
    for path in [*arguments.out.rglob("*.md"), *arguments.out.rglob("*.json"), *arguments.out.rglob("*.yaml")]:
        if any(place in path.read_text() for place in here):
            parser.error(f"{path} names a folder of this machine; give run.root and data.root as relative paths")
    print(arguments.out)


if __name__ == "__main__":
    main()
