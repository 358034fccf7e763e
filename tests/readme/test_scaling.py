from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scaling():
    return runpy.run_path(str(ROOT / "scripts/scaling.py"))


def test_the_table_of_the_docs_is_what_the_script_computes(scaling):
    lines = scaling["table"](scaling["Machine"](), scaling["Training"](), [1, 8, 64, 1024])
    text = (ROOT / "docs/performance.md").read_text()
    assert "\n".join(lines) in text


def test_launches_and_bytes_explain_both_measurements(scaling):
    launch, bandwidth = scaling["fit_sinkhorn"]()
    for rows, clusters, iterations, seconds in ((512, 100, 77, 2.7e-3), (4096, 1000, 93, 80e-3)):
        found = scaling["sinkhorn_seconds"](
            rows, clusters, iterations, launch=launch, bandwidth=bandwidth
        )
        assert found == pytest.approx(seconds)
    assert launch > 0


def test_one_gpu_sends_nothing(scaling):
    for method in scaling["METHODS"]:
        step = scaling["step"](method, 1, scaling["Machine"](), scaling["Training"]())
        assert step.traffic == step.rows == step.small == step.gradients == 0
