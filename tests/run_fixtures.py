from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.toolbox import TINY, succeed


@dataclass(frozen=True)
class Place:
    """A working directory with one finished run of each kind, and what the commands printed."""

    path: Path
    pretrained: Path
    finetuned: Path
    said: dict[str, str]


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Place:
    """Pretrained with everything on, fine-tuned from it, both evaluated. Read it, do not add."""
    path, before = tmp_path_factory.mktemp("place"), Path.cwd()
    os.chdir(path)
    try:
        everything = "--method sdclr --plugins bcl gh --gh.clusters 10 --gh.warmup-epochs 0"
        said = {"pretrain": succeed("pretrain", *TINY, *everything.split()).out}
        # The network is that of the run it starts from. A few steps of pretraining leave features
        # that no probe should start at.
        tuning = [word for word in TINY if word not in ("--width", "4")]
        tuning += ["--head-init", "random", "--lr", "0.1"]
        said["finetune"] = succeed("finetune", *tuning).out
        pretrained = next(path.glob("runs/pretrain-*"))
        finetuned = next(path.glob("runs/finetune-*"))
        few = ("--map-images", "40")  # in a second; all of them take several
        said["evaluate"] = succeed("evaluate", "--run", pretrained, *few).out
        said["evaluate newest"] = succeed("evaluate", *few).out
    finally:
        os.chdir(before)
    return Place(path, pretrained, finetuned, said)


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
