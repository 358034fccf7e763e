"""Where the numbers and pictures beside the project are found; absent, their tests skip."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest_plugins = ["tests.run_fixtures"]
SHARED = Path(os.environ.get("SSL_LT_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def golden():
    """Loader of golden vectors: golden("pretraining/simclr_ntxent.npz")."""

    def load(name: str):
        path = SHARED / "golden" / name
        if not path.exists():
            pytest.skip(f"golden numbers are not here: {path}")
        return np.load(path, allow_pickle=False)

    return load


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with cifar10/ and cifar100/ in parquet."""
    path = SHARED / "data"
    if not path.exists():
        pytest.skip(f"data is not here: {path}")
    return path
