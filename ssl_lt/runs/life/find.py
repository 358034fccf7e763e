"""Runs on disk: where a new one goes, and which one is meant."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import gather_objects
from ssl_lt.engine.checkpoints.run_folder import RunFolder, open_run_folder
from ssl_lt.runs.config.stored import SERIES, read_config

RUNS = Path("runs")


def new_run_path(verb: str, *words: str) -> Path:
    """`runs/VERB-WORD-...-DATE-TIME`; a number is added where that name is taken."""
    stem = "-".join([verb, *(word.replace(":", "-").replace("/", "-") for word in words)])
    path = RUNS / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.rsplit('+')[0]}+{number}")
    return path


def newest_run(verbs: Sequence[str]) -> RunFolder | None:
    """The run or series under runs/, of one of the verbs, that was started last and has weights."""
    return _last([run for run in started(verbs) if any(map(has_weights, [run, *members_of(run)]))])


def members_of(series: RunFolder) -> list[RunFolder]:
    """The runs in the folder of a series, by name; none in that of a run."""
    return [RunFolder(path.parent) for path in sorted(series.path.glob("*/config.yaml"))]


def has_weights(run: RunFolder) -> bool:
    """Whether a run has finished or saved something, so that others can start from it."""
    return run.is_finished or run.has_checkpoints


def _last(found: Sequence[RunFolder]) -> RunFolder | None:
    return max(found, key=lambda run: run.config.stat().st_mtime_ns, default=None)


def started(verbs: Sequence[str]) -> list[RunFolder]:
    """The runs under runs/ of these verbs; one that was killed at once has no weights."""
    found = map(RunFolder, folders())
    return [run for run in found if read_config(run.config).verb in verbs]


def folders() -> list[Path]:
    """Every run under runs/; a name with a dot in front is of one whose folder is being made."""
    return [path.parent for path in RUNS.glob("[!.]*/config.yaml")]


def run_to_resume(values: Sequence[str] | None, *verbs: str) -> RunFolder | None:
    """The run that `--resume` names.

    Args:
        values: of the flag: a path, or "auto" or nothing for the newest run; None: not given.
        verbs: whose runs may go on.

    Raises:
        ConfigError: there is no such run.
    """
    if values is None:
        return None
    if list(values) in ([], ["auto"]):
        run = _last(started(verbs))  # one without weights begins again
        if run is None:
            raise ConfigError(f"--resume: no {verbs[0]} run under {RUNS}/")
        return run
    run = open_run_folder(Path(values[0]))
    found = read_config(run.config).verb
    if found not in verbs:
        raise ConfigError(f"--resume: {run.path} is a {found} run, not a {verbs[0]} run")
    return run


def find_run(run: str) -> RunFolder:
    """Resolves `--run`: a folder, or "auto" for the newest.

    Raises:
        ConfigError: there is none, or it holds several runs.
    """
    kinds = ["pretrain", "finetune", SERIES]
    folder = newest_run(kinds) if run == "auto" else open_run_folder(Path(run))
    if folder is None:
        raise ConfigError(f"--run: no run under {RUNS}/; pretrain.py makes one")
    if read_config(folder.config).verb == SERIES:
        members = ", ".join(str(member.path) for member in members_of(folder))
        raise ConfigError(f"--run: {folder.path} holds several runs, name one of them: {members}")
    return folder


def shared_path(path: Path) -> Path:
    """The same path on every rank: rank 0's clock counts."""
    return gather_objects(path)[0]
