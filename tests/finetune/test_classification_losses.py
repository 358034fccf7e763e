"""Losses of logits from the command line, on the digits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.runs.build.finetuning import build_task
from tests.configs import finetuning
from tests.toolbox import TINY, call, logged, succeed

pytestmark = pytest.mark.slow  # most of them train

FEW = ["--init-from", "scratch", "--imbalance-factor", "100", "--eval-every", "0"]


@pytest.mark.parametrize(
    "words",
    [
        "cb_focal --beta 0.999 --gamma 0.5",
        "ldam_hinge --classifier cosine",
        "pairwise --member balanced",
        "vs --truncate-after 0.5 --epochs 2",
        "elm --embedding-weight 1",
    ],
)
def test_trains_and_is_judged(empty, words):
    succeed("finetune", *TINY, *FEW, "--run-dir", "run", "--loss", *words.split())
    losses = [line["loss"] for line in logged(empty / "run") if "loss" in line]
    assert losses
    assert all(0 < loss < 100 for loss in losses)
    assert (empty / "run" / "results.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("cb_softmax --beta 1.2", "--beta: 1.2 is outside [0, 1)"),
        ("focal --gamma -1", "--gamma: -1.0, must be at least 0 and finite"),
        ("vs --truncate-after 2", "--truncate-after: 2.0 is outside [0, 1]"),
        ("ldam --scale 0", "--scale: 0.0 is not a positive number"),
        ("elm --temperature 0", "--temperature: 0.0 is not a positive number"),
    ],
)
def test_bad_input_ends_with_one_line(empty, words, said):
    outcome = call("finetune", *FEW, "--loss", *words.split())
    assert outcome.code != 0
    assert len(outcome.err) == 1
    assert said in outcome.err[0]


@pytest.fixture(scope="module")
def digits():
    return open_data(DataOptions())


@pytest.mark.parametrize("loss", ["ce", "cb_softmax", "cb_sigmoid", "cb_focal"])
def test_one_against_all_losses_start_at_the_bias_of_their_paper(digits, loss):
    classifier = build_task(finetuning(loss), digits).classifier
    assert isinstance(classifier, nn.Linear)
    wanted = torch.full((10,), -math.log(9))
    assert torch.allclose(classifier.bias, wanted) == (LOSSES[loss].initial_bias is not None)
