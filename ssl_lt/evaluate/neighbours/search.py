"""The bank images most similar to each query, by exact search.

FAISS and torch each keep a pool of OpenMP threads, both sized by OMP_NUM_THREADS. FAISS would
otherwise start one thread a core in every process of a node, so it is given torch's number here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.evaluate.features.features import Features

_GPU_LARGEST_K = 2048  # FAISS keeps the k best in registers and shared memory
_GPU_TEMPORARY_BYTES = 1 << 28  # instead of 1.5 GB a process


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What kNN votes with.

    Attributes:
        similarity: (Q, k) float32 cosines, descending.
        labels: (Q, k) int64 classes of those bank images.
        counts_per_class: (C,) int64 images of the whole bank.
    """

    similarity: NDArray[np.float32]
    labels: NDArray[np.int64]
    counts_per_class: NDArray[np.int64]


def find_neighbours(bank: Features, queries: Features, *, k: int, num_classes: int) -> Neighbours:
    """The k most similar bank images of each query, with their classes.

    Args:
        bank: images to be found.
        queries: images that ask.
        k: neighbours of each.
        num_classes: C.

    Raises:
        ConfigError: k is larger than the bank.
        DataError: an empty bank, a bank label outside the classes, or as `nearest_images` says.
    """
    if len(bank) == 0:
        raise DataError("kNN bank: no training features")
    if k > len(bank):
        raise ConfigError(f"--knn-k: {k} neighbours, but the bank has {len(bank)} images")
    labels = bank.labels.numpy()
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"kNN bank: labels {labels.min()} ... {labels.max()} do not fit {num_classes} classes"
        )
    similarity, nearest = nearest_images(bank, queries, k=k)
    return Neighbours(similarity, labels[nearest], np.bincount(labels, minlength=num_classes))


def nearest_images(
    bank: Features, queries: Features, *, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k most similar bank images of each query; of images tied at the k-th place, any.

    Args:
        bank: at least k images.
        queries: images that ask.
        k: neighbours of each.

    Returns:
        (Q, k) float32 cosines, descending, and (Q, k) int64 positions in the bank.

    Raises:
        DataError: a feature vector is zero or not finite (FAISS would answer -1, the last image of
            the bank to NumPy).
    """
    unit_bank, unit_queries = _unit_rows(bank, "kNN bank"), _unit_rows(queries, "kNN queries")
    if len(queries) == 0:
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    similarity, nearest = _search(unit_bank, unit_queries, k=k)
    assert nearest.min() >= 0, "FAISS found fewer than k neighbours"
    return similarity, nearest


def _unit_rows(rows: Features, name: str) -> NDArray[np.float32]:
    """(N, D) rows of norm 1."""
    features = rows.features.float()
    norms = features.norm(dim=1)
    bad = torch.nonzero(~(norms.isfinite() & (norms > 0)))[:, 0]
    if bad.numel():
        raise DataError(
            f"{name}: {bad.numel()} feature rows are zero or not finite, "
            f"the first is row {int(rows.index[bad[0]])}"
        )
    return cast("NDArray[np.float32]", F.normalize(features, dim=1).contiguous().numpy())


def _search(
    bank: NDArray[np.float32], queries: NDArray[np.float32], *, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(Q, k) inner products and bank rows, on this process's GPU where FAISS sees one."""
    import faiss  # takes a second to load, and only kNN needs it

    faiss.omp_set_num_threads(torch.get_num_threads())
    metric = faiss.METRIC_INNER_PRODUCT
    # Not by `knn_gpu`: the CPU build has a function of that name too.
    has_gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    if not has_gpu or k > _GPU_LARGEST_K:
        similarity, nearest = faiss.knn(queries, bank, k, metric=metric)
        return similarity, nearest
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_GPU_TEMPORARY_BYTES)
    device = torch.cuda.current_device() if torch.cuda.is_available() else 0
    similarity, nearest = faiss.knn_gpu(resources, queries, bank, k, metric=metric, device=device)
    return similarity, nearest
