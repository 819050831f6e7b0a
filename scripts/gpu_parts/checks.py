"""What must hold on a machine with a GPU."""

import contextlib
import functools
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_parts.machine import FINEFACE, REPOSITORY, Machine, NotHereError, Part, PartError, inner, run

ALMOST = 0.1
"""Two precisions' or launches' mean losses may differ by this share."""


def checks(machine: Machine) -> list[Part]:
    """What must hold on this machine."""
    return [
        Part("command without an installation", 90, 5, functools.partial(without_installation, machine)),
        Part("fp32, bf16, fp16", 150, 20, functools.partial(precisions, machine)),
        Part("resume, deterministic kernels", 150, 20, functools.partial(resume, machine, "deterministic")),
        Part("resume, kernels as they are", 150, 20, functools.partial(resume, machine, "")),
        Part("one process under torchrun", 120, 20, functools.partial(processes, machine, 1)),
        Part("two processes", 150, 20, functools.partial(processes, machine, 2)),
        Part("torch.compile", 180, 30, functools.partial(compiles, machine)),
        Part("a step at SD 2.1's shape", 150, 20, functools.partial(true_shape_step, machine)),
    ]


def without_installation(machine: Machine, limit: float) -> dict[str, Any]:
    """`PYTHONPATH=src python -m fineface_train --help` and doctor."""
    end = time.monotonic() + limit
    if "train" not in run([*FINEFACE, "--help"], limit):
        raise PartError("fineface --help names no verb train")
    arguments = machine.toyfacs("doctor")[1:]
    output = run([*FINEFACE, "doctor", *arguments], end - time.monotonic())
    return {"output": output[-3000:]}


def precisions(machine: Machine, limit: float) -> dict[str, Any]:
    """The same training in each; the mean losses are alike."""
    end, means = time.monotonic() + limit, {}
    for name in ("fp32", "bf16", *(("fp16",) if machine.gpu else ())):
        run([*FINEFACE, *machine.toyfacs(name, f"trainer.precision={name}")], end - time.monotonic())
        means[name] = mean_loss(machine.folder / name, machine.steps)
    for name, mean in means.items():
        if abs(mean - means["fp32"]) > ALMOST * means["fp32"]:
            raise PartError(f"the mean loss is {mean:.4f} in {name} and {means['fp32']:.4f} in fp32")
    return {"found": {f"{name}: mean loss": round(mean, 5) for name, mean in means.items()}}


def resume(machine: Machine, changes: str, limit: float) -> dict[str, Any]:
    """A run left alone, and one that is killed after its first checkpoint and started again."""
    end, command = time.monotonic() + limit, inner(changes) if changes else FINEFACE
    alone, killed = (f"{changes or 'plain'}_{name}" for name in ("alone", "killed"))
    run([*command, *machine.toyfacs(alone, "trainer.precision=fp32")], end - time.monotonic())
    again = [*command, *machine.toyfacs(killed, "trainer.precision=fp32")]
    process = subprocess.Popen(
        again, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not list((machine.folder / killed).glob("*/state/step_*[0-9]")):
        if time.monotonic() > end:
            os.killpg(process.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(again, limit)
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = len(losses(machine.folder / killed))
    if before >= machine.steps:
        raise PartError("the run had finished before it could be killed")
    run(again, end - time.monotonic())
    same = weights(machine.folder / alone) == weights(machine.folder / killed)
    apart = max(
        abs(one - other)
        for one, other in zip(losses(machine.folder / alone), losses(machine.folder / killed), strict=True)
    )
    if changes == "deterministic" and not same:
        raise PartError(f"after a kill at step {before} the weights differ; the losses by up to {apart:.2g}")
    return {
        "found": {
            "killed at step": before,
            "weights": "identical" if same else "differ",
            "losses differ by": f"{apart:.2g}",
        }
    }


def processes(machine: Machine, count: int, limit: float) -> dict[str, Any]:
    """`count` processes against one: the same examples, so the same losses up to rounding."""
    end, alone, together = time.monotonic() + limit, f"process_{count}", f"processes_{count}"
    run([*FINEFACE, *machine.toyfacs(alone, "trainer.precision=fp32")], end - time.monotonic())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    program = ["-m", "fineface_train"] if count == 1 or not machine.gpu else inner("shared")[1:]
    environment = {"OMP_NUM_THREADS": "1"} | ({} if machine.gpu else {"ACCELERATE_USE_CPU": "true"})
    command = [*launcher, *program, *machine.toyfacs(together, "trainer.precision=fp32")]
    run(command, end - time.monotonic(), **environment)
    one, other = (mean_loss(machine.folder / name, machine.steps) for name in (alone, together))
    if abs(one - other) > ALMOST * one:
        raise PartError(f"the mean loss is {other:.4f} in {count} processes and {one:.4f} without a launcher")
    first, second = losses(machine.folder / alone)[0], losses(machine.folder / together)[0]
    return {
        "found": {"mean losses": f"{one:.5f} and {other:.5f}", "first losses differ by": f"{abs(first - second):.2g}"}
    }


def compiles(machine: Machine, limit: float) -> dict[str, Any]:
    if not machine.gpu:
        raise NotHereError("on a CPU the tests compile (tests/test_trainer.py)")
    precision = "trainer.precision=bf16"
    run([*FINEFACE, *machine.toyfacs("compiled", precision, "trainer.compile=true")], limit)
    return {"found": {"mean loss": round(mean_loss(machine.folder / "compiled", machine.steps), 5)}}


def true_shape_step(machine: Machine, limit: float) -> dict[str, Any]:
    """One step of training at the true shape, and its bundle; found again where it has been taken."""
    root = machine.folder / "true_shape"
    if not list(root.glob("*/bundle")):
        values = ["trainer.steps=1", "trainer.sample_every=0", "evaluation.after_training=false", f"run.root={root}"]
        run([*FINEFACE, "train", *machine.true_shape(1), *values], limit)
    (bundle,) = root.glob("*/bundle")
    return {"bundle": str(bundle)}


def losses(root: Path) -> list[float]:
    """The loss of every step of the one run below `root`."""
    (metrics,) = root.glob("*/metrics.jsonl")
    found = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [row["loss"] for row in found if "loss" in row]


def weights(root: Path) -> str:
    """SHA-256 of what the one run below `root` learned."""
    (bundle,) = root.glob("*/bundle")
    files = sorted(bundle.glob("*.safetensors"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def mean_loss(root: Path, steps: int) -> float:
    found = losses(root)
    if len(found) != steps or not all(map(math.isfinite, found)):
        raise PartError(f"{len(found)} of {steps} losses were written, the last are {found[-3:]}")
    return sum(found) / len(found)
