"""Tables of embeddings on disk, and parquet parts that become one file."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.disk.files import csv_lines, write_atomically
from ssl_lt.core.disk.plain import from_plain, to_plain
from ssl_lt.core.errors import ConfigError, DataError, first_line
from ssl_lt.runs.inference.output import Columns

_KEY = b"ssl_lt"
_INDEX = ("file", "sha256")
FEATURE = "feature"
SUFFIXES = (".npy", ".parquet")


@dataclass(frozen=True)
class TableFacts:
    """What a table of embeddings is of.

    Attributes:
        network: it was made by, for people.
        network_sha256: of the weights and of how images are prepared.
        dim: D.
        normalised: rows have length 1.
    """

    network: str
    network_sha256: str
    dim: int
    normalised: bool


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Features with their images.

    Attributes:
        facts: of the table.
        files: (N,) names.
        digests: (N,) SHA-256 of the files.
        features: (N, D) float32; of .npy not read into memory.
    """

    facts: TableFacts
    files: Sequence[str]
    digests: Sequence[str]
    features: NDArray[np.float32]


def check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Raises ConfigError for a format that is not written, or whose library is missing."""
    if path.suffix not in suffixes:
        raise ConfigError(f"--output: {path}: {' or '.join(suffixes)} can be written")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"--output: {path}: pyarrow is not installed: pip install pyarrow")


def beside(path: Path) -> tuple[Path, Path]:
    """Index and facts of features in .npy."""
    return path.with_suffix(".csv"), path.with_suffix(".json")


def embeddings_to_arrow(columns: Columns) -> Any:
    """A batch: columns file, sha256 and feature, (n, D) float32."""
    import pyarrow as pa

    features: Any = columns[FEATURE]
    values = pa.array(features.reshape(-1))
    arrays = [pa.array(list(columns[name]), pa.string()) for name in _INDEX]
    arrays.append(pa.FixedSizeListArray.from_arrays(values, features.shape[1]))
    return pa.table(arrays, names=[*_INDEX, FEATURE])


def join_parquet(
    parts: Sequence[Path], path: Path, metadata: dict[bytes, bytes] | None = None
) -> None:
    """One file of all parts; one part at a time is in memory."""
    import pyarrow.parquet as pq

    def write(file: IO[bytes]) -> None:
        schema = pq.read_schema(parts[0])
        if metadata is not None:
            schema = schema.with_metadata(metadata)
        with pq.ParquetWriter(file, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part).cast(schema))

    write_atomically(path, write)


def join_embeddings(parts: Sequence[Path], path: Path, facts: TableFacts) -> None:
    """The table of all parts, with its facts: in the parquet file, or beside .npy."""
    told = json.dumps(to_plain(facts))
    if path.suffix == ".parquet":
        join_parquet(parts, path, {_KEY: told.encode()})
        return
    import pyarrow.parquet as pq

    number = sum(pq.read_metadata(part).num_rows for part in parts)
    header = {"descr": "<f4", "fortran_order": False, "shape": (number, facts.dim)}

    def write(file: IO[bytes]) -> None:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(_features(pq.read_table(part, columns=[FEATURE]), facts.dim).tobytes())

    def write_index(file: IO[bytes]) -> None:
        file.write(csv_lines([_INDEX]))
        for part in parts:
            table = pq.read_table(part, columns=list(_INDEX))
            file.write(csv_lines(zip(*(table[name].to_pylist() for name in _INDEX), strict=True)))

    index, about = beside(path)
    write_atomically(index, write_index)
    write_atomically(about, lambda file: file.write(told.encode() + b"\n"))
    write_atomically(path, write)  # last: a table that has it is whole


def read_embeddings(path: Path, *, flag: str) -> EmbeddingTable:
    """What `ssl-lt embed` wrote.

    Args:
        path: of the features.
        flag: that names it, for errors.

    Raises:
        ConfigError: no such file, or one of another kind.
        DataError: it is damaged.
    """
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise ConfigError(f"{flag}: {path} is no table of ssl-lt embed ({' or '.join(SUFFIXES)})")
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        index, about = beside(path)
        facts = from_plain(TableFacts, json.loads(about.read_text("utf-8")))
        with index.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        features = np.load(path, mmap_mode="r", allow_pickle=False)
        if features.shape != (len(rows), facts.dim):
            raise ValueError(f"{len(rows)} images in {index.name}, features {features.shape}")
        return EmbeddingTable(
            facts, [row["file"] for row in rows], [row["sha256"] for row in rows], features
        )
    except FileNotFoundError as error:
        raise DataError(f"{flag}: {path}: {error.filename} is missing beside it") from error
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{flag}: {path}: cannot be read: {error}") from error


def _read_parquet(path: Path) -> EmbeddingTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(first_line(error)) from error
    told = (table.schema.metadata or {}).get(_KEY)
    if told is None:
        raise ValueError("ssl-lt embed has not written it")
    facts = from_plain(TableFacts, json.loads(told))
    files, digests = (table[name].to_pylist() for name in _INDEX)
    return EmbeddingTable(facts, files, digests, _features(table, facts.dim))


def _features(table: Any, dim: int) -> NDArray[np.float32]:
    """(n, D) of a table of Arrow's."""
    column = table[FEATURE].combine_chunks()
    flat = column.flatten() if hasattr(column, "flatten") else column
    found: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).reshape(-1, dim)
    return found.astype("<f4", copy=False)
