"""A folder of pictures: class sub-folders, or one flat folder without labels."""

from __future__ import annotations

from dataclasses import replace

from ssl_lt.core.errors import DataError
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.source import TableSource, held_parts, under_classes_of
from ssl_lt.data.sources.trees import SUFFIXES, Tree, open_tree
from ssl_lt.data.tables.table import EncodedTable


def open_folder(argument: str, options: SourceOptions) -> TableSource:
    """Lists the pictures of a folder, here or in a store.

    Layouts: `train/` with `test/` or `val/`, or both; or class sub-folders; or pictures without
    labels. Classes are sorted by name, pictures are found at any depth, hidden files are left out.

    Args:
        argument: PATH or URL of `folder:PATH`; empty: the data root.
        options: with the data root.

    Raises:
        ConfigError: an unknown kind of URL, or one whose package is not installed.
        DataError: no such folder, a store that cannot be listed, no pictures, pictures beside class
            folders, a class without pictures, a test or validation class that is not trained.
    """
    place = argument or str(options.data_root or options.root)
    tree = open_tree(place, options, source=f"folder:{place}")
    name, parts = f"folder:{tree}", set(tree.folders())
    tested, checked = held_parts(parts & {"test", "val"})
    # Alone, `train` is a part; beside others that are no test part, it is a class of vehicles.
    if "train" not in parts or not (tested or len(parts) == 1):
        return TableSource(name, *_list(tree))
    source = TableSource(name, *_list(tree.below("train")))
    return replace(
        source,
        test_table=_part(source, tree, tested),
        validation_table=_part(source, tree, checked),
    )


def _list(tree: Tree) -> tuple[tuple[str, ...], EncodedTable]:
    """Class names (empty when flat) and files."""
    classes = tree.folders()
    if not classes:
        names = tree.pictures()
        if not names:
            raise DataError(f"{tree}: has no images ({' '.join(sorted(SUFFIXES))})")
        return (), tree.table(names, [-1] * len(names))
    loose = tree.loose()
    if loose:
        raise DataError(f"{tree}: has both class folders and loose images such as {loose[0]}")
    names, labels = [], []
    for label, folder in enumerate(classes):
        inside = tree.below(folder)
        pictures = inside.pictures()
        if not pictures:
            raise DataError(f"{inside}: class folder without images")
        names += [f"{folder}/{name}" for name in pictures]
        labels += [label] * len(pictures)
    return tuple(classes), tree.table(names, labels)


def _part(source: TableSource, tree: Tree, name: str | None) -> EncodedTable | None:
    """A part to test on or choose by; None where there is none, or nothing has labels."""
    if name is None:
        return None
    part = tree.below(name)
    class_names, table = _list(part)
    if not (class_names or source.class_names):
        return None
    return under_classes_of(source, table, class_names, name=str(part))
