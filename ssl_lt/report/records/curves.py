"""Training curves out of `metrics.jsonl`, thinned to what a figure can show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_lt.core.errors import DataError

_MAX_POINTS = 500


@dataclass(frozen=True)
class Curve:
    """One logged quantity; two lists of equal length."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_curves(path: Path) -> dict[str, Curve]:
    """Every finite number that was logged with a step, by name.

    Curves of more than 500 points are thinned evenly, the last point kept. A last line that a kill
    cut short is left out.

    Args:
        path: one JSON object a line, each with "step".

    Raises:
        DataError: the file cannot be read, or a line before the last is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    points: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is None:
            if number == len(lines) or not line.strip():
                continue
            raise DataError(f"{path}: line {number} is damaged")
        step = row.get("step")
        if not isinstance(step, int):
            continue
        for name, value in row.items():
            if name not in ("step", "epoch") and _is_number(value):
                # By step: a resumed run logs some steps again, the later line counts.
                points.setdefault(name, {})[step] = float(value)
    return {name: _thinned(by_step) for name, by_step in points.items()}


def at_start(curves: Mapping[str, Curve]) -> float | None:
    """Accuracy before the first step, where a classifier was fitted to features; else None."""
    curve = curves.get("accuracy")
    return curve.values[0] if curve is not None and curve.steps[0] == 0 else None


def _thinned(by_step: Mapping[int, float]) -> Curve:
    steps = sorted(by_step)
    stride = math.ceil(len(steps) / _MAX_POINTS)
    # Counted from the end, so that the last point is among them.
    kept = steps[::-1][::stride][::-1]
    return Curve(tuple(kept), tuple(by_step[step] for step in kept))


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
