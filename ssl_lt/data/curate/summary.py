"""What was understood of a data set, in a few lines of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ssl_lt.core.disk.text import printable
from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.data.images.decode import Decoding
from ssl_lt.data.sources.source import Source

_WIDTH = 80
_NAME = 16  # columns that the name of a class may take
_MOST = 65535  # value of 16 bits


def understood(
    source: Source,
    stats: Sequence[ImageStats],
    *,
    num_images: int,
    counts_per_class: Sequence[int],
    held: Mapping[str, Sequence[ImageStats]] | None = None,
    more: str = "",
) -> list[str]:
    """Parts, classes, what is left out and images in at most nine lines, then what is odd.

    Args:
        source: that was opened.
        stats: of all training images, or of some.
        num_images: that are trained on.
        counts_per_class: (C,) of these; empty without labels.
        held: "test" and "validation" -> stats of images there, which may be stored otherwise.
        more: what else the first line says.
    """
    lines = _first(source.name, num_images, counts_per_class, more)
    lines.append(_parts(source, num_images))
    if counts_per_class:
        lines.append(_line("labels:", [source.labels_from or "as published"]))
    lines += _classes(source.class_names, counts_per_class)
    if source.train.group_ids is not None:
        lines.append(_line("groups:", _groups(source)))
    lines.append(_line("left out:", _left_out(source)))
    lines.append(_line("images:", _images(stats)))
    depth = depth_warnings(stats, source.train.decoding)
    for part, its_stats in (held or {}).items():
        said = depth_warnings(its_stats, source.train.decoding, part=part)
        depth += said if not depth else []
    notes = [*source.notes, *depth]
    if source.labels_from and not counts_per_class:
        notes.append(f"there are no labels: {source.labels_from}")
    texts = (note if note.startswith("warning: ") else f"note: {note}" for note in notes)
    return [
        printable(line) for line in (*lines, *(part for text in texts for part in wrapped(text)))
    ]


def wrapped(text: str) -> list[str]:
    """A sentence in lines of 80 columns; what has no blanks stays whole."""
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def depth_warnings(stats: Sequence[ImageStats], decoding: Decoding, *, part: str = "") -> list[str]:
    """Where more than 8 bits become 8, and most of these stay unused.

    Args:
        stats: of images.
        decoding: how they are read.
        part: that they are of, for people; "" for training.
    """
    of_part = f"{part} " if part else ""
    deep = [image for image in stats if image.values is not None]
    values = [image.values for image in deep if image.values is not None]
    if not values:
        return []
    low, high = min(v.low for v in values), max(v.high for v in values)
    used = f"{low:g} to {high:g}"
    if decoding.value_range is not None:
        first, last = decoding.value_range
        if low < first or high > last:
            return [f"{of_part}values are {used}, and cut off at --value-range {first:g} {last:g}"]
        return []
    typical = [float(np.median([v.typical_low for v in values]))]
    typical.append(float(np.median([v.typical_high for v in values])))
    if typical[1] - typical[0] > _MOST / 2:
        return []
    if any(image.mode[0] not in "IF" for image in deep):
        return [
            f"warning: {of_part}colours of 16 bits use {used} of 0 to 65535, and the upper 8 bits "
            "are read: save them with 8 bits"
        ]
    whole = low, high
    if low >= 0 and typical[0] < typical[1] / 2:
        whole = 0, 2 ** max(1, int(np.ceil(np.log2(typical[1] + 1)))) - 1
    elif low >= 0:  # around an offset, and perhaps a few pixels far from it
        span = typical[1] - typical[0]
        whole = max(low, typical[0] - span), min(high, typical[1] + span)
    return [
        f"warning: {of_part}images of 16 bits use {used}, nearly all pixels {typical[0]:.0f} to "
        f"{typical[1]:.0f}, of 0 to 65535: little contrast is left in 8 bits; give the range "
        f"of the data set, as --value-range {whole[0]:.0f} {whole[1]:.0f}"
    ]


def _first(name: str, num_images: int, counts: Sequence[int], more: str) -> list[str]:
    classes = "without labels"
    if len(counts) == 1:
        classes = f"1 class of {counts[0]:,} images"
    elif counts:
        classes = f"{len(counts):,} classes of {max(counts):,} to {min(counts):,} images"
    found = f"{num_images:,} images, {classes}{more}"
    line = f"data: {name}, {found}"
    return [line] if len(line) <= _WIDTH else [f"data: {name},", f"  {found}"]


def _parts(source: Source, num_images: int) -> str:
    counts = {part: len(table) for part, table in source.parts.items()} | {"train": num_images}
    counted = {part: f"{part} {number:,}" for part, number in counts.items()}
    rest = [f"no {part}" for part in ("test", "validation") if part not in counts]
    places = [source.places.get(part, "") for part in counted]
    if len(counted) > 1 and len({*places}) == 1 and places[0]:
        counted[list(counted)[-1]] += f" ({places[0]})"
        return _line("parts:", [*counted.values(), *rest])
    for width in (_WIDTH, 34, 20, 12):  # no part is left out for the length of another's place
        said = [
            f"{text} ({_short(place, width)})" if place else text
            for text, place in zip(counted.values(), places, strict=True)
        ]
        line = ", ".join([*said, *rest])
        if len(line) <= _WIDTH - len("parts: "):
            break
    return f"parts: {line}"


def _classes(names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """The three largest and the three smallest; all, where there are no more than three."""
    if not counts:
        return []
    order = sorted(range(len(counts)), key=lambda c: (-counts[c], c))
    said = [f"{_short(names[c], _NAME)} {counts[c]:,}" for c in order]
    if len(said) <= 3:
        return [_line("classes:", said)]
    return [_line("largest:", said[:3]), _line("smallest:", said[-3:])]


def _groups(source: Source) -> list[str]:
    """How many there are in each part, and how many images they have."""
    said, sizes = [], list[int]()
    for part, table in source.parts.items():
        if table.group_ids is not None:
            counts = np.unique(table.group_ids.numpy(), return_counts=True)[1]
            said.append(f"{part} {len(counts):,}")
            sizes += [int(counts.min()), int(counts.max())]
    return [*said, f"of {min(sizes):,} to {max(sizes):,} images", source.grouped_by]


def _left_out(source: Source) -> list[str]:
    """Kinds, the most frequent first, each with the two places that have the most of it."""
    kinds = Counter[str]()
    places: dict[str, Counter[str]] = {}
    for one in source.left_out:
        kinds[one.kind] += one.count
        places.setdefault(one.kind, Counter())[one.place] += one.count
    said = []
    for kind, count in kinds.most_common():
        named = [(p, n) for p, n in places[kind].most_common(3) if p]
        inside = ", ".join(f"{_short(place, _NAME)} {number:,}" for place, number in named[:2])
        rest = ", ..." if len(named) > 2 else ""
        said.append(f"{count:,} {kind}{f' ({inside}{rest})' if inside else ''}")
    return said or ["nothing"]


def _images(stats: Sequence[ImageStats]) -> list[str]:
    """Smallest and largest size, modes and the values in use, of those that can be read."""
    readable = [image for image in stats if not image.problem]
    looked = f"{len(stats):,} looked at"
    if len(readable) < len(stats):
        looked += f" ({len(stats) - len(readable):,} unreadable)"
    if not readable:
        return [looked]
    sizes = sorted((image.width * image.height, image.width, image.height) for image in readable)
    size = [f"{width} x {height}" for _, width, height in (sizes[0], sizes[-1])]
    modes = Counter(image.mode for image in readable)
    values = [image.values for image in readable if image.values is not None]
    used = "8 bits"
    if values:
        used = f"values {min(v.low for v in values):g} to {max(v.high for v in values):g}"
    return [
        f"{size[0] if size[0] == size[1] else ' to '.join(size)} pixels",
        *(mode for mode, _ in modes.most_common(3)),
        used,
        looked,
    ]


def _line(head: str, items: Iterable[str]) -> str:
    """As many of the items as there is room for, and how many are left."""
    said, items = head, list(items)
    for place, item in enumerate(items):
        rest = len(items) - place - 1
        more = f" and {rest} more" if rest else ""
        longer = f"{said}{',' if place else ''} {item}"
        if len(longer) + len(more) > _WIDTH:
            if place:
                return f"{said} and {rest + 1} more"
            longer = _short(longer, _WIDTH - len(more))
        said = longer
    return said


def _short(text: str, width: int) -> str:
    """A text of at most so many signs, without its middle."""
    text = " ".join(text.split())
    half = (width - 2) // 2
    return text if len(text) <= width else f"{text[:half]}..{text[-half:]}"
