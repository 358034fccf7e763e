"""From flags to rows: a recipe or a file becomes a split of the data at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.long_tail import make_long_tailed
from ssl_lt.data.options import DataOptions, Profile
from ssl_lt.data.sources.registry import Source
from ssl_lt.data.splits.images import images_of, read_images, what_changed
from ssl_lt.data.splits.split import Recipe, Split, check_rows, read_index_list, read_split
from ssl_lt.data.tables.table import ImageTable


def choose_split(options: DataOptions, source: Source, *, images: Path | None = None) -> Split:
    """The rows to train on.

    A file (`--split`) comes before a profile. A profile is applied with the factor of the flag, or
    else the source's own; with neither, all rows are taken.

    Args:
        options: the flags.
        source: of the data.
        images: where a run that goes on has listed them, to say which differ.

    Returns:
        The split; nothing is decoded.

    Raises:
        ConfigError: a profile that does not fit the data; names the flag.
        DataError: a file that is damaged or belongs to other data.
    """
    if options.split is not None:
        split = _from_file(options.split, source, images)
        for name, count in zip(source.class_names, split.counts_per_class, strict=False):
            if count == 0:
                raise DataError(f"{options.split}: has no row of class {name}")
        return split
    table = source.train
    profile, factor = resolve_imbalance(options.imbalance, options.imbalance_factor, source)
    recipe = Recipe(profile, factor, options.split_seed)
    if factor is None:
        return make_split(source, table, recipe, np.arange(len(table)))
    labels = table.labels.numpy()
    if not source.class_names or labels.min() < 0:
        raise ConfigError(f"--imbalance-factor {factor:g}: {source.name} has no labels")
    rows = make_long_tailed(
        labels,
        num_classes=len(source.class_names),
        profile=profile,
        imbalance_factor=factor,
        seed=options.split_seed,
    )
    return make_split(source, table, recipe, rows)


def resolve_imbalance(
    profile: Profile, imbalance_factor: float | None, source: Source
) -> tuple[Profile, float | None]:
    """The profile and the factor that flags mean for a source; "none" and None: take every image.

    Raises:
        ConfigError: a profile without a factor.
    """
    factor = imbalance_factor or source.imbalance_factor
    if profile == "none" or (factor is None and profile == "exponential"):
        return "none", None
    if factor is None:
        raise ConfigError(f"--imbalance {profile}: give --imbalance-factor too")
    return profile, factor


def _from_file(path: Path, source: Source, images: Path | None) -> Split:
    """Reads a split or a list of rows and holds it against the data."""
    table = source.train
    if path.suffix != ".json":
        rows = read_index_list(path)
        check_rows(path, rows, num_rows=len(table))
        return make_split(source, table, Recipe("list", None, 0), rows)
    split = read_split(path)
    if split.num_rows != len(table) or split.data_sha256 != table.fingerprint():
        was = None if images is None else read_images(images)
        changed = what_changed(was, images_of(source))
        raise DataError(
            f"{path}: was made from {split.source} with {split.num_rows} rows; the data here "
            f"({source.name}, {len(table)} rows) has other rows, labels or another order"
            + (f": {changed}" if changed else "")
        )
    counts = rows_per_class(source, table, split.indices)
    # A file that was edited by hand: the digest covers the indices alone.
    for name, want, found in zip(source.class_names, split.counts_per_class, counts, strict=False):
        if want != found:
            raise DataError(f"{path}: class {name}: counts_per_class says {want}, rows are {found}")
    if len(counts) != len(split.counts_per_class):
        raise DataError(
            f"{path}: has {len(split.counts_per_class)} classes, {source.name} has {len(counts)}"
        )
    return split


def make_split(source: Source, table: ImageTable, recipe: Recipe, rows: NDArray[np.int64]) -> Split:
    """The split of these rows of a table of a source."""
    return Split(
        source=source.name,
        recipe=recipe,
        num_rows=len(table),
        data_sha256=table.fingerprint(),
        counts_per_class=rows_per_class(source, table, rows),
        indices=rows,
    )


def rows_per_class(source: Source, table: ImageTable, rows: NDArray[np.int64]) -> tuple[int, ...]:
    """(C,) how many of some rows are of each class; empty where labels are unknown."""
    labels = table.labels.numpy()[rows]
    if not source.class_names or (labels < 0).any():
        return ()
    return tuple(np.bincount(labels, minlength=len(source.class_names)).tolist())
