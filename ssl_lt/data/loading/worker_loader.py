"""Batches from files too large for memory: worker processes decode and cut."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ssl_lt.core.errors import DataError
from ssl_lt.core.random import drawn_rows, row_and_draw
from ssl_lt.core.types import Batch, ImageSpec
from ssl_lt.data.images.crops import Crop, crop_encoded
from ssl_lt.data.images.decode import EncodedImage
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.loading.to_device import Fetched, on_device
from ssl_lt.data.loading.workers import Workers, hand_over, is_lost_worker, lost_worker
from ssl_lt.data.tables.table import ImageTable

# Workers wait for disks more than they compute: more of them than processors are right.
warnings.filterwarnings("ignore", message="This DataLoader will create")

# Pixels of the images that a worker opens before it cuts the first: some formats are decoded to say
# how they are turned.
_OPEN_PIXELS = 1 << 22

# (epoch, drawn row) tells a worker everything: it keeps no epoch and no random state of its own.
Key = tuple[int, int]


class DecodedFiles(Dataset[Fetched], ABC):
    """Batches of S x S views of the images of (epoch, drawn row) keys; see `drawn_rows`."""

    def __init__(self, table: ImageTable, spec: ImageSpec) -> None:
        self.table = table
        self.spec = spec

    def __getitems__(self, keys: list[Key]) -> Fetched:
        """Images (B, V, 3, S, S), labels and drawn rows (B,) of a batch.

        An error is handed back and not raised: torch would wrap it in the worker's traceback.
        """
        drawn = torch.tensor([row for _, row in keys])
        index, _ = row_and_draw(drawn)
        try:
            views = torch.stack(list(self.views(keys, index.tolist())))
            fetched = views, self.table.labels[index], drawn
            hand_over(fetched)
        except DataError as error:
            return error
        return fetched

    @abstractmethod
    def views(self, keys: list[Key], rows: list[int]) -> Iterator[Tensor]:
        """(V, 3, S, S) uint8 of each image, given its key and its row.

        Raises:
            DataError: an image that cannot be read; names it.
        """


class CutFiles(DecodedFiles):
    """V crops of each image; see `crop_encoded`."""

    def __init__(self, table: ImageTable, crop: Crop, spec: ImageSpec) -> None:
        super().__init__(table, spec)
        self.crop = crop

    def views(self, keys: list[Key], rows: list[int]) -> Iterator[Tensor]:
        """See `DecodedFiles`; boxes are drawn for many images together, in less time."""
        images, first, pixels = list[EncodedImage](), 0, 0
        for end, row in enumerate(rows, start=1):
            with named_errors(self.table, row):
                images.append(self.table.open(row))
            pixels += images[-1].height * images[-1].width
            if pixels > _OPEN_PIXELS or end == len(rows):
                yield from self._cut(keys[first:end], rows[first:end], images)
                images, first, pixels = [], end, 0

    def _cut(
        self, keys: list[Key], rows: list[int], images: list[EncodedImage]
    ) -> Iterator[Tensor]:
        sizes = [(image.height, image.width) for image in images]
        boxes = self.crop.boxes(keys[0][0], [drawn for _, drawn in keys], sizes)
        for row, image, own in zip(rows, images, boxes, strict=True):
            with named_errors(self.table, row):
                yield crop_encoded(image, own, size=self.spec.size, filters=self.crop.filters)


@contextmanager
def named_errors(table: ImageTable, row: int) -> Iterator[None]:
    """Turns what a decoder raises on damaged bytes into a DataError that names the image."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{table.name(row)}: {type(error).__name__}: {error}") from error


class _PlannedKeys(Sampler[list[Key]]):
    """Keys of one epoch; lives in the main process, where the loader turns it to the next."""

    def __init__(self, plan: BatchSchedule) -> None:
        self.plan = plan
        self.epoch = 0
        self.first_step = 0

    def __iter__(self) -> Iterator[list[Key]]:
        rows, draws = self.plan.rows(self.epoch), self.plan.draws(self.epoch)
        drawn = rows if draws is None else drawn_rows(rows, draws)
        for step in drawn[self.first_step :]:
            yield [(self.epoch, row) for row in step.tolist()]


class WorkerLoader:
    """Batches of a table of files, with the interface of `TrainLoader`.

    Args:
        table: the training set.
        crop: chooses V rectangles of each image; see `Crop`.
        plan: for as many samples as the table has.
        spec: S, side the rectangles are resized to, and the filter.
        device: where batches are sent.
        workers: who decodes; the batches do not depend on it.
    """

    def __init__(
        self,
        table: ImageTable,
        crop: Crop,
        plan: BatchSchedule,
        *,
        spec: ImageSpec,
        device: torch.device,
        workers: Workers,
    ) -> None:
        assert plan.num_samples == len(table)
        self.batch_size = plan.batch_size
        self.steps_per_epoch = plan.steps_per_epoch
        self.device = device
        self.keys = _PlannedKeys(plan)
        self.table = table
        self.loader = file_loader(
            CutFiles(table, crop, spec), self.keys, device=device, workers=workers
        )

    def epoch(self, number: int, *, first_step: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from `first_step` on.

        Batch.images is (B / W, V, 3, S, S). The same for every call with the same numbers.

        Raises:
            DataError: a file that cannot be decoded, or workers that died or do not answer.
        """
        self.keys.epoch, self.keys.first_step = number, first_step
        fetched = fetch(self.loader, self.table, self.keys)
        yield from on_device(fetched, device=self.device)


def file_loader(
    files: Dataset[Fetched], keys: Any, *, device: torch.device, workers: Workers
) -> DataLoader[Any]:
    """A torch loader that hands on what a data set makes of each list of keys."""
    return DataLoader(
        files,
        batch_sampler=keys,
        num_workers=workers.number,
        timeout=workers.timeout_seconds if workers.number else 0,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        persistent_workers=workers.number > 0,
        # Torch draws a number from it at each start; from the global one, it would shift others'.
        generator=torch.Generator(),
    )


def fetch(
    loader: DataLoader[Any], table: ImageTable, keys: Iterable[list[Key]]
) -> Iterator[Fetched]:
    """What a loader makes of each list of keys, in order.

    Raises:
        DataError: a worker died or does not answer; names the first image that was waited for.
    """
    batches, number = iter(loader), 0
    while True:
        try:
            fetched = next(batches, None)
        except (RuntimeError, OSError, EOFError) as error:
            if not is_lost_worker(error):
                raise
            awaited = next(islice(keys, number, None))
            rows, _ = row_and_draw(torch.tensor([drawn for _, drawn in awaited]))
            names = f"{table.name(int(rows[0]))} and {len(rows) - 1} more"
            raise lost_worker(error, awaited=names) from error
        if fetched is None:
            return
        yield fetched
        number += 1


def _as_it_is(fetched: Any) -> Any:
    return fetched
