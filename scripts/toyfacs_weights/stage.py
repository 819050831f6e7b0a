"""One stage of building the shipped ToyFACS weights: training that can be stopped and started, and a check that gates
what is written."""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from tqdm import tqdm

from fineface_train.evaluation.judges import models as judge_models
from fineface_train.files import write_json
from fineface_train.toyfacs import faces, render, worlds
from toyfacs_weights import models

SHIPPED = Path("data/toyfacs")
SCRATCH = Path("outputs/build_toyfacs")
STEPS = {"autoencoder": 5000, "clip": 2000, "judge_one": 1800, "judge_two": 2000, "attributes": 400, "base": 5600}
SAVE_EVERY = 60.0
"""Seconds between two saves of a stage's progress."""


class Stage:
    """A model, its loss at a step, and AdamW on a cosine that ends at zero; keeps an average of the weights and ships
    it."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        *,
        steps: int,
        rate: float,
        ema: float,
        stream: int,
        upstream: tuple[str, ...] = (),
    ) -> None:
        """`stream` sets the stage's drawings apart from other stages'; `ema` is the decay of the average; `upstream`:
        shipped folders it builds on."""
        self.name, self.steps, self.rate, self.ema_decay, self.stream = name, steps, rate, ema, stream
        self.accelerator = Accelerator()
        self.optimiser: Any = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.raw: Any = model
        self.model, self.optimiser = self.accelerator.prepare(model, self.optimiser)
        self.average = {key: value.clone().float() for key, value in model.state_dict().items()}
        self.scratch = scratch_folder(name, upstream)
        self.state_file = self.scratch / "state.pt"
        self.seconds, self.step = 0.0, 0
        if self.state_file.exists():
            state = torch.load(self.state_file, map_location="cpu", weights_only=True)
            self.raw.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.average = {key: value.to(self.accelerator.device) for key, value in state["ema"].items()}

    def seed(self, step: int) -> tuple[int, ...]:
        """A seed for this step's share of the batch on this process."""
        return (self.stream, step, self.accelerator.process_index)

    def fit(self, loss_at: Callable[[int], tuple[Tensor, dict[str, str]]]) -> None:
        """Minimise `loss_at(step)` (and show its second value) for the remaining steps; leaves the average in the
        model, on the CPU."""
        main = self.accelerator.is_main_process
        started = saved = time.time()
        before = self.seconds
        bar = tqdm(
            range(self.step, self.steps),
            initial=self.step,
            total=self.steps,
            desc=self.name,
            mininterval=5,
            disable=not main,
        )
        self.model.train()
        for step in bar:
            set_seed(step * 64 + self.accelerator.process_index)
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))
            loss, shown = loss_at(step)
            self.optimiser.zero_grad()
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.step, self.seconds = step + 1, before + time.time() - started
            decay = min(self.ema_decay, (1 + step) / (10 + step))
            for key, value in self.raw.state_dict().items():
                self.average[key].lerp_(value.float(), 1 - decay)
            if step % 20 == 0:
                bar.set_postfix(shown)
            if main and (time.time() - saved > SAVE_EVERY or self.step == self.steps):
                self._save()
                saved = time.time()
        self.accelerator.wait_for_everyone()
        self.raw.load_state_dict(self.average)
        self.raw.eval().cpu()  # checks run on the CPU, beside the drawings

    def _save(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.raw.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "ema": self.average,
        }
        partial = self.state_file.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.state_file)

    def ship(self, folder: str, measured: dict[str, Any], *, passed: bool, model: Any = None) -> None:
        """Write the model (default: the one that was trained) and what its check measured; stop if it did not pass."""
        if not self.accelerator.is_main_process:
            return
        print(f"{self.name}: {json.dumps(measured)}", flush=True)
        if not passed:
            raise SystemExit(
                f"{self.name}: the check did not pass; nothing was written. Give it more steps and start again: it "
                f"goes on"
            )
        (model or self.raw).save_pretrained(SHIPPED / folder)
        record(
            self.name,
            measured
            | {"steps": self.steps, "seconds": round(self.seconds), "processes": self.accelerator.num_processes},
        )


def new_stage(name: str, model: nn.Module, rate: float, *, ema: float, upstream: tuple[str, ...] = ()) -> Stage:
    return Stage(
        name, model, steps=STEPS[name], rate=rate, ema=ema, stream=sorted(STEPS).index(name), upstream=upstream
    )


def scratch_folder(name: str, upstream: tuple[str, ...] = ()) -> Path:
    """Where a stage keeps its progress: named by the drawing, the models' code and the shipped files it builds on, so
    that none outlives a change of them."""
    files = [Path(module.__file__ or "") for module in (faces, render, worlds, models, judge_models)]
    files += [path for folder in upstream for path in sorted((SHIPPED / folder).rglob("*")) if path.is_file()]
    made_from = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]
    return SCRATCH / f"{name}-{made_from}"


def forget(name: str) -> None:
    """Make a stage start from nothing: its progress and its record go, what it shipped stays until there is better."""
    for folder in SCRATCH.glob(f"{name}-*"):
        shutil.rmtree(folder)
    write_json(SHIPPED / "build.json", {key: value for key, value in built().items() if key != name})


def record(name: str, measured: dict[str, Any]) -> None:
    """Keep what a stage measured in data/toyfacs/build.json."""
    write_json(SHIPPED / "build.json", built() | {name: measured})


def built() -> dict[str, Any]:
    """What data/toyfacs/build.json holds: stages that passed their check."""
    path = SHIPPED / "build.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}
