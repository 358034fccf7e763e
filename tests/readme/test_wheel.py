"""A wheel of the project works alone: from pretraining to the report, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.toolbox import TINY

ROOT = Path(__file__).parents[2]
PACKAGING = ("pyproject.toml", "README.md", "LICENSE")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def python(folder, *words, path=""):
    """`python WORDS` in a folder, with nothing but `path` besides the environment's packages."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    copy = place / "copy"  # the build leaves its own folders beside the source
    shutil.copytree(ROOT / "ssl_lt", copy / "ssl_lt", ignore=shutil.ignore_patterns("__pycache__"))
    for name in PACKAGING:
        shutil.copy(ROOT / name, copy)
    build = "-m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ./copy"
    python(place, *build.split())
    (built,) = (place / "dist").iterdir()
    return built


def test_it_has_every_file_of_the_package(wheel):
    found = {name for name in ZipFile(wheel).namelist() if name.startswith("ssl_lt/")}
    files = (p for p in (ROOT / "ssl_lt").rglob("*") if p.is_file() and p.suffix != ".pyc")
    assert found == {path.relative_to(ROOT).as_posix() for path in files}
    assert any(name.endswith(".css") for name in found)


def test_the_three_verbs_run_without_the_checkout(wheel, tmp_path):
    target, empty = tmp_path / "target", tmp_path / "empty"
    install = f"-m pip install --quiet --no-deps --target {target}"
    python(tmp_path, *install.split(), str(wheel))
    empty.mkdir()

    def ssl_lt(*words):
        return python(empty, "-m", "ssl_lt", *words, path=target)

    place = python(empty, "-c", "import ssl_lt; print(ssl_lt.__file__)", path=target)
    assert Path(place.strip()).is_relative_to(target)
    ssl_lt("pretrain", *TINY, "--knn-every", "0", "--run-dir", "runs/first")
    finetuning = [word for word in TINY if word not in ("--width", "4")]  # of the first run
    ssl_lt("finetune", *finetuning, "--eval-every", "0", "--run-dir", "runs/second")
    ssl_lt("evaluate", "--run", "runs/second", "--probe-on", "long-tail", "--map-images", "0")
    assert (empty / "runs/second/report/index.html").is_file()
