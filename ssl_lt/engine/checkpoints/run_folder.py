"""A run's folder: what is in it, and that an existing one is never overwritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.folders import create_dir_atomically
from ssl_lt.core.disk.text import printable
from ssl_lt.core.errors import ConfigError, DiskError
from ssl_lt.data.dataset import SplitFiles


class _In:
    """A path inside a run folder, by the name of its attribute."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder, owner: type[RunFolder]) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; see DESIGN of the folder in the README."""

    path: Path

    config = _In("config.yaml")
    """The resolved configuration, as YAML."""
    split = _In("split.json")
    """The training subset: indices and their digest."""
    bad_images = _In("bad_images.csv")
    """Images that could not be read and were left out; with --bad-images skip alone."""
    images = _In("images.csv.gz")
    """All images of the data by name, with class and size; not where pixels are all there is."""
    test_split = _In("test_split.json")
    """The rows to test on, where --test-split gave any."""
    metrics = _In("metrics.jsonl")
    """One JSON line per logged step; the same for a resumed run and one left alone."""
    timing = _In("timing.jsonl")
    """One JSON line per epoch with seconds and images/s: what differs from run to run."""
    lock = _In("lock")
    """Held by the process that trains; the file stays, and says nothing by being there."""
    checkpoints = _In("checkpoints")
    """Whole training states."""
    exported = _In("exported")
    """The backbone alone, for plain timm."""
    results = _In("results.json")
    """Measured accuracies, curves and configuration."""
    report = _In("report")
    """The page."""
    inference = _In("inference.json")
    """How images are prepared, classes and their counts: what using the network needs."""
    calibration = _In("calibration.json")
    """The temperature of the classifier, where there were images to fit it on."""
    scores = _In("scores")
    """Per-sample scores of the plug-ins, one file an epoch."""
    tail = _In("tail")
    """Samples that look rare, to label first."""
    exported_model = _In("exported-model")
    """The network for others: with its classifier, a card and, if asked for, ONNX."""

    @property
    def split_files(self) -> SplitFiles:
        """What the run has kept of its data, for `open_data`."""
        return SplitFiles(self.split, self.test_split, self.bad_images, self.images)

    @property
    def has_checkpoints(self) -> bool:
        """Some step was saved."""
        return any(self.checkpoints.glob("step-*"))

    @property
    def is_finished(self) -> bool:
        """Trained to the end: the backbone is written last."""
        return self.exported.is_dir()


def check_is_new(path: Path) -> None:
    """Refuses what is there already, and a name under which no weights could be read.

    Raises:
        ConfigError: the folder exists; `--resume` continues it. Or its name is no text.
    """
    if printable(str(path)) != str(path):
        raise ConfigError(f"--run-dir: {printable(str(path))} is no UTF-8, which weights need")
    if path.exists():
        raise ConfigError(
            f"--run-dir: {path} exists and is never overwritten; "
            f"--resume {path} continues it, another --run-dir starts anew"
        )


@contextmanager
def new_run_folder(path: Path) -> Iterator[RunFolder]:
    """A run folder to write into what the run is; only then it appears as `path`.

    A process that is killed meanwhile leaves no run that can neither be resumed nor begun.

    Raises:
        ConfigError: the folder exists; `--resume` continues it.
        DiskError: it cannot be made.
    """
    check_is_new(path)
    try:
        with create_dir_atomically(path) as temporary:
            yield RunFolder(temporary)
    except DiskError as error:
        raise DiskError(f"--run-dir: {error}") from error


def create_run_folder(path: Path) -> RunFolder:
    """`new_run_folder` with nothing in it yet."""
    with new_run_folder(path):
        pass
    return RunFolder(path)


def open_run_folder(path: Path) -> RunFolder:
    """An existing run.

    Raises:
        ConfigError: there is none.
    """
    run = RunFolder(path)
    if not run.config.is_file():
        raise ConfigError(f"{path}: not a run folder (no config.yaml in it)")
    return run


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Appends one JSON line and hands it to the system.

    Raises:
        DiskError: the line could not be written.
    """
    try:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise DiskError(f"{path}: line not written: {error.strerror}") from error


def trim_lines(path: Path, *, last_step: int) -> None:
    """Drops what a killed run logged after its last checkpoint, a half-written line included.

    Of the checkpoint's own step the first line stays: it was written before the checkpoint, what
    was measured of it after.
    """
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            step = json.loads(line)["step"]
            if step > last_step:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line + "\n")
        if step == last_step:
            break
    write_text_atomically(path, "".join(kept))


def remove_leftovers(folder: RunFolder, *, warn: Callable[[str], None]) -> None:
    """Removes what a killed run was writing: none of it is ever read. Says so in one line."""
    leftovers = [
        path
        for place, pattern in (
            (folder.path, ".metrics.jsonl.*"),
            (folder.path, ".timing.jsonl.*"),
            (folder.path, ".results.json.*"),
            (folder.path, ".exported-*"),
            (folder.checkpoints, ".tmp*"),
            (folder.checkpoints, ".choice.json.*"),
            (folder.scores, ".tmp*"),
        )
        for path in sorted(place.glob(pattern))
    ]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if leftovers:
        names = ", ".join(str(path.relative_to(folder.path)) for path in leftovers)
        warn(f"warning: {folder.path}: removed what a killed run left unfinished: {names}")
