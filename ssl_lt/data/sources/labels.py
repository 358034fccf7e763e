"""Labels that are texts: numbered in order, and refused where they are not one class each."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ssl_lt.core.errors import DataError

_MISSING = {"nan", "nat", "<na>", "n/a", "#n/a", "#value!", "#ref!"}
_PERHAPS_MISSING = {"", "-", "--", "-1", "?", "na", "none", "null", "unknown"}
_CERTAIN = ("|", ";", ",", " ", "\t", "\n")
# A class may well be called after two others.
_UNCERTAIN = ("/", "+", "&", ":", "-", "_", " and ", "\u3001")
ONE_CLASS = "an image has one class here: keep one label, or give --label-column none"


def plain(name: str) -> str:
    """A name of a class in Unicode's composed form, in which equal letters are equal."""
    return unicodedata.normalize("NFC", name)


def number_classes(labels: Sequence[str | int | None]) -> tuple[tuple[str, ...], Tensor]:
    """Class names in order and (N,) int64 labels; numbers are in order by value.

    None stands for an unknown label: -1.
    """
    texts = [None if label is None else plain(str(label)) for label in labels]
    known = {text for text in texts if text is not None}
    all_numbers = all(re.fullmatch(r"\d+(\.\d+)?", text) for text in known)
    class_names = tuple(sorted(known, key=(lambda t: (float(t), t)) if all_numbers else None))
    number_of: dict[str | None, int] = {text: number for number, text in enumerate(class_names)}
    return class_names, torch.tensor([number_of.get(text, -1) for text in texts])


def check_one_label_each(texts: Sequence[str | None], where: Callable[[int], str]) -> None:
    """Refuses texts that name no class, or several; see also `check_no_combinations`.

    Args:
        texts: (N,) labels, None where unknown.
        where: row -> what an error begins with, such as the file and the line.

    Raises:
        DataError: names the first such row, what it says and how many there are.
    """
    known = dict.fromkeys(text for text in texts if text is not None)
    missing = [text for text in known if text.lower() in _MISSING]
    hint = "leave these images out, or give --label-column none"
    _refuse(missing, texts, where, fault="stands for none", hint=hint)
    _refuse(filter(_is_list, known), texts, where, fault="is a list of labels")
    check_no_combinations(texts, where)


def check_no_combinations(texts: Sequence[str | None], where: Callable[[int], str]) -> None:
    """Refuses texts that name several classes, also where they are names of folders.

    A text with a separator names several where the others show it, see `_combined`, `_moving` and
    `_rootless`.

    Args:
        texts: as for `check_one_label_each`.
        where: likewise.

    Raises:
        DataError: likewise.
    """
    known = dict.fromkeys(text for text in texts if text is not None)
    for separator in _CERTAIN:
        several = _combined(known, separator)
        if separator in "|;":  # seldom in a name
            several = several or _moving(known, separator) or _rootless(known, separator)
        fault = f"names several classes, parted by {separator!r}"
        _refuse(several, texts, where, fault=fault)


def _refuse(
    found: Iterable[str],
    texts: Sequence[str | None],
    where: Callable[[int], str],
    *,
    fault: str,
    hint: str = ONE_CLASS,
) -> None:
    """Raises DataError for the first of the texts that were found, if there is one."""
    those = dict.fromkeys(found)
    if those:
        first = next(iter(those))
        number = sum(text in those for text in texts)
        more = f" ({number:,} images have such a label)" if number > 1 else ""
        raise DataError(f"{where(texts.index(first))}: label {first!r} {fault}{more}: {hint}")


def label_notes(class_names: Sequence[str]) -> list[str]:
    """What is odd about the names of classes and may be meant otherwise, a sentence each."""
    notes = []
    for name in class_names:
        if name.lower() in _PERHAPS_MISSING:
            notes.append(f"the label {name!r} is taken for a class like any other")
    seen: dict[object, str] = {}
    for name in class_names:
        number = float(name) if re.fullmatch(r"\d+(\.\d+)?", name) else None
        for same, how in ((name.casefold().split(), "but for case or blanks"), (number, "numbers")):
            key = (how, str(same))
            if same is not None and seen.setdefault(key, name) != name:
                notes.append(f"classes {seen[key]!r} and {name!r} are the same {how}")
    several = [name for sign in _UNCERTAIN for name in _combined(class_names, sign)]
    several += _moving(class_names, ",") or _moving(class_names, " ")
    if several:
        notes.append(
            f"warning: class {several[0]!r} may stand for several labels; each combination is "
            "taken for a class of its own"
        )
    return notes


def _is_list(text: str) -> bool:
    """Whether a text is a list, tuple or set as programs write them."""
    if not (text[:1] in "[{(" and text[-1:] in "]})"):
        return False
    if text[0] in "[{" and "," in text:
        return True
    try:
        return isinstance(ast.literal_eval(text), list | tuple | set | dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return re.fullmatch(r"\[[\d\s.]*\]", text) is not None


def _combined(names: Iterable[str], separator: str) -> list[str]:
    """Names of which every piece is a name too; with blanks, those of numbers alone ("16 0")."""
    pieces = _pieces(names, separator)
    alone = {found[0] for found in pieces.values() if len(found) == 1}
    several = {name: found for name, found in pieces.items() if len(set(found)) > 1}
    if separator == " ":
        return [name for name, found in several.items() if all(map(str.isdigit, found))]
    return [name for name, found in several.items() if set(found) <= alone]


def _moving(names: Iterable[str], separator: str) -> list[str]:
    """Names that share a piece which stands in several places: no level of a taxonomy does.

    Words do that in the names of things, too: parted by blanks or commas, there have to be fewer
    pieces than names.
    """
    pieces = _pieces(names, separator)
    places: dict[str, set[int]] = {}
    for found in pieces.values():
        for place, piece in enumerate(found):
            places.setdefault(piece, set()).add(place)
    if separator in ", " and len(places) >= len(pieces):
        return []
    several = {name: found for name, found in pieces.items() if len(found) > 1}
    return [name for name, found in several.items() if any(len(places[p]) > 1 for p in found)]


def _rootless(names: Iterable[str], separator: str) -> list[str]:
    """Names of several pieces beside others of one, without the common root of a taxonomy."""
    pieces = _pieces(names, separator)
    numbers = {len(found) for found in pieces.values()}
    roots = {found[0] for found in pieces.values() if found}
    if 1 not in numbers or len(numbers) == 1 or len(roots) == 1:
        return []
    return [name for name, found in pieces.items() if len(found) > 1]


def _pieces(names: Iterable[str], separator: str) -> dict[str, list[str]]:
    return {
        name: [piece.strip() for piece in name.split(separator) if piece.strip()] for name in names
    }
