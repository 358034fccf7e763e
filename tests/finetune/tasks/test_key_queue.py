from __future__ import annotations

from collections import deque

import pytest
import torch

from ssl_lt.finetune.tasks.key_queue import KeyQueue
from ssl_lt.losses.parametric_contrastive import EMPTY


def batches(size, count=9, dim=3):
    g = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.randn(size, dim, generator=g), torch.randint(5, (size,), generator=g)


def pairs(queue):
    """(class, key) of every slot that is filled, in no order."""
    rows = zip(queue.labels.tolist(), queue.keys.tolist(), strict=True)
    return sorted((y, *key) for y, key in rows if y != EMPTY)


@pytest.mark.parametrize("size", [1, 4, 7, 8, 12, 19, 100])
def test_holds_the_newest_whatever_the_batch(size):
    queue, wanted = KeyQueue(size, 3), deque(maxlen=size)
    assert queue.is_empty()
    for keys, labels in batches(4):
        queue.push(keys, labels)
        wanted.extend((y, *key) for y, key in zip(labels.tolist(), keys.tolist(), strict=True))
        assert pairs(queue) == sorted(wanted)
        assert not queue.is_empty()


@pytest.mark.parametrize("size", [5, 7, 12])
def test_the_oldest_go_first_wherever_the_ring_was_cut(size):
    """Slots do not depend on how the keys came, one by one or many at once."""
    whole, single = KeyQueue(size, 3), KeyQueue(size, 3)
    for keys, labels in batches(8, count=4):
        whole.push(keys, labels)
        for key, label in zip(keys, labels, strict=True):
            single.push(key[None], label[None])
        for name, table in single.memory.tables.items():
            assert torch.equal(whole.memory.tables[name], table), name


def test_goes_on_from_saved_tables():
    first, second = KeyQueue(7, 3), KeyQueue(7, 3)
    given = list(batches(4))
    for keys, labels in given[:5]:
        first.push(keys, labels)
    saved = {name: table.clone() for name, table in first.memory.state_dict().items()}
    second.memory.load_state_dict(saved)
    for keys, labels in given[5:]:
        first.push(keys, labels)
        second.push(keys, labels)
    assert all(torch.equal(first.memory.tables[k], v) for k, v in second.memory.tables.items())


def test_keeps_no_gradient():
    queue = KeyQueue(7, 3)
    queue.push(torch.randn(4, 3).requires_grad_(), torch.zeros(4, dtype=torch.int64))
    assert not queue.keys.requires_grad
