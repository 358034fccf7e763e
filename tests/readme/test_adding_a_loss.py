"""The document on adding a loss is followed to the letter."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest
import torch

from ssl_lt.finetune.registry import LOSSES, LossEntry
from ssl_lt.report.records.results import read_results
from ssl_lt.runs.config import finetune as finetune_config
from tests.toolbox import TINY, call, succeed

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding_a_loss.md"
FILE, LINE = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.S)
SCRATCH = [*TINY, "--init-from", "scratch", "--eval-every", "0", "--log-every", "1"]


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The file and the line, as the document says, for one test."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("ssl_lt.losses.poly")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(FILE, "poly.py", "exec"), module.__dict__)
    names = {**module.__dict__, "LossEntry": LossEntry}
    for name, entry in eval("{" + LINE + "}", names).items():
        monkeypatch.setitem(LOSSES, name, entry)
        monkeypatch.setitem(finetune_config.ENTRIES, name, entry)
    return tmp_path


def test_the_file_is_short():
    assert len([line for line in FILE.splitlines() if line.strip()]) <= 22
    assert len(LINE.strip().splitlines()) == 1


def test_the_loss_is_what_it_says(added):
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4).double(), torch.randint(4, (6,))
    entry = LOSSES["poly"]
    found = entry.build(torch.ones(4), entry.options(epsilon=0.5))(logits, labels)
    p = torch.softmax(logits, dim=1)[torch.arange(6), labels]
    torch.testing.assert_close(found, -p.log() + 0.5 * (1 - p))


def test_it_trains_with_its_flag_and_is_judged(added):
    succeed("finetune", *SCRATCH, "--loss", "poly", "--epsilon", "0.5", "--run-dir", "half")
    succeed("finetune", *SCRATCH, "--loss", "poly", "--epsilon", "0", "--run-dir", "none")
    succeed("finetune", *SCRATCH, "--loss", "ce", "--run-dir", "ce")
    first = {
        name: json.loads((added / name / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        for name in ("half", "none", "ce")
    }
    assert first["none"] == pytest.approx(first["ce"], rel=1e-5)
    assert first["half"] > first["none"] + 0.1
    assert read_results(added / "half" / "results.json").evaluations[0].name == "classifier"


def test_its_flag_belongs_to_it(added):
    outcome = call("finetune", *SCRATCH, "--loss", "ce", "--epsilon", "1")
    assert outcome.code == 2
    assert "--epsilon belongs to --loss poly" in outcome.err[0]
