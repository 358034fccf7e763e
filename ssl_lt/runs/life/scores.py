"""What a run has kept of each training image: `scores/`, one file an epoch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ssl_lt.core.errors import DataError
from ssl_lt.engine.checkpoints.run_folder import RunFolder

_NAME = re.compile(r"epoch-(\d+)\.safetensors")


def last_scores(run: RunFolder, *, num_samples: int) -> dict[str, NDArray[Any]]:
    """Name -> (N,) after the last epoch, or (K,) for those of clusters; empty: none are kept.

    Raises:
        DataError: a file that is damaged or of other images.
    """
    found = {int(m[1]): path for path in run.scores.glob("*") if (m := _NAME.fullmatch(path.name))}
    return _read(found[max(found)], num_samples=num_samples) if found else {}


def _read(path: Path, *, num_samples: int) -> dict[str, NDArray[Any]]:
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
