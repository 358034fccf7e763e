"""The page of a data set that was looked at, and the same as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import to_plain
from ssl_lt.data.curate.inspection import Inspection
from ssl_lt.report.figures.plots import counts_figure
from ssl_lt.report.pages.templates import Tile, render
from ssl_lt.report.tables.inspection import (
    PART_NAMES,
    describe,
    detail_tables,
    summary_tables,
    warnings,
)

# Heading, note and pictures.
Sheet = tuple[str, str, tuple[Tile, ...]]


def write_inspection(found: Inspection, path: Path, *, sheets: Sequence[Sheet]) -> None:
    """One HTML file with its pictures inside, and all lists in full as `.json` beside it.

    Args:
        found: what was seen.
        path: of the page.
        sheets: pictures of what is not as it should be.

    Raises:
        DiskError: a file cannot be written.
    """
    counts = {part.name: part.counts_per_class for part in found.parts}
    test_counts = counts.get("test", ())
    test_counts = test_counts if any(test_counts) else ()
    html = render(
        "inspection.html",
        title=found.source,
        lead=_lead(found),
        warnings=warnings(found),
        tiles=_tiles(found),
        figures=(counts_figure(describe(found), test_counts),) if found.class_names else (),
        summary=summary_tables(found),
        sheets=sheets,
        details=detail_tables(found),
    )
    write_text_atomically(path, html)
    text = json.dumps(_plain(found), indent=1, ensure_ascii=False, allow_nan=False)
    write_text_atomically(path.with_suffix(".json"), text + "\n")


def _lead(found: Inspection) -> str:
    parts = [f"{p.num_images:,} {PART_NAMES[p.name].lower()} images" for p in found.parts]
    classes = f"in {len(found.class_names):,} classes" if found.class_names else "without labels"
    return f"{' and '.join(parts)} {classes}, each of them decoded once"


def _tiles(found: Inspection) -> tuple[tuple[str, str], ...]:
    factor = found.imbalance_factor
    tiles = [("Training images", f"{found.parts[0].num_images:,}")]
    if found.class_names:
        tiles.append(("Classes", f"{len(found.class_names):,}"))
        tiles.append(("Imbalance factor", "n/a" if factor is None else f"{factor:.4g}"))
    tiles.append(("Unreadable", f"{sum(len(part.unreadable) for part in found.parts):,}"))
    return tuple(tiles)


def _plain(found: Inspection) -> dict[str, Any]:
    """Everything that was seen, and what follows from it."""
    repeated = {
        "leaks": found.leaks,
        "contaminated_validation": found.contaminated_validation,
        "conflicts": found.conflicts,
        "duplicates_in_train": found.duplicates("train"),
    }
    return {
        **to_plain(found),
        "imbalance_factor": found.imbalance_factor,
        "groups": to_plain(found.groups),
        **{kind: [one.content for one in copies] for kind, copies in repeated.items()},
    }
