"""The memory of memorisation in a loop of one's own; its numbers are in test_memory_boost.py."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses import MemorizationMemory, NTXentLoss


def test_a_loop_of_ones_own():
    g, memory = torch.Generator().manual_seed(0), MemorizationMemory(6, beta=0.5)
    loss, index = NTXentLoss(0.5, reduction="none"), torch.arange(6)
    assert torch.equal(memory.strength(index), torch.zeros(6))
    for _ in range(2):
        z1, z2 = torch.randn(2, 6, 4, generator=g)
        memory.update(index, loss(z1, z2))
        memory.refresh()
    strength = memory.strength(index)
    assert ((strength >= 0) & (strength <= 1)).all()
    assert strength.std() > 0
    other = MemorizationMemory(6)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.weights, memory.weights)


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="num_samples: 0"):
        MemorizationMemory(0)
    with pytest.raises(ConfigError, match=r"beta: 1\.0"):
        MemorizationMemory(6, beta=1.0)
    with pytest.raises(ConfigError, match=r"losses: shape \(\), expected one a sample of 3"):
        MemorizationMemory(6).update(torch.arange(3), torch.tensor(1.0))
