"""`fineface` that also writes down every batch its trainer is given: python record_examples.py FOLDER VERB [KEY=VALUE
...]."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fineface_train.cli import main
from fineface_train.data.examples import Batch
from fineface_train.verbs import train as training

FOLDER, SEEN = Path(sys.argv[1]), list[dict[str, torch.Tensor]]()


def fit(*arguments: Any, to_device: Callable[[Batch], Batch], **others: Any) -> float:
    def record(batch: Batch) -> Batch:
        SEEN.append(
            {
                field.name: getattr(batch, field.name).clone()
                for field in dataclasses.fields(Batch)
                if field.name != "prior"
            }
        )
        return to_device(batch)

    return _fit(*arguments, to_device=record, **others)


_fit, training.fit = training.fit, fit
status = main(sys.argv[2:])
FOLDER.mkdir(parents=True, exist_ok=True)
torch.save(
    {key: torch.cat([batch[key] for batch in SEEN]) for key in SEEN[0]},
    FOLDER / f"process{os.environ.get('RANK', '0')}.pt",
)
sys.exit(status)
