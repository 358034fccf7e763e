"""How workers hand over what they have made, and what is said where they cannot."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.data.loading import workers


def test_the_main_process_hands_nothing_over():
    images = torch.zeros(2)
    workers.hand_over((images,))
    assert not images.is_shared()


def test_full_shared_memory_is_named_with_what_helps(monkeypatch):
    def full(_):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(workers, "get_worker_info", object)
    images = torch.zeros(2)
    workers.hand_over((images,))
    assert images.is_shared()
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(DataError, match=r"/dev/shm: too small .*--shm-size.*--num-workers 0"):
        workers.hand_over((images,))


def test_a_worker_that_wrote_beyond_its_end_is_told_apart():
    error = RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error. It is possible")
    assert "--shm-size" in str(workers.lost_worker(error))
    other = RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
    assert "a worker died" in str(workers.lost_worker(other))
