"""Golden numbers, which are part of the project, and CIFAR, which lies beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

pytest_plugins = ["tests.parsers", "tests.run_fixtures"]

GOLDEN = Path(__file__).parent / "golden"
BESIDE = Path(__file__).parents[2] / "shared"
SHARED = Path(os.environ.get("SSL_LT_SHARED", BESIDE))

# The same examples every time: a test fails by what was changed, and not by chance. To look for new
# ones: --hypothesis-profile default.
settings.register_profile("reproducible", derandomize=True)
settings.load_profile("reproducible")


def pytest_addoption(parser):
    parser.addoption(
        "--update-counts",
        action="store_true",
        help="tests/engine/test_step_counts.py: record the kernels found in step_counts.json",
    )
    parser.addoption(
        "--update-keywords",
        action="store_true",
        help="tests/test_keywords.py: write the keywords of ssl_lt by the flags that there are",
    )


# Where the longest tests are. What is long is started first, or one core would idle at the end.
LONG = {"readme", "distributed", "soak", "faults", "gpu", "engine"}


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """What starts several processes, or looks at runs of every verb, is slow; such files first."""
    for item in items:
        if item.get_closest_marker("distributed") or "finished" in item.fixturenames:
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, LONG.isdisjoint(item.path.parts)))


def pytest_runtest_setup(item):
    """Here, and not by a mark, so that all of them make one line of the summary."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")


@pytest.fixture(scope="module", autouse=True)
def no_precision_of_another_file():
    """Accelerate keeps the precision of its first use for the life of a process."""
    yield
    if (state := sys.modules.get("accelerate.state")) is not None:
        state.AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def golden():
    """Loader of golden numbers: golden("pretraining/simclr_ntxent.npz")."""

    def load(name: str):
        return np.load(GOLDEN / name, allow_pickle=False)

    return load


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with cifar10/ and cifar100/ in parquet."""
    path = SHARED / "data"
    if not path.exists():
        # Where all tests are to run, none is left out by a wrong SSL_LT_SHARED.
        missed = os.environ.get("CI") and (BESIDE / "data").exists()
        say = pytest.fail if missed else pytest.skip
        say(f"CIFAR in parquet is not here: {path}")
    return path
