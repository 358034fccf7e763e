"""The bank rows most similar to each query, exactly, or with an index for banks of any size.

FAISS and torch each keep a pool of OpenMP threads, both sized by OMP_NUM_THREADS. FAISS would
otherwise start one thread a core in every process of a node, so it is given torch's number here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.evaluate.features.extract import Features

Index = Literal["exact", "ivf"]

_GPU_LARGEST_K = 2048  # FAISS keeps the k best in registers and shared memory
_GPU_TEMPORARY_BYTES = 1 << 28  # instead of 1.5 GB a process
_CHUNK_BYTES = 1 << 25  # of bank rows that an approximate search holds as float32 at once
_ROWS_PER_LIST = 64  # that train the index
_FEWEST_ROWS_PER_LIST = 39  # below which FAISS complains
_JUDGED_QUERIES = 200  # that the recall is measured on
_RECALL = 0.95  # lists are added to the search until it is reached


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What kNN votes with.

    Attributes:
        similarity: (Q, k) float32 cosines, descending.
        labels: (Q, k) int64 classes of those bank rows.
        counts_per_class: (C,) int64 rows of the whole bank.
        recall: share of the k exact neighbours that an approximate search found, over some of the
            queries; None of an exact one.
    """

    similarity: NDArray[np.float32]
    labels: NDArray[np.int64]
    counts_per_class: NDArray[np.int64]
    recall: float | None = None


def find_neighbours(
    bank: Features,
    queries: Features,
    *,
    k: int,
    num_classes: int,
    index: Index = "exact",
    among: Tensor | None = None,
) -> Neighbours:
    """The k most similar bank rows of each query; of rows tied at the k-th place FAISS takes any.

    "exact" compares with every row. "ivf" puts rows into about sqrt(N) lists, by centroids of a
    sample, holds them in 8 bits a number, and looks into the nearest lists: as many as give the
    recall of 0.95 on 200 queries. It reads the bank by chunks, so a bank whose features are mapped
    from a file (`store_features`) may be larger than the memory.

    Args:
        bank: rows to be found.
        queries: rows that ask.
        k: neighbours of each.
        num_classes: C.
        index: of the search.
        among: (M,) int64 rows of the bank, the only ones to be found; None: all.

    Raises:
        ConfigError: k is larger than the bank.
        DataError: an empty bank, a bank label outside the classes, or a feature row that is zero
            or not finite (FAISS would answer -1, the last label of the bank to NumPy).
    """
    if len(bank) == 0:
        raise DataError("kNN bank: no training features")
    rows = torch.arange(len(bank)) if among is None else among
    if k > len(rows):
        raise ConfigError(f"--knn-k: {k} neighbours, but the bank has {len(rows)} images")
    labels = bank.labels[rows].numpy()
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"kNN bank: labels {labels.min()} ... {labels.max()} do not fit {num_classes} classes"
        )
    counts = np.bincount(labels, minlength=num_classes)
    asked = _unit_rows(queries, "kNN queries")
    if len(queries) == 0:
        return Neighbours(np.empty((0, k), np.float32), np.empty((0, k), np.int64), counts)
    recall = None
    if index == "exact":
        searched = bank if among is None else bank.take(among)
        similarity, found = _search_all(_unit_rows(searched, "kNN bank"), asked, k=k)
    else:
        similarity, found, recall = _search_lists(bank, rows, asked, k=k)
    assert found.min() >= 0, "FAISS found fewer than k neighbours"
    return Neighbours(similarity, labels[found], counts, recall)


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


Found = tuple[NDArray[np.float32], NDArray[np.int64]]


def _search_all(bank: NDArray[np.float32], queries: NDArray[np.float32], *, k: int) -> Found:
    """(Q, k) inner products and bank rows, exact, on this process's GPU where FAISS sees one."""
    faiss = _faiss()
    metric = faiss.METRIC_INNER_PRODUCT
    if _has_gpu() and k <= _GPU_LARGEST_K:
        return cast(
            "Found", faiss.knn_gpu(_gpu(), queries, bank, k, metric=metric, device=_gpu_number())
        )
    return cast("Found", faiss.knn(queries, bank, k, metric=metric))


def _search_lists(
    bank: Features, among: Tensor, queries: NDArray[np.float32], *, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
    """(Q, k) inner products and places in `among`, approximate, and the recall on some queries."""
    faiss = _faiss()
    num_lists = max(1, min(round(len(among) ** 0.5), len(among) // _FEWEST_ROWS_PER_LIST))
    quantiser = f"IVF{num_lists},SQ8"
    ivf = faiss.index_factory(bank.features.shape[1], quantiser, faiss.METRIC_INNER_PRODUCT)
    generator = torch.Generator().manual_seed(0)
    size = min(len(among), num_lists * _ROWS_PER_LIST)
    sample = torch.randperm(len(among), generator=generator)[:size].sort().values
    ivf.train(_unit_rows(bank.take(among[sample]), "kNN bank"))
    if _has_gpu() and k <= _GPU_LARGEST_K:
        ivf = faiss.index_cpu_to_gpu(_gpu(), _gpu_number(), ivf)
    for chunk in _chunks(bank, among):
        ivf.add(chunk)
    # Spread over all queries: a test split often comes class by class.
    judged = queries[
        np.linspace(0, len(queries) - 1, min(len(queries), _JUDGED_QUERIES), dtype=int)
    ]
    exact = _search_chunks(bank, among, judged, k=k)
    ivf.nprobe, recall = 1, 0.0
    while True:
        found = ivf.search(judged, k)[1]
        recall = _recall(found, exact)
        if ivf.nprobe >= num_lists or (recall >= _RECALL and found.min() >= 0):
            break
        ivf.nprobe = min(2 * ivf.nprobe, num_lists)
    similarity, rows = ivf.search(queries, k)
    if rows.min() < 0:  # the lists of some query hold fewer than k rows
        ivf.nprobe = num_lists
        similarity, rows = ivf.search(queries, k)
    return similarity, rows, recall


def _search_chunks(
    bank: Features, among: Tensor, queries: NDArray[np.float32], *, k: int
) -> NDArray[np.int64]:
    """(Q, k) exact neighbours, by chunks of the bank."""
    faiss = _faiss()
    heap, start = faiss.ResultHeap(len(queries), k, keep_max=True), 0
    for chunk in _chunks(bank, among):
        found = _search_all(chunk, queries, k=min(k, len(chunk)))
        heap.add_result(found[0], found[1] + start)
        start += len(chunk)
    heap.finalize()
    return cast("NDArray[np.int64]", heap.I)


def _recall(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    """Share of the exact neighbours that were found."""
    hits = [np.isin(a, b).sum() for a, b in zip(exact, found, strict=True)]
    return float(np.sum(hits) / exact.size)


def _chunks(bank: Features, among: Tensor) -> Iterator[NDArray[np.float32]]:
    """Rows of the bank scaled to norm 1, some at a time."""
    num_rows = max(1, _CHUNK_BYTES // (4 * bank.features.shape[1]))
    for rows in torch.split(among, num_rows):
        yield _unit_rows(bank.take(rows), "kNN bank")


def _has_gpu() -> bool:
    # Not by `knn_gpu`: the CPU build has a function of that name too.
    faiss = _faiss()
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def _gpu() -> Any:
    resources = _faiss().StandardGpuResources()
    resources.setTempMemory(_GPU_TEMPORARY_BYTES)
    return resources


def _gpu_number() -> int:
    return torch.cuda.current_device() if torch.cuda.is_available() else 0


def _faiss() -> Any:
    """FAISS takes a second to load and only kNN needs it."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss
