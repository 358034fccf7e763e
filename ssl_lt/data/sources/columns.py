"""Which columns of a table hold the images and the labels."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.core.errors import DataError

NO_LABELS = "none"

# What people call them, the likeliest first; case, blanks and dashes do not count.
_IMAGE = (
    "image", "image_path", "img", "img_path", "path", "file_path", "filepath", "file_name",
    "filename", "file",
)  # fmt: skip
_LABEL = ("label", "class", "class_name", "category", "target")


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
    if found is None:
        raise DataError(
            f"{name}: none of its columns ({', '.join(columns)}) is named {', '.join(_IMAGE)}: "
            "say with --image-column which holds the images"
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


def _asked(columns: Sequence[str], asked: str | None, *, flag: str, name: str) -> str | None:
    if asked is not None and asked not in columns:
        raise DataError(f"{name}: has no column {asked!r} ({flag}), only {', '.join(columns)}")
    return asked


def _named(columns: Sequence[str], likely: Sequence[str]) -> str | None:
    plain = {c.strip().lower().replace(" ", "_").replace("-", "_"): c for c in reversed(columns)}
    return next((plain[name] for name in likely if name in plain), None)
