"""What the processes of a launch tell each other while they train: decisions, gradients, buffers.

Each holds a whole copy of the trainee and sees its share of every batch. torch's DistributedDataParallel is not used:
it averages gradients inside `backward()`, so it misses those that a loss takes by `autograd.grad` (gradient penalties),
and it waits for the parameters of players whose turn it is not.
"""

from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn

from fineface_train.data.crew import Crew


def as_first(accelerator: Accelerator, value: Any) -> Any:
    """What the first process has found or decided, on all of them."""
    values = [value]
    if accelerator.num_processes > 1:
        broadcast_object_list(values)
    return values[0]


def make_crew(accelerator: Accelerator) -> Crew:
    """All processes of this launch."""
    return Crew(
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.wait_for_everyone,
        lambda value: as_first(accelerator, value),
    )


def average_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Give all processes the mean of their gradients, in one message.

    A parameter without a gradient on some processes counts as 0 there; without one on all it stays without, as on one
    process: AdamW leaves it alone.
    """
    if accelerator.num_processes == 1:
        return
    trained = list(parameters)
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in trained]
    present = gradients[0].new_tensor([one.grad is not None for one in trained])
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), present])
    *means, present = accelerator.reduce(flat, "mean").split([one.numel() for one in trained] + [len(trained)])
    for parameter, mean, found in zip(trained, means, present.tolist(), strict=True):
        parameter.grad = mean.view_as(parameter).to(parameter.dtype) if found else None


@torch.no_grad()
def share_first(tensors: Iterable[Tensor], accelerator: Accelerator) -> None:
    """Overwrite these with the first process's, in one message for each type."""
    if accelerator.num_processes == 1:
        return
    every = list(tensors)
    for dtype in dict.fromkeys(one.dtype for one in every):
        same = [one for one in every if one.dtype is dtype]
        flat = broadcast(torch.cat([one.reshape(-1) for one in same]))
        for one, values in zip(same, flat.split([one.numel() for one in same]), strict=True):
            one.copy_(values.view_as(one))
