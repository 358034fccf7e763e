"""Which arithmetic a device really has."""

from __future__ import annotations

from typing import Literal

import torch

from ssl_lt.core.errors import ConfigError

Precision = Literal["auto", "no", "bf16", "fp16"]


def computes_bf16(device: torch.device) -> bool:
    """True where bf16 is done in hardware, and so is faster than fp32, not only possible."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False


def resolve_precision(precision: Precision, device: torch.device) -> Literal["no", "bf16", "fp16"]:
    """`auto` becomes bf16 where the device computes in it.

    Raises:
        ConfigError: fp16 without CUDA.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"--mixed-precision fp16: needs a CUDA device, and this is {device.type}; bf16, no or "
            "auto work here"
        )
    if precision == "auto":
        return "bf16" if computes_bf16(device) else "no"
    return precision


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What features are computed in: the precision the network was trained in, where it can."""
    if precision == "fp16":
        return torch.float16 if device.type == "cuda" else None
    return torch.bfloat16 if resolve_precision(precision, device) == "bf16" else None
