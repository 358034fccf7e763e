"""Batch norm whose statistics are those of the batch of all ranks.

On CUDA that is torch's SyncBatchNorm. It refuses the CPU, where N processes must equal one as well:
there our own merges the ranks' statistics.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lt.core.processes.distributed import gather_rows, sum_over_ranks, world_size

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class MergedBatchNorm(torch.autograd.Function):
    """Batch norm over the rows of all ranks.

    Left to autograd it would keep half a dozen tensors of the size of the input.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, C, ...) -> y like it; mean (C,), variance (C,) and number of rows, of all ranks."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        dims, wide = _all_but_channels(x), x.to(dtype)
        local_mean = wide.mean(dims)
        # In two passes: a third of the time of `torch.var_mean` over several dimensions.
        local_var = (wide - _per_channel(local_mean, x)).square_().mean(dims)
        count = local_mean.new_full((1,), x.numel() // x.shape[1])
        ranks = gather_rows(torch.cat([local_mean, local_var, count])[None])
        width = x.shape[1]
        means, variances, counts = ranks[:, :width], ranks[:, width:-1], ranks[:, -1:]
        total = counts.sum()
        share = counts / total
        mean = (share * means).sum(dim=0)
        var = (share * (variances + (means - mean) ** 2)).sum(dim=0)
        y = F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, var, total)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var, total)
        return y, mean, var, total

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        """Computes w s (dy - sum(dy) / n - x^ sum(dy x^) / n), x^ = s (x - m); of all ranks."""
        x, weight, mean, var, total = ctx.saved_tensors
        dims, s = _all_but_channels(x), torch.rsqrt(var + ctx.eps)
        normal = (x.to(mean.dtype) - _per_channel(mean, x)).mul_(_per_channel(s, x))
        wide = dy.to(mean.dtype)
        dweight, dbias = (wide * normal).sum(dims), wide.sum(dims)
        means = sum_over_ranks(torch.stack([dweight, dbias])) / total
        dx = normal.mul_(_per_channel(-means[0], x)).add_(wide).sub_(_per_channel(means[1], x))
        dx = dx.mul_(_per_channel(s if weight is None else weight * s, x))
        _, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            dx.to(x.dtype),
            dweight if needs_weight else None,
            dbias if needs_bias else None,
            None,
        )


def _all_but_channels(x: Tensor) -> list[int]:
    """Dimensions of (B, C, ...) that are averaged over."""
    return [0, *range(2, x.ndim)]


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) values in the shape that goes with (B, C, ...)."""
    return values.view(-1, *[1] * (x.ndim - 2))


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all ranks while it trains; `F.batch_norm` otherwise.

    Made by `synchronised`. `y = (x - m) / sqrt(v + eps) * weight + bias`, where `m` and `v` are
    merged from each rank's mean, variance and count (Chan et al. 1979): no sum of squares, whose
    difference with the squared mean would cancel. The running variance takes `v * n / (n - 1)`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Rows may be (B, C) or (B, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (B, C, ...); the ranks may hold different B."""
        merges = self.training and world_size() > 1
        out = self._merged(input) if merges else super().forward(input)
        # timm's norm-and-activation layers keep their dropout and activation as children.
        for child in self.children():
            out = child(out)
        return out

    def _merged(self, input: Tensor) -> Tensor:
        out, mean, var, total = cast(
            tuple[Tensor, Tensor, Tensor, Tensor],
            MergedBatchNorm.apply(input, self.weight, self.bias, self.eps),
        )
        if self.running_mean is None or self.running_var is None:
            return out
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            momentum = self.momentum
            share = 1.0 / self.num_batches_tracked if momentum is None else momentum
            self.running_mean.add_(share * (mean - self.running_mean))
            self.running_var.add_(share * (var * total / (total - 1) - self.running_var))
        return out


def batch_norms(module: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """(name, layer) of every batch norm in a module, of torch's, timm's and our kinds."""
    return [(name, m) for name, m in module.named_modules() if isinstance(m, _BatchNorm)]


def synchronised(module: ModuleT, *, device: torch.device | None = None) -> ModuleT:
    """Synchronises every batch norm of a module that is none itself, in place.

    With one process, or in evaluation, nothing changes. Keys, parameters and memory format stay,
    so this may be called before or after an optimiser or a checkpoint has met the module.

    Args:
        module: a network.
        device: where it will train; None: the CPU.

    Returns:
        The same module.
    """
    if device is not None and device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # seconds to import

        return cast(ModuleT, convert_sync_batchnorm(module))  # timm's keeps its activations
    for _, layer in batch_norms(module):
        # A new class for the same object: parameters, buffers, hooks and shared uses all stay.
        layer.__class__ = SynchronisedBatchNorm
    return module
