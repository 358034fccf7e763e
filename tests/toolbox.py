"""Runs commands inside the test's own process, and looks at what they leave behind."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch import Tensor

from ssl_lt.cli.main import run_command
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.images.crops import CENTRE_FRACTION
from ssl_lt.engine.update import Update

# A narrow network on small digits: an epoch takes less than a second.
TINY = shlex.split(
    "--width 4 --image-size 16 --batch-size 64 --epochs 1 --warmup-epochs 0 --num-workers 0 "
    "--mixed-precision no"
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: list[str]


def call(verb: str, *words: str | Path) -> Outcome:
    """`ssl-lt VERB WORDS...`; precision and the like are chosen anew by each command."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    AcceleratorState._reset_state(True)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run_command(verb, [str(word) for word in words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        AcceleratorState._reset_state(True)
    return Outcome(code, out.getvalue(), err.getvalue().splitlines())


def succeed(verb: str, *words: str | Path) -> Outcome:
    """`call`, for a command that must not fail."""
    outcome = call(verb, *words)
    assert outcome.code == 0, outcome.err
    return outcome


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """File -> size and time of the last change, of everything below a folder but run locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "lock":  # names whoever looked last
            continue
        stat = path.stat()
        size = stat.st_size if path.is_file() else 0
        found[str(path.relative_to(folder))] = (size, stat.st_mtime_ns)
    return found


def refuses(verb: str, place: Path, words: str, code: int, says: str) -> None:
    """Runs a command that must end in one line with this code and leave everything as it was."""
    before = snapshot(place)
    outcome = call(verb, *words.split())
    assert len(outcome.err) == 1, outcome.err
    assert says in outcome.err[0]
    assert outcome.code == code
    assert snapshot(place) == before


def logged(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def newest_weights(run: Path) -> dict[str, Tensor]:
    """The model of a run's newest checkpoint."""
    return load_file(max((run / "checkpoints").glob("step-*")) / "model.safetensors")


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """As a signal after some steps would."""
    plain = Update.__call__

    def one(update: Update, batches: Any, *, step: int, lr: float) -> Any:
        numbers = plain(update, batches, step=step, lr=lr)
        if step + 1 == steps:
            signal.raise_signal(signal.SIGTERM)
        return numbers

    patch.setattr(Update, "__call__", one)


def plain_spec(size: int) -> ImageSpec:
    """Images of this size that are not normalised, cut from the middle of larger ones."""
    return ImageSpec(size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), crop=CENTRE_FRACTION)


def write_picture(path: Path, seed: int) -> None:
    """A file of noise, 24 x 20 pixels, and the folders it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def load_yaml(path: Path) -> Any:
    """What a YAML file holds, nested as it is written."""
    return YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
