"""A split: which rows of a training set a run learns from, as a small file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.errors import DataError

FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """How the rows were chosen: `kind` is an imbalance profile, "none", "list" or "balanced"."""

    kind: str
    imbalance_factor: float | None
    seed: int


@dataclass(frozen=True, eq=False)
class Withheld:
    """Training images with the pixels of a test image, the test images included, or unreadable.

    Attributes:
        data_sha256: fingerprint of the training set.
        rows: (n,) int64.
    """

    data_sha256: str
    rows: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a training set, or of a test set.

    Attributes:
        source: name of the data, for people; `data_sha256` is what is compared.
        recipe: how the rows were chosen.
        num_rows: rows of the whole training set.
        data_sha256: fingerprint of the whole training set, see `ImageTable.fingerprint`.
        counts_per_class: (C,) chosen images of each class; empty where labels are unknown.
        indices: (n,) int64 rows; their position here is the sample's index in a run.
        withheld: of a test split, what must not be trained on; None of a training split.
    """

    source: str
    recipe: Recipe
    num_rows: int
    data_sha256: str
    counts_per_class: tuple[int, ...]
    indices: NDArray[np.int64]
    withheld: Withheld | None = None

    @property
    def sha256(self) -> str:
        """Of the indices as little-endian int64; names the split in reports."""
        return hashlib.sha256(self.indices.astype("<i8").tobytes()).hexdigest()

    @property
    def whole_sha256(self) -> str:
        """Of the indices and of the data they are rows of."""
        return hashlib.sha256(f"{self.data_sha256} {self.sha256}".encode()).hexdigest()


def write_split(path: Path, split: Split) -> None:
    """Writes a split file, whole or not at all.

    Raises:
        DiskError: the file cannot be written.
    """
    fields: dict[str, Any] = {
        "format": FORMAT,
        "source": split.source,
        "recipe": asdict(split.recipe),
        "num_rows": split.num_rows,
        "data_sha256": split.data_sha256,
        "counts_per_class": list(split.counts_per_class),
        "indices_sha256": split.sha256,
        "indices": split.indices.tolist(),
    }
    if split.withheld is not None:
        rows = split.withheld.rows.tolist()
        fields["withheld"] = {"data_sha256": split.withheld.data_sha256, "rows": rows}
    write_text_atomically(path, json.dumps(fields))


def read_split(path: Path) -> Split:
    """Reads and verifies a split file.

    Raises:
        DataError: no split file, another format, a digest that does not fit, a row out of range
            or twice; one line that names the file and what is wrong.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a split: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format", "none") if isinstance(fields, dict) else "none"
        raise DataError(f"{path}: split format {found}, expected {FORMAT}")
    split = _from_fields(path, fields)
    if split.sha256 != fields.get("indices_sha256"):
        raise DataError(
            f"{path}: the indices were changed: their SHA-256 is {split.sha256}, "
            f"indices_sha256 says {fields.get('indices_sha256')}"
        )
    check_rows(path, split.indices, num_rows=split.num_rows)
    if split.counts_per_class and sum(split.counts_per_class) != len(split.indices):
        raise DataError(
            f"{path}: counts_per_class add up to {sum(split.counts_per_class)}, "
            f"there are {len(split.indices)} indices"
        )
    return split


def read_index_list(path: Path) -> NDArray[np.int64]:
    """Reads rows from a .npy array or from a text file with one row a line.

    Raises:
        DataError: anything but a list of whole numbers; names the file and the line.
    """
    try:
        if path.suffix == ".npy":
            # Mapped: a header may say any size, and the file is held against it first.
            rows: NDArray[Any] = np.asarray(np.load(path, allow_pickle=False, mmap_mode="r"))
        else:
            lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
            found = [_row(line, number) for number, line in lines if line.strip()]
            rows = np.array(found, dtype=np.int64)
    except (OSError, EOFError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: cannot be read as a list of rows: {error}") from error
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(f"{path}: {rows.dtype} of shape {rows.shape}, expected a list of integers")
    return rows.astype(np.int64)


def check_rows(path: Path, rows: NDArray[np.int64], *, num_rows: int) -> None:
    """Refuses an empty list, a row outside 0 ... num_rows - 1 and a row that comes twice.

    Raises:
        DataError: names the file, the row and its place in the list.
    """
    if len(rows) == 0:
        raise DataError(f"{path}: has no rows")
    outside = np.flatnonzero((rows < 0) | (rows >= num_rows))
    if len(outside):
        place = outside[0]
        raise DataError(
            f"{path}: row {rows[place]} (place {place}) is outside the {num_rows} rows of the data"
        )
    unique, first = np.unique(rows, return_index=True)
    if len(unique) < len(rows):
        place = np.setdiff1d(np.arange(len(rows)), first)[0]
        raise DataError(f"{path}: row {rows[place]} (place {place}) comes twice")


def _from_fields(path: Path, fields: dict[str, Any]) -> Split:
    try:
        return Split(
            source=str(fields["source"]),
            recipe=Recipe(**fields["recipe"]),
            num_rows=_whole_numbers([fields["num_rows"]])[0],
            data_sha256=str(fields["data_sha256"]),
            counts_per_class=tuple(_whole_numbers(fields["counts_per_class"])),
            indices=np.array(_whole_numbers(fields["indices"]), dtype=np.int64),
            withheld=_withheld(fields.get("withheld")),
        )
    except KeyError as error:
        raise DataError(f"{path}: has no field {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: a field is not what a split holds: {error}") from error


def _withheld(fields: Any) -> Withheld | None:
    if fields is None:
        return None
    rows = np.array(_whole_numbers(fields["rows"]), dtype=np.int64)
    return Withheld(str(fields["data_sha256"]), rows)


def _whole_numbers(values: Any) -> list[int]:
    for value in values:
        if type(value) is not int:
            raise ValueError(f"{value!r} is not a whole number")
    return list(values)


def _row(line: str, number: int) -> int:
    try:
        return int(line)
    except ValueError:
        raise ValueError(f"line {number}: {line!r} is not a whole number") from None
