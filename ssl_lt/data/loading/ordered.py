"""Batches in file order, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ssl_lt.core.types import Batch, ImageSpec
from ssl_lt.data.images.crops import centre, centre_square
from ssl_lt.data.loading.to_device import on_device
from ssl_lt.data.loading.worker_loader import DecodedFiles, Key, fetch, file_loader, named_errors
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.tables.table import ImageTable, PixelTable


class CentreFiles(DecodedFiles):
    """The middle of each image, (1, 3, S, S), the same in every epoch."""

    def views(self, keys: list[Key], rows: list[int]) -> Iterator[Tensor]:
        """See `DecodedFiles`."""
        for row in rows:
            with named_errors(self.table, row):
                image = self.table.read(row)
                yield centre_square(
                    image,
                    size=self.spec.size,
                    fraction=self.spec.crop,
                    interpolation=self.spec.interpolation,
                )[None]


def ordered_batches(
    table: ImageTable,
    *,
    batch_size: int,
    spec: ImageSpec,
    device: torch.device,
    workers: Workers,
) -> Iterator[Batch]:
    """Every row once, in order; the last batch holds what is left, nothing is padded.

    Files are resized to a shorter side of S over `spec.crop` and cut in the middle; so are pixels
    that were stored larger than S. Small images come as they are.

    Args:
        table: rows to go through.
        batch_size: of this process.
        spec: S, the share that is kept, and the filter.
        device: where batches are sent.
        workers: who decodes files.

    Yields:
        Batches with images (B, 3, S, S) uint8, or smaller ones.

    Raises:
        DataError: a file that cannot be decoded, or workers that died or do not answer.
    """
    starts = range(0, len(table), batch_size)
    if isinstance(table, PixelTable):
        for start in starts:
            rows = slice(start, start + batch_size)
            index = torch.arange(len(table))[rows]
            images = centre(table.pixels[rows], size=spec.size)
            yield Batch(images.to(device), table.labels[rows].to(device), index.to(device))
        return
    files = CentreFiles(table, spec)
    keys = [[(0, i) for i in range(s, min(s + batch_size, len(table)))] for s in starts]
    loader = file_loader(files, keys, device=device, workers=workers)
    for batch in on_device(fetch(loader, table, keys), device=device):
        yield Batch(batch.images[:, 0], batch.labels, batch.index)
