#!/usr/bin/env python
"""How fast a training step is, against the plain loop of the published code, and where its time goes; all in one run.

    python scripts/bench_train.py [--steps 20] [--variants plain,ours,fused,channels_last] [--json FILE] [KEY=VALUE ...]
    python scripts/bench_train.py --steps 4 base=sd21_random method.base.resolution=256 judge=none trainer.batch_size=1
    python scripts/bench_train.py --variants plain,ours,bf16,bf16+fused+channels_last+compiled base=sd21_random
    method.base.resolution=512 judge=none

`ours` is the step of `fineface train` with this config; `plain` reads and encodes images and captions at every step,
and attends by an explicit softmax. Every other variant is `ours` with one change, or several joined by +:

    softmax         attention by an explicit softmax, with the caches (what torch's fused attention is worth)
    fused           fused AdamW
    channels_last   trainer.channels_last=true
    compiled        trainer.compile=true
    bf16            bf16 weights and autocast
    one_thread      one CPU thread

Variants take turns of five steps, so that a noisy machine is noisy for all; the table gives the median step of each.
Utilisation is the UNet's floating point operations in a step (forward and backward, counted once) against what matrix
products of the variant's type reach here, measured in the same run. Peak memory per variant is known on GPUs only.
--json FILE writes the table's numbers down too.
"""

import argparse
import copy
import dataclasses
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor, IPAdapterAttnProcessor2_0
from tqdm import tqdm

from fineface_train.compose import load_config
from fineface_train.config import Config
from fineface_train.data.cache import load_image
from fineface_train.data.contents import INDEX, image_contents
from fineface_train.data.crew import Crew
from fineface_train.data.examples import Batch, ShareOfBatches, example_batches
from fineface_train.data.prepare import prepare
from fineface_train.data.table import SampleTable
from fineface_train.files import write_json
from fineface_train.loop.accelerator import make_accelerator, peak_memory_gb, weight_dtype
from fineface_train.loop.averages import first_averages, move_averages
from fineface_train.loop.checkpoint import TrainingState
from fineface_train.loop.config import Precision
from fineface_train.loop.signals import StopSignals
from fineface_train.loop.tracking import Tracker
from fineface_train.loop.turns import Optimiser, take_turn
from fineface_train.methods.au_diffusion.base import load_base, weights_hash
from fineface_train.methods.au_diffusion.model import AUDiffusion, batch_to
from fineface_train.quiet import quieten_libraries
from fineface_train.verbs.run_identity import Given, told_captions
from fineface_train.verbs.train import batch_dtype, build_dataset, build_model, open_caches

CHANGES = ("softmax", "fused", "channels_last", "compiled", "bf16", "one_thread")
TURN = 5
"""Steps that a variant takes before the next one's turn; the first does not count: it finds the others' data in the
processor's caches."""


class Clock:
    """Seconds by part of a step, a list of them per part."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.steps = device, list[dict[str, float]]()

    def timed(self, part: str, action: Callable) -> Callable:
        def run(*arguments: Any, **named: Any) -> Any:
            started = self.now()
            result = action(*arguments, **named)
            self.steps[-1][part] += self.now() - started
            return result

        return run

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class Blank:
    """A cache that holds nothing: what `plain` has instead of one."""

    def __init__(self, *shape: int) -> None:
        self.empty = np.zeros(shape, np.float32)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.empty


class Contestant:
    """One way of taking training steps: its own model, optimiser and clock."""

    def __init__(self, name: str, config: Config, table: SampleTable, contents: list[str], folder: Path) -> None:
        AcceleratorState._reset_state()  # variants may differ in precision
        changes = set() if name in ("plain", "ours") else set(name.split("+"))
        if "bf16" in changes:
            config.trainer.precision = Precision.bf16
        config.trainer.compile |= "compiled" in changes
        config.trainer.channels_last |= "channels_last" in changes
        self.name, self.config, self.table = name, config, table
        self.accelerator = make_accelerator(config.trainer)
        self.clock = Clock(self.accelerator.device)
        self.dtype = weight_dtype(config.trainer, self.accelerator)
        self.threads = 1 if "one_thread" in changes else torch.get_num_threads()
        self.peak_gb, held = 0.0, _held(self.accelerator.device)
        self.pipe = load_base(config.method.base).to(self.accelerator.device)
        hashes = {part: weights_hash(getattr(self.pipe, part)) for part in ("vae", "text_encoder")}
        inputs = open_caches(
            config, Given(table, contents, self.pipe, hashes, told_captions(config, table, self.pipe)), Crew()
        )
        if name == "plain":
            latents, text = Blank(2, *inputs.latents.mean.shape[1:]), Blank(*inputs.text.empty.shape)
            inputs = dataclasses.replace(inputs, latents=latents, text=text, text_without_aus=text)  # type: ignore[arg-type]
        self.model = build_model(config, self.pipe, self.accelerator)
        dataset = build_dataset(config, table, self.model, inputs)
        sampler = ShareOfBatches(range(10**9), config.trainer.batch_size, config.trainer.accumulation, 0, 1)
        self.batches = example_batches(dataset, sampler, config.trainer.workers)
        if name != "plain":
            self.pipe.vae = self.pipe.text_encoder = None  # their room is for the other variants
        if name == "plain" or "softmax" in changes:
            _explicit_softmax(self.model)
        adamw = torch.optim.AdamW(
            [{"params": list(self.model.trainable.values()), "rate": 1.0}],
            lr=config.trainer.learning_rate,
            fused=True if "fused" in changes else None,
        )
        (player,) = self.model.players.values()
        self.optimiser = Optimiser(player, config.trainer, self.accelerator.prepare(adamw), config.trainer.steps)
        averages = first_averages(self.model, [self.optimiser])
        self.state = TrainingState(self.model, averages, {"adapter": self.optimiser.adamw})
        self.tracker = Tracker(folder / name, dataclasses.replace(config.tracking, wandb=False), {}, name)
        self.folder = folder / name / "state"
        self.own_gb = _held(self.accelerator.device) - held
        self._put_clocks_in()

    def _put_clocks_in(self) -> None:
        """Around everything that `take_turn` calls; the rest of it is "other"."""
        clock = self.clock
        self.model.forward = clock.timed("forward", self.model.forward)  # type: ignore[method-assign]
        self.accelerator.backward = clock.timed("backward", self.accelerator.backward)  # type: ignore[method-assign]
        self.accelerator.clip_grad_norm_ = clock.timed("optimiser", self.accelerator.clip_grad_norm_)  # type: ignore[method-assign]
        adamw = self.optimiser.adamw
        adamw.step = clock.timed("optimiser", adamw.step)
        adamw.zero_grad = clock.timed("optimiser", adamw.zero_grad)

    def step(self, number: int) -> None:
        """What the trainer does in a step that neither draws pictures nor saves."""
        config, clock, device = self.config, self.clock, self.accelerator.device
        torch.set_num_threads(self.threads)
        held = _held(device, start_peak=True)
        clock.steps.append(defaultdict(float))
        started = clock.now()
        with StopSignals() as stop:
            taken = take_turn(
                self.model,
                self.model.turn(number),
                self.optimiser,
                self.accelerator,
                self._timed_batches(),
                config.trainer,
                self._to_device,
                stop,
            )
        decay, player = self.optimiser.decay, self.optimiser.player
        clock.timed("averaging", move_averages)(self.state.averages, self.model, player, decay)
        if number % config.tracking.log_every == 0:
            clock.timed("logging", self.tracker.log)(
                number, {"loss": taken.values["loss"], "gradient_norm": taken.norm}
            )
        known = sum(clock.steps[-1].values())
        clock.steps[-1]["other"] = clock.now() - started - known
        if device.type == "cuda":
            self.peak_gb = max(self.peak_gb, self.own_gb + peak_memory_gb(device) - held)
            self.own_gb += _held(device) - held  # the optimiser makes its moments in the first step

    def _timed_batches(self) -> Iterator[Batch]:
        while True:
            yield self.clock.timed("data", lambda: next(self.batches))()

    def _to_device(self, batch: Batch) -> Batch:
        moved = self.clock.timed("data", batch_to)(batch, self.accelerator.device, batch_dtype(self.config))
        return self.clock.timed("encoding", self._encoded)(moved) if self.name == "plain" else moved

    @torch.no_grad()
    def _encoded(self, batch: Batch) -> Batch:
        """Images and captions from the files, as the published loop has them at every step."""
        rows, device = self.table.frame.iloc[batch.row.tolist()], self.accelerator.device
        images = [
            torch.from_numpy(load_image(path, self.config.method.base.resolution, self.config.image_transform))
            for path in rows["image"]
        ]
        posterior = self.pipe.vae.encode(torch.stack(images).to(device, self.pipe.vae.dtype)).latent_dist
        tokens = self.pipe.tokenizer(
            rows["caption"].tolist(), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        text = self.pipe.text_encoder(tokens.to(device))[0]
        return dataclasses.replace(
            batch, latent_mean=posterior.mean.float(), latent_std=posterior.std.float(), text=text.float()
        )

    def seconds(self) -> float:
        """The median step, without checkpoints."""
        return statistics.median(sum(step.values()) for step in self._counted())

    def _counted(self) -> list[dict[str, float]]:
        return [step for number, step in enumerate(self.clock.steps) if number % TURN]

    def shares(self) -> dict[str, float]:
        """Shares of the time of all counted steps, with a checkpoint as often as the trainer saves."""
        total: dict[str, float] = defaultdict(float)
        for step in self._counted():
            for part, seconds in step.items():
                total[part] += seconds
        started = self.clock.now()
        self.state.save(self.folder, 1)
        total["checkpoint"] = (self.clock.now() - started) * len(self._counted()) / self.config.trainer.checkpoint_every
        return {part: seconds / sum(total.values()) for part, seconds in total.items()}


def _held(device: torch.device, *, start_peak: bool = False) -> float:
    """GB that this process holds of a GPU, from where on peaks are counted if wanted; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    if start_peak:
        torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device) / 1e9


def _variants(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        unknown = set() if name in ("plain", "ours") else set(name.split("+")) - set(CHANGES)
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no variant {name!r}; there are plain, ours, and {', '.join(CHANGES)} (several joined by +)"
            )
    return names


def _operations(contestant: Contestant) -> int:
    """Floating point operations of the UNet and the AU encoder in one step of all its examples, forward and
    backward; counted on one example, since counting needs attention that takes the square of its memory."""
    config, device = contestant.config, contestant.accelerator.device
    batch = batch_to(_first_example(next(contestant.batches)), device, batch_dtype(config))
    contestant.clock.steps.append(defaultdict(float))  # not one of those that are reported
    with contestant.accelerator.autocast():
        operations = contestant.model.operations(batch)
    contestant.clock.steps.pop()
    return operations * config.trainer.batch_size


def _first_example(batch: Batch) -> Batch:
    parts = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return Batch(
        **{
            name: _first_example(part) if isinstance(part, Batch) else part if part is None else part[:1]
            for name, part in parts.items()
        }
    )


def _matrix_rate(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """Floating point operations per second of the best of a few large matrix products."""
    torch.set_num_threads(threads)
    size, clock = (8192 if device.type == "cuda" else 2048), Clock(device)
    one, two = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    rates = []
    for _ in range(8):
        started = clock.now()
        torch.mm(one, two)
        rates.append(2 * size**3 / (clock.now() - started))
    return max(rates)


def _explicit_softmax(model: AUDiffusion) -> None:
    """diffusers' attention from before torch had one of its own, with the same weights."""
    processors = {}
    for name, processor in model.unet.attn_processors.items():
        if isinstance(processor, IPAdapterAttnProcessor2_0):
            old = IPAdapterAttnProcessor(
                processor.hidden_size, processor.cross_attention_dim, processor.num_tokens, processor.scale
            )
            old.to_k_ip, old.to_v_ip = processor.to_k_ip, processor.to_v_ip
            processors[name] = old
        else:
            processors[name] = AttnProcessor()
    model.unet.set_attn_processor(processors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--variants", type=_variants, default=["plain", "ours"], metavar="NAME,NAME,...")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_train"))
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    quieten_libraries()
    config, all_threads = load_config(arguments.overrides), torch.get_num_threads()
    table = prepare(config.data)
    contents = image_contents(table.frame["image"], Path(config.data.root) / INDEX)
    contestants = [
        Contestant(name, copy.deepcopy(config), table, contents, arguments.out) for name in arguments.variants
    ]
    turns = math.ceil(arguments.steps / (TURN - 1))
    bar = tqdm(total=turns * TURN * len(contestants), desc="steps")
    for first in range(0, turns * TURN, TURN):
        for contestant in contestants:
            for number in range(first, first + TURN):
                contestant.step(number)
                bar.update()
    bar.close()

    size, reference, device = config.trainer.batch_size, contestants[0].seconds(), contestants[0].accelerator.device
    uncompiled = next((one for one in contestants if "compiled" not in one.name), None)
    operations = _operations(uncompiled) if uncompiled else None
    rates: dict[tuple[torch.dtype, int], float] = {}
    base = f"{config.method.base.name} at {config.method.base.resolution} px"
    print(f"{device}, {all_threads} threads, batch {size}, {base}, {turns * (TURN - 1)} steps each", end="")
    print(f", {operations / size / 1e9:.2f} GFLOP an example" if operations else "")
    width = max(len(one.name) for one in contestants) + 2
    print(
        f"{'variant':<{width}}{'s/step':>9}{'examples/s':>12}{'against ' + contestants[0].name:>18}"
        f"{'peak GB':>9}{'utilisation':>13}"
    )
    rows = []
    for contestant in contestants:
        seconds, kind = contestant.seconds(), (contestant.dtype, contestant.threads)
        if operations and kind not in rates:
            rates[kind] = _matrix_rate(device, *kind)
        rows.append(
            {
                "variant": contestant.name,
                "dtype": str(contestant.dtype).removeprefix("torch."),
                "seconds_a_step": seconds,
                "examples_per_second": size / seconds,
                "peak_gb": contestant.peak_gb or None,
            }
        )
        utilisation = f"{operations / seconds / rates[kind]:.1%}" if operations else "-"
        peak = f"{contestant.peak_gb:.2f}" if contestant.peak_gb else "-"
        print(
            f"{contestant.name:<{width}}{seconds:>9.4f}{size / seconds:>12.1f}{reference / seconds:>17.2f}x"
            f"{peak:>9}{utilisation:>13}"
        )
    for contestant in contestants:
        print(f"{contestant.name}: " + ", ".join(f"{part} {share:.1%}" for part, share in contestant.shares().items()))
    for (dtype, threads), rate in rates.items():
        print(f"matrix products in {dtype}, {threads} threads: {rate / 1e12:.3f} TFLOP/s")
    if arguments.json:
        base = config.method.base
        about = {"base": base.name, "resolution": base.resolution, "batch": size, "device": str(device)}
        write_json(
            arguments.json,
            about | {"operations_an_example": operations / size if operations else None, "variants": rows},
        )
    print(f"peak memory of all variants together: {peak_memory_gb(device):.2f} GB" if device.type != "cuda" else "")


if __name__ == "__main__":
    main()
