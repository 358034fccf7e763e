from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.toolbox import succeed

TRAIN, TEST = {"ash": 12, "birch": 8, "cedar": 4}, 4
TINY = (
    "--width 4 --batch-size 8 --epochs 2 --warmup-epochs 0 --num-workers 0 --mixed-precision no "
    "--init-from scratch --image-size 16 --eval-every 0"
).split()


def write_photo(path: Path, seed: int, tint: int) -> None:
    """Noise of 45 x 38 pixels, the brighter in one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 160, (38, 45, 3), dtype=np.uint8)
    pixels[..., tint] += 90
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """Photos of three classes, a run with validation images and one without, both exported."""
    path, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    os.chdir(path)
    try:
        seed = 0
        for tint, (name, number) in enumerate(TRAIN.items()):
            for part, count in (("train", number), ("test", TEST)):
                for i in range(count):
                    seed += 1
                    write_photo(path / "photos" / part / name / f"{i}.png", seed, tint)
        data = ["--data", "folder:photos"]
        succeed("finetune", *TINY, *data, "--val-fraction", "0.3", "--run-dir", "run")
        succeed("export", "run", "--onnx", "--output", "model")
        cosine = ["--loss", "ce", "--classifier", "cosine", "--run-dir", "cosine"]
        succeed("finetune", *TINY, *data, *cosine)
        succeed("export", "cosine", "--output", "cosine-model")
    finally:
        os.chdir(before)
    return path


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """An empty working directory, with a copy of the photos."""
    shutil.copytree(place / "photos", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path
