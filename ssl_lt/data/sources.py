"""Sources by name: where images, labels and class names come from."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Protocol

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.cifar import CIFAR10, CIFAR100, open_cifar
from ssl_lt.data.digits import open_digits
from ssl_lt.data.folder import open_folder
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.tables import ImageTable


class Source(Protocol):
    """A data set as published, before any split."""

    @property
    def name(self) -> str:
        """As given on the command line."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """(C,) names by label; empty when there are no labels."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of each channel, in 0 ... 1."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Of each channel, in 0 ... 1."""

    @property
    def image_size(self) -> int | None:
        """Side of the images in pixels; None: files of any size, the user chooses."""

    @property
    def imbalance_factor(self) -> float | None:
        """By which the training set is thinned unless told otherwise; None: taken as it is."""

    def train(self) -> ImageTable:
        """The whole training set; labels are read, pixels are not decoded yet where possible."""

    def test(self) -> ImageTable | None:
        """The test set, or None where there is none."""


# A new source is one line here; an opener gets what follows the colon in `name:argument`, which
# is refused for names that are not in `_WITH_ARGUMENT`.
SOURCES: dict[str, Callable[[str, SourceOptions], Source]] = {
    "digits": lambda argument, options: open_digits(),
    "cifar10": lambda argument, options: open_cifar(CIFAR10, options),
    "cifar100": lambda argument, options: open_cifar(CIFAR100, options),
    "folder": open_folder,
}

_WITH_ARGUMENT = {"folder"}


def open_source(name: str, options: SourceOptions) -> Source:
    """Finds the data and reads what describes it.

    Args:
        name: key of `SOURCES`, for some followed by `:argument`, as in `folder:photos`.
        options: where to look.

    Raises:
        ConfigError: unknown name; proposes the nearest one.
        DataError: the data is not there or is damaged; says what was looked for.
    """
    key, colon, argument = name.partition(":")
    if key not in SOURCES:
        nearest = difflib.get_close_matches(key, SOURCES, n=1, cutoff=0.0)
        raise ConfigError(
            f"--data {name}: unknown, did you mean {nearest[0]}? (known: {', '.join(SOURCES)})"
        )
    if colon and key not in _WITH_ARGUMENT:
        raise ConfigError(f"--data {name}: {key} takes nothing after a colon")
    return SOURCES[key](argument, options)
