"""What a source is, and how its labels and its parts are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from ssl_lt.core.disk.text import printable
from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import Decoding
from ssl_lt.data.long_tail import subsample
from ssl_lt.data.sources.parts import LeftOut
from ssl_lt.data.splits.hold_out import held_out_rows, missing_classes
from ssl_lt.data.tables.grouping import shared_groups
from ssl_lt.data.tables.table import ImageTable

_HELD_OUT = 0.2
_HELD_OUT_SEED = 0

Table = TypeVar("Table", bound=ImageTable)


@dataclass(frozen=True)
class Source:
    """A data set as published, before any split.

    Attributes:
        name: as given on the command line.
        class_names: (C,) names by label; empty when there are no labels.
        train: the whole training set; pixels are not decoded yet where possible.
        test: the test set; None where there is none, or no labels.
        validation: the validation set; None where the data has none of its own.
        unlabelled: "test" or "validation" -> opens the images of that part where they have no
            labels to go by: neither tested nor validated on, and there to be predicted.
        mean: of each channel, in 0 ... 1.
        std: of each channel, in 0 ... 1.
        image_size: side of the images in pixels; None: files of any size, the user chooses.
        flip_probability: default of `--view.flip-probability`.
        imbalance_factor: default of `--imbalance-factor`; None: the training set is used as it is.
        labels_from: what the labels are read from, for people; without labels, what would help.
        places: part -> where its images are from, for people.
        left_out: what is there and belongs to no part.
        grouped_by: what says which images belong together, for people; "" where nothing does.
        notes: what may be meant otherwise, a sentence each.
    """

    name: str
    class_names: tuple[str, ...]
    train: ImageTable
    test: ImageTable | None = None
    validation: ImageTable | None = None
    unlabelled: Mapping[str, Callable[[], ImageTable]] = field(default_factory=dict)
    # ImageNet's: what weights from elsewhere were trained with, and close to any photographs'.
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    image_size: int | None = None
    flip_probability: float = 0.5
    imbalance_factor: float | None = None
    labels_from: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    grouped_by: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names are for people: what is no UTF-8 in those of folders is escaped."""
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "class_names", tuple(map(printable, self.class_names)))

    @property
    def parts(self) -> dict[str, ImageTable]:
        """Images under "train" and, where there are any, "test" and "validation"."""
        parts = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: table for name, table in parts.items() if table is not None}

    def images_of(self, part: str) -> ImageTable | None:
        """Images of a part, with or without labels; None where there is no such part."""
        table = self.parts.get(part)
        return self.unlabelled[part]() if table is None and part in self.unlabelled else table

    @property
    def file_name(self) -> str:
        """The name, fit for a folder."""
        return re.sub(r"[^A-Za-z0-9._]+", "-", self.name).strip("-.")


def without_labels(source: Source) -> Source:
    """The same training images, all unlabelled, without a test or a validation set."""
    held = {part: partial(_unknown, table) for part, table in source.parts.items()}
    train = held.pop("train")()
    return replace(
        source,
        class_names=(),
        train=train,
        test=None,
        validation=None,
        unlabelled={**source.unlabelled, **held},
        labels_from="",
    )


def _unknown(table: Table) -> Table:
    return table.with_labels(torch.full_like(table.labels, -1))


def decoded_as(source: Source, decoding: Decoding) -> Source:
    """The same images, decoded otherwise."""
    tables: dict[str, Any] = {
        part: table.with_decoding(decoding) for part, table in source.parts.items()
    }
    return replace(source, **tables)


def with_part(source: Source, part: str, found: Source, *, place: str) -> Source:
    """The source with a test or validation set, or a note where that has no labels to go by.

    Unlabelled images are published with labels (for a competition) and labelled ones with
    unlabelled: neither keeps from training.

    Args:
        source: with its training images.
        part: "test" or "validation".
        found: images of that part, as what is trained on.
        place: where they are from, for people.

    Raises:
        DataError: as `align_labels` says.
    """
    left_out, notes = source.left_out + found.left_out, source.notes + found.notes
    if source.class_names and found.class_names:
        table = align_labels(source, found.train, found.class_names, name=found.name)
        places = {**source.places, part: place}
        more: dict[str, Any] = {part: table, "places": places}
    else:
        which = "they have" if source.class_names else "those for training have"
        notes += (f"{place}: {len(found.train):,} images are not used, as {which} no labels",)
        more = {"unlabelled": {**source.unlabelled, part: partial(_unknown, found.train)}}
    return replace(source, left_out=left_out, notes=notes, **more)


def with_group_notes(source: Source, parts: Mapping[str, ImageTable]) -> Source:
    """The source with a warning of groups that are in two of these parts."""
    notes = shared_groups(parts, source.grouped_by)
    return replace(source, notes=(*source.notes, *notes))


def with_held_out(source: Source) -> Source:
    """Splits off a test set where there is none, class by class; without labels, nothing changes.

    A fifth of each class, at least one image where a class has two; always the same ones, so that
    runs with different splits are tested on the same images. Images that belong together stay
    together.
    """
    if source.test is not None or not source.class_names:
        return source
    table = source.train
    if table.group_ids is not None:
        return _with_groups_held_out(source, table.group_ids)
    labels = table.labels.numpy()
    sizes = np.bincount(labels, minlength=len(source.class_names))
    counts = [max(1, int(_HELD_OUT * size)) if size > 1 else 0 for size in sizes]
    if not any(counts):
        return source
    test_rows = np.sort(subsample(labels, counts, seed=_HELD_OUT_SEED))
    train_rows = np.setdiff1d(np.arange(len(table)), test_rows)
    return replace(
        source,
        train=table.take(train_rows),
        test=table.take(test_rows),
        places={**source.places, "test": "a fifth, held out"},
    )


def _with_groups_held_out(source: Source, group_ids: torch.Tensor) -> Source:
    """About a fifth of each class in whole groups."""
    table = source.train
    held = held_out_rows(
        table.labels,
        torch.arange(len(table)),
        share=_HELD_OUT,
        seed=_HELD_OUT_SEED,
        group_ids=group_ids,
    )
    notes = missing_classes(
        table.labels, held, source.class_names, grouped_by=source.grouped_by, part="test"
    )
    source = replace(source, notes=(*source.notes, *notes))
    if not bool(held.any()):
        return source
    return replace(
        source,
        train=table.take(torch.nonzero(~held)[:, 0].numpy()),
        test=table.take(torch.nonzero(held)[:, 0].numpy()),
        places={**source.places, "test": "a fifth, in whole groups"},
    )


def align_labels(
    trained: Source, table: Table, class_names: tuple[str, ...], *, name: str
) -> Table:
    """A test or validation table under the labels of the training set, or of some of them.

    Args:
        trained: the source with the training set.
        table: test images, labelled by `class_names`.
        class_names: of the test set.
        name: of the test set, for errors.

    Raises:
        DataError: only one of the two has labels, or a test class is not trained; names the first
            class that each has and the other has not.
    """
    if not trained.class_names:
        raise DataError(f"{name}: nothing can be tested, as {trained.name} has no labels")
    if not class_names:
        raise DataError(f"{name}: has no labels, {trained.name} has")
    only_tested = [c for c in class_names if c not in set(trained.class_names)]
    if only_tested:
        only_trained = [c for c in trained.class_names if c not in set(class_names)]
        other = f", which has {only_trained[0]!r} that is not here" if only_trained else ""
        raise DataError(f"{name}: class {only_tested[0]!r} is not in {trained.name}{other}")
    number_of = {c: number for number, c in enumerate(trained.class_names)}
    number = torch.tensor([number_of[c] for c in class_names])
    return table.with_labels(number[table.labels])


def check_every_class(source: Source) -> Source:
    """The source itself.

    Raises:
        DataError: a class without training images.
    """
    labels = source.train.labels.numpy()
    counts = np.bincount(labels[labels >= 0], minlength=len(source.class_names))
    empty = np.flatnonzero(counts == 0)
    if source.class_names and len(empty):
        raise DataError(f"{source.name}: class {source.class_names[empty[0]]!r} has no image")
    return source
