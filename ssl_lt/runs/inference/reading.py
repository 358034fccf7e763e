"""Images in their order, batch by batch; one that cannot be read is named and passed over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_lt.core.errors import DataError
from ssl_lt.core.progress import ProgressBar
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.images.crops import centre
from ssl_lt.data.images.decode import EncodedImage, read_bytes
from ssl_lt.data.loading.worker_loader import Key, fetch, file_loader
from ssl_lt.data.loading.workers import Workers, hand_over
from ssl_lt.data.tables.boxes import BoxTable
from ssl_lt.data.tables.decode_once import decode_once
from ssl_lt.data.tables.table import ImageTable, PixelTable
from ssl_lt.runs.inference.images import ImageOptions
from ssl_lt.runs.inference.model import TrainedModel, to_pixels

_NO_LIMIT_MIB = 1 << 40  # a batch always fits


@dataclass(frozen=True)
class ReadImages:
    """A batch.

    Attributes:
        stop: row behind its last one.
        pixels: (n, 3, S, S) uint8, or smaller, of those that can be read.
        rows: (n,) of them.
        digests: (n,) SHA-256 of their files, or of their pixels where there are none.
        unreadable: name and reason of the others.
    """

    stop: int
    pixels: Tensor
    rows: tuple[int, ...]
    digests: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]


def read_images(
    table: ImageTable,
    spec: ImageSpec,
    *,
    first: int,
    batch_size: int,
    device: torch.device,
    workers: Workers,
) -> Iterator[ReadImages]:
    """Every row from `first` on, once, in order; no more than a few batches are held.

    Args:
        table: of the images.
        spec: what the network sees.
        first: row to begin at.
        batch_size: rows a batch.
        device: that the batches go to in the end.
        workers: who decodes files.

    Raises:
        DataError: workers that died or do not answer.
    """
    if table.takes_pixels:
        for start in range(first, len(table), batch_size):
            yield _of_pixels(table, spec, start, min(start + batch_size, len(table)))
        return
    keys = _Ranges(first, len(table), batch_size)
    loader: Any = file_loader(_Files(table, spec), keys, device=device, workers=workers)
    for batch in fetch(loader, table, keys):
        read: Any = batch
        if isinstance(read, DataError):
            raise DataError(str(read))
        yield read


def _of_pixels(table: ImageTable, spec: ImageSpec, start: int, stop: int) -> ReadImages:
    """As `ssl_lt.data.dataset` keeps them in memory for an evaluation."""
    taken = table.take(np.arange(start, stop))
    assert isinstance(taken, PixelTable)
    digests = tuple(hashlib.sha256(p.contiguous().numpy().data).hexdigest() for p in taken.pixels)
    reduced = decode_once(taken, spec, limit_mib=_NO_LIMIT_MIB)
    assert isinstance(reduced, PixelTable)
    pixels = centre(reduced.pixels, size=spec.size)
    return ReadImages(stop, pixels, tuple(range(start, stop)), digests, ())


class _Ranges:
    """Keys of consecutive rows, made as they are asked for."""

    def __init__(self, first: int, stop: int, size: int) -> None:
        self.first, self.stop, self.size = first, stop, size

    def __len__(self) -> int:
        return -(-(self.stop - self.first) // self.size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(self.first, self.stop, self.size):
            yield [(0, row) for row in range(start, min(start + self.size, self.stop))]


class _Files(Dataset[Any]):
    """Batches of decoded files; lives in the workers."""

    def __init__(self, table: ImageTable, spec: ImageSpec) -> None:
        self.table, self.spec = table, spec

    def __getitems__(self, keys: list[Key]) -> ReadImages | DataError:
        pixels, rows, digests = list[Tensor](), list[int](), list[str]()
        unreadable = list[tuple[str, str]]()
        for _, row in keys:
            try:
                image, digest = self._read(row)
            except MemoryError:
                raise
            except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
                said = str(error) if isinstance(error, DataError) else repr(error)
                unreadable.append((self.table.name(row), said))
                continue
            pixels.append(image)
            rows.append(row)
            digests.append(digest)
        empty = torch.empty(0, 3, self.spec.size, self.spec.size, dtype=torch.uint8)
        stacked = torch.stack(pixels) if pixels else empty
        try:
            hand_over((stacked,))
        except DataError as error:
            return error
        stop = keys[-1][1] + 1
        return ReadImages(stop, stacked, tuple(rows), tuple(digests), tuple(unreadable))

    def _read(self, row: int) -> tuple[Tensor, str]:
        stored = self.table.encoded(row)
        name = self.table.name(row) if isinstance(stored, bytes) else str(stored)
        blob = read_bytes(stored)
        decoding = self.table.decoding
        if isinstance(self.table, BoxTable):  # what it encodes has the range of values already
            decoding = replace(decoding, value_range=None)
        image = EncodedImage(blob, name=name, decoding=decoding).decode()
        return to_pixels(image, self.spec), hashlib.sha256(blob).hexdigest()


def answers(
    network: Callable[[Tensor], Tensor],
    model: TrainedModel,
    table: ImageTable,
    options: ImageOptions,
    *,
    first: int = 0,
    label: str,
) -> Iterator[tuple[ReadImages, Tensor]]:
    """What a network gives for the images of each batch, while stderr says how far it is.

    Args:
        network: (B, 3, S, S) -> (B, D), on the device of the model.
        model: says how images are prepared.
        table: of the images.
        options: how many at a time, and who decodes.
        first: row to begin at.
        label: what is done, as in "predicting".

    Yields:
        The batch and (n, D) float32 on the CPU; (0, 0) where no image could be read.
    """
    read = read_images(
        table,
        model.images,
        first=first,
        batch_size=options.batch_size,
        device=model.device,
        workers=options.workers,
    )
    with ProgressBar(label, len(table), first_step=first, transient=True) as bar:
        for batch in read:
            out = torch.empty(0, 0)
            if batch.rows:
                with torch.inference_mode():
                    out = network(model.view.to_network(batch.pixels.to(model.device))).cpu()
            yield batch, out
            bar.show(batch.stop)
