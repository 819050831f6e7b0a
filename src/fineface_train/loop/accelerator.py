"""The accelerator of a run: precision and processes on whatever this machine has."""

import datetime
import logging
import os
import resource
import shutil
import sys
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from fineface_train.loop.config import Precision, TrainerConfig

logger = logging.getLogger(__name__)
DECIDED_BY_CONFIG = {
    "ACCELERATE_DYNAMO_BACKEND": ("trainer.compile", "dynamo_backend", "no"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("trainer.accumulation", "gradient_accumulation_steps", "1"),
    "ACCELERATE_MIXED_PRECISION": ("trainer.precision", "mixed_precision", "no"),
}
"""What the environment and `accelerate config` may ask of accelerate: the key that decides it, accelerate's option, and
the value that asks for nothing."""


def make_accelerator(config: TrainerConfig) -> Accelerator:
    """An accelerator with the configured precision and accumulation, on whatever this machine has.

    Raises ValueError where accelerate is told to shard the model (what is trained here is small, and is saved from
    whole parameters), where there is nothing to compile with, and for a precision that this device has not.
    """
    for sharding in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{sharding}", "false").lower() == "true":
            raise ValueError(
                f"accelerate is set to {sharding}, which shards a model over processes; fineface trains whole copies "
                f"side by side (docs/scaling.md says why). "
                f"Launch without --use_{sharding.lower()}, or choose plain multi-GPU in `accelerate config`"
            )
    precision = config.precision
    if precision is Precision.auto:
        precision = Precision.bf16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else Precision.fp32
    mixed = {Precision.bf16: "bf16", Precision.fp16: "fp16"}.get(precision, "no")
    accelerator = launched(mixed_precision=mixed, gradient_accumulation_steps=config.accumulation)
    if precision is Precision.fp16 and accelerator.device.type == "cpu":
        raise ValueError(
            "trainer.precision=fp16: on a CPU nothing trains in it; choose bf16 or fp32, or auto, which finds what the "
            "device has"
        )
    compiler = os.environ.get("CXX", "g++")
    if config.compile and accelerator.device.type == "cpu" and not shutil.which(compiler):
        raise ValueError(
            f"trainer.compile=true: no C++ compiler {compiler!r} here (Debian: apt install g++; or set CXX); or leave "
            f"trainer.compile out"
        )
    return accelerator


def launched(**options: Any) -> Accelerator:
    """An accelerator over all processes of this launch. Raises ValueError where it does not see them, so that each
    would work for itself.

    What accelerate would take from the environment beside `options`, and train otherwise for, is told and left out.
    """
    for variable, (key, option, nothing) in DECIDED_BY_CONFIG.items():
        asked = os.environ.pop(variable, "").lower()
        if asked not in ("", nothing, str(options.get(option))):
            logger.warning("%s=%s is left out of account: the config decides (%s)", variable, asked, key)
    # Preparing a large dataset keeps the others waiting for the first process longer than the default 10 or 30 minutes.
    patient = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=24))
    try:
        accelerator = Accelerator(kwargs_handlers=[patient], **options)
        wanted = int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        settings = " ".join(
            f"{name}={value}"
            for name, value in sorted(os.environ.items())
            if name.startswith("ACCELERATE_") or name == "WORLD_SIZE"
        )
        raise ValueError(
            f"accelerate cannot start ({error})"
            + (f"; mend or unset what the environment says: {settings}" if settings else "")
        ) from error
    if accelerator.num_processes != wanted:
        raise ValueError(
            f"{wanted} processes were launched, but accelerate sees {accelerator.num_processes}; on a CPU set "
            f"ACCELERATE_USE_CPU=true"
        )
    return accelerator


def weight_dtype(config: TrainerConfig, accelerator: Accelerator) -> torch.dtype:
    """The type of frozen weights; batches stay float32 (float64 for `fp64`) and autocast does the rest."""
    if config.precision is Precision.fp64:
        return torch.float64
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision, torch.float32)


def peak_memory_gb(device: torch.device) -> float:
    """The most memory that this process has held so far: of its GPU, or on a CPU of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
