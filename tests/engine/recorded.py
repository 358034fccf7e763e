"""Kernel counts that are kept in step_counts.json, and how they are written anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("step_counts.json")
COMMAND = "pytest tests/engine/test_step_counts.py --update-counts"


class Recorded:
    """Counts of kernels by section and name.

    Args:
        names: of each section, in the order in which they are written.
        update: whether what is found replaces what is recorded.
    """

    def __init__(self, names: Mapping[str, list[str]], *, update: bool) -> None:
        self._names, self._update = names, update
        self._counts = json.loads(FILE.read_text("utf-8"))

    def allows(self, section: str, name: str, found: int) -> None:
        """Fails where more kernels were found than are recorded, or where none are recorded."""
        counts = self._counts.setdefault(section, {})
        if self._update:
            counts[name] = found
        assert name in counts, f"{section} {name}: no count of kernels is recorded; run {COMMAND}"
        assert found <= counts[name], (
            f"{section} {name}: {found} kernels a step, {counts[name]} are recorded; "
            f"if the difference is meant, run {COMMAND}"
        )

    def superfluous(self) -> list[str]:
        """Names that are recorded and that nothing has."""
        return [
            f"{section} {name}"
            for section, counts in self._counts.items()
            for name in counts
            if not self._update and name not in self._names.get(section, [])
        ]

    def write(self) -> None:
        """Writes what was found, if that was asked for; what no longer exists is left out."""
        if self._update:
            kept = {
                section: {n: self._counts[section][n] for n in names if n in self._counts[section]}
                for section, names in self._names.items()
            }
            FILE.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
