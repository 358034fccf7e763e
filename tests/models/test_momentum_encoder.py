from __future__ import annotations

import torch
from torch import nn

from ssl_lt.models.momentum_encoder import MomentumEncoder


def network():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    return backbone, nn.Linear(4, 2).double()


def moved(modules):
    with torch.no_grad():
        for module in modules:
            for p in module.parameters():
                p.add_(torch.randn_like(p))


def test_starts_as_a_copy_and_shares_nothing():
    modules = network()
    encoder = MomentumEncoder(*modules, momentum=0.9)
    x = torch.randn(5, 3).double()
    torch.testing.assert_close(encoder(x), modules[1](modules[0](x)))
    before = encoder(x)
    moved(modules)
    torch.testing.assert_close(encoder(x), before)
    own = {p.data_ptr() for p in encoder.parameters()}
    assert own.isdisjoint(p.data_ptr() for module in modules for p in module.parameters())


def test_weights_move_by_the_average_and_buffers_do_not():
    modules = network()
    encoder = MomentumEncoder(*modules, momentum=0.9)
    wanted = [p.clone() for p in encoder.parameters()]
    buffers = [b.clone() for b in encoder.buffers()]
    modules[0](torch.randn(5, 3).double())
    for _ in range(3):
        moved(modules)
        encoder.follow(*modules)
        followed = [p for module in modules for p in module.parameters()]
        wanted = [0.9 * w + 0.1 * v.detach() for w, v in zip(wanted, followed, strict=True)]
        for found, want in zip(encoder.parameters(), wanted, strict=True):
            torch.testing.assert_close(found.detach(), want, rtol=1e-12, atol=1e-14)
    assert all(torch.equal(a, b) for a, b in zip(encoder.buffers(), buffers, strict=True))


def test_restart_takes_everything_over():
    modules = network()
    encoder = MomentumEncoder(*modules, momentum=0.9)
    moved(modules)
    modules[0](torch.randn(5, 3).double())
    encoder.restart(*modules)
    found = [t for part in encoder.copies for t in part.state_dict().values()]
    wanted = [t for module in modules for t in module.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_there_is_no_gradient():
    modules = network()
    encoder = MomentumEncoder(*modules, momentum=0.9)
    x = torch.randn(5, 3).double().requires_grad_()
    assert not encoder(x).requires_grad
    assert not any(p.requires_grad for p in encoder.parameters())
    assert all(p.requires_grad for module in modules for p in module.parameters())
