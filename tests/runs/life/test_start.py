"""A start that fails leaves nothing."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from ssl_lt.core.errors import ConfigError, NumericError
from ssl_lt.engine.signals import Stopped
from ssl_lt.models.backbones import create_backbone
from ssl_lt.runs.life import training
from ssl_lt.runs.life.start import check_network
from tests.toolbox import TINY, call


class Fussy(nn.Module):
    """Takes images of 8 pixels, and remembers the mode it was shown one in."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8))
        self.seen = []

    def forward(self, images):
        self.seen.append(self.training)
        return (images + self.weight).mean(dim=(2, 3))


def test_a_network_that_does_not_take_the_picture_is_named_in_one_line():
    network = Fussy()
    check_network(network, "fussy", image_size=8)
    assert network.seen == [False]
    assert network.training
    with pytest.raises(ConfigError, match="--backbone: fussy does not take images of 9 x 9") as e:
        check_network(network, "fussy", image_size=9)
    assert "\n" not in str(e.value)
    assert network.training


def test_features_of_another_shape_are_refused():
    network = Fussy()
    network.num_features = 5
    with pytest.raises(
        ConfigError, match=r"fussy turns an image into .* \(1, 3\), which should be"
    ):
        check_network(network, "fussy", image_size=8)
    flat = create_backbone("resnet20_cifar", image_size=32, arguments={"global_pool": ""})
    with pytest.raises(ConfigError, match=r"shape \(1, 64, 8, 8\), .*global_pool"):
        check_network(flat, "resnet20_cifar", image_size=32)


def raising(error, *, line=False):
    def fit(*_, folder, **__):
        if line:
            folder.metrics.write_text('{"step": 9, "lr": 0.1}\n')
        raise error

    return fit


def test_a_failed_start_leaves_nothing(empty, monkeypatch):
    monkeypatch.setattr(training, "fit", raising(NumericError("step 1: not finite")))
    assert call("pretrain", *TINY, "--run-dir", "run").code == 5
    assert list(empty.iterdir()) == []


def test_a_tracker_that_does_not_start_leaves_nothing(empty, monkeypatch):
    def init_trackers(*_, **__):
        raise RuntimeError("no API key\nconfigured")

    monkeypatch.setattr(Accelerator, "init_trackers", init_trackers)
    said = call("pretrain", *TINY, "--run-dir", "run", "--trackers", "tensorboard")
    assert said.code == 2
    assert "--trackers: tensorboard does not start: no API key" in said.err[-1]
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    "fails", [raising(NumericError("step 9"), line=True), raising(Stopped(15, 0))]
)
def test_a_run_that_has_something_to_show_or_was_stopped_stays(empty, monkeypatch, fails):
    monkeypatch.setattr(training, "fit", fails)
    assert call("pretrain", *TINY, "--run-dir", "run").code in (5, 143)
    assert (empty / "run" / "config.yaml").is_file()
