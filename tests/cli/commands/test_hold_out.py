from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.data.splits.split import read_split
from ssl_lt.data.validation import with_validation
from ssl_lt.evaluate.features.embed import accuracy_on
from tests.toolbox import TINY, call, succeed

SMALL = [*TINY, "--hidden-dim", "16", "--output-dim", "8", "--init-from", "scratch"]
PLAIN = [*TINY, "--init-from", "scratch"]
COMPRESSED = [*SMALL, "--loss", "rcl", "--compression", "0.5", "--compression-start", "0"]


@pytest.fixture(scope="module")
def data():
    return open_data(DataOptions(imbalance_factor=50))


def test_every_image_is_on_one_side(data):
    kept = with_validation(data, 0.2)
    held = kept.validation
    assert not data.has_validation
    assert kept.has_validation
    assert kept.monitor_set() is held
    assert len(kept.readable) == len(data.readable) - len(held)
    assert len(kept.train) + len(held) == len(data.train)
    counts = np.asarray(data.split.counts_per_class)
    out = np.bincount(held.labels, minlength=10)
    assert np.array_equal(out, np.minimum(np.maximum(1, counts // 5), counts - 1))
    assert np.array_equal(kept.split.counts_per_class, counts - out)
    assert np.array_equal(np.bincount(kept.train.labels, minlength=10), counts - out)
    pixels = torch.cat([kept.train.pixels, held.pixels]).flatten(1)
    assert torch.equal(
        torch.unique(pixels, dim=0), torch.unique(data.train.pixels.flatten(1), dim=0)
    )
    assert set(kept.split.indices) < set(data.split.indices)
    again = with_validation(data, 0.2)
    assert np.array_equal(again.split.indices, kept.split.indices)
    other = replace(data, split=replace(data.split, recipe=replace(data.split.recipe, seed=1)))
    assert not np.array_equal(with_validation(other, 0.2).split.indices, kept.split.indices)


class Always(nn.Module):
    """Says one class, whatever it sees."""

    def __init__(self, label):
        super().__init__()
        self.logits = nn.Parameter(torch.eye(10)[label])

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_accuracy_is_counted_by_class(data):
    held = with_validation(data, 0.2).validation
    found = accuracy_on(held, data, precision="no")(Always(3))
    assert torch.equal(found, torch.eye(10)[3])
    some = held.take((held.labels > 1).nonzero()[:, 0].numpy())
    found = accuracy_on(some, data, precision="no")(Always(3))
    assert found[:2].isnan().all()
    assert torch.equal(found[2:], torch.eye(10)[3, 2:])


@pytest.mark.slow
def test_compression_looks_at_what_is_held_out_and_resume_finds_it_again(empty):
    words = [*COMPRESSED, "--val-fraction", "0.2", "--epochs", "2", "--imbalance-factor", "20"]
    succeed("finetune", *words, "--run-dir", "run")
    split = read_split(empty / "run" / "split.json")
    assert len(split.indices) == sum(split.counts_per_class)  # of the whole run, not what is left
    assert read_yaml(empty / "run" / "config.yaml")["val-fraction"] == 0.2
    steps = [p.name for p in sorted((empty / "run" / "checkpoints").glob("step-*"))]
    whole, held = sum(split.counts_per_class), sum(max(1, n // 5) for n in split.counts_per_class)
    assert int(steps[-1].removeprefix("step-")) == 2 * ((whole - held) // 64)
    last = empty / "run" / "checkpoints" / steps[-1]
    finished = load_file(last / "model.safetensors")
    # As if it had been killed in the second epoch.
    shutil.rmtree(last)
    shutil.rmtree(empty / "run" / "exported")
    succeed("finetune", "--resume", "run")
    resumed = load_file(last / "model.safetensors")
    assert all(finished[name].equal(resumed[name]) for name in finished)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*COMPRESSED, "--val-fraction", "1"], "--val-fraction: 1.0 is outside [0, 1)"),
        ([*PLAIN, "--keep", "best"], "--keep best: digits has no validation images to choose by: "),
        ([*PLAIN, "--early-stop", "2"], "--early-stop 2: digits has no validation images"),
        (
            [*PLAIN, "--keep", "best", "--val-fraction", "0.2", "--eval-every", "0"],
            "--keep best: --eval-every 0 measures nothing",
        ),
        (
            [*COMPRESSED, "--keep", "best", "--val-fraction", "0.2", "--classification-weight=0"],
            "--classification-weight 0: its classifier is not trained",
        ),
    ],
)
def test_mistakes_end_in_one_line(empty, words, says):
    outcome = call("finetune", *words)
    assert outcome.code == 2
    assert len(outcome.err) == 1
    assert says in outcome.err[0]
