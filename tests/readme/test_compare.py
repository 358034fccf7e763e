"""The comparison script: resumable, one table."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssl_lt.core.disk.yaml_file import write_yaml
from ssl_lt.finetune.registry import LOSSES
from tests.toolbox import call, load_yaml

ROOT = Path(__file__).parents[2]
TINY = {
    "backbone": "resnet20_cifar", "width": 4, "image-size": 16, "epochs": 1, "batch-size": 64,
    "num-workers": 0, "mixed-precision": "no",
}  # fmt: skip
JUDGED = {"random-init": True, "probe-on": ["long-tail"], "map-images": 0, "num-workers": 0}


def compare(folder, *flags):
    command = [sys.executable, str(ROOT / "scripts/compare.py"), str(folder / "list.yaml")]
    command += ["--output", str(folder / "out"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture
def inside(monkeypatch, capsys):
    """`compare` in this process, and so are the commands that it runs."""

    def run(command, *, check):
        _, first, *words = command
        # -m ssl_lt VERB, or VERB.py
        outcome = call(*words[1:]) if first == "-m" else call(Path(first).stem, *words)
        sys.stderr.write("\n".join(outcome.err))
        return SimpleNamespace(returncode=outcome.code)

    def compare(folder, *flags):
        monkeypatch.chdir(folder)
        script = str(ROOT / "scripts/compare.py")
        monkeypatch.setattr("sys.argv", [script, "list.yaml", "--output", "out", *flags])
        monkeypatch.setattr("subprocess.run", run)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(script, run_name="__main__")
        return SimpleNamespace(returncode=ended.value.code, **capsys.readouterr()._asdict())

    return compare


@pytest.mark.slow
def test_rows_are_run_once_resumed_and_tabled(tmp_path, inside):
    rows = [
        {"name": "SimCLR", "flags": {**TINY, "knn-every": 0}},
        {"name": "SDCLR, pruned", "flags": {**TINY, "knn-every": 0, "method": "sdclr"}},
    ]
    plan = {"budget": "one epoch", "verb": "pretrain", "evaluate": JUDGED, "rows": rows}
    (tmp_path / "list.yaml").write_text(write_yaml(plan))
    first = inside(tmp_path, "--only", "SimCLR")
    assert first.returncode == 0, first.err
    table = (tmp_path / "out/table.md").read_text()
    assert "| SimCLR | random init: kNN |" in table
    assert "Not run yet: SDCLR, pruned." in table

    # A row that was killed before it was evaluated: trained weights are there, results are not.
    run = tmp_path / "out/simclr-seed0"
    before = (run / "metrics.jsonl").read_bytes()
    (run / "results.json").unlink()
    shutil.rmtree(run / "exported")
    second = inside(tmp_path)
    assert second.returncode == 0, second.err
    assert "--resume out/simclr-seed0" in second.out
    assert (run / "metrics.jsonl").read_bytes() == before
    records = json.loads((tmp_path / "out/table.json").read_text())
    assert {record["row"] for record in records} == {"SimCLR", "SDCLR, pruned"}
    assert all(0 <= record["all"]["mean"] <= 100 for record in records)
    assert "Not run yet" not in (tmp_path / "out/table.md").read_text()

    third = inside(tmp_path)
    assert third.returncode == 0
    assert "pretrain.py" not in third.out.split("Budget:")[0]

    # The same folders with other flags would be shown as what they are not.
    other = inside(tmp_path, "--imbalance-factor", "20")
    assert other.returncode == 2
    assert "out/simclr-seed0: trained with other flags; choose another --output" in other.err


@pytest.mark.slow
def test_a_row_that_fails_ends_it_with_its_code(tmp_path):
    row = {"name": "wrong", "flags": {**TINY, "batch-size": 100000}}
    plan = {"budget": "none", "verb": "pretrain", "rows": [row]}
    (tmp_path / "list.yaml").write_text(write_yaml(plan))
    result = compare(tmp_path)
    assert result.returncode == 2
    assert "row wrong, seed 0" in result.stderr


@pytest.mark.slow
def test_stages_and_classifiers_made_after_training_are_rows_too(tmp_path, inside):
    tiny = {**TINY, "eval-every": 0, "init-from": "scratch", "imbalance-factor": 10}
    meta = {"stages": ["all", "classifier"], "sampler": "meta", "loss": "balanced_softmax"}
    rows = [
        {"name": "CE", "flags": {**tiny, "loss": "ce"}, "retrain": True},
        {"name": "BALMS", "flags": {**tiny, **meta}},
    ]
    plan = {"budget": "one epoch", "verb": "finetune", "evaluate": None, "rows": rows}
    (tmp_path / "list.yaml").write_text(write_yaml(plan))
    done = inside(tmp_path)
    assert done.returncode == 0, done.err
    assert "$ python evaluate.py" not in done.out
    records = json.loads((tmp_path / "out/table.json").read_text())
    assert {"classifier", "cRT", "LWS", "tau-norm"} <= {r["evaluation"] for r in records}
    assert [r["evaluation"] for r in records if r["row"] == "BALMS"] == ["classifier"]
    # Of a row with stages, the time of all of them.
    stages = (tmp_path / "out/balms-seed0").glob("*/timing.jsonl")
    lines = [json.loads(line) for path in stages for line in path.read_text().splitlines()]
    assert len(lines) == 2
    (balms,) = (r for r in records if r["row"] == "BALMS")
    seconds = sum(line["seconds"] for line in lines)
    assert 60 * balms["minutes"]["mean"] == pytest.approx(seconds)
    again = inside(tmp_path)
    assert "finetune.py" not in again.out.split("Budget:")[0]


@pytest.mark.slow
def test_a_row_that_is_not_there_is_named(tmp_path, inside):
    (tmp_path / "list.yaml").write_text(write_yaml({"verb": "finetune", "rows": []}))
    result = inside(tmp_path, "--only", "CE")
    assert result.returncode == 2
    assert "--only: no row 'CE'" in result.err


def test_the_shelf_has_every_loss():
    plan = load_yaml(ROOT / "configs/compare/shelf_laptop.yaml")
    losses = set()
    for row in plan["rows"]:
        for recipe in row["config"]:
            values = load_yaml(ROOT / f"ssl_lt/recipes/finetune/{recipe}.yaml")
            losses.add(values.get("loss"))
    assert losses >= set(LOSSES)
