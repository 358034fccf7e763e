"""The order in which figures show classes: many, medium, few, the most frequent first."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.core.groups import GROUP_NAMES, Groups, leading_groups
from ssl_lt.report.records.results import DataDescription


def by_frequency(data: DataDescription) -> tuple[list[int], Groups | None]:
    """Classes from frequent to rare, those of one group side by side, and the leading rule."""
    place = {name: i for i, name in enumerate(GROUP_NAMES)}
    group = group_names(data)
    classes = range(len(data.class_names))
    order = sorted(
        classes, key=lambda c: (place.get(group.get(c, ""), 3), -data.counts_per_class[c], c)
    )
    return order, leading_groups(data.groups)


def group_names(data: DataDescription) -> dict[int, str]:
    """Class -> many, medium or few by the leading rule; a class may have no group."""
    groups = leading_groups(data.groups)
    return {} if groups is None else {c: name for name, classes in groups for c in classes}


def group_spans(groups: Groups | None, order: Sequence[int]) -> list[tuple[str, int, int]]:
    """Name, start and stop of each group along `order`; the whole of it without groups."""
    if groups is None:
        return [("", 0, len(order))]
    spans, start = [], 0
    for name, classes in groups:
        spans.append((name, start, start + len(classes)))
        start += len(classes)
    return spans
