from __future__ import annotations

import pytest
import torch
from lightly.utils.lars import LARS
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.engine.optim import OptimOptions, build_optimizer, parameter_groups


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_decay_spares_norms_and_biases_when_asked():
    everything = parameter_groups(network(), OptimOptions(decay="all", weight_decay=0.1))
    assert [(len(g["params"]), g["weight_decay"]) for g in everything] == [(6, 0.1)]
    split = parameter_groups(network(), OptimOptions(decay="weights", weight_decay=0.1))
    assert [(len(g["params"]), g["weight_decay"]) for g in split] == [(2, 0.1), (4, 0.0)]


def test_frozen_parameters_are_left_out():
    net = network()
    net[0].requires_grad_(False)
    groups = parameter_groups(net, OptimOptions())
    assert sum(len(g["params"]) for g in groups) == 4


def test_sgd_step_is_the_textbook_one():
    net, options = network(), OptimOptions(lr=0.5, momentum=0.9, weight_decay=0.1)
    optimizer = build_optimizer(net, options)
    w, velocity = net[0].weight.detach().clone(), torch.zeros(4, 4)
    for _ in range(3):
        net[0].weight.grad = torch.ones(4, 4)
        optimizer.step()
        velocity = 0.9 * velocity + 1 + 0.1 * w
        w = w - 0.5 * velocity
    assert torch.allclose(net[0].weight, w, atol=1e-6)


def test_adamw_has_the_betas_it_is_given():
    net = network()
    options = OptimOptions(optimizer="adamw", lr=0.1, betas=(0.5, 0.9), weight_decay=0.0)
    optimizer = build_optimizer(net, options)
    w, m, v = net[0].weight.detach().clone(), 0.0, 0.0
    for step in range(1, 4):
        gradient = float(step)
        net[0].weight.grad = torch.full((4, 4), gradient)
        optimizer.step()
        m, v = 0.5 * m + 0.5 * gradient, 0.9 * v + 0.1 * gradient**2
        w = w - 0.1 * (m / (1 - 0.5**step)) / ((v / (1 - 0.9**step)) ** 0.5 + 1e-8)
    torch.testing.assert_close(net[0].weight.detach(), w)


def test_lars_is_lightlys():
    nets = [network() for _ in range(2)]
    options = OptimOptions(optimizer="lars", lr=0.5, momentum=0.9, weight_decay=0.1)
    made = [
        build_optimizer(nets[0], options),
        LARS(nets[1].parameters(), lr=0.5, momentum=0.9, weight_decay=0.1),
    ]
    x, y = torch.randn(32, 4), torch.randn(32, 2)
    for _ in range(5):
        for net, optimizer in zip(nets, made, strict=True):
            optimizer.zero_grad()
            (net(x) - y).square().mean().backward()
            optimizer.step()
    weights, expected = ([p.detach() for p in net.parameters()] for net in nets)
    assert not torch.equal(expected[0], network()[0].weight)
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_every_optimiser_lowers_a_loss(name):
    net = network()
    optimizer = build_optimizer(net, OptimOptions(optimizer=name, lr=0.05, weight_decay=0.0))
    x, y = torch.randn(32, 4), torch.randn(32, 2)
    losses = []
    for _ in range(20):
        loss = (net(x) - y).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0.0},
        {"lr": float("nan")},
        {"momentum": 1.0},
        {"betas": (0.9, 1.0)},
        {"ema": 1.0},
        {"sam": float("inf")},
        {"weight_decay": -1.0},
        {"clip_grad_norm": 0.0},
    ],
)
def test_bad_values_name_their_flag(values):
    flag = "--" + next(iter(values)).replace("_", "-")
    with pytest.raises(ConfigError, match=flag):
        OptimOptions(**values)
