"""What crosses the borders between packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from ssl_lt.core.random import drawn_rows

# Filters for resizing, as Pillow has them: triangle, and bicubic with a = -0.5; both antialias.
Interpolation = Literal["bilinear", "bicubic"]
# Side in pixels up to which images are small: they get the CIFAR policy and Cutout (larger ones the
# ImageNet policy alone), and the networks named `*_cifar` are for them.
LARGEST_SMALL = 96


@dataclass(frozen=True)
class Batch:
    """One rank's slice of a global batch.

    Where images are mixed with partners that are no images of the batch, these stand behind them:
    then the B below is twice what it is elsewhere.

    Attributes:
        images: (B, 3, H, W) uint8; or (B, V, 3, H, W) where the loader already cropped V views.
        labels: (B,) int64, -1 where unknown. A pretraining method never reads them.
        index: (B,) int64, row in the training set: the sample's identity.
        draw: (B,) int64, how often the row has come before in the epoch; None: every row comes at
            most once.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    draw: Tensor | None = None

    @property
    def drawn(self) -> Tensor:
        """(B,) int64 for `sample_keys`: a row that comes again gets another augmentation."""
        return self.index if self.draw is None else drawn_rows(self.index, self.draw)

    def first(self, number: int) -> Batch:
        """The batch without the samples behind the first `number`."""
        draw = None if self.draw is None else self.draw[:number]
        return Batch(self.images[:number], self.labels[:number], self.index[:number], draw)

    def __len__(self) -> int:
        return int(self.index.shape[0])


@dataclass(frozen=True)
class Epoch:
    """Where training stands: `number` of `total` epochs (counted from 0), `steps` batches each.

    An optimiser step takes one batch, or several whose gradients add up.
    """

    number: int
    total: int
    steps: int

    def is_due(self, every: int) -> bool:
        """True in every `every`-th epoch and in the last one; never where `every` is 0."""
        done = self.number + 1
        return bool(every) and (done % every == 0 or done == self.total)


@dataclass(frozen=True)
class StepOutput:
    """What one step of a task gives the engine.

    Attributes:
        loss: scalar with gradient, the mean over this rank's samples.
        terms: named parts, detached scalars; they stay on the device until a line is logged.
        losses: (B,) a sample's own part of the loss; None of a task that has none. Where the loss
            is not finite it tells which samples did it, and where the loss is their mean it has
            its gradient, so that the part of some classes can be taken.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    losses: Tensor | None = None


@dataclass(frozen=True)
class ImageSpec:
    """What a network expects of its images.

    Attributes:
        size: pixels a side.
        mean: per channel, of pixels in 0 ... 1, that the network was trained with.
        std: likewise.
        interpolation: how images are resized.
        crop: side of the square that an evaluation keeps of an image, over its shorter side.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    crop: float = 1.0


class View(Protocol):
    """Makes augmented, normalised views (B, 3, S, S); see `ssl_lt.augment.views`."""

    def __call__(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """Of whole images (B, 3, H, W) uint8."""

    def after_crop(self, crops: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """Of images (B, 3, S, S) uint8 that loader workers have cropped."""


class Loader(Protocol):
    """Where batches come from; see `ssl_lt.data.loading.plan`."""

    @property
    def batch_size(self) -> int:
        """Images a batch, over all processes."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""

    def epoch(self, number: int, *, first_step: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from `first_step` on."""
