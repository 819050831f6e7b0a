#!/usr/bin/env python
"""Check training on a GPU and measure training and generation there, within a limit of time.

    bash scripts/gpu_check.sh [WHEELS_DIR] [--out DIR] [--minutes 9] [--only PART ...]

Checks (at once, as their speed does not matter): the command without an installation; fp32, bf16 and fp16; a killed run
that goes on, to the bit, with deterministic kernels and as it is; one process under torchrun, and two that share the
GPU; torch.compile. Then, one after the other, how fast a training step and an image are: on ToyFACS, and at Stable
Diffusion 2.1's true shape with random weights at 512 pixels.

Writes <out>/gpu_check.json and <out>/gpu_check.md after every part; <out> is --out, $OUT, or outputs/gpu_check. A part
that would not fit into the time is "not run: out of time". The status is 1 where a part failed. --tiny does the same
with little work, on a CPU too.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fineface_train.files import write_json, write_text
from gpu_parts.benchmarks import benchmarks
from gpu_parts.checks import checks
from gpu_parts.machine import Machine, NotHereError, Part, PartError, inside

PATIENCE = 4
"""With --tiny a part may take that much longer than on a GPU."""
RESERVE = 10.0
"""Seconds kept for the last files."""
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "numpy", "triton", "hydra-core")
PEAKS = {"bfloat16": 989e12, "float32": 67e12}
"""Dense floating point operations per second of an H100 or H200 (SXM), NVIDIA's data sheet; float32 without TF32."""


class Report:
    """What the parts found, written down anew after each."""

    def __init__(self, out: Path, about: dict[str, Any]) -> None:
        self.out, self.about, self.started = out, about, time.monotonic()
        self.parts: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, part: dict[str, Any]) -> None:
        with self._lock:
            self.parts.append(part)
            print(f"{part['name']}: {part['status']} ({part['seconds']:.0f} s)", flush=True)
            found = self.about | {"seconds": round(time.monotonic() - self.started, 1), "parts": self.parts}
            found |= {kind: speeds(self.parts, kind, self.about["gpu"]) for kind in ("training", "generation")}
            write_json(self.out / "gpu_check.json", found)
            write_text(self.out / "gpu_check.md", markdown(found))

    @property
    def failed(self) -> bool:
        return any(part["status"].startswith("failed") for part in self.parts)


class Budget:
    """The time that is left for all parts together."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()

    def run(self, part: Part, report: Report) -> None:
        """Run a part within its own limit and within what is left, and report what became of it."""
        started, limit = time.monotonic(), min(part.limit, self.left())
        numbers: dict[str, Any] = {}
        if limit < part.least:
            status = "not run: out of time"
        else:
            try:
                numbers = part.run(limit)
                status = "passed"
            except NotHereError as why:
                status = f"not here: {why}"
            except subprocess.TimeoutExpired:
                status = "not finished: out of time" if limit < part.limit else f"failed: took over {part.limit:.0f} s"
            except PartError as fault:
                status, numbers = f"failed: {fault}", {"output": fault.output}
        report.add({"name": part.name, "status": status, "seconds": time.monotonic() - started, **numbers})


def speeds(parts: Iterable[dict[str, Any]], kind: str, gpu: str | None) -> list[dict[str, Any]]:
    """The variants that parts of this `kind` measured, each with its share of the GPU's peak (MFU; None where that is
    not known)."""
    measured = [part[kind] for part in parts if kind in part]
    counted = "operations_an_example" if kind == "training" else "operations_an_image"
    known = {(one["base"], one["resolution"]): one[counted] for one in measured if one.get(counted)}
    rows = []
    for one in measured:
        about = {key: one[key] for key in ("base", "resolution", "batch", "steps") if key in one}
        for variant in one["variants"]:
            rate = variant["examples_per_second" if kind == "training" else "images_per_second"]
            dtype = variant.get("dtype") or ("bfloat16" if "bf16" in variant["variant"].split("+") else "float32")
            peak = PEAKS.get(dtype) if gpu and ("H100 80GB HBM3" in gpu or "H200" in gpu) else None
            operations = known.get((one["base"], one["resolution"]))
            mfu = rate * operations / peak if operations and peak else None
            rows.append(about | variant | {"dtype": dtype, "tflops": rate * (operations or 0) / 1e12, "mfu": mfu})
    return rows


def markdown(found: dict[str, Any]) -> str:
    """All of it as three tables."""
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    lines = [f"# {found['gpu'] or 'CPU'}, {found['date']}", "", f"Python {found['python']}, {versions}.", ""]
    lines += ["| part | result | seconds |", "|---|---|---|"]
    lines += [f"| {part['name']} | {_result(part)} | {part['seconds']:.0f} |" for part in found["parts"]]
    for kind, rate in (("training", "examples_per_second"), ("generation", "images_per_second")):
        lines += [
            "",
            f"## {kind.capitalize()}",
            "",
            "| base | px | batch | variant | a second | peak GB | TFLOP/s | MFU |",
        ]
        lines.append("|---|---|---|---|---|---|---|---|")
        for row in found[kind]:
            peak = f"{row['peak_gb']:.2f}" if row["peak_gb"] else "–"
            mfu = f"{row['mfu']:.1%}" if row["mfu"] is not None else "–"
            lines.append(
                f"| {row['base']} | {row['resolution']} | {row['batch']} | {row['variant']} | {row[rate]:.2f} | {peak} "
                f"| {row['tflops']:.3g} | {mfu} |"
            )
    return "\n".join(lines) + "\n"


def _result(part: dict[str, Any]) -> str:
    told = [part["status"].replace("|", "/"), *(f"{key} {value}" for key, value in part.get("found", {}).items())]
    return "; ".join(told)


def machine_facts() -> dict[str, Any]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gpu_gb": round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)
        if torch.cuda.is_available()
        else None,
        "cuda": torch.version.cuda,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": versions,
        "commit": commit or None,
    }


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        return inside(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "outputs/gpu_check")))
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts; the table names them")
    parser.add_argument("--tiny", action="store_true", help="little work, on a CPU too")
    arguments = parser.parse_args()
    budget = Budget(60 * arguments.minutes - RESERVE)
    if not torch.cuda.is_available() and not arguments.tiny:
        parser.error("torch sees no GPU here; --tiny goes through the same parts on a CPU")
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder), tiny=arguments.tiny, gpu=torch.cuda.is_available())
        checked, timed = checks(machine), benchmarks(machine)
        if machine.tiny:
            checked, timed = (
                [dataclasses.replace(part, limit=PATIENCE * part.limit) for part in parts] for parts in (checked, timed)
            )
        names = [part.name for part in (*checked, *timed)]
        if unknown := sorted(set(arguments.only or ()) - set(names)):
            parser.error(f"no part {', '.join(unknown)}; there are: {'; '.join(names)}")
        report = Report(arguments.out, machine_facts())
        checked, timed = (
            [part for part in parts if not arguments.only or part.name in arguments.only] for parts in (checked, timed)
        )
        with ThreadPoolExecutor(machine.at_once) as pool:
            list(pool.map(lambda part: budget.run(part, report), checked))
        for part in timed:
            budget.run(part, report)
    print((arguments.out / "gpu_check.md").read_text())
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
