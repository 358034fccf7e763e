"""`ssl-lt tail`: which training images look rare, without labels, and which to label first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_lt.core.disk.files import csv_lines, write_atomically, write_text_atomically
from ssl_lt.core.disk.folders import check_replaceable, replace_dir_atomically
from ssl_lt.core.disk.plain import to_plain
from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.errors import ConfigError
from ssl_lt.data.dataset import Data
from ssl_lt.data.images.crops import thumbnail
from ssl_lt.data.tables.table import ImageTable, PixelTable
from ssl_lt.evaluate.tail.budget import choose_images
from ssl_lt.evaluate.tail.findings import Floats, Integers, find_few, measure_coverage, rarest_first
from ssl_lt.report.pages.tail import Sheet, write_tail_page
from ssl_lt.report.pages.templates import Tile
from ssl_lt.report.tables.table import to_rich
from ssl_lt.report.tables.tail import coverage_table, finding_table
from ssl_lt.runs.config.tail import TailConfig
from ssl_lt.runs.life.find import find_run, new_run_path
from ssl_lt.runs.life.init_from import InitSource, find_source
from ssl_lt.runs.scored_images import (
    Opened,
    check_score,
    open_run_images,
    open_weights_images,
    score_images,
)

_LIST, _BUDGET, _PAGE, _NUMBERS = "tail.csv", "budget.csv", "index.html", "tail.json"


def tail(config: TailConfig, *, source: InitSource | None = None) -> None:
    """Ranks training images by how rare they look, and writes lists and a page.

    Args:
        config: what is ranked, and how.
        source: the weights without a run; None: what the configuration names.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    output, opened = _open(config, source)
    data, labels = opened.data, opened.data.train.labels.numpy()
    check_score(opened, config)
    if config.budget is not None and config.budget > len(labels):
        raise ConfigError(f"--budget: {config.budget}, but there are {len(labels)} images")
    scored = score_images(opened, config)
    score = scored.scores[config.score]
    order = rarest_first(score)
    lead = f"{len(order):,} training images of {data.source.name} by {config.score}, {opened.name}"
    numbers: dict[str, Any] = {"score": config.score, "features": opened.name, **opened.facts}
    tables, chosen = [], None
    if data.groups:
        findings = [
            find_few(name, values, labels, groups, top=config.top)
            for name, values in scored.scores.items()
            for groups in data.groups
        ]
        tables.append(finding_table(findings, top=config.top))
        numbers["findings"] = findings
    if config.budget is not None:
        chosen = choose_images(scored.features, score, budget=config.budget, seed=config.seed)
        if data.groups:
            coverage = measure_coverage(labels, chosen)
            tables.append(coverage_table(coverage, num_classes=data.num_classes))
            numbers["coverage"] = coverage
    images = _Images(data, config.score, score, order)
    with replace_dir_atomically(output) as folder:
        images.write(folder / _LIST, order)
        if chosen is not None:
            images.write(folder / _BUDGET, chosen)
        write_text_atomically(folder / _NUMBERS, json.dumps(to_plain(numbers), indent=1) + "\n")
        sheets = images.sheets(order, chosen, top=config.top)
        write_tail_page(folder / _PAGE, title=opened.name, lead=lead, sheets=sheets, tables=tables)
    console = Terminal()
    for table in tables:
        console.print(to_rich(table))
    print(lead)
    written = {"list": _LIST, "page": _PAGE} | ({} if chosen is None else {"to label": _BUDGET})
    for name, file in written.items():
        print(f"{name}: {(output / file).resolve()}")


def _open(config: TailConfig, source: InitSource | None) -> tuple[Path, Opened]:
    """The folder that is written, and what is ranked."""
    if config.init_from is None:
        run = find_run(config.run)
        output = config.output or run.tail
        check_replaceable(output, marker=_LIST, flag="--output")
        return output, open_run_images(run, config)
    source = source or find_source(config.init_from, backbone=config.model.backbone)
    output = config.output or new_run_path("tail", source.stem, config.data.data)
    check_replaceable(output, marker=_LIST, flag="--output")
    return output, open_weights_images(source, config)


class _Images:
    """The images for people: lines of a list, tiles of a page.

    Args:
        data: whose training images they are.
        name: of the score.
        score: (N,), NaN unknown.
        order: (N,) the rarest first.
    """

    def __init__(self, data: Data, name: str, score: Floats, order: Integers) -> None:
        self.data, self.name, self.score = data, name, score
        self.rank = np.empty(len(order), dtype=np.int64)
        self.rank[order] = np.arange(1, len(order) + 1)
        # Undecoded: it knows the names of files, and of large images only the shown ones are read.
        self.table: ImageTable = data.source.train.take(data.split.indices)

    def write(self, path: Path, images: Integers) -> None:
        """A CSV with a line an image, in this order."""
        lines = csv_lines(self._lines(images))
        write_atomically(path, lambda file: file.write(lines))

    def _lines(self, images: Integers) -> Iterator[list[Any]]:
        names = not isinstance(self.table, PixelTable)
        classes = ["class"] if self.data.groups else []
        yield ["rank", "index", "row", *(["file"] if names else []), "score", *classes]
        for i in images.tolist():
            file = [self.table.name(i)] if names else []
            score = f"{self.score[i]:.6g}" if np.isfinite(self.score[i]) else ""
            row = self.data.split.indices[i]
            yield [self.rank[i], i, row, *file, score, *self._class(i)]

    def sheets(self, order: Integers, chosen: Integers | None, *, top: int) -> list[Sheet]:
        """Both ends of the list, and those to label first."""
        rarest = order[:top]
        frequent = order[: int(np.isfinite(self.score).sum())][-top:]
        sheets = [
            Sheet("Looks rarest", f"The first {len(rarest):,} of the list.", self.tiles(rarest))
        ]
        if chosen is not None:
            first = self.tiles(chosen[:top])
            note = f"{len(first):,} of the {len(chosen):,} images that --budget has drawn."
            sheets.append(Sheet("To label first", note, first))
        note = f"The last {len(frequent):,} of the list."
        return [*sheets, Sheet("Looks most frequent", note, self.tiles(frequent))]

    def tiles(self, images: Integers) -> tuple[Tile, ...]:
        """Each with its place in the list, its score and its class."""
        found = []
        for i in images.tolist():
            score = f"{self.score[i]:.4g}" if np.isfinite(self.score[i]) else "no score"
            lines = [f"{self.rank[i]:,} · {score}"]
            lines += [f"{name} ({self._count(i)})" for name in self._class(i)]
            found.append(Tile(thumbnail(self.table.read(i)), f"image {i}", tuple(lines)))
        return tuple(found)

    def _class(self, i: int) -> Sequence[str]:
        """Its name, where classes are known."""
        if not self.data.groups:
            return ()
        return (self.data.source.class_names[int(self.data.train.labels[i])],)

    def _count(self, i: int) -> int:
        return self.data.split.counts_per_class[int(self.data.train.labels[i])]
