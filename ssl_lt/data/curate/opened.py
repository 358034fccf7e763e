"""A source as it is on the disk, with every image of its training set."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ssl_lt.core.progress import track
from ssl_lt.data.curate.describe import describe_table
from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import Source, open_complete
from ssl_lt.data.tables.table import ImageTable


@dataclass(frozen=True)
class OpenSource:
    """A source and its tables; no test set is held out of the training images.

    Attributes:
        source: what was opened.
        train: its training images.
        test: its test images, None where there are none.
        validation: its validation images, None where there are none.
    """

    source: Source
    train: ImageTable
    test: ImageTable | None
    validation: ImageTable | None

    @property
    def parts(self) -> dict[str, ImageTable]:
        """Images under "train" and, where there are any, "test" and "validation"."""
        parts = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: table for name, table in parts.items() if table is not None}

    @property
    def file_name(self) -> str:
        """The source's name, fit for a folder."""
        return re.sub(r"[^A-Za-z0-9._]+", "-", self.source.name).strip("-.")


def open_tables(options: SourceOptions) -> OpenSource:
    """Opens what the options name.

    Raises:
        ConfigError, DataError: as `open_complete` says.
    """
    source = open_complete(options.data, options)
    return OpenSource(source, source.train(), source.test(), source.validation())


def describe_all(opened: OpenSource) -> dict[str, list[ImageStats]]:
    """Part -> what each of its images is like; the user sees how far it is."""
    names = {"train": "training", "test": "test", "validation": "validation"}
    return {
        part: list(
            track(describe_table(table), total=len(table), label=f"looking at {names[part]} images")
        )
        for part, table in opened.parts.items()
    }
