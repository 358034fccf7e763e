"""Randomness as a function: every draw is a hash of (seed, epoch, sample, view, draw).

Nothing here keeps a state, so a run resumed in the middle of an epoch, or spread over other
processes, draws the same numbers. The hash is splitmix64 (Steele et al. 2014, "Fast splittable
pseudorandom number generators"): number c of the stream that starts at `key` is
mix(key + c * 0x9E3779B97F4A7C15), computed on int64 tensors, where sums and products wrap.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB
_VIEW_BITS = 8
_LANE_BITS = 16
_ROW_BITS = 40


def draw_id(name: str) -> int:
    """Stable number of a named draw; call once, at import, and keep it in a constant."""
    return zlib.crc32(name.encode())


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's `>>` copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix_high(x: Tensor) -> Tensor:
    """`_mix` without its last step, which leaves the upper 31 bits as they are."""
    x = (x ^ _shift_right(x, 30)) * _MIX1
    return (x ^ _shift_right(x, 27)) * _MIX2


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser: a bijection of 64-bit integers that spreads every bit."""
    x = _mix_high(x)
    return x ^ _shift_right(x, 31)


def _epoch_key(seed: int, epoch: int | Tensor) -> int | Tensor:
    start = _mix_int(seed * _GOLDEN + 1)
    if isinstance(epoch, Tensor):
        return _mix(start + (epoch + 1) * _GOLDEN)
    return _mix_int(start + (epoch + 1) * _GOLDEN)


def sample_keys(index: Tensor, *, seed: int, epoch: int | Tensor, view: int) -> Tensor:
    """Key of each sample's stream.

    Args:
        index: (B,) int64, rows in the training set; or `drawn_rows`, where rows may repeat.
        seed: of the run.
        epoch: number, or an int64 scalar tensor (so that a compiled step need not be recompiled).
        view: which of the views of the sample, 0 ... 255; stands in the key's lowest 8 bits, see
            `shared_keys`.

    Returns:
        (B,) int64 keys for `uniform`.
    """
    assert 0 <= view < 1 << _VIEW_BITS, f"view {view} does not fit the key"
    key = _mix((index + 1) * _GOLDEN + _epoch_key(seed, epoch))
    return (key & -(1 << _VIEW_BITS)) | view


def drawn_rows(index: Tensor, draw: Tensor) -> Tensor:
    """Rows that come several times in an epoch, told apart; `sample_keys` takes them for rows.

    Args:
        index: (B,) int64, rows in the training set, below 2^40.
        draw: (B,) int64, how often the row has come before in the epoch, below 2^23.

    Returns:
        (B,) int64: the row itself at its first draw, else a number of its own.
    """
    return index + (draw << _ROW_BITS)


def row_and_draw(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """What `drawn_rows` was given: (B,) rows and (B,) draws."""
    return drawn & ((1 << _ROW_BITS) - 1), drawn >> _ROW_BITS


def shared_keys(keys: Tensor) -> Tensor:
    """(B,) keys that all views of a sample have in common, for draws the views must share.

    They equal the keys of view 0: a shared draw needs a name that no view uses for itself.
    """
    return keys & -(1 << _VIEW_BITS)


def uniform(keys: Tensor, draw: int, count: int = 1) -> Tensor:
    """Independent draws from U[0, 1).

    Args:
        keys: (B,) int64 from `sample_keys`.
        draw: a `draw_id`; the same draw of the same key is the same number.
        count: numbers a sample, at most 65536. One call with a large count costs hardly more
            than one with a small count.

    Returns:
        (B, count) float32, multiples of 2^-24.
    """
    first = draw << _LANE_BITS
    if torch.compiler.is_compiling():
        # A compiler multiplies an `arange` in its indices, which do not wrap, but not a masked one.
        lanes = torch.arange(count, device=keys.device) & ((1 << _LANE_BITS) - 1)
        x = (keys + _wrapped(first * _GOLDEN))[:, None] + lanes * _GOLDEN
    else:
        lanes = torch.arange(first, first + count, device=keys.device)
        x = torch.add(keys[:, None], lanes, alpha=_GOLDEN)
    x = _mix_high(x)
    return _shift_right(x, 40).to(torch.float32) * 2.0**-24


def integers(keys: Tensor, draw: int, high: Tensor | int) -> Tensor:
    """(B,) int64 draws from 0 ... high-1, where `high` (number or (B,)) is far below 2^24."""
    u = uniform(keys, draw)[:, 0].to(torch.float64)
    return (u * high).to(torch.int64)


def permutation(length: int, *, seed: int, epoch: int) -> Tensor:
    """(length,) order of the samples in an epoch: a function of (seed, epoch) alone."""
    order = _mix_int(_ORDER)
    numbers = torch.arange(1, length + 1) * _GOLDEN + _epoch_key(seed, epoch)
    # The hash is a bijection, so there are no ties whose order a sort could choose.
    return torch.argsort(_mix(numbers ^ order))


def slots(index: Tensor, *, num_slots: int) -> Tensor:
    """Places of samples in a table of fixed size; the same sample has the same place, always.

    Of N samples in M slots an expected share of 1 - (1 - 1/M)^(N-1), about 1 - exp(-N/M), has a
    slot together with another.

    Args:
        index: (B,) int64, rows in the training set.
        num_slots: M.

    Returns:
        (B,) int64 in 0 ... M-1.
    """
    return _shift_right(_mix((index + 1) * _GOLDEN), 1) % num_slots


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
    return _wrapped(x ^ (x >> 31))


def _wrapped(x: int) -> int:
    """The signed 64-bit integer that a tensor would hold."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


_ORDER = draw_id("order")
