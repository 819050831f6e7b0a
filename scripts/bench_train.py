#!/usr/bin/env python
"""How fast a training step is, against the plain loop of the published code, and where its time goes; all in one run.

    python scripts/bench_train.py [--steps 20] [--variants plain cached fused channels_last compiled] [KEY=VALUE ...]
    python scripts/bench_train.py --steps 3 base=sd21_random base.resolution=256 judge=none trainer.batch_size=1

`plain`: every step reads images, encodes them and their captions, and attends by an explicit softmax. `cached`: what `fineface
train` does. The others change one thing of `cached`: fused AdamW, channels-last memory, torch.compile of the UNet. Variants
take turns, a few steps each, so that a noisy machine is noisy for all; the table gives the median step of each.
"""

import argparse
import copy
import dataclasses
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor, IPAdapterAttnProcessor2_0
from tqdm import tqdm

from fineface_train.checkpoint import TrainingState
from fineface_train.config import Config, load_config
from fineface_train.data.cache import Crew, load_image
from fineface_train.data.examples import Batch, collate
from fineface_train.data.prepare import prepare
from fineface_train.data.table import SampleTable
from fineface_train.methods.au_diffusion.base import fingerprint, load_base
from fineface_train.methods.au_diffusion.model import AUDiffusion, batch_to
from fineface_train.tracking import Tracker
from fineface_train.trainer import make_accelerator
from fineface_train.training import DATA_SEED, batch_dtype, build_dataset, build_model, open_caches

TURN = 2
"""Steps that a variant takes before the next one's turn."""
WARM_UP = 2


class Clock:
    """Seconds by part of a step."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.parts = device, defaultdict[str, list[float]](list)

    def run(self, part: str, action: Callable):  # noqa: ANN201
        started = time.perf_counter()
        result = action()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.parts[part].append(time.perf_counter() - started)
        return result


class Contestant:
    """One way of taking training steps: its own model, optimiser and clock."""

    def __init__(self, name: str, config: Config, table: SampleTable, folder: Path) -> None:
        self.name, self.config, self.table, self.folder = name, config, table, folder
        self.accelerator = make_accelerator(config.trainer)
        self.device = self.accelerator.device
        self.clock = Clock(self.device)
        self.pipe = load_base(config.base).to(self.device)
        hashes = {part: fingerprint(getattr(self.pipe, part)) for part in ("vae", "text_encoder")}
        latents, text = open_caches(config, table, self.pipe, hashes, Crew())
        self.model = build_model(config, self.pipe, self.accelerator)
        self.dataset = build_dataset(config, table, self.model, latents, text)
        if name == "plain":
            _explicit_softmax(self.model)
        if name == "channels_last":
            self.model.unet.to(memory_format=torch.channels_last)
        if name == "compiled":
            self.model.unet.compile()
        self.optimiser = torch.optim.AdamW(self.model.trainable.values(), lr=1e-5, fused=True if name == "fused" else None)
        self.state = TrainingState(self.model.trainable, None, self.optimiser)
        self.tracker = Tracker(folder / name, dataclasses.replace(config.tracking, wandb=False), {}, name)

    def step(self, number: int) -> None:
        size, clock = self.config.trainer.batch_size, self.clock
        batch = clock.run(
            "data", lambda: batch_to(collate([self.dataset[number * size + place] for place in range(size)]), self.device, batch_dtype(self.config))
        )
        if self.name == "plain":
            batch = clock.run("encoding", lambda: self._encoded(batch))
        with self.accelerator.autocast():
            loss = clock.run("forward", lambda: self.model(batch)["loss"])
        clock.run("backward", loss.backward)
        clock.run("optimiser", self._update)
        if number % self.config.tracking.log_every == 0:
            clock.run("logging", lambda: self.tracker.log(number, {"loss": loss.item()}))
        else:
            loss.item()

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.trainable.values(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()

    @torch.no_grad()
    def _encoded(self, batch: Batch) -> Batch:
        """Images and captions from the files, as the published loop has them at every step."""
        rows = self.table.frame.iloc[batch.row.tolist()]
        images = [torch.from_numpy(load_image(path, self.config.base.resolution, self.config.image_transform)) for path in rows["image"]]
        posterior = self.pipe.vae.encode(torch.stack(images).to(self.device)).latent_dist
        tokens = self.pipe.tokenizer(rows["caption"].tolist(), padding="max_length", truncation=True, return_tensors="pt").input_ids
        text = self.pipe.text_encoder(tokens.to(self.device))[0]
        return dataclasses.replace(batch, latent_mean=posterior.mean, latent_std=posterior.std, text=text)

    def seconds(self) -> float:
        """The median step, without checkpoints."""
        parts = {part: values[WARM_UP:] for part, values in self.clock.parts.items() if part not in ("logging", "checkpoint")}
        return statistics.median(sum(step) for step in zip(*parts.values(), strict=True))


def _explicit_softmax(model: AUDiffusion) -> None:
    """diffusers' attention from before torch had one of its own, with the same weights."""
    processors = {}
    for name, processor in model.unet.attn_processors.items():
        if isinstance(processor, IPAdapterAttnProcessor2_0):
            old = IPAdapterAttnProcessor(processor.hidden_size, processor.cross_attention_dim, processor.num_tokens, processor.scale)
            old.to_k_ip, old.to_v_ip = processor.to_k_ip, processor.to_v_ip
            processors[name] = old
        else:
            processors[name] = AttnProcessor()
    model.unet.set_attn_processor(processors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--variants", nargs="+", default=["plain", "cached"], choices=["plain", "cached", "fused", "channels_last", "compiled"])
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_train"))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    config = load_config(arguments.overrides)
    table = prepare(config.data, DATA_SEED)
    contestants = [Contestant(name, copy.deepcopy(config), table, arguments.out) for name in arguments.variants]
    bar = tqdm(total=(arguments.steps + WARM_UP) * len(contestants), desc="steps")
    for first in range(0, arguments.steps + WARM_UP, TURN):
        for contestant in contestants:
            for number in range(first, min(first + TURN, arguments.steps + WARM_UP)):
                contestant.step(number)
                bar.update()
    bar.close()
    for contestant in contestants:
        contestant.clock.run("checkpoint", lambda c=contestant: c.state.save(c.folder / c.name / "state", 1))

    size, reference = config.trainer.batch_size, contestants[0].seconds()
    base = f"{config.base.name} at {config.base.resolution} px"
    print(f"{contestants[0].device}, {torch.get_num_threads()} threads, batch {size}, {base}, {arguments.steps} steps each")
    print(f"{'variant':<15}{'s/step':>9}{'examples/s':>12}{'against ' + contestants[0].name:>18}")
    for contestant in contestants:
        seconds = contestant.seconds()
        print(f"{contestant.name:<15}{seconds:>9.4f}{size / seconds:>12.1f}{reference / seconds:>17.2f}x")
    every = {"logging": config.tracking.log_every, "checkpoint": config.trainer.checkpoint_every}
    for contestant in contestants:
        shares = {part: statistics.median(values[WARM_UP:] or values) / every.get(part, 1) for part, values in contestant.clock.parts.items()}
        total = sum(shares.values())
        print(f"{contestant.name}: " + ", ".join(f"{part} {share / total:.1%}" for part, share in shares.items()))
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory of all variants together: {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
