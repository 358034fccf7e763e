"""The order in which pictures show classes: many, medium, few, the most frequent first."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.evaluate.scores.evaluation import ClassGroups
from ssl_lt.report.records.results import DataDescription

GROUP_NAMES = ("many", "medium", "few")


def by_frequency(data: DataDescription) -> tuple[list[int], ClassGroups | None]:
    """Classes from frequent to rare, those of one group side by side, and the first rule."""
    groups = data.groups[0] if data.groups else None
    place = group_places(data)
    classes = range(len(data.class_names))
    return sorted(classes, key=lambda c: (place.get(c, 3), -data.counts_per_class[c], c)), groups


def group_places(data: DataDescription) -> dict[int, int]:
    """Class -> 0, 1 or 2 for many, medium, few, by the first rule; a class may have no group."""
    return {
        c: i
        for groups in data.groups[:1]
        for i, name in enumerate(GROUP_NAMES)
        for c in getattr(groups, name)
    }


def group_spans(groups: ClassGroups | None, order: Sequence[int]) -> list[tuple[int, int]]:
    """Where many, medium and few start and stop along `order`; the whole of it without groups."""
    if groups is None:
        return [(0, len(order))]
    ends, start = [], 0
    for members in (groups.many, groups.medium, groups.few):
        ends.append((start, start + len(members)))
        start += len(members)
    return ends
