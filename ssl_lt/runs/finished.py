"""What a run, or a series of runs, has come to: its results and where they are."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.report.records.results import RunResult, read_results
from ssl_lt.report.tables.seeds import pooled
from ssl_lt.runs.config.stored import SERIES, read_config, stored_finetuning
from ssl_lt.runs.life.starts import stored_starts
from ssl_lt.runs.members import series_members


@dataclass(frozen=True, repr=False)
class FinishedRun(RunResult):
    """The results of a run with its folder; a path wherever a run is asked for.

    Of a series of runs the accuracies are means over the seeds, of the first start where several
    are compared; where a run is asked for, one of its members is given.

    Attributes:
        path: of the run folder.
        members: all runs of a series, in the order in which they were trained; none of a run.
    """

    path: Path = field(kw_only=True)
    members: tuple[FinishedRun, ...] = field(default=(), kw_only=True)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        told = [f"{e.name} {100 * e.accuracy.balanced:.1f} %" for e in self.evaluations]
        return f"<{self.verb} {self.method}: {', '.join([str(self.path), *told])}>"


def finished_run(folder: RunFolder) -> FinishedRun:
    """Reads what a run folder holds.

    Raises:
        DataError: `results.json` is not there or damaged.
        ConfigError: `config.yaml` cannot be read.
    """
    if read_config(folder.config).verb != SERIES:
        return FinishedRun(**_values(read_results(folder.results)), path=folder.path)
    config = stored_finetuning(folder.config)
    planned = list(series_members(config, stored_starts(folder), folder.path))
    runs = tuple(finished_run(RunFolder(folder.path / member.name)) for member in planned)
    start = planned[0].start
    last = [r for r, m in zip(runs, planned, strict=True) if m.is_last and m.start == start]
    mean = pooled(last, name=folder.path.name)
    values: dict[str, Any] = {**_values(mean), "path": folder.path, "members": runs}
    return FinishedRun(**values)


def _values(result: RunResult) -> dict[str, Any]:
    return {own.name: getattr(result, own.name) for own in fields(RunResult)}
