"""Sharpness-aware minimisation: the gradient is taken uphill of the weights, not at them.

SAM (arXiv:2010.01412, Eq. 2) moves by the gradient at `w + e`, `e = rho g / |g|`, where `g` is the
gradient at `w` over all parameters. ImbSAM (arXiv:2308.07815, Alg. 1) does so for the loss of the
tail classes alone: the update is `g_head(w) + g_tail(w + e)`, `e = rho g_tail / |g_tail|`, where
head and tail losses both divide by the size of the whole batch and so add up to the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ssl_lt.core.processes.distributed import mean_over_ranks
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, StepOutput
from ssl_lt.models.momentum_encoder import MomentumEncoder

_TINY = 1e-12  # a gradient of zeros moves nothing


@contextmanager
def uphill(
    parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor], *, rho: float
) -> Iterator[None]:
    """A block in which the weights are `w + rho g / |g|`; then they are `w` again, bit for bit.

    Args:
        parameters: `w`.
        gradients: `g`, one a parameter, the same on every process.
        rho: length of the step, in the Euclidean norm over all parameters.
    """
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        scale = rho / (torch.nn.utils.get_total_norm(gradients) + _TINY)
        torch._foreach_add_(list(parameters), torch._foreach_mul(list(gradients), scale))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), kept)


class StepState:
    """What a step of a task changes beside the gradients: of this moment, to go back to.

    Running statistics and other buffers, weights without gradient such as those of a momentum
    encoder, and the memories of samples. With it the second forward pass of a step sees what the
    first saw, and leaves no trace.

    Args:
        task: whose state is copied.
    """

    def __init__(self, task: TrainTask) -> None:
        # A part in evaluation mode, such as a frozen backbone, changes nothing, but for the weights
        # of a momentum encoder, which move in any mode.
        parts = {part for part in task.modules() if part.training}
        for part in task.modules():
            if isinstance(part, MomentumEncoder):
                parts.update(part.modules())
        self._live = [
            *(buffer for part in parts for buffer in part.buffers(recurse=False)),
            *(
                parameter.detach()
                for part in parts
                for parameter in part.parameters(recurse=False)
                if not parameter.requires_grad
            ),
        ]
        self._copies = [tensor.clone() for tensor in self._live]
        self._memories = [
            (memory, {key: table.clone() for key, table in memory.tables.items()})
            for memory in task.memories()
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        """Once: the memories then hold the copies themselves."""
        for tensor, copy in zip(self._live, self._copies, strict=True):
            tensor.copy_(copy)
        for memory, tables in self._memories:
            memory.load_state_dict(tables)


def loss_of_classes(output: StepOutput, batch: Batch, classes: Tensor) -> Tensor:
    """The part of a loss that is of some classes: their losses over the size of the batch.

    Args:
        output: of a task whose loss is the mean of `losses`.
        batch: with labels.
        classes: (C,) bool.
    """
    assert output.losses is not None
    return (output.losses * classes[batch.labels]).mean()


class PartialGradient:
    """Adds up the gradient of a part of the loss beside that of the rest.

    Args:
        parameters: of the gradient.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._sum = [torch.zeros_like(parameter) for parameter in parameters]

    def add(self, part: Tensor) -> None:
        """Of a scalar, whose graph stays for the rest of the loss."""
        found = torch.autograd.grad(part, self._parameters, retain_graph=True, allow_unused=True)
        for total, gradient in zip(self._sum, found, strict=True):
            if gradient is not None:
                total.add_(gradient)

    def mean(self) -> list[Tensor]:
        """Over all processes, one a parameter."""
        mean = mean_over_ranks(torch.cat([gradient.flatten() for gradient in self._sum]))
        parts = mean.split_with_sizes([gradient.numel() for gradient in self._sum])
        return [part.view_as(total) for part, total in zip(parts, self._sum, strict=True)]
