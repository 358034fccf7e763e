"""What a soak has done so far, kept on the disk and shown as a table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ssl_lt.core.disk.files import write_text_atomically

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")


@dataclass
class Tally:
    """What a soak has done so far; kept in soak.json.

    Attributes:
        lives: processes started.
        kills: "where: signal" -> how many.
        compared: runs that reached their end and were compared.
        lines: of metrics.jsonl that were compared.
        seconds: spent so far.
    """

    lives: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    lines: int = 0
    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path) -> Tally:
        """Of a soak that goes on, or a new one."""
        if not path.is_file():
            return cls()
        found = json.loads(path.read_text())
        return cls(**{**found, "kills": Counter(found["kills"])})

    def write(self, path: Path) -> None:
        """As JSON."""
        write_text_atomically(path, json.dumps(vars(self), indent=1) + "\n")


def table(tally: Tally) -> str:
    """Kills by where they hit and by signal, and what was compared."""
    places = sorted({key.split(": ")[0] for key in tally.kills})
    rows = [f"{'kills':28s}" + "".join(f"{name:>9s}" for name in [*SIGNALS, "all"])]
    for place in [*places, "all"]:
        counts = [
            sum(n for key, n in tally.kills.items()
                if key.endswith(f": {name}") and place in ("all", key.split(": ")[0]))
            for name in SIGNALS
        ]  # fmt: skip
        rows.append(f"{place:28s}" + "".join(f"{n:9d}" for n in [*counts, sum(counts)]))
    rows.append(
        f"{tally.compared} runs of {tally.lines // max(1, tally.compared)} lines in {tally.lives} "
        f"lives and {tally.seconds:.0f} s: the same weights, {tally.lines} lines, none lost, none "
        "twice"
    )
    return "\n".join(rows)
