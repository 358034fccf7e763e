"""Sources by name: where images, labels and class names come from."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.options import SourceOptions, check_no_secret
from ssl_lt.data.sources.cifar import CIFAR10, CIFAR100, open_cifar
from ssl_lt.data.sources.columns import NO_LABELS
from ssl_lt.data.sources.csv_source import open_csv
from ssl_lt.data.sources.digits import open_digits
from ssl_lt.data.sources.folder import open_folder
from ssl_lt.data.sources.hub import open_hf
from ssl_lt.data.sources.list_source import open_list
from ssl_lt.data.sources.source import (
    Source,
    TableSource,
    check_every_class,
    under_classes_of,
    with_held_out,
    without_labels,
)
from ssl_lt.data.sources.webdataset import open_wds
from ssl_lt.data.tables.table import ImageTable

__all__ = ["SOURCES", "Source", "open_as_it_is", "open_source"]

# A new source is one line here; an opener gets what follows the colon in `name:argument`, which
# is refused for names that are not in `_WITH_ARGUMENT`.
SOURCES: dict[str, Callable[[str, SourceOptions], Source]] = {
    "digits": lambda argument, options: open_digits(),
    "cifar10": lambda argument, options: open_cifar(CIFAR10, options),
    "cifar100": lambda argument, options: open_cifar(CIFAR100, options),
    "folder": open_folder,
    "csv": open_csv,
    "list": open_list,
    "hf": open_hf,
    "wds": open_wds,
}

# What stands after the colon; a folder may be the data root, the others have to be named.
_WITH_ARGUMENT = {
    "folder": "", "csv": "FILE", "list": "FILE", "hf": "NAME_OR_PATH", "wds": "URLS"
}  # fmt: skip


def open_source(name: str, options: SourceOptions) -> Source:
    """Finds the data and reads what describes it.

    Own pictures without a test set have one held out, unless `options.test_data` names it or
    `options.hold_out` says not to. `options.val_data` names what to choose by.

    Args:
        name: key of `SOURCES`, for some followed by `:argument`, as in `folder:photos`.
        options: where to look.

    Raises:
        ConfigError: unknown name; proposes the nearest one.
        DataError: the data is not there or is damaged; says what was looked for.
    """
    source = open_as_it_is(name, options)
    if isinstance(source, TableSource):
        if options.label_column == NO_LABELS:
            source = without_labels(source)
        source = check_every_class(source)
    if options.test_data is not None:
        tests = _part_of_other(source, "--test-data", options.test_data, options)
        source = replace(_as_tables(source), test_table=tests)
    elif options.hold_out and isinstance(source, TableSource):
        source = with_held_out(source)
    if options.val_data is not None:
        images = _part_of_other(source, "--val-data", options.val_data, options)
        source = replace(_as_tables(source), validation_table=images)
    return source


def open_as_it_is(name: str, options: SourceOptions, *, flag: str = "--data") -> Source:
    """What is there, with nothing held out for testing; see `open_source`.

    Args:
        name: as for `open_source`.
        options: where to look.
        flag: that names it, for errors.
    """
    check_no_secret(flag, name)
    key, colon, argument = name.partition(":")
    if key not in SOURCES:
        raise ConfigError(
            f"{flag} {name}: unknown, did you mean {_nearest(name)}? (known: {', '.join(SOURCES)})"
        )
    if colon and key not in _WITH_ARGUMENT:
        raise ConfigError(f"{flag} {name}: {key} takes nothing after a colon")
    wanted = _WITH_ARGUMENT.get(key, "")
    if wanted and not argument:
        raise ConfigError(f"{flag} {name}: say which, as {key}:{wanted}")
    if argument.startswith("~"):  # which a shell leaves alone after a colon
        argument = str(Path(argument).expanduser())
    return SOURCES[key](argument, options)


def _as_tables(source: Source) -> TableSource:
    """The same, with tables that can be replaced."""
    if isinstance(source, TableSource):
        return source
    return TableSource(
        source.name,
        source.class_names,
        source.train(),
        source.test(),
        source.validation(),
        mean=source.mean,
        std=source.std,
        image_size=source.image_size,
        imbalance_factor=source.imbalance_factor,
    )


def _part_of_other(source: Source, flag: str, name: str, options: SourceOptions) -> ImageTable:
    """What another source has to test on or choose by, or else all that it holds."""
    other = open_as_it_is(name, options, flag=flag)
    table = other.validation() if flag == "--val-data" else None
    table = other.test() if table is None else table
    table = other.train() if table is None else table
    return under_classes_of(source, table, other.class_names, name=f"{flag} {other.name}")


def _nearest(name: str) -> str:
    """A source for what stands on the disk or in a store under this name, else the most like it."""
    path = Path(name)
    if path.exists() or "://" in name:
        kinds = {
            ".csv": "csv",
            ".tsv": "csv",
            ".txt": "list",
            ".parquet": "hf",
            ".arrow": "hf",
            ".tar": "wds",
        }
        is_folder = path.is_dir() or ("://" in name and not path.suffix)
        return f"{'folder' if is_folder else kinds.get(path.suffix, 'csv')}:{name}"
    key = name.partition(":")[0]
    return difflib.get_close_matches(key, SOURCES, n=1, cutoff=0.0)[0]
