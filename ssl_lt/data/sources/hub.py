"""`hf:NAME_OR_PATH`: a data set of Hugging Face, on the disk or on the hub."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.disk.files import exists
from ssl_lt.core.errors import ConfigError, DataError, short_path
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.columns import (
    NO_LABELS,
    group_column,
    image_column,
    label_column,
    no_label_hint,
    split_column,
)
from ssl_lt.data.sources.labels import (
    ONE_CLASS,
    check_no_combinations,
    check_one_label_each,
    number_classes,
    plain,
)
from ssl_lt.data.sources.parts import HELD, LeftOut, find_parts, part_of
from ssl_lt.data.sources.source import Source, align_labels
from ssl_lt.data.tables.grouping import group_ids
from ssl_lt.data.tables.hub import HubTable

_BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}
# Never the end of a name on the hub.
_FILES = {*_BUILDERS, ".jsonl", ".json", ".csv", ".tsv", ".txt", ".tar", ".zip", ".gz"}
_ROWS_AT_ONCE = 10_000


def open_hf(argument: str, options: SourceOptions) -> Source:
    """Opens a data set by its name on the hub, or by a path.

    A path is a folder made by `save_to_disk`, a parquet or Arrow file, or a folder of such files
    or of images. It is trained on the part `train`, or the only one; of the others that have
    labels, `find_parts` says which is tested on.

    Args:
        argument: of `hf:NAME_OR_PATH`; a configuration follows the name of a set on the hub after
            another colon.
        options: with the columns.

    Raises:
        ConfigError: `datasets` is not installed.
        DataError: no such set, no training part, a column that is not there, a row without a label;
            names the set.
    """
    name = f"hf:{argument}"
    parts = _load(name, argument)
    train_part = find_parts(parts).train or next(iter(parts))
    if part_of(train_part) != "train" and len(parts) > 1:
        raise DataError(f"{name}: has no part named train, only {', '.join(parts)}")
    class_names, table = _table(f"{name}, {train_part}", parts[train_part], options)
    source = Source(name, class_names, table)
    held = {}
    for part in parts:
        if class_names and part_of(part) in ("test", "validation"):
            where = f"{name}, {part}"
            names, held_table = _table(where, parts[part], options)
            if names:
                held[part] = align_labels(source, held_table, names, name=where)
    found = find_parts(held).held
    used = {train_part, *found.values()}
    secret = {part: name for part, name in find_parts(parts).held.items() if name not in used}
    return replace(
        source,
        test=held.get(found.get("test", "")),
        validation=held.get(found.get("validation", "")),
        unlabelled={
            part: partial(_unlabelled, f"{name}, {its}", parts[its], options)
            for part, its in secret.items()
        },
        labels_from=_labels_from(parts[train_part], name, options),
        places={"train": train_part} | found if found else {},
        grouped_by="" if options.group_column is None else f"column {options.group_column!r}",
        left_out=tuple(
            LeftOut("images", f"part {part!r}", len(parts[part]))
            for part in parts
            if part not in used
        ),
        notes=tuple(_notes(name, parts)),
    )


def _notes(name: str, parts: Mapping[str, Any]) -> list[str]:
    """That a column has test rows, where there are no parts and all are trained on."""
    (part, *others) = parts.values()
    column = split_column(part.column_names, None, name=name)
    if others or column is None:
        return []
    held = [value for value in map(str, part.unique(column)) if part_of(value) in HELD]
    return [
        f"warning: column {column!r} is not read: rows of {value!r} are trained on like all others"
        for value in held[:1]
    ]


def name_on_hub(data: str, *, near: Sequence[Path] = ()) -> str | None:
    """ORG/NAME of a data set on the hub; None for paths and other sources.

    Args:
        data: as for `--data`.
        near: folders that a path would be found from, beside the current one.
    """
    kind, _, argument = data.partition(":")
    if kind != "hf" or "/" not in argument or _is_path(argument):
        return None
    if any(exists(folder / argument) for folder in (Path(), *near)):
        return None
    return argument.partition(":")[0]


def _is_path(argument: str) -> bool:
    """By the argument itself, since an absent path would be looked for on the hub."""
    looks = argument.startswith((".", "/", "~")) or argument.count("/") > 1
    return looks or Path(argument).suffix.lower() in _FILES


def _load(name: str, argument: str) -> dict[str, Any]:
    """Part -> `datasets.Dataset`, undecoded."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--data {name}: Hugging Face datasets is not installed: pip install datasets"
        ) from error
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what it raises says the same
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    path = Path(argument)
    if not exists(path) and _is_path(argument):
        raise DataError(f"{short_path(name)}: no such file or folder")
    if path.is_file() and path.suffix not in _BUILDERS:
        raise DataError(
            f"{name}: is no folder and no parquet or Arrow file: csv:FILE reads a table that names "
            "images, wds:URLS tar shards"
        )
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(argument)
        elif path.suffix in _BUILDERS and path.is_file():
            found = datasets.load_dataset(_BUILDERS[path.suffix], data_files=argument)
        elif path.exists():
            found = datasets.load_dataset(argument)
        else:
            repository, _, configuration = argument.partition(":")
            found = datasets.load_dataset(repository, configuration or None)
    # The library and those below it raise nearly anything, on damaged files and without a network.
    except Exception as error:
        raise DataError(f"{name}: cannot be loaded: {' '.join(str(error).split())}") from error
    return {"train": found} if isinstance(found, datasets.Dataset) else dict(found)


def _table(where: str, part: Any, options: SourceOptions) -> tuple[tuple[str, ...], HubTable]:
    """Class names, empty where there are no labels, and the images."""
    typed = _columns_of(part, "Image")
    if options.image_column is None and len(typed) == 1:
        column = typed[0]
    else:
        column = image_column(part.column_names, options.image_column, name=where)
    images = part.select_columns([column]).with_format("arrow")
    class_names, labels = _labels(where, part, options)
    groups = _groups(where, part, options)
    names = np.array(_identities(images, where=f"{where}: column {column!r}"))
    return class_names, HubTable(where, images, np.arange(len(part)), names, labels, groups)


def _unlabelled(where: str, part: Any, options: SourceOptions) -> HubTable:
    return _table(where, part, replace(options, label_column=NO_LABELS))[1]


def _groups(where: str, part: Any, options: SourceOptions) -> Tensor | None:
    column = group_column(part.column_names, options.group_column, name=where)
    if column is None:
        return None
    values = part.select_columns([column]).with_format("arrow")[:].column(0).to_pylist()
    if not all(value is None or type(value) in (int, str) for value in values):
        kind = part.features[column]
        raise DataError(f"{where}: column {column!r} (--group-column) holds {kind}, not names")
    texts = ("" if value is None else str(value).strip() for value in values)
    return group_ids(texts, where=where)[0]


def _columns_of(part: Any, kind: str) -> list[str]:
    """Columns whose feature is an `Image` or a `ClassLabel`."""
    return [name for name, feature in part.features.items() if type(feature).__name__ == kind]


def _labels(where: str, part: Any, options: SourceOptions) -> tuple[tuple[str, ...], Tensor]:
    """Class names and (N,) labels; no names and -1 where there are none."""
    column = _label_column(where, part, options)
    unknown: tuple[tuple[str, ...], Tensor] = (), torch.full((len(part),), -1)
    if column is None:
        return unknown
    values = part.select_columns([column]).with_format("arrow")[:].column(0).to_pylist()
    # Sets whose test labels are secret have -1 there.
    is_missing = np.array([value in (None, -1, "") for value in values])
    if is_missing.all():
        return unknown
    if is_missing.any():
        raise DataError(f"{where}: row {is_missing.argmax()}: no label in column {column!r}")
    if not all(type(value) in (int, str) for value in values):
        kind = part.features[column]
        hint = f": {ONE_CLASS}" if any(isinstance(value, list) for value in values) else ""
        raise DataError(
            f"{where}: column {column!r} holds {kind}, not a name or number an image{hint}"
        )
    names = getattr(part.features[column], "names", None)
    if names is not None:
        check_no_combinations([names[value] for value in values], lambda row: f"{where}: row {row}")
        return tuple(map(plain, names)), torch.tensor(values)
    check_one_label_each([str(value) for value in values], lambda row: f"{where}: row {row}")
    return number_classes(values)


def _labels_from(part: Any, name: str, options: SourceOptions) -> str:
    column = _label_column(name, part, options)
    return no_label_hint(part.column_names) if column is None else f"column {column!r}"


def _label_column(where: str, part: Any, options: SourceOptions) -> str | None:
    typed = _columns_of(part, "ClassLabel")
    if options.label_column is not None or not typed:
        return label_column(part.column_names, options.label_column, name=where)
    found = typed[0] if len(typed) == 1 else label_column(typed, None, name=where)
    if found is None:
        raise DataError(f"{where}: has labels in {', '.join(typed)}: say which with --label-column")
    return found


def _identities(images: Any, *, where: str) -> list[bytes]:
    """File name, where there is one, and size in bytes of each image; reads no image."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for start in range(0, len(images), _ROWS_AT_ONCE):
        column = images[start : start + _ROWS_AT_ONCE].column(0)
        kind = column.type
        content = path = pa.nulls(len(column), pa.binary())
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            content = pc.struct_field(column, "bytes")
            if kind.get_field_index("path") >= 0:
                path = pc.struct_field(column, "path")
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            content = column
        elif pa.types.is_string(kind):
            path = column
        else:
            raise DataError(f"{where} holds {kind}, not images")
        sizes = pc.binary_length(content).to_pylist()
        for text, size in zip(path.to_pylist(), sizes, strict=True):
            found.append(f"{Path(text).name if text else ''}:{size}".encode())
    return found
