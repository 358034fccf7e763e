"""Several fine-tuning runs in one command: seeds, stages, with and without pretraining."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import to_plain
from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.groups import leading_rule
from ssl_lt.core.processes.distributed import rank, wait_for_everyone
from ssl_lt.data.dataset import check_labels
from ssl_lt.engine.checkpoints.lock import run_lock
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models.tuning.registry import chosen
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.records.results import RunResult, read_results
from ssl_lt.report.tables.export import to_markdown
from ssl_lt.report.tables.seeds import pooled, seed_rows, seed_table
from ssl_lt.report.tables.table import to_rich
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, default_config
from ssl_lt.runs.config.parse import from_mapping
from ssl_lt.runs.config.schema import flags, to_mapping
from ssl_lt.runs.config.series import SeriesOptions, Stage
from ssl_lt.runs.config.stored import SERIES
from ssl_lt.runs.finetune import finetune_opened
from ssl_lt.runs.life.find import new_run_path, shared_path
from ssl_lt.runs.life.processes import build_accelerator
from ssl_lt.runs.life.start import write_run_folder
from ssl_lt.runs.life.training import OpenRun, opened


@dataclass(frozen=True)
class Member:
    """One run of a series.

    Attributes:
        name: of its folder, inside the series' own.
        start: "scratch", "pretrained", or whatever --init-from says, in the tables.
        config: complete, as if the run stood alone.
        is_last: of its stages; the earlier ones are not compared.
    """

    name: str
    start: str
    config: AnyFinetuneConfig
    is_last: bool


def run_series(config: AnyFinetuneConfig, *, resumed: RunFolder | None = None) -> RunFolder:
    """Trains what is not finished yet, one run after the other, and compares them.

    Args:
        config: with `series`.
        resumed: a series that goes on.

    Returns:
        The folder of the series.

    Raises:
        ConfigError: a stage that the loss does not have, or nothing to compare with.
    """
    name = new_run_path("finetune", config.loss, config.data.data)
    with opened(config, config.run.run_dir or name, resumed) as series:
        check_labels(series.data, "fine-tuning")
        folder = RunFolder(shared_path(series.path if resumed is None else resumed.path))
        members = tuple(series_members(config, folder.path))
        if resumed is None:
            write_run_folder(folder.path, config, series.data, series.accelerator, verb=SERIES)
        with ExitStack() as stack:
            if resumed is None:
                stack.enter_context(_removed_if_no_run_came(folder, members))
                stack.enter_context(run_lock(folder))
            for number, member in enumerate(members, start=1):
                child = RunFolder(folder.path / member.name)
                if child.is_finished:
                    continue
                series.accelerator.print(f"\nrun {number} of {len(members)}: {member.name}")
                accelerator = build_accelerator(member.config.fit, child.path)
                goes_on = child if child.config.is_file() else None
                with run_lock(goes_on):
                    run = OpenRun(child.path, goes_on, series.data, accelerator)
                    finetune_opened(run, member.config, None)
            if series.accelerator.is_main_process:
                _compare(folder.path, members)
            wait_for_everyone()
    return folder


@contextmanager
def _removed_if_no_run_came(folder: RunFolder, members: Sequence[Member]) -> Iterator[None]:
    """A series whose first run fails at its start leaves nothing, as that run does."""
    try:
        yield
    except BaseException:
        if rank() == 0 and not any((folder.path / member.name).exists() for member in members):
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def series_members(config: AnyFinetuneConfig, folder: Path) -> Iterator[Member]:
    """The runs, in the order in which they are trained; a later stage starts from the one before.

    Raises:
        ConfigError: as `run_series`.
    """
    series = config.series
    if config.tune == "head" and series.stages:
        raise ConfigError("--tune head: --stages says when the classifier alone is trained")
    if chosen(config.tune).stays and set(series.stages[:-1]) - {"classifier"}:
        raise ConfigError(
            f"--tune {config.tune}: no stage can follow one that it tunes: it cannot be merged"
        )
    if series.compare_scratch and config.init_from == "scratch":
        raise ConfigError("--compare-scratch: this starts from scratch, so there is nothing else")
    starts = {"pretrained": config.init_from}
    if config.init_from == "scratch":
        starts = {"scratch": "scratch"}
    elif series.compare_scratch:
        starts = {"scratch": "scratch", **starts}
    for seed in series.seeds or (config.run.seed,):
        for start, init_from in starts.items():
            words = [start] * series.compare_scratch + [f"seed{seed}"]
            alone = replace(
                config,
                series=SeriesOptions(),
                init_from=init_from,
                run=replace(config.run, seed=seed),
            )
            yield from _stages(alone, series, folder, start, "-".join(words))


def _stages(
    config: AnyFinetuneConfig, series: SeriesOptions, folder: Path, start: str, name: str
) -> Iterator[Member]:
    """One run, or one a stage."""
    if not series.stages:
        yield Member(name, start, _kept_in(config, folder / name), is_last=True)
        return
    epochs = series.stage_epochs or (config.fit.epochs,) * len(series.stages)
    before: Path | None = None
    has_classifier = False
    for number, (stage, length) in enumerate(zip(series.stages, epochs, strict=True), start=1):
        own = stage_config(config, stage, epochs=length)
        if before is not None:
            own = replace(own, init_from=str(before), init_classifier=has_classifier)
        before = folder / f"{name}-{number}-{stage}"
        has_classifier = stage != "contrast"
        yield Member(
            before.name, start, _kept_in(own, before), is_last=number == len(series.stages)
        )


def stage_config(
    config: AnyFinetuneConfig, stage: Stage, *, epochs: int | None
) -> AnyFinetuneConfig:
    """What one stage trains.

    Raises:
        ConfigError: a contrast is asked for and the loss has none.
    """
    config = replace(config, fit=replace(config.fit, epochs=epochs))
    if stage != "classifier" and config.sampling.sampler == "meta":
        # It learns on a frozen backbone, so it waits for the stage that has one.
        config = replace(config, sampling=replace(config.sampling, sampler="instance"))
    if stage == "contrast":
        if config.entry.contrast is None:
            raise ConfigError(f"--stages: --loss {config.loss} has no contrast to begin with")
        # It has no classifier by which an epoch could be chosen.
        fit = replace(config.fit, keep="last", early_stop=0)
        return replace(config, fit=fit, options=replace(config.options, classification_weight=0.0))
    if stage == "classifier":
        if not config.entry.is_classification:
            config = _with_loss(config, "la")
            config = replace(config, mixing=config.mixing.by_area())
        return replace(config, tune="head", adapter_dim=None)
    return config


def _with_loss(config: AnyFinetuneConfig, loss: str) -> AnyFinetuneConfig:
    """The same configuration with another loss; options that both have keep their values."""
    chosen = default_config(loss)
    known = {flag.name for flag in flags(chosen.options)}
    shared = {k: v for k, v in to_mapping(config.options).items() if k in known}
    options = from_mapping(type(chosen.options), shared, default=chosen.options)
    return replace(config, loss=loss, options=options, view=chosen.view)


def _kept_in(config: AnyFinetuneConfig, path: Path) -> AnyFinetuneConfig:
    return replace(config, run=replace(config.run, run_dir=path))


def _compare(folder: Path, members: Sequence[Member]) -> None:
    """Prints and writes mean and standard deviation, and a page where starts are compared."""
    by_start: dict[str, list[RunResult]] = {}
    for member in members:
        if member.is_last:
            result = read_results(RunFolder(folder / member.name).results)
            by_start.setdefault(member.start, []).append(result)
    if not all(result.evaluations for results in by_start.values() for result in results):
        return  # there is no test split
    rows = seed_rows(by_start)
    first = next(iter(by_start.values()))[0]
    table = seed_table(rows, rule=leading_rule(first.evaluations[0].accuracy.groups))
    console = Terminal()
    console.print(to_rich(table))
    write_text_atomically(folder / "summary.md", to_markdown(table))
    text = json.dumps(to_plain(rows), indent=1, ensure_ascii=False) + "\n"
    write_text_atomically(folder / "summary.json", text)
    page = folder / "report" / "index.html"
    write_page([pooled(results, name=start) for start, results in by_start.items()], page)
    print(f"report: {page.resolve()}")
