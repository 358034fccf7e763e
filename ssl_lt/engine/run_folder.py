"""A run's folder: what is in it, and that an existing one is never overwritten."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_lt.core.errors import ConfigError, DiskError
from ssl_lt.core.files import write_text_atomically


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; see DESIGN of the folder in the README."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, as YAML."""
        return self.path / "config.yaml"

    @property
    def split(self) -> Path:
        """The training subset: indices and their digest."""
        return self.path / "split.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per logged step; the same for a resumed run and one left alone."""
        return self.path / "metrics.jsonl"

    @property
    def timing(self) -> Path:
        """One JSON line per epoch with seconds and images/s: what differs from run to run."""
        return self.path / "timing.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Whole training states."""
        return self.path / "checkpoints"

    @property
    def exported(self) -> Path:
        """The backbone alone, for plain timm."""
        return self.path / "exported"

    @property
    def is_finished(self) -> bool:
        """Trained to the end: the backbone is written last."""
        return self.exported.is_dir()

    @property
    def results(self) -> Path:
        """Measured accuracies, curves and configuration."""
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report"

    @property
    def scores(self) -> Path:
        """Per-sample scores of the plug-ins, one file an epoch."""
        return self.path / "scores"

    @property
    def tail(self) -> Path:
        """Samples that look rare, to label first."""
        return self.path / "tail"

    @property
    def exported_model(self) -> Path:
        """The network for others: with its classifier, a card and, if asked for, ONNX."""
        return self.path / "exported-model"


def create_run_folder(path: Path) -> RunFolder:
    """Makes a new run folder.

    Raises:
        ConfigError: the folder exists; `--resume` continues it.
        DiskError: it cannot be made.
    """
    if path.exists():
        raise ConfigError(
            f"--run-dir: {path} exists and is never overwritten; "
            f"--resume {path} continues it, another --run-dir starts anew"
        )
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise DiskError(f"--run-dir: cannot make {path}: {error.strerror}") from error
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
    """Drops what a killed run logged after its last checkpoint, a half-written line included."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] > last_step:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line + "\n")
    write_text_atomically(path, "".join(kept))
