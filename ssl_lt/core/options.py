"""What an option of a configuration is for, declared on the option itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, field
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

import tyro

T = TypeVar("T")
# A nested dataclass whose fields are options of the level above, without a prefix.
Flat = Annotated[T, tyro.conf.arg(name="")]


class Effect(Enum):
    """What depends on an option."""

    WEIGHTS = "the weights or the log of a run: it never changes when a run goes on"
    PLACE = "where images are: they are told by a digest, and may be elsewhere when a run goes on"
    START = "what a run starts from: nothing depends on it once there is a checkpoint"
    RUN = "the run alone, neither a weight nor a line of its log: it may change when a run goes on"
    MACHINE = "like RUN, and each machine of a run may have its own value"


Page = Literal["short", "all"]


def option(
    default: Any, *, effect: Effect = Effect.WEIGHTS, page: Page = "short", group: str = ""
) -> Any:
    """A field of a frozen dataclass of options.

    Args:
        default: an immutable value.
        effect: what depends on the option.
        page: "short": on the page of `--help`; "all": only on that of `--help-all`.
        group: title of its box on that page; "": that of the section it stands in.
    """
    return field(default=default, metadata={"effect": effect, "page": page, "group": group})


def section(title: str, default: Callable[[], Any]) -> Any:
    """A field of a configuration that is a dataclass of options.

    Args:
        title: of its box on the pages of help.
        default: makes the options.
    """
    return field(default_factory=default, metadata={"group": title})


def effect_of(declared: Field[Any]) -> Effect:
    """What depends on an option; `Effect.WEIGHTS` where nothing else is declared."""
    effect: Effect = declared.metadata.get("effect", Effect.WEIGHTS)
    return effect


def page_of(declared: Field[Any]) -> Page:
    """The shortest page of help that shows an option."""
    page: Page = declared.metadata.get("page", "short")
    return page


def group_of(declared: Field[Any]) -> str:
    """Title of the box that an option asks for; "" where it asks for none."""
    group: str = declared.metadata.get("group", "")
    return group
