import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses import sinkhorn as module
from ssl_lt.losses.sinkhorn import sinkhorn
from tests.distributed.pool import run_on_two
from tests.engine.device_counter import KernelCounter


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


def slow_newton(logits, prior, *, epsilon):
    """The potentials by Newton's method on the dual problem, with a line search, in float64."""
    a, prior = logits.double() / epsilon, prior.double()
    f = prior.log() - a.logsumexp(0)

    def dual(f):
        return (a + f).logsumexp(1).mean() - f @ prior

    for _ in range(200):
        plan = torch.softmax(a + f, 1)
        gradient, curvature = plan.mean(0) - prior, torch.zeros(len(prior), len(prior)).double()
        for row in plan:
            curvature += (torch.diag(row) - torch.outer(row, row)) / len(a)
        d = -torch.linalg.pinv(curvature, hermitian=True, rtol=1e-13) @ gradient
        size = 1.0
        while dual(f + size * d) > dual(f) and size > 1e-9:
            size /= 2
        f = f + size * d
    return torch.softmax(a + f, 1)


@pytest.mark.parametrize("noise", [0.3, 0.1])
def test_equals_a_slow_newton_method(noise):
    logits, prior = clustered(40, 6, noise=noise)
    logits, prior = logits.double(), prior.double() / prior.double().sum()
    ours = sinkhorn(logits, prior, epsilon=0.05, tolerance=1e-10)
    torch.testing.assert_close(ours, slow_newton(logits, prior, epsilon=0.05), atol=1e-7, rtol=0)


@pytest.fixture
def blind(monkeypatch):
    """As on a GPU: nothing looks at the error."""
    monkeypatch.setattr(module, "_may_look", lambda values: False)


@pytest.mark.parametrize("shape", [(512, 100), (256, 50)])
@pytest.mark.parametrize("noise", [1.0, 0.1, 0.03, 0.0])
def test_no_share_is_wrong_where_the_host_may_not_look(shape, noise, monkeypatch):
    logits, own = clustered(*shape, noise=noise)
    for prior in (own, torch.full_like(own, 1 / len(own))):
        looking = sinkhorn(logits, prior, epsilon=0.05)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_may_look", lambda values: False)
            unseen = sinkhorn(logits, prior, epsilon=0.05)
        assert share_error(unseen, prior) < 1e-6
        assert share_error(looking, prior) < 1.1e-6
        # Where shares barely depend on it, a plan that is right to 1e-6 is free in the rest.
        torch.testing.assert_close(unseen, looking, atol=5e-3, rtol=0)


@pytest.mark.slow
def test_no_share_of_a_thousand_clusters_is_wrong_where_the_host_may_not_look(blind):
    logits, prior = clustered(4096, 1000, noise=0.03)
    assert share_error(sinkhorn(logits, prior, epsilon=0.05), prior) < 1e-6


def kernels(logits, prior):
    with KernelCounter() as counter:
        sinkhorn(logits, prior, epsilon=0.05)
    return counter.kernels, counter.looks


def test_both_views_of_a_step_take_few_kernels_however_large_they_are(blind):
    found = {
        kernels(
            torch.randn(views, size, num_clusters), torch.full((num_clusters,), 1 / num_clusters)
        )
        for views, size, num_clusters in ((1, 8, 3), (2, 64, 20), (2, 512, 100))
    }
    ((number, looks),) = found
    assert looks == 0
    assert number < 450


@pytest.mark.parametrize("where", ["cpu", "blind"])
@pytest.mark.parametrize("tolerance", [1e-6, 0])
def test_views_are_assigned_one_by_one(where, tolerance, monkeypatch):
    if where == "blind":
        monkeypatch.setattr(module, "_may_look", lambda values: False)
    views = torch.stack([clustered(64, 10, noise=noise)[0] for noise in (0.3, 0.05)])
    prior = clustered(64, 10, noise=1)[1]
    both = sinkhorn(views, prior, epsilon=0.05, tolerance=tolerance)
    for view, found in zip(views, both, strict=True):
        alone = sinkhorn(view, prior, epsilon=0.05, tolerance=tolerance)
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)


def _own_rows(rank, look):
    logits, prior = clustered(64, 10, noise=0.03)
    with pytest.MonkeyPatch.context() as patch:
        if not look:
            patch.setattr(module, "_may_look", lambda values: False)
        views = torch.stack([logits, logits.flip(0)])[:, 32 * rank :][:, :32]
        return sinkhorn(views.double(), prior.double(), epsilon=0.05, tolerance=1e-10)


@pytest.mark.distributed
@pytest.mark.parametrize("look", [True, False])
def test_two_processes_assign_what_one_does(look):
    logits, prior = clustered(64, 10, noise=0.03)
    whole = sinkhorn(logits.double(), prior.double(), epsilon=0.05, tolerance=1e-10)
    halves = torch.cat(run_on_two(_own_rows, look), dim=1)
    for found, expected in zip(halves, (whole, whole.flip(0)), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 1e3, 1e5]),
    noise=st.sampled_from([0.0, 0.01, 1.0]),
    sharpness=st.sampled_from([0.0, 3.0, 40.0, 200.0]),
)
# Two clusters of hardly any share whose samples are one another's: a singular Newton's step.
@example(seed=220, scale=30.0, noise=0.0, sharpness=200.0)
def test_extreme_input_neither_over_nor_underflows(seed, scale, noise, sharpness):
    g = torch.Generator().manual_seed(seed)
    logits, _ = clustered(48, 6, noise=noise, seed=seed)
    prior = torch.softmax(sharpness * torch.rand(6, generator=g), 0)
    with pytest.MonkeyPatch.context() as patch:
        for may_look in (True, False):
            patch.setattr(module, "_may_look", lambda values, may_look=may_look: may_look)
            plan = sinkhorn(scale * logits, prior, epsilon=0.05)
            assert plan.isfinite().all()
            torch.testing.assert_close(plan.sum(1), torch.ones(48), atol=1e-5, rtol=0)


def test_ends_nearer_than_as_many_plain_iterations():
    arrived = {"ours": 0, "plain": 0}
    for seed in range(24):
        g = torch.Generator().manual_seed(seed)
        num_rows, num_clusters = ((48, 6), (128, 20), (256, 50))[seed % 3]
        noise = (0.01, 0.03, 0.1, 1)[seed % 4]
        logits, _ = clustered(num_rows, num_clusters, noise=noise, seed=seed)
        prior = torch.softmax(3 * torch.rand(num_clusters, generator=g), 0)
        ours = share_error(sinkhorn(logits, prior, epsilon=0.05), prior)
        plain = share_error(sinkhorn(logits, prior, epsilon=0.05, tolerance=0), prior)
        assert ours < max(plain, 1.1e-6)
        arrived["ours"] += ours < 1.1e-6
        arrived["plain"] += plain < 1.1e-6
    assert arrived["ours"] > arrived["plain"]


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
