"""The prior of the classes that probabilities are for: `--prior`."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.sources.labels import plain
from ssl_lt.runs.config.inference import AS_TRAINED, TRAIN, UNIFORM
from ssl_lt.runs.inference.facts import Facts


def prior_shift(prior: str, facts: Facts) -> Tensor | None:
    """(C,) float64 `log q - log p`: what to add to logits for posteriors under the prior q.

    Args:
        prior: as-trained, uniform, train, or a file.
        facts: of the network; p is the prior that its loss leaves in plain logits.

    Returns:
        None where nothing is to be added.

    Raises:
        ConfigError, DataError: there is no such file, or its classes are others.
    """
    if prior == AS_TRAINED:
        return None
    if prior == UNIFORM:
        shares: Sequence[float] = [1.0] * len(facts.class_names)
    elif prior == TRAIN:
        shares = facts.counts_per_class
    else:
        found = read_prior(Path(prior))
        _check_classes(prior, found, facts.class_names)
        shares = [found[name] for name in facts.class_names]
    q = torch.tensor(shares, dtype=torch.float64)
    return (q / q.sum()).log() - torch.tensor(facts.log_prior, dtype=torch.float64)


def read_prior(path: Path) -> dict[str, float]:
    """Class -> its count or prior, from a csv file with these columns.

    Raises:
        ConfigError: there is no such file.
        DataError: other columns, or a value that is no positive number; names the line.
    """
    if not path.is_file():
        raise ConfigError(
            f"--prior: {path} is none of {AS_TRAINED}, {UNIFORM}, {TRAIN}, and no file"
        )
    try:
        rows = csv.DictReader(path.read_text("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    columns = rows.fieldnames or []
    value = next((name for name in ("count", "prior") if name in columns), None)
    if "class" not in columns or value is None:
        raise DataError(f"{path}: needs the columns class and count, or class and prior")
    found: dict[str, float] = {}
    for row in rows:
        where = f"{path}: line {rows.line_num}"
        try:
            share = float(row[value])
        except (TypeError, ValueError):
            share = math.nan
        if not 0 < share < math.inf:
            raise DataError(f"{where}: {value} {row[value]!r} is not a positive number")
        name = plain(row["class"] or "")
        if name in found:
            raise DataError(f"{where}: class {name!r} comes twice")
        found[name] = share
    return found


def _check_classes(path: str, found: Mapping[str, float], class_names: Sequence[str]) -> None:
    missing = [name for name in class_names if name not in found]
    unknown = [name for name in found if name not in class_names]
    if missing or unknown:
        those = f"has no class {missing[0]!r}" if missing else f"has a class {unknown[0]!r} more"
        raise DataError(f"{path}: {those}: its classes must be the network's {len(class_names)}")
