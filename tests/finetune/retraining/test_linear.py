from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose

from ssl_lt.core.errors import ConfigError, NumericError
from ssl_lt.finetune.retraining.linear import SGDOptions, fit_layer, fit_linear
from ssl_lt.finetune.retraining.sampling import balanced_rows, instance_rows
from ssl_lt.finetune.retraining.scales import ClassScales, fit_scales, tau_normalised

COUNTS = torch.tensor([60, 20, 5, 1])
LABELS = torch.arange(4).repeat_interleave(COUNTS)
FEW = SGDOptions(epochs=3, lr=0.2, fit_batch_size=16)


def clouds(seed=0):
    """Features around a corner a class, not quite apart."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.eye(4, 6, dtype=torch.float64)
    return centres[LABELS] + 0.4 * torch.randn(len(LABELS), 6, generator=g, dtype=torch.float64)


def test_balanced_rows_take_every_class_equally_often_and_every_image_in_turn():
    rows = balanced_rows(LABELS, seed=1, epoch=0)
    assert torch.equal(torch.bincount(LABELS[rows]), torch.full((4,), 60))
    times = torch.bincount(rows, minlength=len(LABELS))
    for number in range(4):
        own = times[number == LABELS]
        assert int(own.max() - own.min()) <= 1
    assert not torch.equal(LABELS[rows], LABELS[rows].sort().values)


def test_instance_rows_take_every_image_equally_often():
    rows = instance_rows(LABELS, seed=1, epoch=0)
    assert len(rows) == len(balanced_rows(LABELS, seed=1, epoch=0)) == 240
    times = torch.bincount(rows, minlength=len(LABELS))
    assert int(times.max() - times.min()) <= 1


@pytest.mark.parametrize("sampling", [balanced_rows, instance_rows])
def test_rows_are_a_function_of_seed_and_epoch(sampling):
    first = sampling(LABELS, seed=1, epoch=0)
    assert torch.equal(first, sampling(LABELS, seed=1, epoch=0))
    assert not torch.equal(first, sampling(LABELS, seed=1, epoch=1))
    assert not torch.equal(first, sampling(LABELS, seed=2, epoch=0))


@pytest.mark.parametrize("labels", [[2], [5, 5, 5], [0, 4]])
def test_rows_of_few_images_and_absent_classes(labels):
    labels = torch.tensor(labels)
    rows = balanced_rows(labels, seed=0, epoch=0)
    assert sorted(rows.tolist()) == list(range(len(labels)))


def test_fit_layer_is_sgd_written_out():
    x = clouds()
    layer = ClassScales(6).double()
    fit_layer(layer, x, LABELS, options=FEW, sampling=balanced_rows, seed=3)
    s = torch.ones(6, dtype=torch.float64)
    momentum = torch.zeros_like(s)
    step, steps = 0, 3 * 15
    for epoch in range(3):
        order = balanced_rows(LABELS, seed=3, epoch=epoch)
        for start in range(0, 240, 16):
            rows = order[start : start + 16]
            p = (x[rows] * s).softmax(1)
            p[torch.arange(len(rows)), LABELS[rows]] -= 1
            gradient = (p * x[rows]).mean(0) + 5e-4 * s
            momentum = 0.9 * momentum + gradient
            cosine = (1 + torch.cos(torch.tensor(torch.pi * step / steps).double())) / 2
            s = s - 0.2 * cosine * momentum
            step += 1
    assert_allclose(layer.scales.detach().numpy(), s.numpy(), rtol=1e-6)


def test_retrained_classifier_is_repeatable_balanced_and_free_of_the_unit():
    x = clouds()
    layer = fit_linear(x, LABELS, num_classes=4, options=SGDOptions(), seed=0)
    again = fit_linear(x, LABELS, num_classes=4, options=SGDOptions(), seed=0)
    assert torch.equal(layer.weight, again.weight)
    larger = fit_linear(1000 * x, LABELS, num_classes=4, options=SGDOptions(), seed=0)
    assert_allclose((1000 * larger.weight).numpy(), layer.weight.numpy(), rtol=1e-6)
    plain = fit_linear(
        x, LABELS, num_classes=4, options=SGDOptions(), sampling=instance_rows, seed=0
    )
    fresh = clouds(seed=5)
    rare = LABELS >= 2

    def right(classifier):
        return float((classifier(fresh).argmax(1) == LABELS)[rare].double().mean())

    assert right(layer) > right(plain)


def test_retrained_classifier_nears_the_class_weighted_optimum():
    x = clouds()
    options = SGDOptions(epochs=100, lr=1.0, fit_batch_size=80)
    layer = fit_linear(x, LABELS, num_classes=4, options=options, seed=0)
    unit = x.square().mean().sqrt()
    w = torch.zeros(4, 7, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w], max_iter=500, line_search_fn="strong_wolfe")
    weights = (1 / (4 * COUNTS.double()))[LABELS]

    def loss(v):
        z = (x / unit) @ v[:, :6].T + v[:, 6]
        ce = torch.nn.functional.cross_entropy(z, LABELS, reduction="none")
        return (weights * ce).sum() + 5e-4 / 2 * v.square().sum()

    def closure():
        solver.zero_grad()
        value = loss(w)
        value.backward()
        return value

    solver.step(closure)
    found = torch.cat([layer.weight * unit, layer.bias[:, None]], dim=1)
    assert float(loss(found)) < 1.02 * float(loss(w.detach()))


def test_absent_classes_and_constant_features_give_finite_classifiers():
    for x in (torch.zeros(3, 2), torch.ones(3, 2)):
        layer = fit_linear(x, torch.tensor([1, 1, 3]), num_classes=5, options=FEW, seed=0)
        assert bool(layer.weight.isfinite().all() and layer.bias.isfinite().all())


def test_a_rate_that_diverges_ends_in_one_line():
    options = SGDOptions(epochs=3, lr=1e300, fit_batch_size=16)
    with pytest.raises(NumericError, match="--lr"):
        fit_linear(clouds(), LABELS, num_classes=4, options=options, seed=0)


@pytest.mark.parametrize(
    ("values", "flag"),
    [({"epochs": 0}, "--epochs"), ({"lr": 0.0}, "--lr"), ({"fit_batch_size": 0}, "--fit-batch")],
)
def test_options_are_checked(values, flag):
    with pytest.raises(ConfigError, match=flag):
        SGDOptions(**values)


@pytest.mark.parametrize("tau", ["0.0", "0.3", "0.5", "0.7", "1.0", "2.0"])
def test_tau_normalisation_golden(golden, tau):
    g = golden("supervised/decoupling.npz")
    weight = tau_normalised(torch.from_numpy(g["W"]), tau=float(tau))
    assert_allclose(weight.numpy(), g[f"W_p{tau}"], rtol=1e-10)
    logits = torch.from_numpy(g["X"]) @ weight.T
    assert_allclose(logits.numpy(), g[f"logits_p{tau}"], rtol=1e-10, atol=1e-13)


def test_tau_normalisation_of_a_row_of_zeros_is_finite():
    assert torch.equal(tau_normalised(torch.zeros(2, 3), tau=1.5), torch.zeros(2, 3))


def test_scaled_logits_golden(golden):
    g = golden("supervised/decoupling.npz")
    layer = ClassScales(10).double()
    layer.scales.data = torch.from_numpy(g["lws_scales"])
    logits = torch.from_numpy(g["X"] @ g["W"].T + g["b"])
    assert_allclose(layer(logits).detach().numpy(), g["lws_logits"], rtol=1e-10)


def test_scales_raise_the_rare_classes():
    # A classifier whose rare classes have short weights, as training on long tails leaves them.
    logits = clouds()[:, :4] * torch.tensor([3.0, 2.0, 0.7, 0.3])
    scales = fit_scales(logits, LABELS, options=SGDOptions(epochs=5), seed=0).scales
    assert float(scales[3]) > float(scales[0])
    assert float(scales[3]) > 1
