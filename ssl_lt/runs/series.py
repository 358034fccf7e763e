"""Several fine-tuning runs in one command: starts, seeds, stages."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import to_plain
from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.core.groups import leading_rule
from ssl_lt.core.options import Effect
from ssl_lt.core.processes.distributed import rank, wait_for_everyone
from ssl_lt.data.dataset import seen_with
from ssl_lt.engine.checkpoints.lock import run_lock
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.report.figures.starts import starts_figure
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.records.results import RunResult, read_results
from ssl_lt.report.tables.export import to_markdown
from ssl_lt.report.tables.intervals import resampled
from ssl_lt.report.tables.seeds import pooled, seed_rows, seed_table
from ssl_lt.report.tables.table import to_rich
from ssl_lt.runs.budget import series_within_budget
from ssl_lt.runs.build.defaults import check_epochs
from ssl_lt.runs.config.finetune import AnyFinetuneConfig
from ssl_lt.runs.config.stored import SERIES, effective_mapping, read_config
from ssl_lt.runs.finetune import check_classes, check_start, finetune_opened
from ssl_lt.runs.life.find import new_run_path, shared_path, started
from ssl_lt.runs.life.processes import build_accelerator
from ssl_lt.runs.life.start import command, write_run_folder
from ssl_lt.runs.life.starts import ComparedStart, starts_to_store, stored_starts
from ssl_lt.runs.life.training import OpenRun, opened
from ssl_lt.runs.members import Member, series_members

_SUMMARY = "summary.json"


def run_series(
    config: AnyFinetuneConfig,
    starts: Sequence[ComparedStart] = (),
    *,
    resumed: RunFolder | None = None,
    given: Sequence[frozenset[str]] = (),
) -> RunFolder:
    """Trains what is not finished yet, one run after the other, and compares them.

    Args:
        config: with `series`.
        starts: that are compared; none: the one of the configuration.
        resumed: a series that goes on.
        given: flags that `--budget` does not decide, because somebody has; of each start.

    Returns:
        The folder of the series.

    Raises:
        ConfigError: a stage that the loss does not have, too few epochs for it, or a start that
            cannot be loaded.
        DataError: runs of a comparison were trained or tested on different images.
    """
    name = new_run_path("finetune", config.loss, config.data.data)
    with opened(config, config.run.run_dir or name, resumed) as series:
        check_classes(series.data)
        if config.is_timed:
            config, starts = series_within_budget(series, config, starts, given)
        folder = RunFolder(shared_path(series.path if resumed is None else resumed.path))
        members = tuple(series_members(config, starts, folder.path))
        if resumed is None:
            for member in members:
                check_epochs(member.config)
            if starts:  # the last of them is found wanting before the first is trained
                for member in {member.start: member for member in reversed(members)}.values():
                    check_start(member.config, series.data)
            stored, accelerator = starts_to_store(starts), series.accelerator
            write_run_folder(
                folder.path, config, series.data, accelerator, verb=SERIES, started_from=stored
            )
        with ExitStack() as stack:
            if resumed is None:
                stack.enter_context(_removed_if_no_run_came(folder, members))
                stack.enter_context(run_lock(folder))
            data = series.data
            for number, member in enumerate(members, start=1):
                child = RunFolder(folder.path / member.name)
                if child.is_finished:
                    continue
                series.accelerator.print(f"\nrun {number} of {len(members)}: {member.name}")
                data = seen_with(data, member.config.data)
                accelerator = build_accelerator(member.config.fit, child.path)
                goes_on = child if child.config.is_file() else None
                with run_lock(goes_on):
                    run = OpenRun(child.path, goes_on, data, accelerator)
                    finetune_opened(run, member.config, None)
            if series.accelerator.is_main_process:
                _compare(folder.path, members)
            wait_for_everyone()
    return folder


def unfinished_series(
    config: AnyFinetuneConfig, starts: Sequence[ComparedStart]
) -> RunFolder | None:
    """The comparison that the same command has begun, in its `--run-dir` or under runs/."""
    named = config.run.run_dir
    folders = started([SERIES]) if named is None else [RunFolder(named)]
    for folder in folders:
        if named is None and (folder.path / _SUMMARY).is_file():
            continue  # done: whoever asks again wants it again
        with contextlib.suppress(ConfigError):  # no run, or one of another version
            if _is_of(config, starts, folder):
                return folder
    return None


def _is_of(config: AnyFinetuneConfig, starts: Sequence[ComparedStart], folder: RunFolder) -> bool:
    """Whether the series was started with this configuration, but for what no weight depends on."""
    stored, stored_from = read_config(folder.config), stored_starts(folder)
    if config.is_timed:  # what follows from the time a step took then is in the stored one
        same_names = [start.name for start in starts] == [start.name for start in stored_from]
        return stored.verb == SERIES and same_names and stored.command == command()
    free = Effect.RUN, Effect.MACHINE
    was, now = (effective_mapping(one, but_for=free) for one in (stored.config, config))
    return stored.verb == SERIES and was == now and stored_from == tuple(starts)


@contextmanager
def _removed_if_no_run_came(folder: RunFolder, members: Sequence[Member]) -> Iterator[None]:
    """A series whose first run fails at its start leaves nothing, as that run does."""
    try:
        yield
    except BaseException:
        if rank() == 0 and not any((folder.path / member.name).exists() for member in members):
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def _compare(folder: Path, members: Sequence[Member]) -> None:
    """Prints and writes means, standard deviations and intervals, and a page."""
    by_start: dict[str, list[RunResult]] = {}
    for member in members:
        if member.is_last:
            result = read_results(RunFolder(folder / member.name).results)
            by_start.setdefault(member.start, []).append(result)
    results = [result for found in by_start.values() for result in found]
    if not all(result.evaluations for result in results):
        return  # there is no test split
    _check_equal_data(results)
    rows = seed_rows(by_start)
    means = [pooled(found, name=name) for name, found in by_start.items()]
    rule = leading_rule(results[0].evaluations[0].accuracy.groups)
    over = resampled(means)
    Terminal().print(to_rich(seed_table(rows, rule=rule, over=over, intervals=["all"])))
    table = seed_table(rows, rule=rule, over=over)
    write_text_atomically(folder / "summary.md", to_markdown(table))
    text = json.dumps(to_plain(rows), indent=1, ensure_ascii=False) + "\n"
    write_text_atomically(folder / _SUMMARY, text)
    page = folder / "report" / "index.html"
    first = [row for row in rows if row.evaluation == rows[0].evaluation]
    lead = (table, starts_figure(first)) if len(by_start) > 1 else None
    write_page(means, page, lead=lead)
    print(f"report: {page.resolve()}")


def _check_equal_data(results: Sequence[RunResult]) -> None:
    """Raises DataError where two runs have not seen the same images."""
    digests = {}
    for result in results:
        answers = result.evaluations[0].answers
        tested = None if answers is None else answers.test_sha256
        digests[result.data.split_sha256, tested] = result.name
    if len(digests) > 1:
        one, two, *_ = digests.values()
        raise DataError(f"{one} and {two} were not trained and tested on the same images")
