"""`fineface doctor`: what this machine has, what the config would need, and everything that is missing or wrong,
without training."""

import contextlib
import dataclasses
import functools
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline
from torch import Tensor

from fineface_train.aus import AU_COUNT
from fineface_train.config import Config
from fineface_train.data.affectnet import layout as affectnet_layout
from fineface_train.data.affectnet import reader as affectnet
from fineface_train.data.annotators.annotate import annotated_by
from fineface_train.data.annotators.blip2 import find_model
from fineface_train.data.annotators.config import AnnotatorKind
from fineface_train.data.annotators.libreface import check_environment, find_weights
from fineface_train.data.config import wants_blip2
from fineface_train.data.disfa import layout as disfa_layout
from fineface_train.data.disfa import reader as disfa
from fineface_train.data.examples import Batch, check_batch_size
from fineface_train.data.manipulation import reader as manipulation
from fineface_train.data.prepared import TABLE
from fineface_train.data.stages import ANNOTATE_KEY
from fineface_train.data.table import SampleTable
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.evaluation.judges.judges import LIBREFACE_KEY, find_judges
from fineface_train.loop.accelerator import make_accelerator
from fineface_train.loop.runs import versions
from fineface_train.methods.au_diffusion.adapter import audit, audit_table
from fineface_train.methods.au_diffusion.base import load_base
from fineface_train.methods.au_diffusion.model import AUDiffusion, batch_to
from fineface_train.verbs.train import batch_dtype, build_model

T = TypeVar("T")
STEPS_TIMED, EXAMPLES_TRIED = 3, 4
"""On few examples, so that a batch that does not fit is said and not tried; activations and time grow with their
number."""
GB = 1e9


def doctor(config: Config) -> None:
    """Print the report; raises ValueError at its end if anything is missing or wrong, with all of it on its own
    lines."""
    accelerator = make_accelerator(config.trainer)
    _machine(config, accelerator)
    faults = _faults(config, accelerator)
    pipe = None
    try:
        pipe = load_base(config.method.base)
    except ValueError as error:
        faults.append(str(error))
    if pipe is not None:
        faults += _needs(config, accelerator, pipe)
    if faults:
        raise ValueError(
            f"{len(faults)} thing{'s' if len(faults) > 1 else ''} to mend before this can train:\n"
            + "\n".join(f"  - {fault}" for fault in faults)
        )
    print("nothing is missing")


def _machine(config: Config, accelerator: Accelerator) -> None:
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
    print(f"  memory      {_memory(accelerator) / GB:.1f} GB")
    for key, folder in (("run.root", config.run.root), ("data.root", config.data.root)):
        print(f"  disk        {shutil.disk_usage(_existing(Path(folder))).free / GB:.1f} GB free for {key}={folder}")
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


def _memory(accelerator: Accelerator) -> int:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_properties(accelerator.device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _existing(folder: Path) -> Path:
    """The nearest parent that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _faults(config: Config, accelerator: Accelerator) -> list[str]:
    """Everything that can be seen to be missing or wrong, the base excepted."""
    faults: list[str] = []

    def check(action: Callable[[], T]) -> T | None:
        try:
            return action()
        except (ValueError, OSError) as error:
            if str(error) not in faults:
                faults.append(str(error))
            return None

    trainer = config.trainer
    check(lambda: check_batch_size(trainer.batch_size, trainer.accumulation, accelerator.num_processes))
    if config.data.toyfacs is None:  # else the corpus is drawn
        sources = config.data
        if sources.disfa is not None:
            frames = check(functools.partial(disfa_layout.find_copy, sources.disfa))
            if frames is not None:
                faults += frames.faults
                check(functools.partial(disfa.check_labels, frames))
        if sources.affectnet is not None:
            images = check(functools.partial(affectnet_layout.find_copy, sources.affectnet))
            if images is not None:
                check(functools.partial(affectnet.check, images))
                check(functools.partial(affectnet.check_list, images, images=True, skip_broken=sources.skip_broken))
                check(functools.partial(affectnet.check_archive, images))
        if sources.manipulation is not None:
            listed = check(functools.partial(manipulation.find_copy, sources.manipulation))
            if listed is not None:
                check(functools.partial(manipulation.check, listed, skip_broken=sources.skip_broken))
        if wants_blip2(sources):
            check(functools.partial(find_model, sources.blip2))
    if config.judge.kind is not JudgeKind.none and config.evaluation.wanted:
        check(lambda: find_judges(config.judge))
        if config.judge.kind is JudgeKind.libreface:
            check(lambda: check_environment(config.judge.libreface, LIBREFACE_KEY))
    check(lambda: annotated_by(config.data.annotate, ANNOTATE_KEY))
    if config.data.annotate.kind is AnnotatorKind.libreface:
        check(lambda: check_environment(config.data.annotate.libreface, f"{ANNOTATE_KEY}.libreface"))
    for key, folder in (("run.root", Path(config.run.root)), ("data.root", Path(config.data.root))):
        if not os.access(_existing(folder), os.W_OK):
            faults.append(f"{key}={folder}: {_existing(folder)} cannot be written to")
    return faults


def _needs(config: Config, accelerator: Accelerator, pipe: StableDiffusionPipeline) -> list[str]:
    """Print parameters by part, memory, disk, steps and time of the configured run, from real steps on made-up
    examples; returns what this machine has not."""
    if not config.method.trains:
        print("\nwhat this config needs\n  nothing is trained: the base is exported as it is, with AUs as text")
        return []
    trainer = config.trainer
    latent = (pipe.unet.config.in_channels, *(2 * [config.method.base.resolution // pipe.vae_scale_factor]))
    tokens, width = pipe.tokenizer.model_max_length, pipe.unet.config.cross_attention_dim
    model = build_model(config, pipe, accelerator)
    print("\nwhat this config needs")
    print(audit_table(audit(pipe.unet, {"text encoder": pipe.text_encoder, "VAE": pipe.vae})))

    micro = max(1, trainer.batch_size // (trainer.accumulation * accelerator.num_processes))
    trainable = sum(parameter.numel() * parameter.element_size() for parameter in model.trainable.values())
    frozen = (
        sum(
            p.numel() * p.element_size() for part in (pipe.unet, pipe.vae, pipe.text_encoder) for p in part.parameters()
        )
        - trainable
    )
    averages = trainable if trainer.ema_decay else 0
    tried = min(micro, EXAMPLES_TRIED)
    batch = _made_up(tried, latent, tokens, width, model.objective.timesteps)
    if config.method.finetune.prior_weight:
        batch.prior = dataclasses.replace(batch)
    kept, seconds = _try(model, batch_to(batch, accelerator.device, batch_dtype(config)), accelerator)
    saved, seconds = kept * micro // tried, seconds * micro / tried
    total = frozen + 4 * trainable + averages + saved
    parts = {
        "frozen weights": frozen,
        "trainables with gradients and Adam's two moments": 4 * trainable,
        "averages": averages,
        f"activations kept for the backward pass of {micro} examples": saved,
    }
    print(f"memory        {total / GB:.2f} GB a process, and the allocator's and the libraries' own on top:")
    print("\n".join(f"              {size / GB:8.2f} GB {part}" for part, size in parts.items()))
    disk = _disk(config, latent, tokens, width, trainable)
    whole = seconds * trainer.accumulation
    print(
        f"steps         {trainer.steps:,} of {trainer.batch_size} examples, {trainer.steps * trainer.batch_size:,} in "
        f"all"
    )
    print(
        f"time          {_duration(whole * trainer.steps)} of training at {whole:.2f} s a step (from the fastest of "
        f"{STEPS_TIMED} on {tried} made-up examples);"
    )
    print("              data, caches, pictures and evaluation come on top")
    return _shortages(accelerator, total, disk)


def _shortages(accelerator: Accelerator, memory: float, disk: list[tuple[str, str, float]]) -> list[str]:
    """Where a need is more than there is."""
    faults = []
    on_cpu = accelerator.device.type == "cpu"
    wanted, there = memory * (accelerator.num_processes if on_cpu else 1), _memory(accelerator)
    if wanted > there:
        remedy = "lower trainer.batch_size, or set trainer.accumulation or trainer.gradient_checkpointing=true"
        faults.append(f"memory: {wanted / GB:.1f} GB are needed, {there / GB:.1f} GB are there; {remedy}")
    needs: dict[int, list[tuple[str, str, float]]] = defaultdict(list)
    for need in disk:
        needs[_existing(Path(need[1])).stat().st_dev].append(need)
    for group in needs.values():
        size, free = sum(need[2] for need in group), shutil.disk_usage(_existing(Path(group[0][1]))).free
        if size > free:
            faults.append(
                f"{', '.join(f'{key}={folder}' for key, folder, _ in group)}: {size / GB:.1f} GB are needed, "
                f"{free / GB:.1f} GB are free"
            )
    return faults


def _made_up(count: int, latent: tuple[int, ...], tokens: int, width: int, timesteps: int) -> Batch:
    """Random examples of the right shapes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    index = torch.arange(count)
    return Batch(
        index=index,
        row=index,
        aus=5 * torch.rand(count, AU_COUNT, generator=generator),
        latent_mean=normal(count, *latent),
        latent_std=normal(count, *latent).abs(),
        posterior_noise=normal(count, *latent),
        noise=normal(count, *latent),
        timesteps=torch.randint(timesteps, (count,), generator=generator),
        text=normal(count, tokens, width),
    )


def _try(model: AUDiffusion, batch: Batch, accelerator: Accelerator) -> tuple[int, float]:
    """Bytes that autograd keeps of one forward pass (each storage once, weights not counted), and seconds of the
    fastest of a few steps."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    optimiser = torch.optim.AdamW(model.trainable.values(), lr=1e-9)
    times = []
    for step in range(STEPS_TIMED):
        started = time.perf_counter()
        with (
            torch.autograd.graph.saved_tensors_hooks(
                note if step == 0 else lambda tensor: tensor, lambda tensor: tensor
            ),
            accelerator.autocast(),
        ):
            loss = model(batch)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()  # waits for a GPU
        times.append(time.perf_counter() - started)
    return sum(kept.values()), min(times)


def _disk(
    config: Config, latent: tuple[int, ...], tokens: int, width: int, trainable: int
) -> list[tuple[str, str, float]]:
    """Print what caches and checkpoints take; returns it as (key, folder, bytes)."""
    table = Path(config.data.root) / TABLE
    checkpoints = 2 * trainable * (4 if config.trainer.ema_decay else 3) + trainable
    samples = None
    with contextlib.suppress(ValueError, OSError):  # a table that is not there, or damaged, is made by prepare
        samples = SampleTable.read(table)
    if samples is None:
        each = 4 * (2 * torch.Size(latent).numel() + tokens * width)
        print(
            f"disk          {each / 1e6:.2f} MB of caches a sample (data.root holds no table yet), "
            f"{checkpoints / GB:.2f} GB of checkpoints and bundle"
        )
        return [("run.root", config.run.root, checkpoints)]
    caches = 4 * (
        2 * len(samples) * torch.Size(latent).numel() + (samples.frame["caption"].nunique() + 1) * tokens * width
    )
    print(
        f"disk          {caches / GB:.2f} GB of caches for {len(samples):,} samples, {checkpoints / GB:.2f} GB of "
        f"checkpoints and bundle"
    )
    built = sum(
        path.stat().st_size for path in (table.parent / "cache").rglob("*.npy")
    )  # these may be the ones, or others
    return [("run.root", config.run.root, checkpoints), ("data.root", config.data.root, max(0, caches - built))]


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60)} s"
