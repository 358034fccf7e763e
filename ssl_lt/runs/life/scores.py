"""What a run has kept of each training sample: `scores/`, one file an epoch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.engine.checkpoints.run_folder import RunFolder

_NAME = re.compile(r"epoch-(\d+)\.safetensors")


def score_files(run: RunFolder) -> dict[int, Path]:
    """Epoch -> file, ascending.

    Raises:
        DataError: there is none.
    """
    found = {int(m[1]): path for path in run.scores.glob("*") if (m := _NAME.fullmatch(path.name))}
    if not found:
        raise DataError(f"{run.scores}: no scores: no epoch has ended, or nothing keeps any")
    return dict(sorted(found.items()))


def file_of_epoch(run: RunFolder, epoch: int | None) -> tuple[int, Path]:
    """An epoch and its file; None: the last.

    Raises:
        DataError: there is no file at all.
        ConfigError: `--epoch` is none of those there are.
    """
    files = score_files(run)
    if epoch is None:
        epoch = max(files)
    if epoch not in files:
        raise ConfigError(f"--epoch: {epoch} is none of those kept, {min(files)} to {max(files)}")
    return epoch, files[epoch]


def read_scores(path: Path, *, num_samples: int) -> dict[str, NDArray[Any]]:
    """Name -> (N,), or (K,) for those of clusters.

    Raises:
        DataError: a file that is damaged or of other samples.
    """
    try:
        scores = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as scores: {error}") from error
    for name, score in scores.items():
        if name != "gh_prior" and score.shape != (num_samples,):
            raise DataError(
                f"{path}: {name} has shape {score.shape}, the split has {num_samples} images"
            )
    return scores
