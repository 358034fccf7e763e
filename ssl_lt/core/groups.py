"""Classes in three groups by how many training images they have, and a value for each group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

GROUP_NAMES = ("many", "medium", "few")

T = TypeVar("T")
U = TypeVar("U")
G = TypeVar("G", bound="ByGroup[Any]")


@dataclass(frozen=True)
class ByGroup(Generic[T]):
    """One value for each group of classes; iterating gives (name, value).

    Attributes:
        rule: how the classes were grouped; every table that shows groups prints it.
        many: value of the classes with many training images.
        medium: value of those in between.
        few: value of those with few.
    """

    rule: str
    many: T
    medium: T
    few: T

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(zip(GROUP_NAMES, (self.many, self.medium, self.few), strict=True))

    def map(self, function: Callable[[T], U]) -> ByGroup[U]:
        """The function of each group's value, under the same rule."""
        return ByGroup(self.rule, *(function(value) for _, value in self))


@dataclass(frozen=True)
class GroupStatistics(ByGroup[T]):
    """As `ByGroup`, with `std`: the standard deviation over the three groups."""

    std: T


# Class numbers in ascending order; any group may be empty.
Groups: TypeAlias = ByGroup[tuple[int, ...]]


def leading_groups(rules: Sequence[G]) -> G | None:
    """The first rule under which every group has a value, else the first; None without rules.

    No classes are no value.
    """
    complete = (g for g in rules if all(value not in (None, ()) for _, value in g))
    return next(complete, rules[0] if rules else None)


def leading_rule(rules: Sequence[ByGroup[Any]]) -> str:
    """Name of the rule that `leading_groups` finds, or "none"."""
    groups = leading_groups(rules)
    return "none" if groups is None else groups.rule
