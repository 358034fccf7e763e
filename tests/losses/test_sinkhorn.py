import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses import sinkhorn as module
from ssl_lt.losses.sinkhorn import sinkhorn


def log_domain(logits, prior, *, epsilon, iterations):
    """The release's iteration on logarithms, in float64: slow, and never overflows."""
    a, log_prior = logits.double() / epsilon, prior.double().log()
    g = torch.full((len(a),), 1 / len(a), dtype=torch.float64).log()
    for _ in range(iterations):
        f = log_prior - torch.logsumexp(a + g[:, None], 0)
        g = -torch.logsumexp(a + f, 1) - np.log(len(a))
    return len(a) * (a + f + g[:, None]).exp()


def clustered(num_rows, num_clusters, *, noise, tail=3.0, seed=0):
    """Logits that point to one cluster each, and the clusters' long-tailed shares."""
    g = torch.Generator().manual_seed(seed)
    shares = torch.softmax(-torch.linspace(0, tail, num_clusters), 0)
    rows = torch.multinomial(shares, num_rows, replacement=True, generator=g)
    logits = F.one_hot(rows, num_clusters) + noise * torch.randn(
        num_rows, num_clusters, generator=g
    )
    return F.normalize(logits, dim=1), shares


def share_error(plan, prior):
    return (plan.double().mean(0) - prior.double()).abs().max().item()


@pytest.mark.parametrize("prior", ["uniform", "dyadic", "lt", "zero"])
@pytest.mark.parametrize("epsilon", [0.05, 0.25])
@pytest.mark.parametrize("iterations", [1, 3, 50, 300])
def test_golden_at_fixed_iterations(golden, prior, epsilon, iterations):
    d = golden("pretraining/gh_sinkhorn.npz")
    logits = torch.from_numpy(d["logits_8"])
    shares = (
        torch.full((8,), 1 / 8, dtype=torch.float64)
        if prior == "uniform"
        else torch.from_numpy(d[f"pi_{prior}"])
    )
    ours = sinkhorn(logits, shares, epsilon=epsilon, tolerance=0, max_iterations=iterations)
    # The long-tailed shares went through float32 where the golden numbers were made.
    atol = 1e-7 if prior == "lt" else 1e-10
    np.testing.assert_allclose(ours, d[f"Q_{prior}_l{epsilon}_it{iterations}"], atol=atol)


@pytest.mark.parametrize(
    ("dtype", "tolerance", "atol"),
    [(torch.float64, 0, 1e-8), (torch.float64, 1e-6, 1e-4), (torch.float32, 1e-6, 1e-4)],
)
def test_golden_hundred_clusters(golden, dtype, tolerance, atol):
    d = golden("pretraining/gh_sinkhorn.npz")
    logits, prior = (torch.from_numpy(d[name]).to(dtype) for name in ("logits_100", "pi_100"))
    ours = sinkhorn(logits, prior, epsilon=0.05, tolerance=tolerance)
    np.testing.assert_allclose(ours, d["Q_100_l0.05_it300"], atol=atol)
    assert ours.dtype == dtype


@pytest.mark.parametrize("iterations", [1, 2, 9, 40, 300])
def test_plain_iterations_equal_the_log_domain(iterations):
    logits, prior = clustered(64, 10, noise=0.05)
    ours = sinkhorn(logits, prior, epsilon=0.05, tolerance=0, max_iterations=iterations)
    slow = log_domain(logits, prior, epsilon=0.05, iterations=iterations)
    torch.testing.assert_close(ours.double(), slow, atol=2e-5, rtol=0)


@pytest.mark.parametrize("noise", [0.1, 0.03, 0.0])
@pytest.mark.parametrize("shares", ["even", "own"])
def test_stops_at_the_limit_the_log_domain_creeps_to(noise, shares):
    logits, own = clustered(256, 30, noise=noise)
    prior = own if shares == "own" else torch.full((30,), 1 / 30)
    ours = sinkhorn(logits.double(), prior.double() / prior.double().sum(), epsilon=0.05)
    slow = log_domain(logits, prior.double() / prior.double().sum(), epsilon=0.05, iterations=5000)
    assert share_error(ours, prior) < 2e-6
    torch.testing.assert_close(ours, slow, atol=2e-3, rtol=0)


def test_marginals():
    logits, prior = clustered(512, 100, noise=0.03)
    plan = sinkhorn(logits, prior, epsilon=0.05)
    torch.testing.assert_close(plan.sum(1), torch.ones(512), atol=1e-5, rtol=0)
    assert share_error(plan, prior) < 2e-6


def test_tighter_tolerance_is_nearer():
    logits, prior = clustered(128, 20, noise=0.05)
    logits, prior = logits.double(), prior.double() / prior.double().sum()
    errors = [
        share_error(sinkhorn(logits, prior, epsilon=0.05, tolerance=tolerance), prior)
        for tolerance in (1e-3, 1e-6, 1e-10)
    ]
    assert errors[0] < 1e-3
    assert errors[1] < 1e-6
    assert errors[2] < 1e-10


def test_empty_clusters_get_exactly_nothing():
    logits, prior = clustered(64, 10, noise=0.3)
    prior[[0, 4]] = 0
    prior /= prior.sum()
    plan = sinkhorn(logits, prior, epsilon=0.05)
    assert torch.equal(plan[:, [0, 4]], torch.zeros(64, 2))
    assert share_error(plan, prior) < 2e-6


def test_one_cluster_with_everything():
    prior = torch.tensor([0.0, 1.0, 0.0])
    plan = sinkhorn(torch.randn(5, 3), prior, epsilon=0.05)
    torch.testing.assert_close(plan, prior.expand(5, 3))


def test_same_numbers_where_the_host_may_not_look(monkeypatch):
    for noise in (1.0, 0.03):
        logits, prior = clustered(256, 30, noise=noise)
        looking = sinkhorn(logits, prior, epsilon=0.05)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_may_look", lambda values: False)
            blind = sinkhorn(logits, prior, epsilon=0.05)
        torch.testing.assert_close(blind, looking, atol=0, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 1e3, 1e5]),
    noise=st.sampled_from([0.0, 0.01, 1.0]),
    sharpness=st.sampled_from([0.0, 3.0, 40.0, 200.0]),
)
def test_extreme_input_neither_over_nor_underflows(seed, scale, noise, sharpness):
    g = torch.Generator().manual_seed(seed)
    logits, _ = clustered(48, 6, noise=noise, seed=seed)
    prior = torch.softmax(sharpness * torch.rand(6, generator=g), 0)
    plan = sinkhorn(scale * logits, prior, epsilon=0.05)
    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(1), torch.ones(48), atol=1e-5, rtol=0)


def test_over_relaxation_ends_nearer_than_as_many_plain_iterations():
    arrived = {"relaxed": 0, "plain": 0}
    for seed in range(24):
        g = torch.Generator().manual_seed(seed)
        num_rows, num_clusters = ((48, 6), (128, 20), (256, 50))[seed % 3]
        noise = (0.01, 0.03, 0.1, 1)[seed % 4]
        logits, _ = clustered(num_rows, num_clusters, noise=noise, seed=seed)
        prior = torch.softmax(3 * torch.rand(num_clusters, generator=g), 0)
        relaxed = share_error(sinkhorn(logits, prior, epsilon=0.05), prior)
        plain = share_error(sinkhorn(logits, prior, epsilon=0.05, tolerance=0), prior)
        assert relaxed < max(plain, 1.1e-6)
        arrived["relaxed"] += relaxed < 1.1e-6
        arrived["plain"] += plain < 1.1e-6
    assert arrived["relaxed"] > arrived["plain"]


@pytest.mark.parametrize("noise", [0.1, 0.03, 0.0])
def test_arrives_within_a_hundred_iterations(noise):
    logits, _ = clustered(512, 100, noise=noise)
    even = torch.full((100,), 1 / 100)
    error = {
        tolerance: share_error(
            sinkhorn(logits, even, epsilon=0.05, tolerance=tolerance, max_iterations=100), even
        )
        for tolerance in (1e-6, 0)
    }
    assert error[1e-6] < 1.1e-6
    assert error[0] > 1e-5  # plain


def test_opposed_blocks_cross_hundreds_of_nats():
    # Nine of ten rows point to cluster 0, which may have a tenth: a gap of 200 must be climbed.
    logits = torch.tensor([[10.0, 0.0]] * 90 + [[0.0, 10.0]] * 10)
    prior = torch.tensor([0.1, 0.9])
    assert share_error(sinkhorn(logits, prior, epsilon=0.05), prior) < 2e-6


def test_invariances():
    logits, prior = clustered(64, 10, noise=0.2)
    plan = sinkhorn(logits, prior, epsilon=0.05)
    rows, columns = torch.randperm(64), torch.randperm(10)
    moved = sinkhorn(logits[rows][:, columns], prior[columns], epsilon=0.05)
    torch.testing.assert_close(moved, plan[rows][:, columns], atol=1e-4, rtol=0)
    shifted = sinkhorn(logits + torch.randn(64, 1), prior, epsilon=0.05)
    torch.testing.assert_close(shifted, plan, atol=1e-4, rtol=0)
    scaled = sinkhorn(8 * logits, prior, epsilon=0.4)
    torch.testing.assert_close(scaled, plan, atol=1e-4, rtol=0)


def test_no_gradient_and_no_half_precision():
    logits, prior = clustered(16, 4, noise=0.2)
    assert not sinkhorn(logits.requires_grad_(), prior, epsilon=0.05).requires_grad
    assert sinkhorn(logits.detach().bfloat16(), prior, epsilon=0.05).dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "epsilon", "iterations", "named"),
    [(5, 0.05, 300, "prior"), (4, 0.0, 300, "epsilon"), (4, 0.05, 0, "max_iterations")],
)
def test_bad_input(shape, epsilon, iterations, named):
    prior = torch.full((shape,), 1 / shape)
    with pytest.raises(ConfigError, match=named):
        sinkhorn(torch.randn(8, 4), prior, epsilon=epsilon, max_iterations=iterations)
