"""A representation that collapses is said aloud, and inputs at the edge give finite numbers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from ssl_lt.core.errors import NumericError
from ssl_lt.core.types import Batch, Epoch
from ssl_lt.evaluate.geometry.collapse import measure_spread
from ssl_lt.evaluate.monitor import Monitor
from ssl_lt.runs.build.pretraining import build_task
from tests.finetune import every_loss
from tests.pretrain.test_combinations import CASES, config_of, digits
from tests.toolbox import TINY, call, logged

pytestmark = pytest.mark.slow  # most of them train


def test_the_spread_of_features():
    torch.manual_seed(0)
    sphere = measure_spread(torch.randn(500, 16).numpy(), num_classes=10)
    assert sphere.warnings == ()
    assert 0.95 < sphere.feature_std < 1.05
    assert sphere.effective_rank > 14
    point = measure_spread((torch.ones(50, 16) + 1e-3 * torch.randn(50, 16)).numpy(), num_classes=2)
    assert point.feature_std < 0.01
    assert len(point.warnings) == 2
    line = measure_spread((torch.randn(50, 1) * torch.ones(16)).numpy(), num_classes=2)
    assert line.feature_std > 0.9
    assert line.effective_rank < 1.01
    (warning,) = line.warnings
    assert "effective rank is 1.0 of 16" in warning
    nothing = measure_spread(torch.zeros(50, 16).numpy(), num_classes=2)
    assert (nothing.feature_std, nothing.effective_rank) == (0, 1)
    assert "the features of 100% of images are zero" in nothing.warnings[0]
    with pytest.raises(NumericError, match="not finite"):
        measure_spread(torch.full((5, 16), float("nan")).numpy(), num_classes=2)


class Backbone(nn.Module):
    """Features of one pixel row, times a factor."""

    def __init__(self, factor, offset):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, x):
        return x[:, 0, ::2].flatten(1) * self.factor + self.offset


@pytest.mark.parametrize(
    ("factor", "offset", "collapsed"), [(1.0, 0.0, False), (1e-3, 1.0, True), (0.0, 0.0, True)]
)
def test_a_collapse_is_said_once_and_logged(factor, offset, collapsed):
    said = []
    monitor = Monitor(digits(), "no", warn=said.append)
    for _ in range(3):
        found = monitor(Backbone(factor, offset))
    assert (found["feature_std"] < 0.1) == collapsed
    assert ("knn" in found) == (factor + offset > 0)
    assert len(said) == int(collapsed)
    if collapsed:
        assert said[0].startswith("warning: Sign of collapse: ")
        assert "\n" not in said[0]


def test_one_look_at_features_that_have_yet_to_spread_is_no_collapse():
    said = []
    monitor = Monitor(digits(), "no", warn=said.append)
    for factor in (1e-3, 1.0, 1e-3, 1.0):
        monitor(Backbone(factor, 1.0 if factor < 1 else 0.0))
    assert said == []


def test_without_labels_the_spread_is_still_watched():
    data = digits()
    labels = torch.full_like(data.train.labels, -1)
    blind = dataclasses.replace(data, train=dataclasses.replace(data.train, labels=labels))
    said = []
    monitor = Monitor(blind, "no", warn=said.append)
    _, found = monitor(Backbone(0.0, 1.0)), monitor(Backbone(0.0, 1.0))
    assert found.keys() == {"feature_std", "effective_rank"}
    assert len(said) == 1


def test_pretraining_that_collapses_says_so_and_goes_on(empty, monkeypatch):
    def collapsed(config, data, **more):
        task = build_task(config, data, **more)
        with torch.no_grad():
            for parameter in task.backbone.parameters():
                parameter.zero_()
        return task

    monkeypatch.setattr("ssl_lt.runs.pretrain.build_task", collapsed)
    outcome = call("pretrain", *TINY, "--epochs", "2", "--knn-every", "1", "--run-dir", "run")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("warning: Sign of collapse") == 1
    lines = logged(empty / "run")
    assert [line["feature_std"] for line in lines if "feature_std" in line] == [0, 0]


# --- inputs at the edge


def zero_weights(task, batch):
    """Embeddings and logits are all zero."""
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.zero_()
    return batch


def one_class(task, batch):
    return Batch(batch.images, torch.full_like(batch.labels, 3), batch.index)


def identical_images(task, batch):
    images = batch.images[:1].expand_as(batch.images).contiguous()
    for name, _ in task.named_children():
        if name.endswith("view"):
            setattr(task, name, Unchanged())
    return Batch(images, batch.labels, batch.index)


class Unchanged(nn.Module):
    """Every view of a picture is the picture."""

    def forward(self, images, keys, strength=None):
        return images.float() / 255


EDGES = [zero_weights, one_class, identical_images]


def assert_finite(task, batch, craft):
    task.train()
    for number in range(2):
        task.on_epoch_start(Epoch(number, 2, 1))
        output = task(craft(task, batch))
        output.loss.backward()
        assert output.loss.isfinite()
        assert all(value.isfinite() for value in output.terms.values())
        for name, parameter in task.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all(), name
        task.zero_grad()
        task.on_epoch_end(Epoch(number, 2, 1))


@pytest.mark.parametrize("craft", EDGES)
@pytest.mark.parametrize(("method", "plugins"), CASES)
def test_methods_stay_finite(method, plugins, craft):
    table = digits().train
    task = build_task(config_of(method, plugins), digits())
    batch = Batch(table.pixels[:32], table.labels[:32], torch.arange(32))
    assert_finite(task, batch, craft)


@pytest.mark.parametrize("craft", EDGES)
@pytest.mark.parametrize("loss", every_loss.NAMES)
def test_losses_stay_finite(loss, craft):
    task = every_loss.task(loss, backbone=every_loss.BATCH_NORMS)
    assert_finite(task, every_loss.batch(0), craft)
