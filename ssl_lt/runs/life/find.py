"""Runs on disk: new ones, the newest, and how one goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock

from ssl_lt.cli.config.parse import ABOUT_THE_RUN, parse, take_values
from ssl_lt.core.errors import ConfigError
from ssl_lt.data.options import check_no_secret
from ssl_lt.engine.checkpoints.run_folder import RunFolder, open_run_folder
from ssl_lt.engine.mirror import fetch_run
from ssl_lt.engine.plan import Identity
from ssl_lt.runs.config.schema import to_mapping
from ssl_lt.runs.config.yaml_file import read_yaml

T = TypeVar("T")

RUNS = Path("runs")

# What may differ when a run goes on: none of it changes a weight or a line of metrics.jsonl.
_HARMLESS = {
    "run-dir", "data-root", "download", "num-workers", "cache-mib", "keep-checkpoints",
    "checkpoint-every", "trackers", "compile", "dist-timeout", "worker-timeout",
    "mirror",
    "shard-cache", "shard-cache-mib",
}  # fmt: skip


# Nothing depends on them any more where there is a checkpoint, and a series that was moved says
# otherwise where its stages begin.
_BEFORE_THE_FIRST_STEP = {"init-from", "init-classifier"}


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
    """The run under runs/, of one of the verbs, that was started last."""
    # A name with a dot in front is of a run whose folder is being made.
    found = [RunFolder(path.parent) for path in RUNS.glob("[!.]*/config.yaml")]
    found = [run for run in found if read_yaml(run.config).get("verb") in verbs]
    return max(found, key=lambda run: run.config.stat().st_mtime_ns, default=None)


def take_resume(words: list[str], *verbs: str) -> RunFolder | None:
    """Removes `--resume [PATH]` from the words; bare, it means the newest run of these verbs.

    A run of a mirror, `--resume URL/NAME`, is first fetched into runs/NAME.

    Raises:
        ConfigError: there is no such run.
        CheckpointError, DiskError: it cannot be fetched.
    """
    if "--resume" not in words:
        return None
    values = take_values(words, "--resume")
    if not values or values == ["auto"]:
        run = newest_run(verbs)
        if run is None:
            raise ConfigError(f"--resume: no {verbs[0]} run under {RUNS}/")
        return run
    run = open_run_folder(_fetched(values[0]) if "://" in values[0] else Path(values[0]))
    found = read_yaml(run.config).get("verb")
    if found not in verbs:
        raise ConfigError(f"--resume: {run.path} is a {found} run, not a {verbs[0]} run")
    return run


def _fetched(url: str) -> Path:
    """Folder of a run that a mirror has; fetched by one process of those that share the folder."""
    check_no_secret("--resume", url)
    path = RUNS / url.rstrip("/").rpartition("/")[2]
    if path.exists() and os.environ.get("RANK", "0") == "0":
        print(f"note: {path} is here already and goes on; it is not fetched from {url}")
    with FileLock(RUNS / ".fetch"):
        if not path.exists():
            fetch_run(url, path)
            print(f"{url}: fetched into {path}")
    return path


def run_verb_of(run: RunFolder) -> str:
    """The verb that started a run: "pretrain" or "finetune", as its configuration says."""
    return str(read_yaml(run.config).get("verb"))


def stored_values(run: RunFolder) -> dict[str, Any]:
    """A run's configuration as flag name -> value."""
    values = read_yaml(run.config)
    return {key: value for key, value in values.items() if key not in ABOUT_THE_RUN}


def resumed_config(
    default: T, words: Sequence[str], values: Mapping[str, Any], run: RunFolder
) -> T:
    """The run's own configuration; flags and files may repeat it or change what does no harm.

    Raises:
        ConfigError: names the fields that were asked to be otherwise, with both values.
    """
    stored = parse(default, [], stored_values(run), prog="")
    asked = parse(stored, words, values, prog="")
    was, wanted = to_mapping(stored), to_mapping(asked)
    others = [name for name in was if was[name] != wanted[name] and name not in _HARMLESS]
    if others:
        first, *more = others
        lines = [
            f"--{first}: {wanted[first]} was asked for, but {run.path} was started with "
            f"{was[first]}"
        ]
        lines += [f"--{name}: {wanted[name]}, but with {was[name]}" for name in more]
        raise ConfigError(f"{'; '.join(lines)}; a resumed run keeps its configuration")
    return asked


def identity(config: Any, *, data_sha256: str) -> Identity:
    """What the checkpoints of a run remember of it; see `Identity`."""
    options = {
        name: value
        for name, value in to_mapping(config).items()
        if name not in _HARMLESS | _BEFORE_THE_FIRST_STEP
    }
    return Identity(options, data_sha256)


def shared_path(path: Path) -> Path:
    """The same path on every rank: rank 0's clock counts."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return path
    box = [str(path)]
    torch.distributed.broadcast_object_list(box)
    return Path(box[0])
