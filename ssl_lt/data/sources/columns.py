"""Which columns of a table hold the images, the labels, the parts and the groups."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.formats import has_image_suffix

NO_LABELS = "none"  # and, as a column of parts, no parts

# What people call them, the likeliest first; case, blanks and dashes do not count.
_IMAGE = (
    "image", "image_path", "img", "img_path", "path", "file_path", "filepath", "file_name",
    "filename", "file", "images", "image_file", "image_name", "image_id", "image_index", "img_id",
    "img_name", "id_code", "isic_id",
)  # fmt: skip
_LABEL = (
    "label", "class", "class_name", "category", "target", "labels", "classes", "label_name",
    "category_name", "class_label", "species", "dx", "diagnosis", "finding", "finding_labels",
    "class_id", "category_id", "label_id",
)  # fmt: skip
SPLIT_NAMES = ("split", "part", "partition", "subset", "set", "phase", "data_split", "dataset")


def image_column(columns: Sequence[str], asked: str | None, *, name: str) -> str:
    """The column with the images.

    Args:
        columns: there are.
        asked: by --image-column; None: found by its name.
        name: of the source.

    Raises:
        DataError: there is none; names the source and its columns.
    """
    found = _asked(columns, asked, flag="--image-column", name=name) or _named(columns, _IMAGE)
    if found is None and any(map(has_image_suffix, columns)):
        raise DataError(
            f"{name}: its first line names a file and no columns: put a line such as image,label "
            "before it"
        )
    if found is None:
        raise DataError(
            f"{name}: none of its columns ({_listed(columns)}) is named image, path, file or the "
            "like: say with --image-column which holds the images"
        )
    return found


def label_column(columns: Sequence[str], asked: str | None, *, name: str) -> str | None:
    """The column with the labels, None where there is none; see `image_column`.

    Raises:
        DataError: the column that was asked for is not there.
    """
    if asked == NO_LABELS:
        return None
    return _asked(columns, asked, flag="--label-column", name=name) or _named(columns, _LABEL)


def label_columns(columns: Sequence[str], asked: str | None, *, name: str) -> tuple[str, ...]:
    """The column with the labels, or those with a 1 in one of them; see `label_column`.

    Several are asked for by their names with commas between.
    """
    several = tuple(asked.split(",")) if asked is not None and asked not in columns else ()
    if len(several) > 1:
        for column in several:
            _asked(columns, column, flag="--label-column", name=name)
        return several
    found = label_column(columns, asked, name=name)
    return () if found is None else (found,)


def split_column(columns: Sequence[str], asked: str | None, *, name: str) -> str | None:
    """The column with the parts, None where there is none; see `label_column`."""
    if asked == NO_LABELS:
        return None
    return _asked(columns, asked, flag="--split-column", name=name) or _named(columns, SPLIT_NAMES)


def group_column(columns: Sequence[str], asked: str | None, *, name: str) -> str | None:
    """The column with what belongs together, None where none was asked for; see `label_column`."""
    return _asked(columns, asked, flag="--group-column", name=name)


def no_label_hint(columns: Sequence[str]) -> str:
    """What would give a table labels, for people."""
    return (
        f"its columns are {_listed(columns)}: say with --label-column which has the labels, or as "
        "A,B,C which have a 1 in one of them"
    )


def _asked(columns: Sequence[str], asked: str | None, *, flag: str, name: str) -> str | None:
    if asked is not None and asked not in columns:
        raise DataError(f"{name}: has no column {asked!r} ({flag}), only {_listed(columns)}")
    if asked is not None and list(columns).count(asked) > 1:
        raise DataError(f"{name}: has several columns {asked!r} ({flag})")
    return asked


def _named(columns: Sequence[str], likely: Sequence[str]) -> str | None:
    plain = {c.strip().lower().replace(" ", "_").replace("-", "_"): c for c in reversed(columns)}
    return next((plain[name] for name in likely if name in plain), None)


def _listed(columns: Sequence[str], *, most: int = 20) -> str:
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    return ", ".join(columns[:most]) + more
