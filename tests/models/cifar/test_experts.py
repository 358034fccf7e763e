from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import ImageSpec
from ssl_lt.models.backbones import (
    OUR_BACKBONES,
    create_backbone,
    create_experts,
    feature_dim,
)
from ssl_lt.models.export import export_backbone

RIDE = {"image_size": 16, "num_experts": 3, "expert_width": 0.75, "shared_gradient": "all"}


def count(module):
    return sum(p.numel() for p in module.parameters())


def stage_parameters(num_in, num_out, num_blocks):
    """Of basic blocks without a projected shortcut."""
    convolutions = 9 * num_in * num_out + (2 * num_blocks - 1) * 9 * num_out**2
    return convolutions + num_blocks * 4 * num_out


def test_parameters_at_the_published_widths():
    net = create_experts("resnet32_cifar", **RIDE)
    shared = 3 * 16 * 9 + 2 * 16 + stage_parameters(16, 16, 5)
    expert = stage_parameters(16, 24, 5) + stage_parameters(24, 48, 5)
    assert count(net.shared_part()) == shared == 23_824
    assert [count(e) for e in net.experts] == [expert] * 3 == [248_544] * 3
    assert count(net) == 769_456
    assert feature_dim(net) == 3 * 48


@pytest.mark.parametrize(
    ("name", "shared", "features"),
    [
        ("convnet7_cifar", ["conv1", "bn1", "layer1"], 192),
        ("resnet18_cifar", ["conv1", "bn1", "layer1", "layer2"], 384),
        ("resnet20_cifar", ["conv1", "bn1", "layer1"], 48),
        ("resnet32_cifar", ["conv1", "bn1", "layer1"], 48),
    ],
)
def test_what_is_shared(name, shared, features):
    net = create_experts(name, **RIDE)
    assert list(net.shared_part()) == shared
    assert feature_dim(net) == 3 * features


@pytest.mark.parametrize("name", OUR_BACKBONES)
def test_forward_is_that_of_the_experts_one_by_one(name):
    net = create_experts(name, width=4, **RIDE).double().eval()
    # An expert of full width, put into the plain network, is the plain network.
    full = create_experts(name, width=4, **{**RIDE, "expert_width": 1.0}).double().eval()
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    parts = []
    for expert in net.experts:
        hidden = x
        for module in net.shared_part().values():
            hidden = module(hidden)
            hidden = hidden.relu() if isinstance(module, nn.BatchNorm2d) else hidden
        parts.append(expert(hidden).mean(dim=(2, 3)))
    torch.testing.assert_close(net(x), torch.cat(parts, dim=1))
    for number, part in enumerate(full(x).chunk(3, dim=1)):
        plain = create_backbone(name, width=4, image_size=16).double().eval()
        own = full.experts[number].state_dict()
        plain.load_state_dict({**full.shared_part().state_dict(), **own})
        torch.testing.assert_close(part, plain(x))


def test_the_shared_part_runs_once():
    net = create_experts("resnet20_cifar", width=4, **RIDE)
    calls = []
    net.conv1.register_forward_hook(lambda *_: calls.append(1))
    net(torch.randn(2, 3, 8, 8))
    assert calls == [1]


@pytest.mark.parametrize("shared_gradient", ["all", "first"])
def test_who_moves_the_shared_part(shared_gradient):
    options = {**RIDE, "shared_gradient": shared_gradient}
    net = create_experts("resnet20_cifar", width=4, **options)
    for number in range(3):
        net.zero_grad()
        net(torch.randn(4, 3, 8, 8)).chunk(3, dim=1)[number].square().sum().backward()
        moves = net.conv1.weight.grad is not None and bool(net.conv1.weight.grad.any())
        assert moves == (shared_gradient == "all" or number == 0)
        assert [
            e.layer3[0].conv1.weight.grad is not None and bool(e.layer3[0].conv1.weight.grad.any())
            for e in net.experts
        ] == [k == number for k in range(3)]


def test_experts_start_apart():
    net = create_experts("resnet20_cifar", width=4, **RIDE)
    weights = [e.layer2[0].conv1.weight for e in net.experts]
    assert not torch.equal(weights[0], weights[1])


def test_plain_weights_fit_the_shared_part():
    plain = create_backbone("resnet32_cifar", width=4, image_size=8)
    net = create_experts("resnet32_cifar", width=4, **RIDE)
    shapes = {k: v.shape for k, v in plain.state_dict().items()}
    shared = net.shared_part().state_dict()
    assert {k: v.shape for k, v in shared.items()}.items() <= shapes.items()
    net.shared_part().load_state_dict({k: plain.state_dict()[k] for k in shared})
    assert torch.equal(net.conv1.weight, plain.conv1.weight)


@pytest.mark.parametrize("name", OUR_BACKBONES)
def test_timm_loads_what_is_exported(name, tmp_path):
    options = {"image_size": 16, "num_experts": 2, "expert_width": 0.5, "shared_gradient": "first"}
    net = create_experts(name, width=4, **options).eval()
    images = ImageSpec(16, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    export_backbone(net, tmp_path / "exported", images=images)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True).eval()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(x), net(x))
    assert loaded.shared_gradient == "first"
    logits = timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True, num_classes=5)
    assert logits(x).shape == (2, 5)


def test_layers_of_all_experts_are_one_for_layer_wise_rates():
    from timm.models import group_parameters

    net = create_experts("resnet20_cifar", width=4, **RIDE)
    layers = group_parameters(net, net.group_matcher(), reverse=True)
    assert set(layers) == {name for name, _ in net.named_parameters()}
    for expert in range(3):
        assert layers[f"experts.{expert}.layer3.2.conv1.weight"] == max(layers.values())
        found = layers[f"experts.{expert}.layer2.0.conv1.weight"]
        assert found == layers["layer1.2.conv1.weight"] + 1


@pytest.mark.parametrize(
    ("name", "width", "message"),
    [
        ("resnet18", None, "--backbone: resnet18 cannot be split into experts; convnet7_cifar"),
        ("resnet32_cifar", 0, "--width: 0"),
        ("convnet7_cifar", None, "--backbone: convnet7_cifar needs images of at least 9 pixels"),
    ],
)
def test_what_cannot_be_split(name, width, message):
    with pytest.raises(ConfigError, match=message):
        create_experts(name, width=width, **{**RIDE, "image_size": 8})
