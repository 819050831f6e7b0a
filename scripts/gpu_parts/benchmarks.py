"""How fast training and generation are."""

import functools
import json
import sys
import time
from typing import Any

from gpu_parts.checks import true_shape_step
from gpu_parts.machine import REPOSITORY, Machine, NotHereError, Part, PartError, run


def bench_train(machine: Machine, variants: str, arguments: list[str], limit: float) -> dict[str, Any]:
    """scripts/bench_train.py: seconds a step, peak memory and operations of each variant."""
    steps = ["--steps", "4" if machine.tiny else "8", "--out", str(machine.folder / "bench")]
    return {"training": measured(machine, "bench_train.py", [*steps, "--variants", variants, *arguments], limit)}


def bench_generate(machine: Machine, variants: str, arguments: list[str], limit: float) -> dict[str, Any]:
    """scripts/bench_generate.py, with the shipped bundle."""
    batches = (
        ["--images", "2", "--batches", "1", "2"] if machine.tiny else ["--images", "64", "--batches", "1", "8", "64"]
    )
    return {"generation": measured(machine, "bench_generate.py", [*batches, "--variants", variants, *arguments], limit)}


def bench_generate_true_shape(machine: Machine, variants: str, limit: float) -> dict[str, Any]:
    """scripts/bench_generate.py, with a bundle of one step of training at the true shape."""
    end = time.monotonic() + limit
    bundle = true_shape_step(machine, limit)["bundle"]
    sizes = ["--images", "2", "--batches", "1"] if machine.tiny else ["--images", "8", "--batches", "1", "8"]
    values = [value for value in machine.true_shape(1) if value.startswith(("base", "judge"))]
    arguments = ["--bundle", bundle, *sizes, "--variants", variants, *values]
    return {"generation": measured(machine, "bench_generate.py", arguments, end - time.monotonic())}


def measured(machine: Machine, script: str, arguments: list[str], limit: float) -> dict[str, Any]:
    """The numbers that a benchmark writes down. What did not fit into the GPU's memory is said so."""
    numbers = machine.folder / f"{time.monotonic_ns()}.json"
    values = [*arguments, *(["method.sampling.steps=2"] if machine.tiny else [])]
    try:
        run([sys.executable, str(REPOSITORY / "scripts" / script), "--json", str(numbers), *values], limit)
    except PartError as fault:
        if "OutOfMemoryError" in fault.output:
            raise NotHereError("more memory than this GPU has") from fault
        raise
    return dict(json.loads(numbers.read_text()))


FAST = "bf16+fused+channels_last"


def benchmarks(machine: Machine) -> list[Part]:
    """What is measured, the most telling first."""
    train, generate = functools.partial(bench_train, machine), functools.partial(bench_generate, machine)
    toy = [*machine.toyfacs("bench")[1:5], f"trainer.batch_size={4 if machine.tiny else 32}", "trainer.precision=fp32"]
    if machine.tiny:
        return [
            Part("training at SD 2.1's shape", 180, 5, functools.partial(train, "plain,ours", machine.true_shape(2))),
            Part("generation on ToyFACS", 90, 5, functools.partial(generate, "ours,bf16", [])),
            Part("generation at SD 2.1's shape", 180, 5, functools.partial(bench_generate_true_shape, machine, "ours")),
        ]
    shape, slim = "training at SD 2.1's shape", "bf16+channels_last"
    parts = [
        Part(shape, 180, 60, functools.partial(train, f"plain,ours,bf16,{slim},{FAST}", machine.true_shape(4))),
        Part("generation on ToyFACS", 60, 15, functools.partial(generate, f"ours,bf16,{slim}", [])),
        Part("training on ToyFACS", 90, 20, functools.partial(train, f"plain,ours,bf16,{FAST}", toy)),
        Part(
            "generation at SD 2.1's shape",
            150,
            50,
            functools.partial(bench_generate_true_shape, machine, f"ours,bf16,{slim},{slim}+compiled"),
        ),
    ]
    for batch in (32, 1, 8, 16):
        arguments = machine.true_shape(batch)
        parts.append(Part(f"{shape}, batch {batch}", 70, 30, functools.partial(train, FAST, arguments)))
    compiled = functools.partial(train, f"{FAST}+compiled", machine.true_shape(4))
    return [*parts, Part(f"{shape}, compiled", 180, 70, compiled)]
