"""3x3 convolutions of small maps as matrix products, which CPUs do faster in bf16.

oneDNN's convolutions are made for wide maps: on 4 x 4 pixels they reach two thirds of the rate of a
matrix product. There the patches of all positions are few enough to be written out, as
(positions, 9 C), for a product with the weights. The sums are those of the convolution, added in
another order.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

ModuleT = TypeVar("ModuleT", bound=nn.Module)

# On wider maps, and with fewer channels, writing the patches takes longer than they save.
_MOST_POSITIONS, _FEWEST_CHANNELS = 16, 128


def patches(x: Tensor, *, stride: int) -> Tensor:
    """(B, C, H, W) -> (B * h * w, 9 C): what a 3x3 kernel sees, padded by 1."""
    batch, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    h, w = (height - 1) // stride + 1, (width - 1) // stride + 1
    image, row, column, channel = padded.stride()
    steps = (image, row * stride, column * stride, row, column, channel)
    windows = padded.as_strided((batch, h, w, 3, 3, channels), steps)
    return windows.reshape(batch * h * w, 9 * channels)


def _flat(weight: Tensor) -> Tensor:
    """(C', C, 3, 3) -> (C', 9 C), in the order of `patches`."""
    return weight.permute(0, 2, 3, 1).flatten(1)


class PatchProduct(torch.autograd.Function):
    """`F.conv2d(x, weight, stride=stride, padding=1)` of 3x3 weights (C', C, 3, 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """(B, C, H, W) -> (B, C', h, w), channels-last."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        y = patches(x, stride=stride) @ _flat(weight).T
        height = (x.shape[2] - 1) // stride + 1
        return y.view(len(x), height, -1, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients to x and to the weight; the patches are written anew rather than kept."""
        x, weight = ctx.saved_tensors
        stride, channels = ctx.stride, x.shape[1]
        if stride == 1:
            # The gradient to the input is a convolution of dy by the turned weights.
            turned = _flat(weight.flip(2, 3).transpose(0, 1))
            dx = (patches(dy, stride=1) @ turned.T).view(len(x), *x.shape[2:], channels)
            dx = dx.permute(0, 3, 1, 2)
        else:
            dx = conv2d_input(  # type: ignore[no-untyped-call]
                x.shape, weight, dy, stride=stride, padding=1
            )
        rows = dy.permute(0, 2, 3, 1).reshape(-1, dy.shape[1])
        dw = (rows.T @ patches(x, stride=stride)).view(-1, 3, 3, channels)
        return dx, dw.permute(0, 3, 1, 2), None


class PatchConv2d(nn.Conv2d):
    """A 3x3 convolution that trains by matrix products where they are faster; see `patchwise`."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', h, w)."""
        stride = self.stride[0]
        small = input.shape[2] * input.shape[3] <= _MOST_POSITIONS * stride**2
        # In fp32 the convolution is faster; evaluation stays what it is with any other network.
        if not (small and self.training and torch.is_autocast_enabled(input.device.type)):
            return super().forward(input)
        dtype = torch.get_autocast_dtype(input.device.type)
        product: Tensor = PatchProduct.apply(input.to(dtype), self.weight.to(dtype), stride)
        return product


def patchwise(module: ModuleT) -> ModuleT:
    """Turns every 3x3 convolution of many channels into a `PatchConv2d`, in place.

    Parameters, keys and memory format stay, as in `ssl_lt.models.batch_norm.synchronised`.

    Returns:
        The same module.
    """
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _is_plain(layer):
            layer.__class__ = PatchConv2d
    return module


def _is_plain(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size == (3, 3)
        and layer.padding == (1, 1)
        and layer.stride in ((1, 1), (2, 2))
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.bias is None
        and layer.padding_mode == "zeros"
        and layer.in_channels >= _FEWEST_CHANNELS
    )
