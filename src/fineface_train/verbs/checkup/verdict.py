"""The needs as a table, and where this machine has not what they ask for."""

import math
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from fineface_train.config import Config
from fineface_train.verbs.checkup.machine import GB, existing, memory
from fineface_train.verbs.checkup.need import Need
from fineface_train.verbs.checkup.trial import Training

DAY = 86_400
MOST_DAYS_ON_A_CPU = 7
"""What would take longer on a CPU is a fault; what takes more than one day is told."""


def print_needs(needs: Sequence[Need]) -> float:
    """Print each need and their sums; returns the seconds of all that is known."""
    print("\ntime            disk")
    for need in needs:
        print(f"  {_told(need.seconds):12}  {_size(need.bytes):9}  {need.what}")
    seconds = sum(need.seconds or 0.0 for need in needs)
    open_ones = sum(need.seconds is None for need in needs)
    beyond = f", and {open_ones} whose time is not measured here" if open_ones else ""
    print(f"  {_told(seconds):12}  {_size(sum(need.bytes for need in needs)):9}  in all{beyond}")
    return seconds


def print_memory(training: Training) -> int:
    """Print the bytes of a process by part; returns their sum."""
    total = sum(training.memory.values())
    print(f"memory        {total / GB:.2f} GB a process, and the allocator's and the libraries' own on top:")
    print("\n".join(f"              {size / GB:8.2f} GB {part}" for part, size in training.memory.items()))
    return total


def shortages(config: Config, accelerator: Accelerator, needed: int, needs: Sequence[Need]) -> list[str]:
    """Where memory or a disk is smaller than what is needed."""
    faults = []
    wanted = needed * (accelerator.num_processes if accelerator.device.type == "cpu" else 1)
    there = memory(accelerator)
    if wanted > there:
        remedy = "lower trainer.batch_size, or set trainer.accumulation or trainer.gradient_checkpointing=true"
        faults.append(f"memory: {wanted / GB:.1f} GB are needed, {there / GB:.1f} GB are there; {remedy}")
    folders = {"run.root": config.run.root, "data.root": config.data.root, "data.cache": str(config.data.cache_folder)}
    on_disk: dict[int, list[Need]] = defaultdict(list)
    for need in needs:
        on_disk[existing(Path(folders[need.key])).stat().st_dev].append(need)
    for group in on_disk.values():
        size = sum(need.bytes for need in group)
        keys = sorted({need.key for need in group if need.bytes})
        free = shutil.disk_usage(existing(Path(folders[group[0].key]))).free
        if size > free:
            faults.append(
                f"{', '.join(f'{key}={folders[key]}' for key in keys)}: {size / GB:.1f} GB are needed, "
                f"{free / GB:.1f} GB are free"
            )
    return faults


def too_slow(config: Config, accelerator: Accelerator, seconds: float, training: Training) -> str | None:
    """What to do where a CPU would take more than a day; None where it does not."""
    if accelerator.device.type != "cpu" or seconds <= DAY:
        return None
    steps = max(1, int(DAY / 2 / training.seconds))
    days = f"{seconds / DAY:,.0f} days" if seconds >= 2 * DAY else f"{seconds / 3600:,.0f} hours"
    return (
        f"time: {days} on this CPU. This size needs a GPU: run the same command on a machine with one. To see the "
        f"method at work here, take the drawn world (fineface train experiment=quickstart, some minutes); or fewer "
        f"steps (half a day trains {steps:,} of trainer.steps={config.trainer.steps}), or a smaller "
        f"method.base.resolution={config.method.base.resolution}"
    )


def _told(seconds: float | None) -> str:
    """A duration in words: "658 h 3 min"."""
    if seconds is None:
        return "?"
    if seconds < 1:
        return "< 1 s" if seconds else ""
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60} min"
    return f"{minutes} min {int(seconds % 60)} s" if minutes else f"{math.ceil(seconds)} s"


def _size(size: float) -> str:
    return f"{size / GB:.2f} GB" if size >= GB / 100 else f"{size / 1e6:.2f} MB" if size else ""
