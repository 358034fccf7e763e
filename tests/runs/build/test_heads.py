"""The head that fine-tuning starts at: recorded once, and safe where features have not settled."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from ssl_lt.evaluate.features.running_statistics import ModeLosses
from tests.toolbox import TINY, call, logged, stop_after, succeed

pytestmark = pytest.mark.slow  # all of them train

ONCE = [word for word in TINY if word not in ("--width", "4")]


def test_its_accuracy_is_the_first_line_of_the_log_and_on_the_page(finished, empty):
    words = [*ONCE, "--init-from", finished.pretrained, "--eval-every", "1"]
    said = succeed("finetune", *words, "--run-dir", "whole").out
    (line,) = (line for line in said.splitlines() if line.startswith("head: "))
    first, *others = logged(empty / "whole")
    assert first == {"step": 0, "epoch": 0, "accuracy": first["accuracy"]}
    assert f"accuracy {first['accuracy']:.4g} on the test images" in line
    assert all(other["step"] for other in others)
    curve = json.loads((empty / "whole/results.json").read_text())["curves"]["accuracy"]
    assert curve["steps"][0] == 0
    assert curve["values"][0] == first["accuracy"]
    # Both numbers stand side by side where the command ends.
    table = said[said.index("Before and after fine-tuning") :]
    assert f"linear probe, before the first step {100 * first['accuracy']:12.1f}".split() == (
        next(row for row in table.splitlines() if "before the first step" in row).split()
    )
    assert f"{100 * curve['values'][-1]:.1f}" in table
    succeed("evaluate", "--run", "whole", "--map-images", "0", "--probe", "--num-workers", "0")
    page = (empty / "whole/report/index.md").read_text()
    assert f"Before the first step: accuracy {100 * first['accuracy']:.1f} %" in page

    # A run that goes on has it once, whether a checkpoint was written or not.
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        assert call("finetune", *words, "--run-dir", "parts").code == 143
    shutil.copytree("parts", "anew")
    shutil.rmtree("anew/checkpoints")
    for name in ("parts", "anew"):
        succeed("finetune", "--resume", name)
        metrics = (empty / name / "metrics.jsonl").read_text()
        assert metrics == (empty / "whole" / "metrics.jsonl").read_text()


def test_a_start_whose_statistics_have_not_settled_is_safe(finished, empty, monkeypatch):
    words = [*ONCE, "--init-from", finished.pretrained, "--log-every", "1", "--eval-every", "0"]
    said = succeed("finetune", *words, "--run-dir", "safe").out
    assert "batch norms: running statistics have not settled" in said
    safe, *_ = (line["loss"] for line in logged(empty / "safe"))
    # Weights that have settled are taken as they are.
    start = ["--init-from", "safe", "--run-dir", "next"]
    assert "batch norms" not in succeed("finetune", *words, *start).out
    # Without it the first steps are lost: they cost more than a head that guesses would.
    monkeypatch.setattr(ModeLosses, "settled", True)
    succeed("finetune", *words, "--run-dir", "unsafe")
    unsafe, *_ = (line["loss"] for line in logged(empty / "unsafe"))
    assert unsafe > safe + math.log(10)


def test_a_run_that_fails_in_its_first_step_leaves_no_folder(finished, empty, monkeypatch):
    monkeypatch.setattr("ssl_lt.engine.update.Update.__call__", lambda *_, **__: 1 / 0)
    words = [*ONCE, "--init-from", finished.pretrained, "--run-dir", "run"]
    with pytest.raises(ZeroDivisionError):
        call("finetune", *words)
    assert not (empty / "run").exists()
