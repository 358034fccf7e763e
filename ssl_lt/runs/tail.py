"""`ssl-lt tail`: which training images look rare, without labels, to label them first."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.folders import check_replaceable, replace_dir_atomically
from ssl_lt.core.disk.plain import to_plain
from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.dataset import Data, open_data
from ssl_lt.data.images.crops import thumbnail
from ssl_lt.data.splits.split import read_split
from ssl_lt.data.tables.table import PixelTable
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.tail import (
    CLUSTER,
    COMBINED,
    Floats,
    Integers,
    auc_few_vs_many,
    frequency_correlation,
    rarest_first,
    rarities,
    score_rarity,
)
from ssl_lt.report.pages.tail import write_tail_page
from ssl_lt.report.pages.templates import Tile
from ssl_lt.report.tables.table import Table, to_rich
from ssl_lt.report.tables.tail import epoch_table, finding_table
from ssl_lt.runs.config.tail import TailConfig
from ssl_lt.runs.life.find import find_run
from ssl_lt.runs.life.place import Moved, located
from ssl_lt.runs.life.saved_run import run_config_of
from ssl_lt.runs.life.scores import file_of_epoch, read_scores, score_files

_LIST, _PAGE, _NUMBERS = "tail.csv", "index.html", "tail.json"
_PRECISION_AT = (100, 500, 1000)


@dataclass(frozen=True, eq=False)
class Ranked:
    """The list.

    Attributes:
        epoch: whose scores.
        score: its name.
        rarities: name -> (N,), NaN unknown, high for what looks rare.
        order: (N,) samples, the rarest first.
    """

    epoch: int
    score: str
    rarities: Mapping[str, Floats]
    order: Integers

    @property
    def known(self) -> Integers:
        """The list without the samples that have no score, which stand at its end."""
        return self.order[: int(np.isfinite(self.rarities[self.score]).sum())]


def tail(config: TailConfig) -> None:
    """Ranks the training images of a run by how rare they look, and writes list and page.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    run = find_run(config.run)
    output = config.output or run.tail
    check_replaceable(output, marker=_LIST, flag="--output")
    ranked = _rank(run, config)
    if not run.is_finished:
        print("note: this run is not finished")
    moved = Moved(config.data, config.data_root)
    options = located(run, run_config_of(run, moved=moved, num_workers=0).data)
    # Undecoded: of files, only those that are shown are read.
    data = open_data(replace(options, cache_mib=0), stored=run.split_files)
    names = _file_names(data)
    lead = (
        f"{len(ranked.order):,} training images of {data.source.name} by {ranked.score}, "
        f"epoch {ranked.epoch}"
    )
    tables: tuple[Table, ...] = ()
    numbers: dict[str, Any] = {"run": run.path.name, "epoch": ranked.epoch, "score": ranked.score}
    if data.groups:
        tables, measured = _held_against_classes(run, ranked, data, top=config.top)
        numbers |= measured
    with replace_dir_atomically(output) as folder:
        write_text_atomically(folder / _LIST, _csv(ranked, data, names))
        write_text_atomically(folder / _NUMBERS, json.dumps(to_plain(numbers), indent=1) + "\n")
        write_tail_page(
            folder / _PAGE,
            title=run.path.name,
            lead=lead,
            rarest=_tiles(ranked, ranked.order[: config.top], data),
            most_frequent=_tiles(ranked, ranked.known[-config.top :], data),
            tables=tables,
        )
    console = Terminal()
    for table in tables:
        console.print(to_rich(table))
    print(f"{lead}\nlist: {(output / _LIST).resolve()}\npage: {(output / _PAGE).resolve()}")


def _rank(run: RunFolder, config: TailConfig) -> Ranked:
    """Reads the scores and sorts the samples.

    Raises:
        DataError: there are no scores, or they are damaged.
        ConfigError: the run kept another score.
    """
    epoch, path = file_of_epoch(run, config.epoch)
    num_samples = len(read_split(run.split).indices)
    found = rarities(read_scores(path, num_samples=num_samples))
    if not found:
        raise DataError(f"{path}: has no score of a sample")
    if config.score not in found:
        kept = ", ".join(name for name in found if name != COMBINED)
        raise ConfigError(f"--score: {config.score} is not in {path}, only {kept}")
    return Ranked(epoch, config.score, found, rarest_first(found[config.score]))


def _held_against_classes(
    run: RunFolder, ranked: Ranked, data: Data, *, top: int
) -> tuple[tuple[Table, ...], dict[str, Any]]:
    """Tables for people and numbers for programs."""
    labels = data.train.labels.numpy()
    counts = np.asarray(data.split.counts_per_class)
    rarity = ranked.rarities[ranked.score]
    known = np.isfinite(rarity)
    at = sorted({top, *_PRECISION_AT})
    findings = [score_rarity(rarity, labels, groups, top=at) for groups in data.groups]
    correlation = frequency_correlation(rarity[known], labels[known], counts)
    aucs = {epoch: dict(scores) for epoch, scores in _aucs(run, data, labels)}
    tables = (
        finding_table(ranked.score, findings, correlation, num_known=int(known.sum())),
        epoch_table(aucs, [groups.rule for groups in data.groups]),
    )
    measured = {"findings": findings, "spearman": correlation, "auc_by_epoch": aucs}
    return tables, measured


def _aucs(
    run: RunFolder, data: Data, labels: Integers
) -> Iterator[tuple[int, dict[str, tuple[float | None, ...]]]]:
    """Epoch, and for each score the AUC under each rule."""
    for epoch, path in score_files(run).items():
        found = {}
        scores = rarities(read_scores(path, num_samples=len(labels)))
        if len(scores) == 2:
            del scores[COMBINED]  # of a single one it says the same
        for name, rarity in scores.items():
            known = np.isfinite(rarity)
            found[name] = tuple(
                auc_few_vs_many(rarity[known], labels[known], groups) for groups in data.groups
            )
        yield epoch, found


def _file_names(data: Data) -> list[str] | None:
    """See `ImageTable.name`; None where pixels are all there is."""
    if isinstance(data.train, PixelTable):
        return None
    return [data.train.name(row) for row in range(len(data.train))]


def _csv(ranked: Ranked, data: Data, names: list[str] | None) -> str:
    """A line a sample, the rarest first: rank, place in the run, row of the data, scores, name."""
    columns: dict[str, Sequence[Any]] = {
        "index": range(len(ranked.order)),
        "row": data.split.indices.tolist(),
    }
    for name, rarity in ranked.rarities.items():
        values = -rarity if name == CLUSTER else rarity
        column = "cluster_size" if name == CLUSTER else name
        columns[column] = [f"{v:.6g}" if np.isfinite(v) else "" for v in values.tolist()]
    if names is not None:
        columns["file"] = names
    if data.groups:
        columns["class"] = [data.source.class_names[c] for c in data.train.labels.tolist()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", *columns])
    for rank, i in enumerate(ranked.order.tolist(), start=1):
        writer.writerow([rank, *(column[i] for column in columns.values())])
    return text.getvalue()


def _tiles(ranked: Ranked, samples: Integers, data: Data) -> tuple[Tile, ...]:
    place = {int(i): rank for rank, i in enumerate(ranked.order, start=1)}
    rarity = ranked.rarities[ranked.score]
    sign = -1 if ranked.score == CLUSTER else 1
    found = []
    for i in samples.tolist():
        score = f"{sign * rarity[i]:.4g}" if np.isfinite(rarity[i]) else "no score"
        lines = [f"{place[i]:,} · {score}"]
        if data.groups:
            label = int(data.train.labels[i])
            lines.append(f"{data.source.class_names[label]} ({data.split.counts_per_class[label]})")
        found.append(Tile(thumbnail(data.train.read(i)), f"sample {i}", tuple(lines)))
    return tuple(found)
