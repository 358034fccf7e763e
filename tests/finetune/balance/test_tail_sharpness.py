from __future__ import annotations

import shutil

import pytest
import torch

from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.core.errors import ConfigError
from ssl_lt.finetune.balance.tail_sharpness import TailSharpnessOptions, tail_classes
from tests.toolbox import TINY, call, newest_weights, succeed

WORDS = [*TINY, "--init-from", "scratch"]
TAIL = ["--sam", "0.05", "--sam-classes", "tail"]


def test_the_tail_has_fewer_images_than_the_number():
    counts = torch.tensor([100, 20, 19, 3])
    assert tail_classes(counts, TailSharpnessOptions()) is None
    options = TailSharpnessOptions(sam_classes="tail")
    assert tail_classes(counts, options).tolist() == [False, False, True, True]
    with pytest.raises(ConfigError, match=r"--sam-tail-below: .*fewer than 3 .*has 3"):
        tail_classes(counts, TailSharpnessOptions(sam_classes="tail", sam_tail_below=3))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sam-classes", "tail"], "--sam-classes has no effect without --sam"),
        (["--sam", "0.1", "--sam-tail-below", "9"], "has no effect without --sam-classes tail"),
        ([*TAIL, "--sam-tail-below", "1"], "--sam-tail-below: no class has fewer than 1"),
        ([*TAIL, "--loss", "rcl"], "--sam-classes tail: --loss rcl is more than a classification"),
        ([*TAIL, "--mix", "mixup"], "--sam-classes tail: --mix mixup gives images two classes"),
        ([*TAIL, "--compile"], "--sam-classes tail: needs two backward passes"),
        (["--sam", "-1"], "--sam: -1.0 is negative"),
        (
            ["--sam", "0.1", "--sampler", "meta", "--tune", "head"],
            "--sam: --sampler meta learns in each forward pass",
        ),
    ],
)
def test_mistakes_end_in_one_line(empty, words, says):
    outcome = call("finetune", *WORDS, *words)
    assert (outcome.code, len(outcome.err)) == (2, 1)
    assert says in outcome.err[0]
    assert not (empty / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", [TAIL, [*TAIL, "--experts", "ride"], ["--sam", "0.1"]])
def test_it_trains_another_network_and_goes_on_with_the_same(empty, words):
    words = [*WORDS, *words, "--sam-tail-below", "40"] if "tail" in words else [*WORDS, *words]
    succeed("finetune", *words, "--epochs", "2", "--run-dir", "run")
    stored = read_yaml(empty / "run/config.yaml")
    assert ("sam-tail-below" in stored) == ("--sam-classes" in words)
    finished = newest_weights(empty / "run")
    shutil.rmtree(max((empty / "run/checkpoints").iterdir()))
    shutil.rmtree(empty / "run/exported")
    succeed("finetune", "--resume", "run")
    again = newest_weights(empty / "run")
    assert all(again[name].equal(tensor) for name, tensor in finished.items())
