"""Several fine-tuning runs in one command: seeds, stages, with and without pretraining."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.files import write_text_atomically
from ssl_lt.core.plain import to_plain
from ssl_lt.data.dataset import Data
from ssl_lt.engine.checkpoints.lock import run_lock
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.scores.evaluation import leading_groups
from ssl_lt.finetune.registry import StepEntry
from ssl_lt.losses.registry import LossEntry
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.records.results import RunResult, read_results
from ssl_lt.report.tables.seeds import pooled, seed_rows, seed_table
from ssl_lt.report.tables.table import to_markdown, to_rich
from ssl_lt.runs.config.finetune import ENTRIES, default
from ssl_lt.runs.config.options import FinetuneConfig, SeriesOptions, Stage
from ssl_lt.runs.config.schema import flat_fields, to_mapping, with_values
from ssl_lt.runs.finetune import run
from ssl_lt.runs.life.find import shared_path
from ssl_lt.runs.life.processes import build_accelerator
from ssl_lt.runs.life.start import write_run_folder

# What config.yaml of the folder that holds the runs calls itself.
SERIES = "finetune-series"


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
    config: FinetuneConfig
    is_last: bool


def run_series(
    config: FinetuneConfig,
    data: Data,
    *,
    name: Path,
    resumed: RunFolder | None,
    accelerator: Accelerator,
) -> None:
    """Trains what is not finished yet, one run after the other, and compares them.

    Args:
        config: with `series`.
        data: of all runs.
        name: folder of a new series.
        resumed: a series that goes on.
        accelerator: made for the series.

    Raises:
        ConfigError: a stage that the loss does not have, or nothing to compare with.
    """
    folder = shared_path(name) if resumed is None else resumed.path
    members = tuple(series_members(config, folder))
    if resumed is None:
        write_run_folder(folder, config, data, accelerator, verb=SERIES)
    with run_lock(RunFolder(folder)):
        for number, member in enumerate(members, start=1):
            child = RunFolder(folder / member.name)
            if child.is_finished:
                continue
            accelerator.print(f"\nrun {number} of {len(members)}: {member.name}")
            run(
                member.config,
                data,
                None,
                name=child.path,
                resumed=child if child.config.is_file() else None,
                accelerator=build_accelerator(member.config.fit, child.path),
            )
        if accelerator.is_main_process:
            _compare(folder, members)
        accelerator.wait_for_everyone()


def series_members(config: FinetuneConfig, folder: Path) -> Iterator[Member]:
    """The runs, in the order in which they are trained; a later stage starts from the one before.

    Raises:
        ConfigError: as `run_series`.
    """
    series = config.series
    if config.freeze_backbone and series.stages:
        raise ConfigError("--freeze-backbone: --stages says what is trained")
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
    config: FinetuneConfig, series: SeriesOptions, folder: Path, start: str, name: str
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


def stage_config(config: FinetuneConfig, stage: Stage, *, epochs: int) -> FinetuneConfig:
    """What one stage trains.

    Raises:
        ConfigError: a contrast is asked for and the loss has none.
    """
    config = replace(config, fit=replace(config.fit, epochs=epochs))
    if stage != "classifier" and config.sampling.sampler == "meta":
        # It learns on a frozen backbone, so it waits for the stage that has one.
        config = replace(config, sampling=replace(config.sampling, sampler="instance"))
    entry = ENTRIES[config.loss]
    if stage == "contrast":
        if not isinstance(entry, LossEntry) or entry.contrast is None:
            raise ConfigError(f"--stages: --loss {config.loss} has no contrast to begin with")
        return with_values(config, {"classification-weight": 0.0}, origin="--stages")
    if stage == "classifier":
        if isinstance(entry, StepEntry) or entry.contrast is not None:
            config = _with_loss(config, "la")
        return replace(config, freeze_backbone=True)
    return config


def _with_loss(config: FinetuneConfig, loss: str) -> FinetuneConfig:
    """The same configuration with another loss; options that both have keep their values."""
    chosen = default(loss)
    known = {name for name, _, _ in flat_fields(chosen)} - {"loss"}
    values = {name: value for name, value in to_mapping(config).items() if name in known}
    return with_values(chosen, values, origin="--stages")


def _kept_in(config: FinetuneConfig, path: Path) -> FinetuneConfig:
    # The folder of the series is mirrored with all that is in it.
    return replace(config, run=replace(config.run, run_dir=path, mirror=None))


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
    table = seed_table(rows, rule=leading_groups(first.evaluations[0].accuracy).rule)
    console = Console()
    console.print(to_rich(table))
    write_text_atomically(folder / "summary.md", to_markdown(table))
    text = json.dumps(to_plain(rows), indent=1, ensure_ascii=False) + "\n"
    write_text_atomically(folder / "summary.json", text)
    page = folder / "report" / "index.html"
    write_page([pooled(results, name=start) for start, results in by_start.items()], page)
    print(f"report: {page.resolve()}")
