from __future__ import annotations

import torch
from torch import nn

from ssl_lt.engine.layout import laid_out
from ssl_lt.models.patch_convolution import PatchConv2d


def network():
    return nn.Sequential(nn.Conv2d(128, 4, 3, padding=1, bias=False))


def test_small_maps_are_products_on_a_cpu_and_nowhere_else():
    on_cpu = laid_out(network(), torch.device("cpu"))
    assert isinstance(on_cpu[0], PatchConv2d)
    assert on_cpu[0].weight.is_contiguous(memory_format=torch.channels_last)
    elsewhere = laid_out(network(), torch.device("meta"))
    assert type(elsewhere[0]) is nn.Conv2d
    assert elsewhere[0].weight.device.type == "meta"
    assert elsewhere[0].weight.is_contiguous(memory_format=torch.channels_last)
