"""Batch norms whose running statistics are far from those of a batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.features.running_statistics import (
    ModeLosses,
    measure_statistics,
    mode_losses,
)


@pytest.fixture(scope="module")
def data():
    return open_data(DataOptions(num_workers=0))


def network() -> nn.Sequential:
    """Its batch norm has seen nothing yet, and its input is far from (0, 1)."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    pooled = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    nn.init.normal_(pooled[0].weight, mean=2.0, std=20.0)
    return nn.Sequential(pooled, nn.Flatten(), nn.Dropout(0.5))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def losses(backbone, data) -> ModeLosses:
    """Of a head that is right where running statistics are used."""
    seen = embed_dataset(backbone, data.train, data, precision="no")
    means = torch.stack([seen.features[seen.labels == c].mean(0) for c in range(10)])
    head = nn.Linear(8, 10)
    with torch.no_grad():
        head.weight.copy_(2 * means / seen.features.var())
        head.bias.copy_(-means.square().sum(dim=1) / seen.features.var())
    return mode_losses(backbone, head, data, precision="no")


def test_what_has_not_settled_is_found_and_measured_anew(data):
    backbone = network().train()
    before = state(backbone)
    assert not losses(backbone, data).settled
    after = state(backbone)
    assert all(tensor.equal(after[name]) for name, tensor in before.items())
    measure_statistics(backbone, data, precision="no")
    found = losses(backbone, data)
    assert found.settled
    assert found.batch == pytest.approx(found.running, rel=0.1)
    assert backbone.training
    assert backbone[0][1].training
    assert backbone[0][1].track_running_stats
    assert backbone[0][1].momentum == 0.1
    again, kept = state(backbone), ("weight", "bias")
    assert all(again[name].equal(before[name]) for name in before if name.endswith(kept))


def test_the_statistics_are_means_over_batches(data):
    backbone = network()
    seen = measure_statistics(backbone, data, precision="no")
    assert len(data.train) - 1 <= seen <= len(data.train)
    norm = backbone[0][1]
    inputs = nn.Sequential(backbone[0][0], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    mean = embed_dataset(inputs, data.train, data, precision="no").features.mean(dim=0)
    scale = norm.running_var.sqrt()
    assert ((norm.running_mean - mean) / scale).abs().max() < 0.01


def test_a_network_without_batch_norms_has_nothing_to_settle(data):
    backbone = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    backbone.append(nn.Linear(12, 8))
    found = mode_losses(backbone, nn.Linear(8, 10), data, precision="no")
    assert found.batch == found.running
    assert found.settled


def test_a_loss_that_is_no_number_has_not_settled():
    assert not ModeLosses(1.0, float("nan"), 10).settled
