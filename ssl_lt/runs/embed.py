"""`ssl-lt embed`: features of images by any network, and which images are alike."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.disk.files import csv_lines, write_atomically
from ssl_lt.core.errors import ConfigError
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.search import nearest_images
from ssl_lt.runs.config.inference import EmbedConfig
from ssl_lt.runs.inference.images import find_images
from ssl_lt.runs.inference.load import load_backbone
from ssl_lt.runs.inference.model import TrainedModel
from ssl_lt.runs.inference.output import Columns, Output, PartsSink, refuse_complete
from ssl_lt.runs.inference.reading import ReadImages, answers
from ssl_lt.runs.inference.tables import (
    FEATURE,
    SUFFIXES,
    EmbeddingTable,
    TableFacts,
    beside,
    check_suffix,
    embeddings_to_arrow,
    join_embeddings,
    read_embeddings,
)
from ssl_lt.runs.inference.writing import one_process, write_answers

_QUERIES = 4096  # that are searched for at a time


@dataclass(frozen=True)
class Embeddings:
    """What `ssl_lt.embed` has written.

    Attributes:
        path: of the features.
        num_images: rows of it.
        dim: D.
        unreadable: name and reason of the images that have no row.
        neighbours: list of similar images; None: none was asked for.
        num_near_duplicates: pairs in that list that are marked.
    """

    path: Path
    num_images: int
    dim: int
    unreadable: tuple[tuple[str, str], ...]
    neighbours: Path | None = None
    num_near_duplicates: int = 0

    def __fspath__(self) -> str:
        return str(self.path)


def embed(config: EmbedConfig) -> Embeddings:
    """Writes the features of images, and their neighbours where they are asked for.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    check_suffix(config.output, SUFFIXES)
    others = beside(config.output) if config.output.suffix == ".npy" else ()
    refuse_complete(
        config.output, *others, *([_list_of(config.output)] if config.neighbours else [])
    )
    if config.neighbours and importlib.util.find_spec("faiss") is None:
        raise ConfigError("--neighbours: faiss is not installed: pip install faiss-cpu")
    model = load_backbone(config.init_from, backbone=config.backbone)
    against = _bank(config, model)
    images = find_images(config.images, model.facts.decoding)
    one_process("embed", model)
    table = images.table
    number = len(table) - 1 if against is None else len(against.files)
    if config.neighbours > number:
        raise ConfigError(f"--neighbours: {config.neighbours}, and there are {number} other images")
    facts = TableFacts(model.name, model.features_sha256(), _dim(model), config.normalise)
    request = {
        "network": facts.network_sha256,
        "images": table.fingerprint(),
        "number of images": len(table),
        "normalise": config.normalise,
    }
    sink = PartsSink(config.output, embeddings_to_arrow, partial(join_embeddings, facts=facts))
    output = Output(config.output, sink, request)

    def columns(batch: ReadImages, features: Tensor) -> Columns:
        rows: Any = (F.normalize(features, dim=1) if config.normalise else features).numpy()
        names = [table.name(row) for row in batch.rows]
        return {"file": names, "sha256": batch.digests, FEATURE: rows}

    found = answers(
        model.features, model, table, config.images, first=output.done, label="embedding"
    )
    num_images = write_answers(output, images, found, columns, kind="features")
    result = Embeddings(config.output, num_images, facts.dim, tuple(output.unreadable))
    return result if not config.neighbours else _with_neighbours(result, config, against)


def _dim(model: TrainedModel) -> int:
    """Width of the features, of a black image."""
    size = model.images.size
    with torch.inference_mode():
        return model.features(torch.zeros(1, 3, size, size, device=model.device)).shape[1]


def _bank(config: EmbedConfig, model: TrainedModel) -> EmbeddingTable | None:
    """The table to search in; None: the images themselves.

    Raises:
        ConfigError: it is of another network.
    """
    if config.against is None:
        return None
    bank = read_embeddings(config.against, flag="--against")
    if bank.facts.network_sha256 != model.features_sha256():
        raise ConfigError(
            f"--against: {config.against} was made by another network ({bank.facts.network}) than "
            f"{model.name}, or with images prepared otherwise: features cannot be compared"
        )
    return bank


def _list_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.neighbours.csv")


def _with_neighbours(
    result: Embeddings, config: EmbedConfig, against: EmbeddingTable | None
) -> Embeddings:
    """Searches, and writes the list."""
    queries = read_embeddings(config.output, flag="--output")
    path, marked = _list_of(config.output), 0

    def write(file: IO[bytes]) -> None:
        nonlocal marked
        file.write(csv_lines([("file", "neighbour", "similarity", "near_duplicate")]))
        for rows in _similar(queries, against, k=config.neighbours, near=config.near_duplicate):
            marked += sum(bool(row[3]) for row in rows)
            file.write(csv_lines(rows))

    write_atomically(path, write)
    print(
        f"neighbours: {path.resolve()}; {marked:,} pairs at a cosine of {config.near_duplicate:g} "
        "or more, or of the same file, are marked"
    )
    return replace(result, neighbours=path, num_near_duplicates=marked)


def _similar(
    queries: EmbeddingTable, against: EmbeddingTable | None, *, k: int, near: float
) -> Iterator[list[tuple[str, str, float, str]]]:
    """Image, neighbour, cosine and mark, some thousands of images at a time."""
    bank = queries if against is None else against
    others = len(bank.files) - (against is None)
    k = min(k, others)
    features = _features(bank.features, 0)
    for start in range(0, len(queries.files) if k else 0, _QUERIES):
        asked = _features(queries.features[start : start + _QUERIES], start)
        cosines, places = nearest_images(features, asked, k=k + (against is None))
        rows = []
        for i, (similarity, found) in enumerate(zip(cosines, places, strict=True), start=start):
            pairs = [
                (int(j), float(s))
                for j, s in zip(found, similarity, strict=True)
                if against is not None or j != i
            ]
            for j, cosine in pairs[:k]:
                mark = "yes" if cosine >= near else ""
                if queries.digests[i] == bank.digests[j]:
                    mark = "same file"
                rows.append((queries.files[i], bank.files[j], float(f"{cosine:.6g}"), mark))
        yield rows


def _features(values: NDArray[np.float32], first: int) -> Features:
    rows = torch.from_numpy(np.array(values))
    index = torch.arange(first, first + len(rows))
    return Features(rows, torch.full_like(index, -1), index)
