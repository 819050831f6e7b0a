"""What this machine has: device, processes, precision, memory, disk, versions."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator

from fineface_train.config import Config
from fineface_train.data.annotators.libreface import find_weights
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.judges.judges import LIBREFACE_KEY
from fineface_train.loop.runs import versions

GB = 1e9
WRITTEN = 2**25
"""Bytes that are written to time a disk."""


def print_machine(config: Config, accelerator: Accelerator) -> None:
    """Devices, precision, versions, memory and disk."""
    print("this machine")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(
        f"  device      {accelerator.device}"
        + (f": {len(names)} x {names[0]}" if names else f": {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    )
    print(f"  processes   {accelerator.num_processes}")
    print(
        f"  precision   {accelerator.mixed_precision if accelerator.mixed_precision != 'no' else 'fp32'} "
        f"(trainer.precision={config.trainer.precision.value})"
    )
    print(f"  memory      {memory(accelerator) / GB:.1f} GB")
    for key, folder in (("run.root", config.run.root), ("data.root", config.data.root)):
        print(f"  disk        {shutil.disk_usage(existing(Path(folder))).free / GB:.1f} GB free for {key}={folder}")
    if config.judge.kind is JudgeKind.libreface:
        with contextlib.suppress(ValueError):  # what is missing is among the faults
            weights, digest = find_weights(config.judge.libreface, LIBREFACE_KEY)
            pinned = (
                "as pinned"
                if config.judge.libreface.weights_sha256
                else f"not pinned: {LIBREFACE_KEY}.weights_sha256 is null"
            )
            print(f"  libreface   {weights}: SHA-256 {digest} ({pinned})")
    print("  versions    " + ", ".join(f"{name} {version}" for name, version in versions().items()))


def memory(accelerator: Accelerator) -> int:
    """Bytes of the GPU, or of the machine where there is none."""
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_properties(accelerator.device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def existing(folder: Path) -> Path:
    """The nearest parent that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def seconds_per_byte(folder: Path) -> float:
    """How long it takes to write a byte to the disk of `folder` for good, and to hash it; measured, nothing is left
    there."""
    place = existing(folder)
    if not os.access(place, os.W_OK):  # which is among the faults
        return 0.0
    data, started = os.urandom(WRITTEN), time.perf_counter()
    with tempfile.TemporaryFile(dir=place) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    hashlib.sha256(data)
    return (time.perf_counter() - started) / WRITTEN
