"""A source as it is on the disk, and a look at each of its images."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ssl_lt.core.progress import watched
from ssl_lt.data.curate.inspection import Look
from ssl_lt.data.options import SourceFlags
from ssl_lt.data.sources.registry import Source, open_source
from ssl_lt.data.tables.look import scan
from ssl_lt.data.tables.table import ImageTable


@dataclass(frozen=True)
class OpenSource:
    """A source and its tables; nothing is held out of the training images.

    Attributes:
        source: what was opened.
        train: its training images.
        test: its test images, None where there are none.
        validation: images to choose by, likewise.
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


def open_whole(flags: SourceFlags) -> OpenSource:
    """Opens what the flags name.

    Raises:
        ConfigError, DataError: as `open_source` says.
    """
    source = open_source(flags.data, replace(flags.source_options(), hold_out=False))
    return OpenSource(source, source.train(), source.test(), source.validation())


def look_at_all(opened: OpenSource) -> dict[str, list[Look]]:
    """Part -> a look at each image; the user sees how far it is."""
    names = {"train": "training", "test": "test", "validation": "validation"}
    return {
        part: list(watched(scan(table), total=len(table), words=f"looking at {names[part]} images"))
        for part, table in opened.parts.items()
    }
