import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Epoch
from ssl_lt.losses.harmonization import cluster_logits, harmonization
from ssl_lt.losses.nt_xent import nt_xent
from ssl_lt.losses.sinkhorn import sinkhorn
from ssl_lt.pretrain import harmonization as module
from ssl_lt.pretrain.harmonization import (
    GeometricHarmonization,
    HarmonizationOptions,
    PriorKind,
    warmup_end,
    weight_at,
)
from ssl_lt.pretrain.two_views import PairStep
from tests.distributed.pool import run_on_two

NUM_SAMPLES, BATCH, DIM, STEPS = 24, 8, 6, 3
SMALL = {"clusters": 4, "warmup_epochs": 2, "ramp_epochs": 2, "prior_period": 1}


def plugin(seed=0, **changes):
    options = HarmonizationOptions(**(SMALL | changes))
    return GeometricHarmonization(options, num_samples=NUM_SAMPLES, dim=DIM, seed=seed)


def at(number, total=6):
    return Epoch(number=number, total=total, steps=STEPS)


def pair(number, *, rows=slice(None)):
    """The number-th step: projections that need gradient, and which samples they are of."""
    g = torch.Generator().manual_seed(100 + number)
    order = torch.randperm(NUM_SAMPLES, generator=torch.Generator().manual_seed(number // STEPS))
    index = order[BATCH * (number % STEPS) :][:BATCH]
    z = torch.randn(2, BATCH, DIM, generator=g) + torch.arange(DIM) * 0.5
    z1, z2 = (view[rows].clone().requires_grad_() for view in z)
    losses = (z1 * z2).sum(1)
    return PairStep(index[rows], z1, z2, losses, at(number // STEPS))


def train(gh, steps, *, rows=slice(None)):
    """Runs steps with their epochs' hooks; (term, gradients of z1 and z2) of each."""
    seen = []
    for number in steps:
        step = pair(number, rows=rows)
        if number % STEPS == 0 or number == steps[0]:
            gh.on_epoch_start(step.epoch)
        term = gh.terms(step)["gh"]
        gh.observe(step)
        (term + 0 * step.losses.sum()).backward()
        seen.append((term.detach(), step.z1.grad, step.z2.grad))
        if number % STEPS == STEPS - 1:
            gh.on_epoch_end(step.epoch)
    return seen


def tables(gh):
    (memory,) = gh.memories()
    return {key: table.clone() for key, table in memory.state_dict().items()}


# ---- the loss


def slow_loss(t1, t2, q1, q2, temperature):
    def cross(q, t):
        total = sum(math.exp(x / temperature) for x in t)
        return -sum(p * (x / temperature - math.log(total)) for p, x in zip(q, t, strict=True))

    rows = zip(t1.tolist(), t2.tolist(), q1.tolist(), q2.tolist(), strict=True)
    return torch.tensor([cross(a, y) + cross(b, x) for x, y, a, b in rows], dtype=torch.float64)


def test_loss_equals_the_equation():
    t1, t2 = torch.randn(2, 5, 4, dtype=torch.float64)
    q1, q2 = torch.softmax(torch.randn(2, 5, 4, dtype=torch.float64), 2)
    ours = harmonization(t1, t2, q1, q2, temperature=0.3)
    torch.testing.assert_close(ours, slow_loss(t1, t2, q1, q2, 0.3))


def test_loss_is_symmetric_in_the_views():
    (t1, t2), (q1, q2) = torch.randn(2, 5, 4), torch.softmax(torch.randn(2, 5, 4), 2)
    one = harmonization(t1, t2, q1, q2, temperature=0.1)
    torch.testing.assert_close(harmonization(t2, t1, q2, q1, temperature=0.1), one)


def test_assignment_is_a_constant():
    t1, t2, q1, q2 = torch.rand(4, 5, 4).requires_grad_().unbind()
    loss = harmonization(t1, t2, q1, q2, temperature=0.1).sum()
    grads = torch.autograd.grad(loss, [t1, t2, q1, q2], allow_unused=True)
    assert [grad is None for grad in grads] == [False, False, True, True]


def test_logits_have_unit_norm_whatever_the_length_of_z():
    z, structure = torch.randn(5, 6), torch.randn(4, 6)
    t = cluster_logits(z, structure)
    torch.testing.assert_close(t.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(cluster_logits(7 * z, structure), t)


def gh_of(z1, z2, structure, prior):
    t1, t2 = cluster_logits(z1, structure), cluster_logits(z2, structure)
    q1, q2 = (sinkhorn(t, prior, epsilon=0.05, tolerance=0) for t in (t1, t2))
    return harmonization(t1, t2, q1, q2, temperature=0.1).mean(), (t1, t2, q1, q2)


@pytest.mark.parametrize(("name", "atol"), [("uniform", 1e-10), ("dyadic", 1e-10), ("lt", 1e-7)])
def test_golden_loss_and_gradients(golden, name, atol):
    d = golden("pretraining/gh_loss.npz")
    z1, z2 = (torch.from_numpy(d[key]).requires_grad_() for key in ("z1", "z2"))
    prior = (
        torch.full((8,), 1 / 8, dtype=torch.float64)
        if name == "uniform"
        else torch.from_numpy(d[f"pi_{name}"])
    )
    loss, (t1, t2, q1, q2) = gh_of(z1, z2, torch.from_numpy(d["M_8_16"]), prior)
    loss.backward()
    for ours, key in ((t1, "t1"), (t2, "t2")):
        np.testing.assert_allclose(ours.detach(), d[key], atol=1e-12)
    for ours, key in ((q1, "q1"), (q2, "q2"), (z1.grad, "grad_z1"), (z2.grad, "grad_z2")):
        np.testing.assert_allclose(ours, d[f"{name}_{key}"], atol=atol)
    assert loss.item() == pytest.approx(d[f"{name}_loss"].item(), rel=max(atol, 1e-10))


def test_golden_hundred_clusters(golden):
    d = golden("pretraining/gh_loss.npz")
    z1, z2 = (torch.from_numpy(d[key]).requires_grad_() for key in ("Z1", "Z2"))
    structure, prior = torch.from_numpy(d["target_100_128"]), torch.from_numpy(d["pi_100"])
    loss, _ = gh_of(z1, z2, structure, prior)
    loss.backward()
    assert loss.item() == pytest.approx(d["loss_100"].item(), rel=1e-7)
    np.testing.assert_allclose(z1.grad, d["loss_100_grad_z1"], atol=1e-8)
    np.testing.assert_allclose(z2.grad, d["loss_100_grad_z2"], atol=1e-8)


def test_golden_total_with_the_contrastive_loss(golden):
    d = golden("pretraining/gh_loss.npz")
    z1, z2 = (torch.from_numpy(d[key]).requires_grad_() for key in ("z1", "z2"))
    contrast = nt_xent(z1, z2, temperature=0.2).mean()
    loss, _ = gh_of(z1, z2, torch.from_numpy(d["M_8_16"]), torch.from_numpy(d["pi_dyadic"]))
    total = contrast + 0.3 * loss
    total.backward()
    assert contrast.item() == pytest.approx(d["ntxent_t0.2"].item(), rel=1e-10)
    assert total.item() == pytest.approx(d["total_w0p3"].item(), rel=1e-10)
    np.testing.assert_allclose(z1.grad, d["total_w0p3_grad_z1"], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(z2.grad, d["total_w0p3_grad_z2"], rtol=1e-8, atol=1e-12)


# ---- the schedule


def test_weight_is_nothing_then_a_ramp_then_constant():
    options = HarmonizationOptions(warmup_epochs=3, ramp_epochs=4, weight=2.0)
    weights = [weight_at(options, at(e, total=10)) for e in range(10)]
    assert weights == [0, 0, 0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]


def test_no_ramp_is_the_whole_weight_at_once():
    options = HarmonizationOptions(warmup_epochs=1, ramp_epochs=0)
    assert [weight_at(options, at(e, total=3)) for e in range(3)] == [0, 1, 1]


def test_warmup_is_half_the_training_unless_told():
    assert warmup_end(HarmonizationOptions(), 1000) == 500
    assert warmup_end(HarmonizationOptions(warmup_epochs=400), 500) == 400
    assert warmup_end(HarmonizationOptions(), 1) == 0


@pytest.mark.parametrize("total", [3, 5])
def test_warmup_beyond_the_last_epoch_is_refused_before_the_first_step(total):
    gh = plugin(warmup_epochs=5)
    with pytest.raises(ConfigError, match=r"--gh\.warmup-epochs: 5"):
        gh.on_epoch_start(Epoch(number=0, total=total, steps=STEPS))


def test_warmup_collects_but_assigns_nothing(monkeypatch):
    def assigned(*args, **kwargs):
        raise AssertionError("Sinkhorn ran")

    monkeypatch.setattr(module, "sinkhorn", assigned)
    gh = plugin()
    seen = train(gh, range(2 * STEPS))
    assert [term.item() for term, *_ in seen] == [0.0] * 6
    assert gh.scores()["gh_cluster"].min() >= 0
    with pytest.raises(AssertionError, match="Sinkhorn ran"):
        train(gh, [2 * STEPS])


def test_term_is_the_weighted_mean_with_the_prior_in_use():
    gh = plugin(weight=3.0)
    train(gh, range(2 * STEPS))
    prior = gh.scores()["gh_prior"].clone()
    assert (prior - 0.25).abs().max() > 0.01
    step = pair(2 * STEPS)
    gh.on_epoch_start(step.epoch)
    t1, t2 = cluster_logits(step.z1, gh.structure), cluster_logits(step.z2, gh.structure)
    q1, q2 = sinkhorn(t1, prior, epsilon=0.05), sinkhorn(t2, prior, epsilon=0.05)
    losses = harmonization(t1, t2, q1, q2, temperature=0.1)
    torch.testing.assert_close(gh.terms(step)["gh"], 1.5 * losses.mean())


def test_compiles_around_the_assignment():
    operations = []

    def backend(graph, inputs):
        operations.extend(graph.graph.nodes)
        return graph.forward

    gh, step = plugin(), pair(4 * STEPS)
    gh.on_epoch_start(step.epoch)
    expected = gh.terms(step)["gh"]
    found = torch.compile(gh.terms, backend=backend)(step)["gh"]
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    # The term itself takes some twenty; unrolled, each of Sinkhorn's iterations takes ten.
    assert 10 < len(operations) < 60


def test_prior_is_renewed_when_the_warmup_ends_and_then_every_period():
    gh = plugin(warmup_epochs=2, prior_period=2, clusters=4)
    changed, before = [], gh.scores()["gh_prior"]
    for number in range(6):
        train(gh, range(number * STEPS, (number + 1) * STEPS))
        after = gh.scores()["gh_prior"]
        changed.append(after is not before)
        before = after
    assert changed == [False, True, False, True, False, True]


def test_prior_is_the_histogram_of_the_samples_average_logits():
    gh = plugin()
    train(gh, range(2 * STEPS))
    average = torch.zeros(NUM_SAMPLES, 4)
    for number in range(2 * STEPS):
        step = pair(number)
        t = F.normalize(step.z1.detach() @ gh.structure.T, dim=1)
        for i, row in zip(step.index.tolist(), t, strict=True):
            average[i] = 0.9 * average[i] + 0.1 * row
    expected = average.argmax(1).bincount(minlength=4) / NUM_SAMPLES
    scores = gh.scores()
    torch.testing.assert_close(scores["gh_prior"], expected)
    assert torch.equal(scores["gh_cluster"], average.argmax(1).int())


def test_momentum_changes_when_the_warmup_ends():
    gh = plugin()
    gh.on_epoch_start(at(1))
    assert gh.momentum == 0.9
    gh.on_epoch_start(at(2))
    assert gh.momentum == 0.999
    streaming = plugin(prior="streaming")
    streaming.on_epoch_start(at(2))
    assert streaming.momentum == pytest.approx(1 - 1 / STEPS)


def test_no_warmup_starts_from_equal_shares():
    gh = plugin(warmup_epochs=0)
    ((term, *_),) = train(gh, [0])
    assert term > 0
    torch.testing.assert_close(gh.scores()["gh_prior"], torch.full((4,), 0.25))


def test_streaming_prior_has_no_score_a_sample():
    gh = plugin(prior="streaming")
    train(gh, range(2 * STEPS))
    assert set(gh.scores()) == {"gh_prior"}
    assert (gh.scores()["gh_prior"] - 0.25).abs().max() > 0.01


# ---- what is kept, and where it runs


def test_structure_is_saved_and_not_trained():
    gh = plugin()
    assert set(gh.state_dict()) == {"structure"}
    assert list(gh.parameters()) == []
    other = plugin(seed=1)
    assert not torch.equal(other.structure, gh.structure)
    other.load_state_dict(gh.state_dict())
    assert torch.equal(other.structure, gh.structure)


def test_gradient_reaches_both_views():
    gh = plugin(warmup_epochs=0)
    ((_, grad1, grad2),) = train(gh, [0])
    assert grad1.abs().sum() > 0
    assert grad2.abs().sum() > 0


@pytest.mark.parametrize("prior", ["per-sample", "streaming"])
@pytest.mark.parametrize("cut", [1, 4, 7, 10])
def test_resumed_inside_an_epoch_goes_on_bit_for_bit(prior, cut):
    whole = plugin(prior=prior)
    expected = train(whole, range(4 * STEPS))
    first = plugin(prior=prior)
    train(first, range(cut))
    second = plugin(prior=prior, seed=5)
    second.load_state_dict(first.state_dict())
    second.memories()[0].load_state_dict(tables(first))
    resumed = train(second, range(cut, 4 * STEPS))
    for ours, theirs in zip(resumed, expected[cut:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for key, table in tables(whole).items():
        assert torch.equal(tables(second)[key], table)


def _half(rank):
    half, results = BATCH // 2, {}
    for prior in get_args(PriorKind):
        gh = plugin(prior=prior)
        seen = train(gh, range(4 * STEPS), rows=slice(rank * half, (rank + 1) * half))
        results[prior] = (seen, tables(gh))
    return results


@pytest.mark.distributed
def test_two_processes_equal_one():
    first, second = run_on_two(_half)
    for prior in get_args(PriorKind):
        gh = plugin(prior=prior)
        expected = train(gh, range(4 * STEPS))
        assert expected[-1][0] > 0
        for whole, a, b in zip(expected, first[prior][0], second[prior][0], strict=True):
            torch.testing.assert_close((a[0] + b[0]) / 2, whole[0], atol=1e-5, rtol=1e-5)
            for view in (1, 2):
                # Averaging over ranks, as DDP does, halves each rank's gradient.
                halves = torch.cat([a[view], b[view]]) / 2
                torch.testing.assert_close(halves, whole[view], atol=1e-5, rtol=1e-4)
        for key, table in tables(gh).items():
            assert torch.equal(first[prior][1][key], second[prior][1][key])
            torch.testing.assert_close(first[prior][1][key], table)


# ---- options


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"clusters": 1}, "--gh.clusters"),
        ({"weight": -1.0}, "--gh.weight"),
        ({"weight": math.nan}, "--gh.weight"),
        ({"warmup_epochs": -1}, "--gh.warmup-epochs"),
        ({"ramp_epochs": -1}, "--gh.ramp-epochs"),
        ({"temperature": 0.0}, "--gh.temperature"),
        ({"epsilon": 0.0}, "--gh.epsilon"),
        ({"sinkhorn_iterations": 0}, "--gh.sinkhorn-iterations"),
        ({"prior": "none"}, "--gh.prior"),
        ({"prior_period": 0}, "--gh.prior-period"),
        ({"prior_momentum": 1.0}, "--gh.prior-momentum"),
        ({"prior_momentum_after": -0.1}, "--gh.prior-momentum-after"),
        ({"pseudo_count": -1.0}, "--gh.pseudo-count"),
        ({"empty_clusters": "drop"}, "--gh.empty-clusters"),
    ],
)
def test_values_out_of_range_name_their_flag(changes, flag):
    with pytest.raises(ConfigError, match=flag + ":"):
        HarmonizationOptions(**changes)


def test_too_many_clusters_for_the_dimensions():
    with pytest.raises(ConfigError, match=r"--gh\.clusters"):
        plugin(clusters=DIM * 16 + 1)
