"""Features of a frozen backbone, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_lt.core.distributed import gather_rows, world_size
from ssl_lt.core.errors import DataError
from ssl_lt.core.types import Batch


@dataclass(frozen=True)
class Features:
    """One row an image, in the order of `index`; all on the CPU.

    Attributes:
        features: (N, D) float32.
        labels: (N,) int64, -1 where unknown.
        index: (N,) int64, ascending: the image's row in its data set.
    """

    features: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def take(self, rows: Tensor | slice) -> Features:
        """Some of the rows, in memory."""
        return Features(self.features[rows], self.labels[rows], self.index[rows])


def extract_features(
    backbone: nn.Module,
    batches: Iterable[Batch],
    prepare: Callable[[Tensor], Tensor],
    *,
    autocast_dtype: torch.dtype | None = None,
) -> Features:
    """Runs every image once through the backbone in evaluation mode.

    Nothing is exchanged between processes: one may work alone while the others wait. Where each
    has a part of the images, `gather_features` puts the parts together.

    Args:
        backbone: as of `_feature_batches`, like the others.
        batches: in any order; an image that is repeated counts once.
        prepare: normalises.
        autocast_dtype: of the forward pass.

    Raises:
        DataError: no image at all.
        AssertionError: the backbone's weights or running statistics changed on the way.
    """
    parts = list(_feature_batches(backbone, batches, prepare, autocast_dtype=autocast_dtype))
    if not parts:
        raise DataError("feature extraction: there is no image")
    columns = zip(*((part.features, part.labels, part.index) for part in parts), strict=True)
    return _by_index(*(torch.cat(column) for column in columns))


def _feature_batches(
    backbone: nn.Module,
    batches: Iterable[Batch],
    prepare: Callable[[Tensor], Tensor],
    *,
    autocast_dtype: torch.dtype | None = None,
) -> Iterator[Features]:
    """The features of each batch, in the order of the batches.

    Args:
        backbone: (B, 3, H, W) float -> (B, D); left in the mode it was in.
        batches: uint8 images on any device; they are moved to the backbone's.
        prepare: (B, 3, H, W) uint8 -> (B, 3, H, W) float, resized and normalised.
        autocast_dtype: of the forward pass, e.g. torch.bfloat16; None for float32.

    Raises:
        AssertionError: the backbone's weights or running statistics changed on the way.
    """
    device = next(backbone.parameters()).device
    before = _fingerprint(backbone)
    enabled = autocast_dtype is not None

    # Batch by batch: a mode that is on while a generator waits is on for its caller too.
    def features(images: Tensor) -> Tensor:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=autocast_dtype, enabled=enabled),
        ):
            images = prepare(images.to(device, non_blocking=True))
            output: Tensor = backbone(images.contiguous(memory_format=torch.channels_last))
            return output.float().cpu()

    with _evaluation_mode(backbone):
        for batch in batches:
            yield Features(features(batch.images), batch.labels.cpu(), batch.index.cpu())
    assert torch.equal(before, _fingerprint(backbone)), "the backbone changed while it was frozen"


def gather_features(part: Features, *, device: torch.device) -> Features:
    """The rows of all processes, on all of them; each may bring another number of rows.

    An image that a sampler repeated to even out the processes counts once.

    Args:
        part: this process's rows.
        device: what the processes exchange tensors on.
    """
    if world_size() == 1:
        return part
    counts = gather_rows(torch.tensor([len(part)], device=device)).tolist()
    longest = max(counts)
    kept = torch.cat([torch.arange(n) + number * longest for number, n in enumerate(counts)])

    def gather(rows: Tensor) -> Tensor:
        padded = rows.new_zeros((longest, *rows.shape[1:]), device=device)
        padded[: rows.shape[0]] = rows.to(device)
        return gather_rows(padded).cpu()[kept]

    return _by_index(gather(part.features), gather(part.labels), gather(part.index))


def _by_index(features: Tensor, labels: Tensor, index: Tensor) -> Features:
    """In ascending order of the images, the first of repeated rows kept."""
    order = torch.argsort(index, stable=True)
    keep = order[torch.cat([torch.ones(1, dtype=torch.bool), index[order].diff() > 0])]
    return Features(features[keep], labels[keep], index[keep])


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and back to what each submodule had: some may be frozen on purpose."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


def _fingerprint(module: nn.Module) -> Tensor:
    """Sum and sum of squares of all parameters and buffers, in the bits of float64.

    As int64 bits, so that weights with a NaN compare equal to themselves.
    """
    tensors = [t.detach() for t in (*module.parameters(), *module.buffers())]
    sums = [torch.stack([t.double().sum(), t.double().square().sum()]) for t in tensors]
    return torch.stack(sums).view(torch.int64).cpu()
