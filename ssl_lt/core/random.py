"""Randomness as a function: every draw is a hash of (seed, epoch, sample, view, draw).

Nothing here keeps a state, so a run resumed in the middle of an epoch, or spread over other
processes, draws the same numbers. The hash is the splitmix64 finaliser (Steele et al. 2014,
"Fast splittable pseudorandom number generators") on int64 tensors, where products wrap.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB
_LOW53 = (1 << 53) - 1


def draw_id(name: str) -> int:
    """Stable number of a named draw; call once, at import, and keep it in a constant."""
    return zlib.crc32(name.encode())


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's `>>` copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser: a bijection of 64-bit integers that spreads every bit."""
    x = (x ^ _shift_right(x, 30)) * _MIX1
    x = (x ^ _shift_right(x, 27)) * _MIX2
    return x ^ _shift_right(x, 31)


def sample_keys(index: Tensor, *, seed: int, epoch: int | Tensor, view: int) -> Tensor:
    """Key of each sample's stream.

    Args:
        index: (B,) int64, rows in the training set.
        seed: of the run.
        epoch: number, or an int64 scalar tensor (so that a compiled step need not be recompiled).
        view: which of the views of the sample.

    Returns:
        (B,) int64 keys for `uniform`.
    """
    start = torch.as_tensor(seed, dtype=torch.int64, device=index.device)
    key = _mix(start * _GOLDEN + 1)
    key = _mix(key + (torch.as_tensor(epoch, device=index.device) + 1) * _GOLDEN)
    key = _mix(key + (view + 1) * _GOLDEN)
    return _mix(key + (index + 1) * _GOLDEN)


def uniform(keys: Tensor, draw: int, count: int = 1) -> Tensor:
    """Independent draws from U[0, 1).

    Args:
        keys: (B,) int64 from `sample_keys`.
        draw: a `draw_id`; the same draw of the same key is the same number.
        count: numbers a sample.

    Returns:
        (B, count) float32, multiples of 2^-24.
    """
    lane = torch.arange(1, count + 1, device=keys.device)
    x = _mix(keys[:, None] + _mix_int(draw) + lane * _GOLDEN)
    return _shift_right(x, 40).to(torch.float32) * 2.0**-24


def uniform_between(keys: Tensor, draw: int, low: float, high: float) -> Tensor:
    """(B,) draws from U[low, high)."""
    return low + (high - low) * uniform(keys, draw)[:, 0]


def integers(keys: Tensor, draw: int, high: Tensor | int) -> Tensor:
    """(B,) int64 draws from 0 ... high-1, where `high` (number or (B,)) is far below 2^24."""
    u = uniform(keys, draw)[:, 0].to(torch.float64)
    return (u * high).to(torch.int64)


def permutation(length: int, *, seed: int, epoch: int) -> Tensor:
    """(length,) order of the samples in an epoch: a function of (seed, epoch) alone."""
    keys = sample_keys(torch.arange(length), seed=seed, epoch=epoch, view=_ORDER)
    return torch.argsort(keys & _LOW53, stable=True)


def seed_of(*parts: int) -> int:
    """One non-negative 63-bit seed from several numbers, for a library's own generator."""
    state = 0
    for part in parts:
        state = _mix_int(state + (part + 1) * _GOLDEN)
    return state & ((1 << 63) - 1)


def _mix_int(x: int) -> int:
    """`_mix` for a Python integer, wrapped to signed 64 bits."""
    mask = (1 << 64) - 1
    x &= mask
    x = ((x ^ (x >> 30)) * (_MIX1 & mask)) & mask
    x = ((x ^ (x >> 27)) * (_MIX2 & mask)) & mask
    x ^= x >> 31
    return x - (1 << 64) if x >> 63 else x


_ORDER = draw_id("order")
