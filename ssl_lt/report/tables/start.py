"""What fine-tuning has made of the head that it started with."""

from __future__ import annotations

from ssl_lt.report.records.curves import at_start
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.table import PERCENT, POINTS, Column, Table, number_columns, text_columns


def start_table(result: RunResult) -> Table | None:
    """Accuracy before the first step and of the weights that were kept, on the same images.

    None where no head was fitted to features, or nothing was measured between epochs.
    """
    before = at_start(result.curves)
    if before is None:
        return None
    measured = result.curves["accuracy"].values[1:]
    if not measured:
        return None
    chosen = result.configuration.get("keep") == "best"
    after = max(measured) if chosen else measured[-1]
    head = "class means" if result.configuration.get("classifier") == "cosine" else "linear probe"
    return Table(
        title="Before and after fine-tuning",
        note="Percent, mean over classes, on the images that are looked at between epochs. Both "
        "have seen the same labels.",
        columns=(
            *text_columns("Classifier"),
            *number_columns(PERCENT, "Accuracy"),
            Column("Gained", POINTS),
        ),
        rows=(
            (f"{head}, before the first step", before, ""),
            (f"fine-tuned, {result.weights}", after, after - before),
        ),
    )
