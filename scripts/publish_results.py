#!/usr/bin/env python
"""Copy a sweep's comparison to where it is kept: tables, pictures, the rows of every image, and the config of every
arm.

    python scripts/publish_results.py sweep=table1 --out docs/results/table1 [key=value ...]

Compares the sweep's arms anew (as `fineface report sweep=...`) and writes into <out>: report.md, comparison.json,
rows.parquet, figures/ and configs/<arm>.yaml. Refuses a sweep with arms that failed or are not evaluated, unless
--unfinished, and text that names this machine's folders.
"""

import argparse
import shutil
from pathlib import Path

from fineface_train.compose import load_config
from fineface_train.reports.comparison.markdown import FIGURES, short_name
from fineface_train.reports.comparison.page import write_comparison
from fineface_train.reports.sweep_records import chosen_folder, first_runs, read_records

COPIED = ("report.md", "comparison.json", "rows.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides", nargs="+", help="sweep=NAME, and other values of the config (comparison.reference=...)"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--unfinished", action="store_true", help="publish what there is; report.md says what is missing"
    )
    arguments = parser.parse_args()
    config = load_config(arguments.overrides)
    folder = chosen_folder(config)
    missing = [f"{record['arm']} seed={record['seed']}" for record in read_records(folder) if "error" in record]
    if missing and not arguments.unfinished:
        parser.error(
            f"{folder}: {len(missing)} arms have no result ({', '.join(missing[:3])}...); finish the sweep, or say "
            f"--unfinished"
        )
    write_comparison(folder, config.comparison.reference)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copyfile(folder / name, arguments.out / name)
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
