#!/usr/bin/env python
"""AU error against CLIP-I: evaluate each arm of a sweep at other adapter scales and guidances, then write the sweep's
report again.

    python scripts/pareto.py sweep=table1 [--scales 0.25 0.5 0.75 1 1.25 1.5] [--guidances 1 2 3 5] [--out
    docs/results/pareto/table1] [key=value ...]

The quick protocol, the arm's first seed. Scales are tried where an arm has an adapter, at the configured guidance;
guidances at the arm's own scale. What is evaluated already is not evaluated again. With --out the points, their tables
and their picture are kept there too: trade_off.json, .md and .svg.
"""

import argparse
import shutil
from pathlib import Path

from fineface_train.compose import load_config
from fineface_train.config import Config
from fineface_train.data.conditioning import Entry
from fineface_train.evaluation.config import ProtocolName
from fineface_train.files import read_json, write_json, write_text
from fineface_train.methods.au_diffusion.bundle import check_bundle
from fineface_train.reports.comparison.page import write_comparison
from fineface_train.reports.comparison.tables import FIGURES
from fineface_train.reports.comparison.trade_off import equal_clip_i
from fineface_train.reports.sweep_records import chosen_folder, first_runs
from fineface_train.verbs.evaluate import measure_once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="sweep=NAME or out=FOLDER, and what else the evaluation wants")
    parser.add_argument("--scales", type=float, nargs="*", default=[0.25, 0.5, 0.75, 1.0, 1.25, 1.5])
    parser.add_argument("--guidances", type=float, nargs="*", default=[1.0, 2.0, 3.0, 5.0])
    parser.add_argument("--out", type=Path, help="folder of trade_off.json, trade_off.md and trade_off.svg")
    arguments = parser.parse_args()
    config = load_config(arguments.overrides)
    folder = chosen_folder(config)
    config.out, config.protocol = None, ProtocolName.quick
    first = first_runs(folder)
    if not first:
        parser.error(f"no finished arm of a sweep in {folder}")
    guidance = config.method.sampling.guidance
    for arm, run in first.items():
        scales = arguments.scales if check_bundle(run / "bundle").conditioning.enters is Entry.adapter else []
        for scale, strength in [
            *((scale, guidance) for scale in scales),
            *((None, strength) for strength in arguments.guidances),
        ]:
            print(
                f"{arm}: {'its own scale' if scale is None else f'scale {scale:g}'}, guidance {strength:g}", flush=True
            )
            _evaluate(config, run, scale, strength)
    print(f"report: {write_comparison(folder, config.comparison.reference)}")
    if arguments.out:
        found = read_json(folder / "comparison.json")
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out / "trade_off.json", found["trade_off"])
        write_text(arguments.out / "trade_off.md", "\n".join(equal_clip_i(found)))
        shutil.copyfile(folder / FIGURES / "trade_off.svg", arguments.out / "trade_off.svg")
        print(f"kept: {arguments.out}")


def _evaluate(config: Config, run: Path, scale: float | None, guidance: float) -> None:
    config.scale, config.method.sampling.guidance = scale, guidance
    out = run / f"evaluation-pareto-scale{'own' if scale is None else f'{scale:g}'}-guidance{guidance:g}"
    measure_once(config, run / "bundle", out)


if __name__ == "__main__":
    main()
