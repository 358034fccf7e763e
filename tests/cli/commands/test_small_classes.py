"""Collections whose classes have one or two images each, or names that are no UTF-8."""

from __future__ import annotations

import json
import os

import pytest

from tests.toolbox import TINY, succeed, write_picture

pytestmark = pytest.mark.slow

WORDS = [*TINY, "--batch-size", "4", "--data", "folder:photos"]


@pytest.mark.parametrize("num_images", [1, 2])
def test_the_probe_is_left_out_with_a_reason_and_the_rest_is_reported(empty, num_images):
    for part, number in (("train", num_images), ("test", 2)):
        for c in range(8):
            for i in range(number):
                write_picture(empty / "photos" / part / f"c{c}" / f"{i}.png", seed=10 * c + i)
    succeed("pretrain", *WORDS, "--run-dir", "run")
    words = ["--probe", "lbfgs", "sdclr", "bcl", "--map-images", "0", "--num-workers", "0"]
    said = succeed("evaluate", "--run", "run", *words).out
    results = json.loads((empty / "run" / "results.json").read_text())
    names = {evaluation["name"] for evaluation in results["evaluations"]}
    chosen = {"linear probe, long-tailed", "linear probe (sdclr), long-tailed"}
    assert {"kNN", "linear probe (bcl), long-tailed"} <= names
    if num_images == 2:
        assert chosen <= names
        assert results["left_out"] == {}
        return
    assert not chosen & names
    assert set(results["left_out"]) == chosen
    reason = "no class has two training images, so none can be held out to choose "
    assert results["left_out"]["linear probe, long-tailed"] == f"{reason}L2"
    assert f"note: without linear probe, long-tailed: {reason}L2" in said
    page = (empty / "run" / "report" / "index.html").read_text()
    assert f"Without linear probe, long-tailed: {reason}L2." in page
    assert said.count("Evaluation") == 1  # a single table


def test_names_that_are_no_utf_8(empty):
    root = os.fsdecode(b"photos\xff")
    for c in (b"caf\xe9", b"cat"):
        for i in range(6):
            name = os.fsdecode(c + b"/" + bytes([0x61 + i, 0xE9]) + b".png")
            write_picture(empty / root / name, seed=10 * c[-1] + i)
    words = [*WORDS[:-1], f"folder:{root}"]
    assert r"photos\xff" in succeed("pretrain", *words, "--run-dir", "run").out
    succeed("pretrain", "--resume", "run")
    succeed("finetune", *words, "--init-from", "scratch", "--run-dir", "tuned")
    for run in ("run", "tuned"):
        succeed("evaluate", "--run", run, "--map-images", "0", "--verbose")
    succeed("report", "run", "tuned", "--output", "page/index.html")
    results = json.loads((empty / "tuned" / "results.json").read_text())
    assert results["data"]["class_names"] == [r"caf\xe9", "cat"]
    assert r"caf\xe9" in (empty / "page" / "index.html").read_text()
    succeed("data", "inspect", f"folder:{root}", "--output", "seen")
    succeed("export", "tuned", "--output", "out")
