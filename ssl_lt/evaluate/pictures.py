"""What the page of a run shows of its test images: a map of features, and nearest neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssl_lt.core.groups import leading_groups
from ssl_lt.data.dataset import Data
from ssl_lt.data.loading.ordered import ordered_batches
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.evaluate.features.feature_map import FEWEST_ROWS, feature_map
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.search import nearest_images
from ssl_lt.evaluate.picture_records import (
    MAP_SIDE,
    FeatureMap,
    NeighbourStrips,
    Strip,
    Thumbnail,
    png_base64,
    write_picture_file,
)

_SEED = 0  # the same test images for every run, so that pages can be compared
_NEAREST = 5
_STRIPS_A_GROUP = 3
_MAX_SIDE = 64  # pixels of a thumbnail


def write_pictures(
    folder: Path, data: Data, bank: Features, queries: Features, *, map_images: int
) -> None:
    """Writes `neighbours.json`, and `map.json` if there are enough images for one.

    Args:
        folder: of the report.
        data: the training images that `bank` is of, the test images that `queries` is of, and the
            groups.
        bank: all training images.
        queries: all test images.
        map_images: at most so many on the map.

    Raises:
        DataError: an image file cannot be decoded.
        DiskError: a file cannot be written.
    """
    write_picture_file(neighbours_of(data, bank, queries), folder)
    found = map_of(queries, most=map_images)
    if found is None:
        (folder / "map.json").unlink(missing_ok=True)  # that of an earlier evaluation
    else:
        write_picture_file(found, folder)


def map_of(queries: Features, *, most: int) -> FeatureMap | None:
    """T-SNE of at most so many test images, drawn by seed; None of fewer than ten."""
    rows = _random().permutation(len(queries))[:most]
    if len(rows) < FEWEST_ROWS:
        return None
    rows.sort()
    places = feature_map(queries.features.numpy()[rows], seed=_SEED)
    x, y = np.rint(MAP_SIDE * places).astype(int).T.tolist()
    classes = queries.labels.numpy()[rows].tolist()
    note = f"t-SNE of the features of {len(rows):,} test images (PCA to 50, perplexity 30)."
    return FeatureMap(tuple(x), tuple(y), tuple(classes), note)


def neighbours_of(data: Data, bank: Features, queries: Features) -> NeighbourStrips:
    """Three test images of each group, each with its five nearest training images."""
    test = data.test
    assert test is not None
    rows = _chosen(data, queries.labels.numpy())
    asked = queries.take(torch.from_numpy(rows))
    similarity, nearest = nearest_images(bank, asked, k=min(_NEAREST, len(bank)))
    shown = _thumbnails(test, queries.index.numpy()[rows], data, similarity=[1.0] * len(rows))
    found = _thumbnails(
        data.train,
        bank.index.numpy()[nearest.flatten()],
        data,
        similarity=similarity.flatten().tolist(),
    )
    k = nearest.shape[1]
    strips = [Strip(query, tuple(found[i * k : (i + 1) * k])) for i, query in enumerate(shown)]
    note = "Test images drawn by seed, neighbours by cosine similarity of the features."
    return NeighbourStrips(tuple(strips), note)


def _chosen(data: Data, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the test images, classes as different as possible."""
    random, rows = _random(), list[int]()
    for _, members in leading_groups(data.groups) or ():
        tested = random.permutation(np.intersect1d(members, labels))
        for c in np.resize(tested, _STRIPS_A_GROUP if tested.size else 0):
            left = np.setdiff1d(np.flatnonzero(labels == c), rows)
            rows += [int(random.choice(left))] if left.size else []
    return np.asarray(rows, dtype=np.int64)


def _thumbnails(
    table: ImageTable,
    rows: NDArray[np.int64],
    data: Data,
    *,
    similarity: list[float],
) -> list[Thumbnail]:
    batches = ordered_batches(
        table.take(rows),
        batch_size=max(1, len(rows)),
        spec=data.spec,
        device=torch.device("cpu"),
        workers=Workers(0),
    )
    return [
        Thumbnail(int(label), _png(image), round(value, 4))
        for batch in batches
        for image, label, value in zip(batch.images, batch.labels, similarity, strict=True)
    ]


def _png(image: Tensor) -> str:
    """(3, H, W) uint8 as a small PNG, base64."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return png_base64(picture)


def _random() -> np.random.Generator:
    return np.random.default_rng(_SEED)
