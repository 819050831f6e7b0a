"""One process of a launch that trains both trainees: python train_trainee.py FOLDER.

Writes FOLDER/process<rank>.pt: what training left of `Gan` in float64, without and with accumulation, and what
`NormalisedGan` held after each of its turns.
"""

import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from fineface_train.loop.trainee import buffers_of
from tests.loop.trainees import Gan, NormalisedGan, double, train

folder, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
found: dict[str, object] = {}
for accumulation in (1, 2):
    gan = Gan().double()
    with torch.no_grad():
        gan.critic[0].weight += rank  # all begin with the first process's
    seen: list[Tensor] = []

    def seeing(batch: dict[str, Tensor], seen: list[Tensor] = seen) -> dict[str, Tensor]:
        seen.append(batch["noise"])
        return double(batch)

    lines = train(folder / f"run{accumulation}", gan, to_device=seeing, accumulation=accumulation, batch_size=8)
    found[f"state{accumulation}"], found[f"lines{accumulation}"] = {**gan.state}, lines
    found[f"noise{accumulation}"] = torch.stack(seen)

normalised, turns = NormalisedGan(), list[dict[str, Tensor]]()


def note(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    turns.append({name: value.clone() for name, value in buffers_of(normalised).items()})
    return batch


train(folder / "normalised", normalised, to_device=note)
found["buffers"] = [*turns[1:], {name: value.clone() for name, value in buffers_of(normalised).items()}]
found["normalised"] = {name: value.detach().clone() for name, value in normalised.state.items()}
torch.save(found, folder / f"process{rank}.pt")
