"""Images that belong together, such as those of one patient, one camera or one burst."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.table import ImageTable

_PARTS = {"train": "training", "test": "test", "validation": "validation"}
_NONE = {"", "nan", "<na>", "n/a", "none", "null"}


def group_ids(texts: Iterable[str], *, where: str) -> tuple[Tensor, int]:
    """A number for the group of each image, and how many images have none.

    Equal texts have equal numbers, whatever table they stand in. An image without a group is one
    of its own.

    Args:
        texts: (N,) names of the groups.
        where: the table they stand in.

    Returns:
        (N,) int64 and the number of images without a group.
    """
    numbers: dict[str, int] = {}
    found, alone = [], 0
    for row, text in enumerate(texts):
        if text.lower() in _NONE:
            alone += 1
            found.append(_number(f"{where}\n{row}"))
        elif text in numbers:
            found.append(numbers[text])
        else:
            found.append(numbers.setdefault(text, _number(text)))
    return torch.tensor(found, dtype=torch.int64), alone


def group_ids_of_paths(table: ImageTable, pattern: str, *, where: str) -> Tensor:
    """What the first parentheses of a pattern find in the name of each file, as numbers.

    Args:
        table: of files, or of boxes in them.
        pattern: a regular expression with parentheses (`--group-pattern`), found anywhere.
        where: the files are, for errors.

    Raises:
        DataError: the pattern is not found in a name, or nothing by its parentheses; names both.
    """
    compiled = re.compile(pattern)

    def group(name: str) -> str:
        match = compiled.search(name)
        if match is None or match[1] is None:
            raise DataError(f"{where}: --group-pattern {pattern!r} does not match {name}")
        return str(match[1])

    assert isinstance(table, FileTable)
    # By the file alone, whatever is cut out of it.
    found = [_number(group(FileTable.name(table, row))) for row in range(len(table))]
    return torch.tensor(found, dtype=torch.int64)


def shared_groups(parts: Mapping[str, ImageTable], grouped_by: str) -> list[str]:
    """A warning for each two parts that have groups in common.

    Args:
        parts: "train", "test" and "validation" -> images.
        grouped_by: what says which images belong together, for people.
    """
    warnings = []
    known = {part: table for part, table in parts.items() if table.group_ids is not None}
    for (first, one), (second, other) in combinations(known.items(), 2):
        assert one.group_ids is not None
        assert other.group_ids is not None
        both = np.intersect1d(one.group_ids.numpy(), other.group_ids.numpy())
        if both.size:
            row = int(np.isin(other.group_ids.numpy(), both).argmax())
            groups = "1 group is" if both.size == 1 else f"{both.size:,} groups are"
            warnings.append(
                f"warning: {groups} in both {_PARTS[first]} and {_PARTS[second]} images "
                f"({grouped_by}), such as that of {other.name(row)}: what is measured there is "
                "too high"
            )
    return warnings


def _number(text: str) -> int:
    content = text.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
