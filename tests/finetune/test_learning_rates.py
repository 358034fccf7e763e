from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.engine.optim import OptimOptions, build_optimizer, parameter_groups
from ssl_lt.finetune.learning_rates import RateOptions, lr_scales
from ssl_lt.models.backbones import create_backbone


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = create_backbone("resnet20_cifar", width=4, image_size=8)
        self.classifier = nn.Linear(16, 3)


def scales(**options):
    network = Network()
    scale = lr_scales(network.backbone, RateOptions(**options), lr=0.2)
    return {name: scale(name) for name, _ in network.named_parameters()}


def test_by_default_everything_learns_alike():
    assert set(scales().values()) == {1.0}


def test_the_head_has_a_rate_of_its_own():
    found = scales(head_lr=0.6)
    assert found["classifier.weight"] == found["classifier.bias"] == pytest.approx(3.0)
    assert {v for name, v in found.items() if name.startswith("backbone.")} == {1.0}


def test_rates_fall_from_layer_to_layer():
    found = scales(layer_decay=0.5, head_lr=0.2)
    # Stem, then three stages of three blocks: the topmost block learns at the full rate.
    assert found["backbone.layer3.2.conv2.weight"] == 1.0
    assert found["backbone.layer3.2.bn1.bias"] == 1.0
    assert found["backbone.layer3.1.conv1.weight"] == 0.5
    assert found["backbone.layer2.2.conv1.weight"] == 0.125
    assert found["backbone.conv1.weight"] == found["backbone.bn1.weight"] == 0.5**9
    assert found["classifier.weight"] == pytest.approx(1.0)


def test_the_optimiser_moves_each_part_at_its_rate():
    network = Network()
    scale = lr_scales(network.backbone, RateOptions(head_lr=0.2), lr=0.1)
    decaying = OptimOptions(lr=0.1, weight_decay=0.1, decay="weights")
    groups = parameter_groups(network, decaying, lr_scale=scale)
    assert sorted(g["lr_scale"] for g in groups) == [1.0, 1.0, 2.0, 2.0]
    options = OptimOptions(lr=0.1, momentum=0.0, weight_decay=0.0)
    optimizer = build_optimizer(network, options, lr_scale=scale)
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["lr_scale"]
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for name, p in network.named_parameters():
        step = 0.2 if name.startswith("classifier") else 0.1
        torch.testing.assert_close(before[name] - p.detach(), torch.full_like(p, step))


def test_a_network_that_does_not_name_its_layers_is_refused():
    with pytest.raises(ConfigError, match="--layer-decay: Sequential does not name its layers"):
        lr_scales(nn.Sequential(nn.Linear(2, 2)), RateOptions(layer_decay=0.9), lr=0.1)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"head_lr": 0.0}, "--head-lr"),
        ({"layer_decay": 0.0}, "--layer-decay"),
        ({"layer_decay": 1.5}, "--layer-decay"),
    ],
)
def test_mistakes_name_the_flag(values, says):
    with pytest.raises(ConfigError, match=says):
        RateOptions(**values)
