from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from ssl_lt.models.backbones import create_backbone
from ssl_lt.models.patch_convolution import PatchConv2d, PatchProduct, patchwise


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("height", "width", "stride"), [(4, 4, 1), (1, 1, 1), (3, 5, 1), (8, 8, 2), (7, 5, 2)]
)
def test_it_is_the_convolution(height, width, stride, layout):
    """In fp64, where sums in another order are the same to many digits."""
    torch.manual_seed(0)
    x = torch.randn(3, 6, height, width, dtype=torch.float64).to(memory_format=layout)
    weight = torch.randn(5, 6, 3, 3, dtype=torch.float64).to(memory_format=layout)
    found = []
    for function in (
        lambda x, w: PatchProduct.apply(x, w, stride),
        lambda x, w: nn.functional.conv2d(x, w, stride=stride, padding=1),
    ):
        inputs = (x.clone().requires_grad_(), weight.clone().requires_grad_())
        y = function(*inputs)
        loss = (y * torch.arange(y.numel()).view(y.shape).sin()).sum()
        found.append((y, *torch.autograd.grad(loss, inputs)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def step(layer, x, weights=None):
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x) if weights is None else functional_call(layer, weights, x)
    y.float().square().sum().backward()
    return type(y.grad_fn).__name__, y.detach(), x.grad


def test_a_layer_that_trains_in_bf16_takes_the_product_and_no_other():
    torch.manual_seed(0)
    conv = nn.Conv2d(128, 8, 3, padding=1, bias=False)
    layer = patchwise(copy.deepcopy(conv))
    x = torch.randn(2, 128, 4, 4)
    name, y, dx = step(layer, x)
    assert name.startswith("PatchProduct")
    for ours, theirs in zip((y, dx), step(conv, x)[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2 * float(theirs.abs().max()))
    assert layer(x).grad_fn.name().startswith("Convolution")  # fp32
    assert not step(layer, torch.randn(2, 128, 5, 5))[0].startswith("Patch")  # a wide map
    assert not step(layer.eval(), x)[0].startswith("Patch")


def test_borrowed_weights_are_used():
    """As SDCLR's pruned branch lends them."""
    layer = patchwise(nn.Conv2d(128, 8, 3, padding=1, bias=False))
    name, y, _ = step(layer, torch.randn(2, 128, 4, 4), {"weight": torch.zeros(8, 128, 3, 3)})
    assert name.startswith("PatchProduct")
    assert not y.any()


def test_only_plain_wide_layers_are_turned():
    network = create_backbone("resnet18_cifar", image_size=32)
    keys = [*network.state_dict()]
    assert patchwise(network) is network
    assert [*network.state_dict()] == keys
    turned = {name for name, m in network.named_modules() if isinstance(m, PatchConv2d)}
    assert {"layer2.0.conv2", "layer3.0.conv1", "layer4.0.conv1", "layer4.1.conv2"} <= turned
    assert not {"conv1", "layer1.0.conv1", "layer4.0.downsample.0"} & turned
    others = [
        nn.Conv2d(128, 8, 3, bias=False),
        nn.Conv2d(128, 8, 3, padding=1),
        nn.Conv2d(128, 8, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(128, 128, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(128, 8, 3, padding=1, padding_mode="circular", bias=False),
        nn.Conv2d(128, 8, 5, padding=1, bias=False),
    ]
    assert not any(isinstance(patchwise(layer), PatchConv2d) for layer in others)
