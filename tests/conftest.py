"""Golden numbers, which are part of the project, and CIFAR, which lies beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest_plugins = ["tests.run_fixtures"]

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(os.environ.get("SSL_LT_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_addoption(parser):
    parser.addoption(
        "--update-counts",
        action="store_true",
        help="tests/engine/test_step_counts.py: record the kernels found in step_counts.json",
    )


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """What starts several processes is slow."""
    for item in items:
        if item.get_closest_marker("distributed"):
            item.add_marker(pytest.mark.slow)


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
        pytest.skip(f"CIFAR in parquet is not here: {path}")
    return path
