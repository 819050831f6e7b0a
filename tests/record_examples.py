"""`fineface` that also writes down every batch its trainer is given: python record_examples.py FOLDER VERB [KEY=VALUE ...]."""

import dataclasses
import os
import sys
from pathlib import Path

import torch

from fineface_train import training
from fineface_train.cli import main
from fineface_train.data.examples import Batch

FOLDER, SEEN = Path(sys.argv[1]), list[dict[str, torch.Tensor]]()


def batch_to(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    SEEN.append({field.name: getattr(batch, field.name).clone() for field in dataclasses.fields(Batch)})
    return _batch_to(batch, device, dtype)


_batch_to, training.batch_to = training.batch_to, batch_to
status = main(sys.argv[2:])
FOLDER.mkdir(parents=True, exist_ok=True)
torch.save({key: torch.cat([batch[key] for batch in SEEN]) for key in SEEN[0]}, FOLDER / f"process{os.environ.get('RANK', '0')}.pt")
sys.exit(status)
