"""One self-contained page of one run or several, with the same in Markdown and JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import to_plain
from ssl_lt.core.disk.yaml_file import write_yaml
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.groups import leading_groups, leading_rule
from ssl_lt.evaluate.picture_records import Pictures
from ssl_lt.report.figures.confusion import confusion_difference_figure
from ssl_lt.report.figures.figure import NUM_COLOURS, Figure
from ssl_lt.report.figures.files import write_figures
from ssl_lt.report.figures.gallery import make_gallery, other_confusions
from ssl_lt.report.figures.plots import (
    Series,
    curve_figure,
    difference_figure,
    profile_figure,
)
from ssl_lt.report.pages.templates import render
from ssl_lt.report.records.class_order import group_names
from ssl_lt.report.records.curves import at_start
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.classes import class_table, confusion_table
from ssl_lt.report.tables.comparison import (
    Comparison,
    chance_note,
    compare,
    difference_table,
    mover_tables,
)
from ssl_lt.report.tables.export import write_tables
from ssl_lt.report.tables.neighbours import RIGHT, WRONG, neighbours_table
from ssl_lt.report.tables.summary import summary_tables
from ssl_lt.report.tables.table import PERCENT, Table

_ACCURACY = (
    "Mean over classes, on the validation images, or the test images where there are none; at step "
    "0, if there, that of the head that was fitted to the features."
)


@dataclass(frozen=True)
class _Section:
    """One comparison, or one run's details."""

    title: str
    note: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...] = ()


def write_page(
    results: Sequence[RunResult],
    path: Path,
    *,
    pictures: Sequence[Pictures] = (),
    lead: tuple[Table, Figure] | None = None,
) -> None:
    """Writes the page, the same as `.md` and `.json` beside it, its tables and its figures.

    Args:
        results: one run, or several to compare: the first is what the others are compared with.
        path: of the page, such as `report/index.html`.
        pictures: of each run; none at all if they are not known.
        lead: a table and a figure in the place of those that say the same of any runs.

    Raises:
        ConfigError: no run at all.
        DiskError: a file cannot be written.
    """
    if not results:
        raise ConfigError("report: no run to report on")
    summary = summary_tables(results) if lead is None else lead[:1]
    comparisons = tuple(_comparison_section(comparison) for comparison in compare(results))
    details = tuple(_run_section(result) for result in results)
    values = {
        "title": results[0].name if len(results) == 1 else f"{len(results)} runs compared",
        "results": results,
        "warnings": _warnings(results),
        "summary": summary,
        "comparisons": comparisons,
        "gallery": make_gallery(results, pictures),
        "details": tuple(zip(results, details, strict=True)),
        "facts": _facts,
        "configuration": _configuration,
    }
    figures = _figures(results) if lead is None else lead[1:]
    html = render(
        "page.html",
        **values,
        tiles=_tiles(results[0]) if len(results) == 1 else (),
        figures=figures,
        other_confusions=other_confusions,
        marks=(RIGHT, WRONG),
        group_names=group_names,
        leading_rule=leading_rule,
    )
    write_text_atomically(path, html)
    compared = [
        (f"comparison {i}", figure)
        for i, section in enumerate(comparisons, start=1)
        for figure in section.figures
    ]
    write_figures([*(("", figure) for figure in figures), *compared], path)
    # The tables and facts alone.
    markdown = render("page.md", **values, neighbours_table=neighbours_table)
    write_text_atomically(path.with_suffix(".md"), markdown.rstrip("\n") + "\n")
    parts = [(section.title, section.tables) for section in (*comparisons, *details)]
    write_tables([("", summary), *parts], path)
    plain = {"runs": [to_plain(result) for result in results]}
    text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"
    write_text_atomically(path.with_suffix(".json"), text)


def _tiles(result: RunResult) -> tuple[tuple[str, str], ...]:
    """What one sees first: the leading evaluation in large figures."""
    if not result.evaluations:
        return ()
    accuracy = result.evaluations[0].accuracy
    tiles = [("All classes", PERCENT(accuracy.balanced))]
    group = leading_groups(accuracy.groups)
    if group is not None:
        tiles += [(name.capitalize(), PERCENT(value)) for name, value in group]
    return tuple(tiles)


def _warnings(results: Sequence[RunResult]) -> tuple[str, ...]:
    """What keeps numbers from being comparable, and what has gone wrong in a run."""
    out = []
    if len({result.data.class_names for result in results}) > 1:
        out.append("The runs have different classes: their accuracies cannot be compared.")
    elif len({result.data.split_sha256 for result in results}) > 1:
        out.append("The runs were trained on different splits of the data.")
    for result in results:
        of = f"{result.name}: " if len(results) > 1 else ""
        out += [f"{of}Without {name}: {reason}." for name, reason in result.left_out.items()]
        for representation in result.representations:
            where = f"{result.name}, {representation.name}: " if len(results) > 1 else ""
            out += [f"{where}{warning}" for warning in representation.warnings]
    if not any(result.evaluations for result in results):
        out.append("Nothing has been evaluated yet.")
    return tuple(out)


def _figures(results: Sequence[RunResult]) -> tuple[Figure, ...]:
    """Class profile and curves; a run has the same colour in all of them."""
    results = results[:NUM_COLOURS]
    out = _profile(results)
    for key, title, note, label, scale in (
        ("loss", "Training loss", "Means of the steps between two log lines.", "loss", 1.0),
        ("knn", "Online kNN", "Accuracy measured while training.", "accuracy, %", 100.0),
        ("accuracy", "Accuracy while training", _ACCURACY, "accuracy, %", 100.0),
        ("lr", "Learning rate", "Of the first parameter group.", "learning rate", 1.0),
    ):
        found = {i: r for i, r in enumerate(results, start=1) if key in r.curves}
        curves = [(r.name, r.curves[key]) for r in found.values()]
        if curves:
            figure = curve_figure(title, note, curves, label=label, scale=scale, colours=[*found])
            # A single run needs no legend.
            out.append(replace(figure, legend=figure.legend if len(results) > 1 else ()))
    return tuple(out)


def _profile(results: Sequence[RunResult]) -> list[Figure]:
    """Every evaluation of one run, or one evaluation of every run that can be compared."""
    first = results[0]
    if len(results) == 1:
        shown = [(e.name, e) for e in first.evaluations[:NUM_COLOURS]]
        colours = list(range(1, len(shown) + 1))
    else:
        shared = compare(results)
        shown = [(first.name, comparison.before) for comparison in shared[:1]]
        shown += [(comparison.run.name, comparison.after) for comparison in shared]
        runs = [first, *(comparison.run for comparison in shared)]
        colours = [1 + next(i for i, r in enumerate(results) if r is run) for run in runs]
    if not shown:
        return []
    series = [Series(name, e.accuracy.per_class) for name, e in shown]
    subject = "" if len(results) == 1 else f"Evaluation: {shown[0][1].name}."
    return [profile_figure(first.data, series, subject=subject, colours=colours)]


def _comparison_section(comparison: Comparison) -> _Section:
    mixed_up = confusion_difference_figure(comparison)
    return _Section(
        title=f"{comparison.run.name} against {comparison.baseline.name}",
        note=f"{comparison.after.name}, {comparison.run.name} minus {comparison.baseline.name}. "
        f"{chance_note(comparison)}",
        tables=(difference_table(comparison), *mover_tables(comparison)),
        figures=(difference_figure(comparison), *([] if mixed_up is None else [mixed_up])),
    )


def _run_section(result: RunResult) -> _Section:
    confusions = (confusion_table(result, evaluation) for evaluation in result.evaluations)
    tables = (class_table(result), *(table for table in confusions if table is not None))
    return _Section(result.name, "", tables if result.evaluations else ())


def _facts(result: RunResult) -> tuple[tuple[str, str], ...]:
    """What ran, on what, where and for how long."""
    data, environment = result.data, result.environment
    counts = data.counts_per_class
    facts = [
        ("Verb", result.verb),
        ("Method", " + ".join((result.method, *result.plugins))),
        ("Data", data.source),
        (
            "Training set",
            f"{sum(counts):,} images in {len(counts):,} classes, "
            f"{max(counts, default=0):,} to {min(counts, default=0):,} a class",
        ),
        ("Split SHA-256", data.split_sha256),
    ]
    if (start := at_start(result.curves)) is not None:
        facts.append(("Before the first step", f"accuracy {PERCENT(start)} %"))
    if result.weights:
        facts.append(("Weights", result.weights))
    if result.timing is not None:
        speed = result.timing.images_per_second
        seconds = timedelta(seconds=round(result.timing.seconds))
        facts.append(("Time", f"{seconds}" + (f", {speed:,.0f} images/s" if speed else "")))
    facts += [
        (
            "Device",
            f"{environment.device}, {_count(environment.num_processes, 'process', 'processes')}, "
            f"{_count(environment.num_threads, 'thread', 'threads')} each",
        ),
        ("Versions", ", ".join(f"{k} {v}" for k, v in environment.versions.items())),
        ("Command", result.command),
        *((e.name, e.note) for e in result.evaluations if e.note),
    ]
    return tuple(facts)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _configuration(result: RunResult) -> str:
    plain: Any = to_plain(result.configuration)
    return write_yaml(plain)
