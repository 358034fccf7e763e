"""What an inspection found, in tables and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ssl_lt.core.groups import leading_rule
from ssl_lt.data.curate.inspection import Entry, Inspection, SplitStats
from ssl_lt.report.records.class_order import group_names
from ssl_lt.report.records.results import DataDescription
from ssl_lt.report.tables.table import COUNT, Cell, Column, Table, number_columns, text_columns

# Rows that a page shows of a list; the JSON file has all.
_MOST_ROWS = 50
_MOST_KINDS = 10
PART_NAMES = {"train": "Training", "test": "Test", "validation": "Validation"}


def describe(found: Inspection) -> DataDescription:
    """The training images, as figures and orders of classes want them."""
    return DataDescription(
        source=found.source,
        split_sha256="",
        counts_per_class=found.counts_per_class,
        class_names=found.class_names,
        groups=found.groups,
    )


def warnings(found: Inspection) -> tuple[str, ...]:
    """What spoils training or its numbers, a sentence each."""
    unreadable = sum(len(part.unreadable) for part in found.parts)
    empty = [
        n for n, count in zip(found.class_names, found.counts_per_class, strict=True) if not count
    ]
    repeated = found.duplicates("train")
    sentences = [
        (unreadable, "Cannot be read", "training stops at the first, unless told to skip them."),
        (len(found.leaks), "Trained on and tested on", "accuracy on these is memory."),
        (
            len(found.contaminated_validation),
            "In validation and another set",
            "what is chosen by them is biased.",
        ),
        (len(found.conflicts), "Under more than one class", "at most one of them is right."),
    ]
    if all(part.name != "test" for part in found.parts):
        text = (
            "a test set drawn at random has some of what is trained on; ssl-lt data split keeps "
            "copies on one side."
        )
        sentences.append((len(repeated), "More than once", text))
    out = [
        f"{heading}: {_count(number, 'picture')}; {text}"
        for number, heading, text in sentences
        if number
    ]
    if empty:
        out.append(f"No training image: {', '.join(empty[:5])}{' ...' * (len(empty) > 5)}.")
    return tuple(out)


def summary_tables(found: Inspection) -> tuple[Table, ...]:
    """The tables everyone reads."""
    return (
        _overview(found),
        *([_groups(found)] if found.groups else []),
        *_kinds(found),
        *_left_out(found),
    )


def detail_tables(found: Inspection) -> tuple[Table, ...]:
    """Every class, and the lists of what is not as it should be; none that is empty."""
    listed = (_listed(title, images, found) for title, images in findings(found).items())
    return tuple(table for table in (_classes(found), *listed) if table.rows)


def findings(found: Inspection) -> dict[str, list[tuple[Entry, ...]]]:
    """Heading -> what is not as it should be: single images, or all images of one picture."""
    copies = {
        "Trained on and tested on": found.leaks,
        "In validation and another set": found.contaminated_validation,
        "Under more than one class": found.conflicts,
        "More than once in training": found.duplicates("train"),
        "More than once in testing": found.duplicates("test"),
    }
    return {
        "Unreadable": [(entry,) for part in found.parts for entry in part.unreadable],
        **{heading: [one.images for one in groups] for heading, groups in copies.items()},
        "One colour": [(entry,) for part in found.parts for entry in part.constant],
        "Grey": [(entry,) for part in found.parts for entry in part.grey],
    }


def how_many(items: Sequence[Any], *, shown: int = _MOST_ROWS) -> str:
    """A note on a list of which a page shows the first."""
    return f"{len(items):,}" + (f", the first {shown} here" if len(items) > shown else "")


def where(entry: Entry, found: Inspection) -> str:
    """Class, part and row of an image."""
    name = f"{found.class_names[entry.label]}, " if entry.label >= 0 else ""
    return f"{name}{entry.part} {entry.row}"


def _overview(found: Inspection) -> Table:
    rows: list[tuple[str, Callable[[SplitStats], int]]] = [
        ("Images", lambda part: part.num_images),
        ("Without a label", lambda part: part.num_unlabelled),
        ("Classes with images", lambda part: sum(n > 0 for n in part.counts_per_class)),
        ("Largest class", lambda part: max(part.counts_per_class, default=0)),
        ("Smallest class", lambda part: min(part.counts_per_class, default=0)),
        ("Unreadable", lambda part: len(part.unreadable)),
        ("Further copies of a picture", lambda part: _surplus(found, part)),
        ("Grey", lambda part: len(part.grey)),
        ("One colour", lambda part: len(part.constant)),
    ]
    return Table(
        title="What is there",
        note="Copies have the same size and decoded pixels (SHA-256). Grey: the three channels are "
        "equal. One colour: all pixels are, and the image is not counted as grey.",
        columns=(Column(""), *_part_columns(found)),
        rows=tuple((name, *(number(part) for part in found.parts)) for name, number in rows),
    )


def _part_columns(found: Inspection) -> tuple[Column, ...]:
    return number_columns(COUNT, *(PART_NAMES[part.name] for part in found.parts))


def _groups(found: Inspection) -> Table:
    counts = found.counts_per_class
    rows: list[tuple[Cell, ...]] = []
    for groups in found.groups:
        rule = groups.rule.split(" (")[0]
        rows.append((f"Classes, {rule}", *(len(classes) for _, classes in groups)))
        images = (sum(counts[c] for c in classes) for _, classes in groups)
        rows.append((f"Images, {rule}", *images))
    return Table(
        title="Groups of classes",
        note=f"Groups {'; '.join(groups.rule for groups in found.groups)}. Training images.",
        columns=(Column(""), *number_columns(COUNT, "Many", "Medium", "Few")),
        rows=tuple(rows),
    )


def _kinds(found: Inspection) -> list[Table]:
    """How many images have each size and each mode."""
    sizes = [{f"{w} × {h}": n for (w, h), n in part.sizes} for part in found.parts]
    modes = [dict(part.modes) for part in found.parts]
    return [
        _tally("Sizes", "Width × height in pixels, with the EXIF rotation applied.", sizes, found),
        _tally("Modes", "Pillow's, as stored; all are read as RGB with 8 bits.", modes, found),
    ]


def _tally(title: str, note: str, kinds: Sequence[Mapping[str, int]], found: Inspection) -> Table:
    total = sum(map(Counter, kinds), Counter[str]())
    shown = [name for name, _ in total.most_common(_MOST_KINDS)]
    if len(total) > len(shown):
        note += f" {_count(len(total) - len(shown), 'other')} less frequent."
    return Table(
        title=title,
        note=note,
        columns=(Column(""), *_part_columns(found)),
        rows=tuple((name, *(one.get(name, 0) for one in kinds)) for name in shown),
    )


def _left_out(found: Inspection) -> list[Table]:
    rows = [(one.kind, one.place, one.count) for one in found.left_out]
    columns = (*text_columns("Kind", "Where"), *number_columns(COUNT, "Number"))
    note = "What is there and is not read, by suffix or reason, and the folder or class it is in."
    return [Table("Left out", note, columns, tuple(rows[:_MOST_ROWS]))] if rows else []


def _classes(found: Inspection) -> Table:
    data = describe(found)
    group = group_names(data)
    order = sorted(range(len(data.class_names)), key=lambda c: (-data.counts_per_class[c], c))
    return Table(
        title="Every class",
        note=f"Groups {leading_rule(data.groups)}." if data.groups else "",
        columns=(*text_columns("Class", "Group"), *_part_columns(found)),
        rows=tuple(
            (data.class_names[c], group.get(c), *(p.counts_per_class[c] for p in found.parts))
            for c in order
        ),
    )


def _listed(title: str, items: Sequence[tuple[Entry, ...]], found: Inspection) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (images[0].name, "; ".join(where(entry, found) for entry in images), images[0].problem)
        for images in items[:_MOST_ROWS]
    ]
    names = ("Image", "Where", "Problem")[: 3 if any(images[0].problem for images in items) else 2]
    cut = tuple(row[: len(names)] for row in rows)
    return Table(title, how_many(items), text_columns(*names), cut)


def _surplus(found: Inspection, part: SplitStats) -> int:
    return sum(copies.within(part.name) - 1 for copies in found.duplicates(part.name))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)
