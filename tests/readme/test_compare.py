"""The comparison script: resumable, one table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TINY = {"backbone": "resnet20_cifar", "width": 4, "epochs": 1, "batch-size": 64, "knn-every": 0}


def compare(folder, *flags):
    command = [sys.executable, str(ROOT / "scripts/compare.py"), str(folder / "list.yaml")]
    command += ["--output", str(folder / "out"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.slow
def test_rows_are_run_once_resumed_and_tabled(tmp_path):
    rows = [
        {"name": "SimCLR", "flags": TINY, "evaluate": {"random-init": True}},
        {"name": "SDCLR, pruned", "flags": {**TINY, "method": "sdclr"}},
    ]
    plan = {"budget": "one epoch", "verb": "pretrain", "rows": rows}
    (tmp_path / "list.yaml").write_text(yaml.safe_dump(plan))
    first = compare(tmp_path, "--only", "SimCLR")
    assert first.returncode == 0, first.stderr
    table = (tmp_path / "out/table.md").read_text()
    assert "| SimCLR | random init: kNN |" in table
    assert "Not run yet: SDCLR, pruned." in table

    # A row that was killed before it was evaluated: trained weights are there, results are not.
    run = tmp_path / "out/simclr-seed0"
    before = (run / "metrics.jsonl").read_bytes()
    (run / "results.json").unlink()
    shutil.rmtree(run / "exported")
    second = compare(tmp_path)
    assert second.returncode == 0, second.stderr
    assert f"--resume {run}" in second.stdout
    assert (run / "metrics.jsonl").read_bytes() == before
    records = json.loads((tmp_path / "out/table.json").read_text())
    assert {record["row"] for record in records} == {"SimCLR", "SDCLR, pruned"}
    assert all(0 <= record["all"]["mean"] <= 100 for record in records)
    assert "Not run yet" not in (tmp_path / "out/table.md").read_text()

    third = compare(tmp_path)
    assert third.returncode == 0
    assert "pretrain.py" not in third.stdout.split("Budget:")[0]


@pytest.mark.slow
def test_a_row_that_fails_ends_it_with_its_code(tmp_path):
    row = {"name": "wrong", "flags": {**TINY, "batch-size": 100000}}
    plan = {"budget": "none", "verb": "pretrain", "rows": [row]}
    (tmp_path / "list.yaml").write_text(yaml.safe_dump(plan))
    result = compare(tmp_path)
    assert result.returncode == 2
    assert "row wrong, seed 0" in result.stderr
