"""A wheel of the project works alone: from pretraining to the report, without the checkout."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.toolbox import write_picture

ROOT = Path(__file__).parents[2]
PACKAGING = ("pyproject.toml", "README.md", "LICENSE")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def python(folder, *words, path=""):
    """`python WORDS` in a folder, with nothing but `path` besides the environment's packages."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
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


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel alone in a folder."""
    target = tmp_path_factory.mktemp("target")
    install = f"-m pip install --quiet --no-deps --target {target}"
    python(target, *install.split(), str(wheel))
    place = python(target.parent, "-c", "import ssl_lt; print(ssl_lt.__file__)", path=target)
    assert Path(place.strip()).is_relative_to(target)
    return target


RUN_ALL = """
import json, sys
from ssl_lt.cli.main import run_command
codes = []
for verb, *words in json.loads(sys.argv[1]):
    try:
        run_command(verb, words)
    except SystemExit as ended:
        codes.append(ended.code)
sys.exit([*map(bool, codes)] != [False] * (len(codes) - 1) + [True])
"""


def run_all(folder, lines, *, path):
    """`ssl-lt WORDS` one after the other in one process, of which the last alone fails."""
    return python(folder, "-c", RUN_ALL, json.dumps(lines), path=path)


def test_from_a_folder_to_predictions_as_the_readme_says(installed, tmp_path):
    """The verbs run without the checkout, and so do the recipes in the wheel."""
    for number in range(60):
        write_picture(tmp_path / "photos" / "ab"[number % 3 == 0] / f"{number:02}.png", number)
        write_picture(tmp_path / "new" / f"{number:02}.png", 100 + number)
    section = (ROOT / "README.md").read_text("utf-8").split("## Your own data")[1]
    lines = re.findall(r"^ssl-lt ([^#\n]*)", section, flags=re.M)
    assert [line.split()[0] for line in lines] == [
        "data", "finetune", "evaluate", "predict"
    ]  # fmt: skip
    faster = {
        "pretrain": "--image-size 16 --width 4 --batch-size 16 --epochs 1 --num-workers 0",
        "finetune": "--batch-size 16 --epochs 1 --num-workers 0",
        "evaluate": "--map-images 0 --num-workers 0",
        "predict": "--num-workers 0",
    }
    words = [shlex.split(line) for line in lines]
    words.insert(1, ["pretrain", "--data", "folder:photos"])
    released = words[2].index("--init-from") + 1
    words[2][released] = "auto"  # in place of weights that would be downloaded
    commands = [[*found, *faster.get(found[0], "").split()] for found in words]
    last = ["finetune", "--config", "finetune/laptop/rc"]  # which there is not
    said = run_all(tmp_path, [*commands, last], path=installed)
    assert "did you mean finetune/laptop/rcl?" in said
    (report,) = (tmp_path / "runs").glob("finetune-*/report/index.html")
    assert report.is_file()
    with (tmp_path / "predictions.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert sorted(Path(row["file"]).name for row in found) == [f"{n:02}.png" for n in range(60)]
    assert {row["class"] for row in found} <= {"a", "b"}
