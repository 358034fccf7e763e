"""What is computed again gives the same numbers, running statistics included."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import ConfigError
from ssl_lt.engine.grad_checkpointing import checkpoint_activations, keep_statistics_once
from ssl_lt.models.backbones import create_backbone, create_experts
from ssl_lt.models.batch_norm import synchronised
from tests.distributed.pool import run_on_two

NAMES = ["resnet20_cifar", "experts", "test_resnet", "test_efficientnet", "test_vit"]


def build(name):
    torch.manual_seed(0)
    if name == "experts":
        shares = {"num_experts": 2, "expert_width": 0.5, "shared_gradient": "all"}
        return create_experts("resnet20_cifar", width=4, image_size=32, **shares)
    width = 4 if name == "resnet20_cifar" else None
    return create_backbone(name, width=width, image_size=32)


class Counting(nn.Module):
    """Counts how often a layer in the middle of a network runs."""

    def __init__(self, network):
        super().__init__()
        self.network, self.count = network, 0
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        layers[len(layers) // 2].register_forward_pre_hook(self.seen)

    def seen(self, *_):
        self.count += 1


def step(name, *, checkpointed, wrap=lambda network: network, rows=slice(None)):
    network = wrap(build(name))
    if checkpointed:
        checkpoint_activations(network)
        keep_statistics_once(network)
    counted = Counting(network)
    torch.manual_seed(1)
    x = torch.randn(8, 3, 32, 32)[rows]
    forward = network
    if wrap is synchronised:
        forward = DistributedDataParallel(network, broadcast_buffers=False)
    for _ in range(2):
        network.train()
        forward(x).square().mean().backward()
    gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    with torch.no_grad():
        output = network.eval()(x)
    buffers = {n: b.clone() for n, b in network.named_buffers()}
    return {"gradients": gradients, "buffers": buffers, "output": output, "runs": counted.count}


def assert_equal(found, expected):
    assert found["runs"] == 5  # two steps with two passes each, and one in evaluation
    assert expected["runs"] == 3
    assert found["output"].equal(expected["output"])
    for part in ("gradients", "buffers"):
        assert found[part].keys() == expected[part].keys()
        for name, tensor in expected[part].items():
            assert found[part][name].equal(tensor), name


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_the_same_bit_for_bit(name):
    assert_equal(step(name, checkpointed=True), step(name, checkpointed=False))


def _on_this_rank(rank):
    rows = slice(4 * rank, 4 * rank + 4)
    return [
        step("resnet20_cifar", checkpointed=checkpointed, wrap=synchronised, rows=rows)
        for checkpointed in (True, False)
    ]


@pytest.mark.distributed
def test_synchronised_batch_norms_move_once():
    for found, expected in run_on_two(_on_this_rank):
        assert_equal(found, expected)


def test_what_cannot_be_computed_again_is_refused():
    network = build("resnet20_cifar")
    with pytest.raises(ConfigError, match="Linear does not support it"):
        checkpoint_activations(nn.Linear(4, 4))
    network.requires_grad_(False)
    with pytest.raises(ConfigError, match="a frozen backbone"):
        checkpoint_activations(network)
