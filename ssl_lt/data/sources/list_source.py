"""`list:FILE`: a path and a label a line, as ImageNet-LT, Places-LT and iNaturalist publish it."""

from __future__ import annotations

import re

import torch

from ssl_lt.core.errors import DataError
from ssl_lt.core.urls import parent
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.listed_files import Listed, listed_table, read_text
from ssl_lt.data.sources.source import TableSource

# The path may have blanks in it: the label is a whole number at the end of the line.
_LINE = re.compile(r"(?P<path>.*?)(?:\s+(?P<label>\d+))?\s*")


_MOST_CLASSES = 1_000_000


def open_list(argument: str, options: SourceOptions) -> TableSource:
    """Lists the images that a text file names.

    A line is a path and a label from 0 on, or a path alone: then all are without labels. Paths are
    relative to the data root if it is given, else to the folder of the file. Classes are named by
    their numbers, from 0 to the largest label.

    Args:
        argument: path or URL of `list:FILE`.
        options: with the data root.

    Raises:
        DataError: no such file, a line without a label among lines with one, and what
            `listed_table` says; names file and line.
    """
    name = f"list:{argument}"
    images = []
    for number, line in enumerate(read_text(argument, name=name).split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None or not line.strip():
            continue
        images.append(Listed(number, match["path"], match["label"]))
        if (images[-1].label is None) != (images[0].label is None):
            has, first = ("a", "none") if images[0].label is None else ("no", "one")
            raise DataError(
                f"{name}: line {number}: has {has} label, line {images[0].line} has {first}"
            )
        if int(match["label"] or 0) >= _MOST_CLASSES:
            raise DataError(f"{name}: line {number}: label {match['label']} is too large")
    labels = torch.tensor([-1 if image.label is None else int(image.label) for image in images])
    root = str(options.data_root or parent(argument))
    table = listed_table(name, images, labels, root=root, options=options)
    class_names = tuple(str(number) for number in range(int(labels.max()) + 1))
    return TableSource(name, class_names, table)
