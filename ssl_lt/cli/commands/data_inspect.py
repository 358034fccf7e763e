"""`ssl-lt data inspect`: look at every image once and say what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.core.disk.folders import check_replaceable, replace_dir_atomically
from ssl_lt.core.disk.text import Terminal, printable
from ssl_lt.core.options import option
from ssl_lt.data.curate.describe import describe_all
from ssl_lt.data.curate.inspection import Entry, Inspection, inspection
from ssl_lt.data.curate.summary import understood, wrapped
from ssl_lt.data.images.crops import thumbnail
from ssl_lt.data.options import WholeSourceOptions
from ssl_lt.data.sources.registry import Source, open_complete
from ssl_lt.data.sources.source import with_group_notes
from ssl_lt.report.pages.inspection import Sheet, write_inspection
from ssl_lt.report.pages.templates import Tile
from ssl_lt.report.tables.inspection import findings, how_many, summary_tables, warnings, where
from ssl_lt.report.tables.table import to_rich

_PAGE, _NUMBERS = "index.html", "index.json"
_MOST_PICTURES = 12

_USAGE = "ssl-lt data inspect SOURCE [OPTIONS]"


@dataclass(frozen=True)
class InspectConfig(WholeSourceOptions):
    """Look at a data set before training on it: ssl-lt data inspect SOURCE [flags].

    Decodes every image once. Says how many each class has, which cannot be read, which occur more
    than once, under several classes or in both training and test set, and which are grey or of one
    colour; a page, the same in JSON, and a summary here. Nothing is held out of the training set.
    """

    output: Path | None = option(None, group="output")
    """Folder to write. Default: inspections/ and the name of the source."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, InspectConfig(), usage=_USAGE, positional=("--data",))
    if config is None:
        return 0
    source = open_complete(config.data, config)
    source = with_group_notes(source, source.parts)
    output = config.output or Path("inspections") / source.file_name
    check_replaceable(output, marker=_NUMBERS, flag="--output")
    stats = describe_all(source)
    found = inspection(
        source.name,
        source.class_names,
        stats,
        {part: table.labels.numpy() for part, table in source.parts.items()},
        source.left_out,
    )
    sheets = _sheets(found, source)
    with replace_dir_atomically(output) as folder:
        write_inspection(found, folder / _PAGE, sheets=sheets)
    said = understood(
        source,
        stats["train"],
        num_images=len(source.train),
        counts_per_class=found.counts_per_class,
        held={part: images for part, images in stats.items() if part != "train"},
    )
    print("\n".join(said))
    console = Terminal()
    for table in summary_tables(found):
        console.print(to_rich(table))
    for warning in warnings(found):
        print("\n".join(wrapped(printable(f"warning: {warning}"))))
    print(f"page: {(output / _PAGE).resolve()}\nlists: {(output / _NUMBERS).resolve()}")
    return 0


def _sheets(found: Inspection, source: Source) -> list[Sheet]:
    """The first pictures of what is not as it should be."""
    return [
        (
            heading,
            how_many(images, shown=_MOST_PICTURES),
            tuple(_tile(entries, found, source) for entries in images[:_MOST_PICTURES]),
        )
        for heading, images in findings(found).items()
        if images and heading not in ("Unreadable", "More than once in testing")
    ]


def _tile(entries: Sequence[Entry], found: Inspection, source: Source) -> Tile:
    """One picture and where it stands; of many places the first three."""
    first = entries[0]
    pixels = thumbnail(source.parts[first.part].read(first.row))
    lines = [where(entry, found) for entry in entries[:3]]
    return Tile(pixels, first.name, (*lines, *(["..."] if len(entries) > 3 else [])))
