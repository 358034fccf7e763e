"""Which pictures a page shows: of one run all, of a comparison those of the first runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_lt.evaluate.picture_records import NeighbourStrips, Pictures
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.figures.confusion import confusion_figure
from ssl_lt.report.figures.feature_map import class_map_figure, group_map_figure
from ssl_lt.report.figures.figure import Figure
from ssl_lt.report.records.results import RunResult

_MOST_RUNS = 4


@dataclass(frozen=True)
class Gallery:
    """Pictures in the order of the page.

    Attributes:
        note: which runs are shown, where not all are; else "".
        confusions: the leading evaluations of each run.
        maps: by group, a run beside the other; then by class.
        strips: of each run that has them.
    """

    note: str
    confusions: tuple[Figure, ...]
    maps: tuple[Figure, ...]
    strips: tuple[tuple[RunResult, NeighbourStrips], ...]


def make_gallery(results: Sequence[RunResult], pictures: Sequence[Pictures]) -> Gallery:
    """Args: the runs, and the pictures of each; none at all if they are not known."""
    pictures = pictures or [Pictures()] * len(results)
    shown = list(zip(results, pictures, strict=True))[:_MOST_RUNS]
    whose = {id(r): f"{r.name}: " if len(results) > 1 else "" for r, _ in shown}
    confusions = [
        confusion_figure(r.data, e, title=f"{whose[id(r)]}{e.name}")
        for r, _ in shown
        for e in _leading(r, results)
    ]
    by = "By" if len(results) == 1 else "by"
    maps = [(r, found.feature_map) for r, found in shown if found.feature_map is not None]
    return Gallery(
        note=f"The first {_MOST_RUNS} runs." if len(results) > _MOST_RUNS else "",
        confusions=tuple(figure for figure in confusions if figure is not None),
        maps=(
            *(group_map_figure(r.data, m, title=f"{whose[id(r)]}{by} group") for r, m in maps),
            *(class_map_figure(r.data, m, title=f"{whose[id(r)]}{by} class") for r, m in maps),
        ),
        strips=tuple((r, f.neighbours) for r, f in shown if f.neighbours is not None),
    )


def other_confusions(results: Sequence[RunResult], result: RunResult) -> dict[str, Figure]:
    """Confusion matrices that the gallery does not show, by the name of the evaluation."""
    leading = _leading(result, results) if result in results[:_MOST_RUNS] else []
    figures = {
        e.name: confusion_figure(result.data, e, title="")
        for e in result.evaluations
        if e not in leading
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _leading(result: RunResult, results: Sequence[RunResult]) -> list[Evaluation]:
    """Two evaluations of a single run; of several, one each, that of the first if there is it."""
    kept = [e for e in result.evaluations if e.confusion is not None]
    names = [e.name for e in results[0].evaluations if e.confusion is not None]
    kept.sort(key=lambda e: names.index(e.name) if e.name in names else len(names))
    return kept[: 2 if len(results) == 1 else 1]
