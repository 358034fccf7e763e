"""Batch norm whose statistics are those of the batch of all ranks, on any device.

torch's SyncBatchNorm refuses the CPU, where N processes must equal one as well.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as FusedSyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lt.core.distributed import gather_rows, world_size

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class MergedBatchNorm(torch.autograd.Function):
    """Batch norm over the rows of all ranks, from the kernels that torch has for one.

    Written out in tensor operations it would go through memory a dozen times as often.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, C, ...) -> y like it; mean (C,), variance (C,) and number of rows, of all ranks."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        ones, zeros = x.new_ones(x.shape[1], dtype=dtype), x.new_zeros(x.shape[1], dtype=dtype)
        # Of this rank: the output is not needed, but comes cheaper than two sums of their own.
        _, local_mean, inverse_std = torch.native_batch_norm(
            x, ones, zeros, None, None, training=True, momentum=0.0, eps=eps
        )
        local_var = (inverse_std**-2 - eps).clamp(min=0)
        count = zeros.new_full((1,), x.numel() // x.shape[1])
        ranks = gather_rows(torch.cat([local_mean, local_var, count])[None])
        width = x.shape[1]
        means, variances, counts = ranks[:, :width], ranks[:, width:-1], ranks[:, -1:]
        total = counts.sum()
        share = counts / total
        mean = (share * means).sum(dim=0)
        var = (share * (variances + (means - mean) ** 2)).sum(dim=0)
        weight = ones if weight is None else weight
        y = _affine(x, weight, bias, mean, var, eps=eps)
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
        # As if m and s were constants: w s dy, and this rank's sums.
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, None, None,
            train=False, eps=ctx.eps, output_mask=[True, True, True],
        )  # fmt: skip
        sums = torch.stack([dweight, dbias])
        if world_size() > 1:
            torch.distributed.all_reduce(sums)
        s = torch.rsqrt(var + ctx.eps)
        slope = weight * s * s * sums[0] / total
        offset = weight * s * sums[1] / total
        line = _affine(x, slope, offset, mean, torch.ones_like(var), eps=0.0)
        _, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            dx.sub_(line),
            dweight if needs_weight else None,
            dbias if needs_bias else None,
            None,
        )


def _affine(
    x: Tensor, weight: Tensor, bias: Tensor | None, mean: Tensor, var: Tensor, *, eps: float
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, in one pass through memory."""
    y: Tensor = torch.native_batch_norm(
        x, weight, bias, mean, var, training=False, momentum=0.0, eps=eps
    )[0]
    return y


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
        if self.training and world_size() > 1:
            out = self._fused(input) if input.is_cuda else self._merged(input)
        else:
            out = super().forward(input)
        # timm's norm-and-activation layers keep their dropout and activation as children.
        for child in self.children():
            out = child(out)
        return out

    def _momentum(self) -> Tensor | float:
        """Share of this batch in the running statistics; counts the batch."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / self.num_batches_tracked if self.momentum is None else self.momentum

    def _merged(self, input: Tensor) -> Tensor:
        out, mean, var, total = cast(
            tuple[Tensor, Tensor, Tensor, Tensor],
            MergedBatchNorm.apply(input, self.weight, self.bias, self.eps),
        )
        with torch.no_grad():
            momentum = self._momentum()
            if self.running_mean is not None and self.running_var is not None:
                unbiased = var * total / (total - 1)
                self.running_mean.add_(momentum * (mean - self.running_mean))
                self.running_var.add_(momentum * (unbiased - self.running_var))
        return out

    def _fused(self, input: Tensor) -> Tensor:
        """The fused kernels that torch has for CUDA alone."""
        out = FusedSyncBatchNorm.apply(
            input,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.eps,
            self._momentum(),
            torch.distributed.group.WORLD,
            world_size(),
        )
        return cast(Tensor, out)


def batch_norms(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, layer) of every batch norm in a module, of torch's, timm's and our kinds."""
    return [(name, m) for name, m in module.named_modules() if isinstance(m, _BatchNorm)]


def synchronised(module: ModuleT) -> ModuleT:
    """Turns every batch norm into a `SynchronisedBatchNorm`, in place.

    With one process, or in evaluation, nothing changes. Keys, parameters and memory format stay,
    so this may be called before or after an optimiser or a checkpoint has met the module.

    Returns:
        The same module.
    """
    for _, layer in batch_norms(module):
        # A new class for the same object: parameters, buffers, hooks and shared uses all stay.
        layer.__class__ = SynchronisedBatchNorm
    return module
