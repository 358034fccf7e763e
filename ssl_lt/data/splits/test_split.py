"""Which images a run is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError
from ssl_lt.data.sources.registry import Source
from ssl_lt.data.splits.split import Split, read_split
from ssl_lt.data.splits.unreadable import BadImage, readable
from ssl_lt.data.tables.table import ImageTable

_NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Tested:
    """The test images.

    Attributes:
        table: None where there are none.
        sha256: equal means the very same images; "" where there are none.
        withheld: (n,) int64 rows of the training set to learn nothing from, see `Withheld`.
    """

    table: ImageTable | None
    sha256: str
    withheld: NDArray[np.int64]


def choose_test(
    path: Path | None,
    source: Source,
    split: Split,
    bad: Sequence[BadImage],
) -> Tested:
    """The source's test set without bad images, or the images of a file (`--test-split`).

    The file says by its digest whose rows it has: the test set's or the training set's.

    Args:
        path: of the file, or None.
        source: of the data.
        split: what is trained on.
        bad: images that cannot be read.

    Raises:
        DataError: the file is damaged, belongs to other data, or names images that are trained
            on.
    """
    test = source.test
    if path is None:
        table = None if test is None else readable(test, bad, part="test")
        return Tested(table, "" if table is None else table.fingerprint(), _NO_ROWS)
    chosen = read_split(path)
    for table in (source.train, test):
        if table is None or len(table) != chosen.num_rows:
            continue
        if table.fingerprint() == chosen.data_sha256:
            withheld = _withheld(path, chosen, source.train, split)
            # The fingerprint of pixels covers their labels, which balanced splits have in common.
            return Tested(table.take(chosen.indices), chosen.whole_sha256, withheld)
    raise DataError(
        f"{path}: was made from {chosen.source} with {chosen.num_rows} rows; neither the training "
        f"set nor the test set here ({source.name}) has these rows, labels and order"
    )


def _withheld(
    path: Path, chosen: Split, full_train_set: ImageTable, split: Split
) -> NDArray[np.int64]:
    """Rows of the training set that must not be trained on, and are not."""
    if chosen.withheld is None:
        raise DataError(f"{path}: is no test split: ssl-lt data split makes one")
    if chosen.withheld.data_sha256 != full_train_set.fingerprint():
        raise DataError(f"{path}: was made beside another training set than {split.source}")
    both = np.intersect1d(chosen.withheld.rows, split.indices)
    if len(both):
        raise DataError(
            f"{path}: {len(both)} images that are tested on, or unreadable, are trained on too, "
            f"the first is row {both[0]}: give --split the file that was made beside it"
        )
    return chosen.withheld.rows
