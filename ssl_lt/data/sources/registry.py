"""Sources by name: where images, labels and class names come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ssl_lt.core.disk.files import exists
from ssl_lt.core.disk.urls import check_no_secret
from ssl_lt.core.errors import ConfigError, short_path
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.cifar import CIFAR10, CIFAR100, open_cifar
from ssl_lt.data.sources.coco import open_coco
from ssl_lt.data.sources.columns import NO_LABELS
from ssl_lt.data.sources.digits import open_digits
from ssl_lt.data.sources.folder import open_folder
from ssl_lt.data.sources.hub import open_hf
from ssl_lt.data.sources.labels import label_notes
from ssl_lt.data.sources.listed import open_list
from ssl_lt.data.sources.source import (
    Source,
    align_labels,
    check_every_class,
    decoded_as,
    with_held_out,
    without_labels,
)
from ssl_lt.data.sources.spreadsheet import open_csv
from ssl_lt.data.sources.webdataset import open_wds
from ssl_lt.data.tables.grouping import group_ids_of_paths

__all__ = ["SOURCES", "Source", "open_complete", "open_source"]

# A new source is one line here; an opener gets what follows the colon in `name:argument`, which
# is refused for names that are not in `_WITH_ARGUMENT`.
SOURCES: dict[str, Callable[[str, SourceOptions], Source]] = {
    "digits": lambda argument, options: open_digits(),
    "cifar10": lambda argument, options: open_cifar(CIFAR10, options),
    "cifar100": lambda argument, options: open_cifar(CIFAR100, options),
    "folder": open_folder,
    "csv": open_csv,
    "list": open_list,
    "coco": open_coco,
    "hf": open_hf,
    "wds": open_wds,
}

# What stands after the colon; a folder may be the data root, the others have to be named.
_WITH_ARGUMENT = {
    "folder": "", "csv": "FILE", "list": "FILE", "coco": "FILE", "hf": "NAME_OR_PATH", "wds": "URLS"
}  # fmt: skip
_OF_FILES = ("folder", "csv", "list", "coco")


def open_source(name: str, options: SourceOptions) -> Source:
    """`open_complete`, with a test set held out of your own images where there is none.

    Args:
        name: as for `open_complete`.
        options: where to look.

    Raises:
        ConfigError, DataError: as `open_complete` says.
    """
    return with_held_out(open_complete(name, options))


def open_complete(name: str, options: SourceOptions, *, beside: Sequence[str] = ()) -> Source:
    """Finds the data and reads what describes it; nothing is held out of the training set.

    `options.test_data` and `options.val_data` name other test and validation images.

    Args:
        name: key of `SOURCES`, for some followed by `:argument`, as in `folder:photos`.
        options: where to look.
        beside: other sources that are opened with the same options, which may be for them.

    Raises:
        ConfigError: unknown name; proposes the nearest one.
        DataError: the data is not there or is damaged; says what was looked for.
    """
    _check_effect(name, options, beside)
    source = _open(name, options, flag="--data")
    if name.partition(":")[0] in _WITH_ARGUMENT:  # your own images
        if options.label_column == NO_LABELS:
            source = without_labels(source)
        source = check_every_class(source)
        source = replace(source, notes=(*source.notes, *_class_notes(source)))
    for part, other in (("test", options.test_data), ("validation", options.val_data)):
        if other is not None:
            source = _with_other(source, part, other, options)
    return source


def _class_notes(source: Source) -> list[str]:
    notes = label_notes(source.class_names)
    if len(source.class_names) == 1:
        notes.append(f"warning: there is one class only, {source.class_names[0]!r}")
    return notes


def _check_effect(name: str, options: SourceOptions, beside: Sequence[str]) -> None:
    """Raises ConfigError for a flag that none of the sources reads."""
    named = (name, options.test_data, options.val_data, *beside)
    kinds = {one.partition(":")[0] for one in named if one is not None}
    takes = {
        "group-column": (options.group_column, ("csv", "coco", "hf")),
        "group-pattern": (options.group_pattern, _OF_FILES),
        "image-column": (options.image_column, ("csv", "coco", "hf", "wds")),
        "label-column": (options.label_column, ("csv", "coco", "hf", "wds")),
        "split-column": (options.split_column, ("csv", "coco")),
        "crop-boxes": (options.crop_boxes or None, ("coco",)),
        "value-range": (options.value_range or None, tuple(_WITH_ARGUMENT)),
        "max-image-mpix": (options.max_image_mpix, tuple(_WITH_ARGUMENT)),
    }
    for flag, (value, sources) in takes.items():
        if flag == "label-column" and value == NO_LABELS:
            sources = tuple(_WITH_ARGUMENT)
        if value is not None and not kinds & {*sources}:
            raise ConfigError(
                f"--{flag}: has no effect on {name}, only on {', '.join(f'{s}:' for s in sources)}"
            )


def _open(name: str, options: SourceOptions, *, flag: str) -> Source:
    """What is there under a name that a flag gives."""
    check_no_secret(flag, name)
    if not name:
        raise ConfigError(f"{flag}: say which data, such as folder:photos")
    key, colon, argument = name.partition(":")
    if key not in SOURCES:
        raise ConfigError(
            f"{flag} {short_path(name)}: unknown, did you mean {_nearest(name)}? "
            f"(known: {', '.join(SOURCES)})"
        )
    if colon and key not in _WITH_ARGUMENT:
        raise ConfigError(f"{flag} {name}: {key} takes nothing after a colon")
    wanted = _WITH_ARGUMENT.get(key, "")
    if wanted and not argument:
        raise ConfigError(f"{flag} {name}: say which, as {key}:{wanted}")
    if argument.startswith("~"):  # which a shell leaves alone after a colon
        argument = str(Path(argument).expanduser())
    source = SOURCES[key](argument, options)
    if options.group_pattern is not None and key in _OF_FILES:
        source = _grouped(source, options.group_pattern)
    return decoded_as(source, options.decoding) if key in _WITH_ARGUMENT else source


def _grouped(source: Source, pattern: str) -> Source:
    """The source with the groups that a pattern finds in the paths of its images."""
    tables: dict[str, Any] = {
        part: table.with_groups(group_ids_of_paths(table, pattern, where=source.name))
        for part, table in source.parts.items()
    }
    return replace(source, grouped_by=f"--group-pattern {pattern}", **tables)


def _with_other(source: Source, part: str, name: str, options: SourceOptions) -> Source:
    """The source with the test or validation images of another, or else all that it holds."""
    flag = "--test-data" if part == "test" else "--val-data"
    other = _open(name, options, flag=flag)
    table = other.validation if part == "validation" else None
    table = other.test if table is None else table
    table = other.train if table is None else table
    table = align_labels(source, table, other.class_names, name=f"{flag} {other.name}")
    more: dict[str, Any] = {part: table, "places": {**source.places, part: f"{flag} {name}"}}
    left_out, notes = source.left_out + other.left_out, source.notes + other.notes
    return replace(source, left_out=left_out, notes=notes, **more)


def _nearest(name: str) -> str:
    """A source for what stands on the disk or at a URL, else the name that is most like it."""
    path = Path(name)
    if "://" in name:
        return f"wds:{name}"
    if exists(path):
        kinds = {".txt": "list", ".json": "coco", ".parquet": "hf", ".arrow": "hf", ".tar": "wds"}
        return f"{'folder' if path.is_dir() else kinds.get(path.suffix, 'csv')}:{name}"
    return get_close_matches(name.partition(":")[0], SOURCES, n=1, cutoff=0.0)[0]
