"""Weighted k-nearest-neighbour classification on frozen features.

FAISS and torch each keep a pool of OpenMP threads, both sized by OMP_NUM_THREADS. FAISS would
otherwise start one thread a core in every process of a node, so it is given torch's number here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.evaluate.features import Features

_GPU_LARGEST_K = 2048  # FAISS keeps the k best in registers and shared memory
_GPU_TEMPORARY_BYTES = 1 << 28  # instead of 1.5 GB a process
_VOTE_ROWS = 2048  # queries whose (rows, C) votes are held at once


@dataclass(frozen=True)
class KNNOptions:
    """How neighbours are counted.

    Attributes:
        k: number of neighbours.
        temperature: a neighbour at cosine similarity s votes with exp(s / temperature).
    """

    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ConfigError: a value no neighbourhood can have.
        """
        if self.k < 1:
            raise ConfigError(f"--knn-k: {self.k}, but at least 1 neighbour is needed")
        if not self.temperature > 0:
            raise ConfigError(f"--knn-temperature: {self.temperature}, but it must be above 0")


def knn_predict(
    bank: Features, queries: Features, *, num_classes: int, options: KNNOptions | None = None
) -> Tensor:
    """Class of each query by the vote of its k most similar bank rows.

    score_c = sum over the k neighbours i with y_i = c of exp(cos(q, x_i) / temperature)
    (Wu et al. 2018, arXiv:1805.01978, section 3.4). Equal scores go to the smaller class; which of
    several rows tied exactly at the k-th place is left out, FAISS decides by their order.

    Args:
        bank: the long-tailed training set.
        queries: the test set.
        num_classes: C.
        options: defaults to k = 20, temperature = 0.07.

    Returns:
        (Q,) int64 predictions.

    Raises:
        ConfigError: k is larger than the bank.
        DataError: an empty bank, a bank label outside the classes, or a feature row that is zero
            or not finite (FAISS would answer -1, the last label of the bank to NumPy).
    """
    options = options or KNNOptions()
    if len(bank) == 0:
        raise DataError("kNN bank: no training features")
    if options.k > len(bank):
        raise ConfigError(f"--knn-k: {options.k} neighbours, but the bank has {len(bank)} images")
    labels = bank.labels.numpy()
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"kNN bank: labels {labels.min()} ... {labels.max()} do not fit {num_classes} classes"
        )
    if len(queries) == 0:
        return torch.empty(0, dtype=torch.int64)
    similarity, neighbours = _search(
        _unit_rows(bank, "kNN bank"), _unit_rows(queries, "kNN queries"), k=options.k
    )
    # Relative to the nearest, or a small temperature overflows; the ranking is the same.
    nearest = similarity.max(axis=1, keepdims=True)
    weights = np.exp((similarity.astype(np.float64) - nearest) / options.temperature)
    predictions = [
        _vote(labels[neighbours[i : i + _VOTE_ROWS]], weights[i : i + _VOTE_ROWS], num_classes)
        for i in range(0, len(queries), _VOTE_ROWS)
    ]
    return torch.from_numpy(np.concatenate(predictions))


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
    """(Q, k) inner products and bank rows, exact, on this process's GPU where FAISS sees one."""
    faiss = _faiss()
    metric = faiss.METRIC_INNER_PRODUCT
    # Not by `knn_gpu`: the CPU build has a function of that name too.
    gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    if gpu and k <= _GPU_LARGEST_K:
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(_GPU_TEMPORARY_BYTES)
        device = torch.cuda.current_device() if torch.cuda.is_available() else 0
        found = faiss.knn_gpu(resources, queries, bank, k, metric=metric, device=device)
    else:
        faiss.omp_set_num_threads(torch.get_num_threads())
        found = faiss.knn(queries, bank, k, metric=metric)
    similarity, neighbours = found
    assert neighbours.min() >= 0, "FAISS found fewer than k neighbours"
    return similarity, neighbours


def _vote(
    labels: NDArray[np.int64], weights: NDArray[np.float64], num_classes: int
) -> NDArray[np.int64]:
    """(Q,) class with the largest sum of weights; labels and weights are (Q, k)."""
    num_queries = labels.shape[0]
    cells = np.arange(num_queries)[:, None] * num_classes + labels
    votes = np.bincount(cells.ravel(), weights.ravel(), minlength=num_queries * num_classes)
    return cast("NDArray[np.int64]", votes.reshape(num_queries, num_classes).argmax(axis=1))


def _faiss() -> Any:
    """FAISS takes a second to load and only kNN needs it."""
    import faiss

    return faiss
