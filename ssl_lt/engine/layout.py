"""How a task lies on its device, so that the device computes it fastest."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from ssl_lt.models.patch_convolution import patchwise

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def laid_out(module: ModuleT, device: torch.device) -> ModuleT:
    """Moves a module to a device, channels-last; on a CPU, small maps become matrix products.

    Returns:
        The same module.
    """
    module = module.to(device).to(memory_format=torch.channels_last)
    return patchwise(module) if device.type == "cpu" else module
