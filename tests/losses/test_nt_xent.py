import math

import numpy as np
import pytest
import torch

from ssl_lt.core.processes.distributed import gather_rows, own_rows
from ssl_lt.losses.focal_contrast import focal_nt_xent
from ssl_lt.losses.nt_xent import PairKeys, nt_xent, nt_xent_per_anchor
from tests.distributed.pool import NUM_RANKS, run_on_two

TEMPERATURES = (0.1, 0.2, 0.3, 0.5, 1.0)


def views(num=6, dim=5, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(2, num, dim, generator=g, dtype=dtype)
    return z[0].requires_grad_(), z[1].requires_grad_()


def oracle(z1, z2, t, gamma=0.0):
    """Per anchor, written from the equation with three loops and Python's own numbers."""
    v = [row / max(math.sqrt(sum(float(x) ** 2 for x in row)), 1e-12) for row in [*z1, *z2]]
    num = len(z1)
    s = [[sum(float(a * b) for a, b in zip(p, q, strict=True)) / t for q in v] for p in v]
    out = []
    for i in range(2 * num):
        positive = (i + num) % (2 * num)
        top = max(s[i][k] for k in range(2 * num) if k != i)
        total = 0.0
        for k in range(2 * num):
            if k != i:
                total += math.exp(s[i][k] - top)
        log_p = s[i][positive] - top - math.log(total)
        out.append(-((1 - math.exp(log_p)) ** gamma) * log_p)
    return [(out[i] + out[i + num]) / 2 for i in range(num)]


@pytest.mark.parametrize("t", [1e-3, 0.05, 0.2, 1.0])
def test_equals_the_equation(t):
    z1, z2 = views()
    got = nt_xent(z1, z2, temperature=t)
    want = oracle(z1.detach(), z2.detach(), t)
    np.testing.assert_allclose(got.detach(), want, rtol=1e-9, atol=1e-12)


def test_focal_has_a_gradient_where_a_pair_is_told_apart():
    z = torch.eye(4).requires_grad_()
    focal_nt_xent(z, z, temperature=0.001, gamma=0.5).sum().backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_equals_the_equation(gamma):
    z1, z2 = views()
    got = focal_nt_xent(z1, z2, temperature=0.3, gamma=gamma)
    want = oracle(z1.detach(), z2.detach(), 0.3, gamma)
    np.testing.assert_allclose(got.detach(), want, rtol=1e-9)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_golden(golden, t):
    d = golden("pretraining/simclr_ntxent.npz")
    z1, z2 = (torch.tensor(d[k], requires_grad=True) for k in ("z1", "z2"))
    rows = nt_xent_per_anchor(z1, z2, temperature=t)
    losses = nt_xent(z1, z2, temperature=t)
    grads = torch.autograd.grad(losses.mean(), (z1, z2))
    focal = focal_nt_xent(z1, z2, temperature=t, gamma=2.0)
    np.testing.assert_allclose(rows.detach(), d[f"t{t}_rows"], rtol=1e-10)
    np.testing.assert_allclose(losses.detach(), d[f"t{t}_per_sample"], rtol=1e-10)
    np.testing.assert_allclose(losses.mean().item(), d[f"t{t}_mean"], rtol=1e-10)
    np.testing.assert_allclose(focal.detach(), d[f"t{t}_focal_g2_per_sample"], rtol=1e-10)
    for grad, name in zip(grads, ("z1", "z2"), strict=True):
        np.testing.assert_allclose(grad, d[f"t{t}_grad_{name}"], rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("t", [0.2, 0.3])
def test_golden_two_branches(golden, t):
    d = golden("pretraining/sdclr_two_branch.npz")
    z1, z2 = (torch.tensor(d[k], requires_grad=True) for k in ("z_full", "z_pruned"))
    losses = nt_xent(z1, z2, temperature=t)
    grads = torch.autograd.grad(losses.mean(), (z1, z2))
    np.testing.assert_allclose(losses.mean().item(), d[f"t{t}_loss"], rtol=1e-10)
    np.testing.assert_allclose(losses.detach(), d[f"t{t}_per_sample"], rtol=1e-10)
    np.testing.assert_allclose(grads[0], d[f"t{t}_grad_z_full"], rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(grads[1], d[f"t{t}_grad_z_pruned"], rtol=1e-8, atol=1e-14)


def test_equals_lightly():
    from lightly.loss import NTXentLoss

    z1, z2 = views(16, 32)
    ours = nt_xent(z1, z2, temperature=0.2).mean()
    theirs = NTXentLoss(temperature=0.2)(z1, z2)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours, (z1, z2)), torch.autograd.grad(theirs, (z1, z2)), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_gradient_is_that_of_finite_differences():
    z1, z2 = views(4, 3)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.5), (z1, z2))


def test_does_not_see_norm_order_or_which_view_is_first():
    z1, z2 = views()
    base = nt_xent(z1, z2, temperature=0.2)
    scale = torch.linspace(0.1, 9, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(nt_xent(z1 * scale, z2 / scale, temperature=0.2), base)
    torch.testing.assert_close(nt_xent(z2, z1, temperature=0.2), base)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(nt_xent(z1[order], z2[order], temperature=0.2), base[order])


def test_a_batch_of_one_has_nothing_to_be_told_from():
    z1, z2 = views(1)
    assert nt_xent(z1, z2, temperature=0.2).item() == 0


@pytest.mark.parametrize("loss", [nt_xent, lambda a, b, **k: focal_nt_xent(a, b, gamma=2.0, **k)])
def test_single_precision_is_finite_at_a_tiny_temperature(loss):
    z1, z2 = views(32, 16, dtype=torch.float32)
    losses = loss(z1, z2, temperature=1e-3)
    assert torch.isfinite(losses).all()
    assert losses.mean() > 1
    grads = torch.autograd.grad(losses.mean(), (z1, z2))
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in grads)


def test_keys_that_hold_the_batch_change_nothing():
    z1, z2 = views(8)
    own = torch.arange(2, 6)
    whole = nt_xent(z1, z2, temperature=0.2)
    part = nt_xent(z1[own], z2[own], temperature=0.2, keys=PairKeys(z1, z2, own))
    torch.testing.assert_close(part, whole[own])


def _rank_loss(rank, z1, z2):
    num = len(z1) // NUM_RANKS
    a, b = (z[rank * num : (rank + 1) * num].clone().requires_grad_() for z in (z1, z2))
    keys = PairKeys(gather_rows(a), gather_rows(b), own_rows(num, device=a.device))
    out = {}
    for name, losses in {
        "plain": nt_xent(a, b, temperature=0.2, keys=keys),
        "focal": focal_nt_xent(a, b, temperature=0.2, gamma=2.0, keys=keys),
    }.items():
        grads = torch.autograd.grad(losses.mean(), (a, b), retain_graph=True)
        out[name] = (losses.detach(), *grads)
    return out


@pytest.mark.distributed
def test_two_processes_equal_one():
    z1, z2 = views(8)
    ranks = run_on_two(_rank_loss, z1.detach(), z2.detach())
    for name, losses in {
        "plain": nt_xent(z1, z2, temperature=0.2),
        "focal": focal_nt_xent(z1, z2, temperature=0.2, gamma=2.0),
    }.items():
        grads = torch.autograd.grad(losses.mean(), (z1, z2), retain_graph=True)
        torch.testing.assert_close(torch.cat([r[name][0] for r in ranks]), losses.detach())
        for k, grad in enumerate(grads, start=1):
            # Each rank's loss is a mean over half the rows; DDP's average halves it again.
            torch.testing.assert_close(torch.cat([r[name][k] for r in ranks]) / NUM_RANKS, grad)


def test_collapsed_projections_cost_the_log_of_the_number_of_keys():
    z = torch.ones(5, 3, dtype=torch.float64)
    want = torch.full((5,), math.log(9), dtype=torch.float64)
    torch.testing.assert_close(nt_xent(z, z, temperature=0.1), want)
