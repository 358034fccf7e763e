"""Parts that are another code on a GPU: exact search, and batches that travel ahead."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch

from ssl_lt.data.loading.to_device import on_device
from ssl_lt.evaluate.neighbours.search import nearest_images
from tests.evaluate.neighbours.test_knn import clusters
from tests.gpu.steps import CUDA, no_waiting

pytestmark = pytest.mark.gpu


def test_search_on_the_gpu_finds_what_the_cpu_finds(monkeypatch):
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        pytest.skip("a FAISS without GPUs")
    bank, queries = clusters(2000, seed=0), clusters(100, seed=1)
    similarity, nearest = nearest_images(bank, queries, k=20)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    expected, expected_nearest = nearest_images(bank, queries, k=20)
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    assert (nearest == expected_nearest).mean() > 0.99  # neighbours may be equally near


def pinned(number, *, size=64):
    images = torch.full((size, 3, 64, 64), number % 256, dtype=torch.uint8).pin_memory()
    index = (torch.arange(size) + number).pin_memory()
    return images, (index % 10).pin_memory(), index


def test_batches_that_travel_ahead_arrive_whole_and_in_order():
    busy = torch.randn(4096, 4096, device=CUDA)
    sums = []
    for batch in on_device(map(pinned, range(50)), device=CUDA):
        busy = (busy @ busy).tanh()  # so that copies and kernels overlap
        sums.append((batch.images.double().sum(), batch.index.sum(), batch.labels.sum()))
    for number, found in enumerate(sums):
        images, labels, index = pinned(number)
        assert [int(x) for x in found] == [int(images.double().sum()), index.sum(), labels.sum()]


def test_sending_does_not_make_the_host_wait():
    batches = [pinned(number) for number in range(4)]
    list(on_device(batches, device=CUDA))
    torch.cuda.synchronize()
    with no_waiting():
        list(on_device(batches, device=CUDA))
