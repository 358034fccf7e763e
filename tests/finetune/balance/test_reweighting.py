"""Class weights against loops, released codes and one process against two."""

from __future__ import annotations

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Epoch
from ssl_lt.finetune.balance.reweighting import ReweightedLoss, ReweightOptions, class_weights
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.losses.cross_entropy import CrossEntropy, CrossEntropyOptions, cross_entropy
from ssl_lt.losses.effective_number import effective_number_weights
from ssl_lt.losses.inverse_frequency import inverse_frequency_weights
from tests.distributed.pool import run_on_two
from tests.finetune import toy

EXACT = {"rtol": 1e-10, "atol": 0}
COUNTS = torch.tensor([40.0, 9.0, 3.0, 1.0], dtype=torch.float64)


def reweighted(loss="ce", counts=COUNTS, epoch=0, total=10, loss_options=(), **options):
    entry = LOSSES[loss]
    inner = entry.build(counts, entry.options(**dict(loss_options)))
    made = ReweightedLoss(inner, counts, ReweightOptions(**options))
    at(made, epoch, total)
    return made


def at(module, number, total=10):
    for part in module.modules():
        if hasattr(part, "on_epoch_start"):
            part.on_epoch_start(Epoch(number, total, 1))


def value_and_gradient(loss, logits, labels):
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels).mean()
    return value.detach(), torch.autograd.grad(value, logits)[0]


def tensors(numbers, *names):
    return tuple(torch.from_numpy(numbers[name]) for name in names)


# --- weights


@pytest.mark.parametrize("power", [0, 0.25, 1, 2])
def test_inverse_frequency_is_the_power_of_the_prior(power):
    found = inverse_frequency_weights(COUNTS, power=power)
    pi = [n / 53 for n in (40, 9, 3, 1)]
    total = sum(p**-power for p in pi)
    want = [4 * p**-power / total for p in pi]
    torch.testing.assert_close(found, torch.tensor(want, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("classes", [10, 100])
def test_golden_weights(golden, classes):
    vs, ldam = golden("supervised/vs.npz"), golden("supervised/ldam.npz")
    balanced = golden("supervised/class_balanced.npz")
    counts = torch.from_numpy(vs[f"cls_num{classes}"]).double()
    for nu in ("0.1", "0.15", "0.25", "0.5", "1.0"):
        options = ReweightOptions("adrw", reweight_power=float(nu))
        want = torch.from_numpy(vs[f"adrw{classes}_nu{nu}"])
        torch.testing.assert_close(class_weights(counts, options), want, **EXACT)
    inverse = class_weights(counts, ReweightOptions("inverse", reweight_power=0.3))
    torch.testing.assert_close(inverse, torch.from_numpy(vs[f"adrw{classes}_nu1.0"]), **EXACT)
    effective = class_weights(counts, ReweightOptions("effective"))
    torch.testing.assert_close(effective, torch.from_numpy(ldam[f"drw1_weights{classes}"]), **EXACT)
    for beta in ("0.9", "0.99", "0.999", "0.9999"):
        found = class_weights(counts, ReweightOptions("effective", reweight_beta=float(beta)))
        want = torch.from_numpy(balanced[f"w{classes}_b{beta}"])
        torch.testing.assert_close(found, want, **EXACT)


@pytest.mark.parametrize("kind", ["none", "inverse", "effective", "adrw"])
def test_weights_sum_to_the_number_of_classes_and_are_equal_for_equal_counts(kind):
    options = ReweightOptions(kind)
    assert class_weights(COUNTS, options).sum().item() == pytest.approx(4)
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(class_weights(ones * 7, options), ones)
    assert torch.equal(class_weights(COUNTS, ReweightOptions()), ones)
    if kind != "effective":
        torch.testing.assert_close(
            class_weights(COUNTS * 1e30, options), class_weights(COUNTS, options)
        )


# --- the weighted mean


def test_the_mean_divides_by_the_weights_of_the_batch():
    loss = reweighted(reweight="effective", reweight_beta=0.9)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 3, 0, 1])
    effective = [(1 - 0.9**n) / (1 - 0.9) for n in (40, 9, 3, 1)]
    above = below = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        weight = 1 / effective[label]
        above = above + weight * (torch.logsumexp(row, 0) - row[label])
        below += weight
    torch.testing.assert_close(loss(logits, labels).mean(), above / below, **EXACT)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(
    ("gamma", "tau"), [("0.0", "1.0"), ("0.3", "0.0"), ("0.05", "1.0"), ("0.2", "1.2")]
)
@pytest.mark.parametrize(("name", "kind"), [("drw", "effective"), ("adrw0.25", "adrw")])
def test_golden_weighted_vector_scaling(golden, classes, gamma, tau, name, kind):
    numbers = golden("supervised/vs.npz")
    logits, labels, counts = tensors(
        numbers, *(f"{key}{classes}" for key in ("logits", "labels", "cls_num"))
    )
    options = {"gamma": float(gamma), "tau": float(tau)}
    loss = reweighted("vs", counts.double(), loss_options=options, reweight=kind)
    want = tensors(
        numbers, *(f"vs{classes}_g{gamma}_t{tau}_{name}_{key}" for key in ("loss", "grad"))
    )
    for found, wanted in zip(value_and_gradient(loss, logits, labels), want, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("classes", [10, 100])
def test_golden_truncated_vector_scaling_with_weights(golden, classes):
    numbers = golden("supervised/vs.npz")
    logits, labels, counts = tensors(
        numbers, *(f"{key}{classes}" for key in ("logits", "labels", "cls_num"))
    )
    loss = reweighted(
        "vs",
        counts.double(),
        epoch=8,
        loss_options={"gamma": 0.05, "tau": 0.75, "truncate_after": 0.8},
        reweight="adrw",
        reweight_after=0.8,
    )
    want = tensors(numbers, f"tla{classes}_g0.05_t0.75_nu0.25_loss", f"tla{classes}_grad")
    for found, wanted in zip(value_and_gradient(loss, logits, labels), want, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(("epoch", "name"), [(7, "drw0"), (8, "drw1")])
def test_golden_deferred_ldam(golden, classes, epoch, name):
    numbers = golden("supervised/ldam.npz")
    cosines, labels, counts = tensors(
        numbers, *(f"{key}{classes}" for key in ("cos", "labels", "cls_num"))
    )
    loss = reweighted(
        "ldam", counts.double(), epoch=epoch, reweight="effective", reweight_after=0.8
    )
    # The module takes the cosine classifier's logits, which are scaled already.
    scale = LOSSES["ldam"].options().scale
    found, gradient = value_and_gradient(lambda x, y: loss(scale * x, y), cosines, labels)
    want, want_gradient = tensors(
        numbers, *(f"ldam{classes}_{name}_{key}" for key in ("loss", "grad"))
    )
    torch.testing.assert_close(found, want, **EXACT)
    torch.testing.assert_close(gradient, want_gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("classes", [10, 100])
def test_golden_means_of_the_two_codes(golden, classes):
    """The weights' own code divides by the batch size, torch by the weights."""
    numbers = golden("supervised/class_balanced.npz")
    logits, labels, counts = tensors(
        numbers, *(f"{key}{classes}" for key in ("logits", "labels", "cls_num"))
    )
    weights = effective_number_weights(counts.double(), beta=0.9999)
    by_batch = (weights[labels] * cross_entropy(logits, labels)).mean()
    want = torch.from_numpy(numbers[f"tf{classes}_b0.9999_softmax_g0.0_loss"])
    torch.testing.assert_close(by_batch, want, **EXACT)
    by_weights = reweighted(counts=counts.double(), reweight="effective")(logits, labels).mean()
    want = torch.from_numpy(numbers[f"torchce{classes}_b0.9999_loss"])
    torch.testing.assert_close(by_weights, want, **EXACT)


def test_the_weights_of_the_effective_number_would_shrink_the_loss():
    """What the note of `ReweightedLoss` says of CIFAR-10-LT."""
    counts = torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50.0])
    weights = effective_number_weights(counts, beta=0.9999)
    assert 5.5 < 1 / (counts / counts.sum() * weights).sum() < 6.5


# --- when, and for which batches


@pytest.mark.parametrize(("after", "first"), [(0.0, 0), (0.8, 8), (0.75, 8), (1.0, 10)])
def test_weights_begin_with_their_epoch(after, first):
    loss = reweighted(reweight="inverse", reweight_after=after)
    plain = CrossEntropy(COUNTS, CrossEntropyOptions())
    logits, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    # In any order: a resumed run starts inside any epoch.
    for number in (*range(10), 2, 9, 0):
        at(loss, number)
        same = torch.allclose(loss(logits, labels), plain(logits, labels))
        assert same == (number < first)
    assert loss.state_dict() == {}


@pytest.mark.parametrize("labels", [[3], [0, 0], [1, 1, 1]])
def test_a_batch_of_one_class_weighs_as_without_weights(labels):
    loss = reweighted(reweight="inverse")
    logits = torch.randn(len(labels), 4, dtype=torch.float64)
    labels = torch.tensor(labels)
    torch.testing.assert_close(loss(logits, labels), cross_entropy(logits, labels))


def test_the_classification_beside_a_contrast_is_weighted():
    task, whole = toy.task("scl"), toy.batch(0)
    plain = task(whole).terms
    task.loss = ReweightedLoss(task.loss, toy.COUNTS, ReweightOptions("inverse"))
    task.on_epoch_start(toy.epoch(0))
    terms = task(whole).terms
    torch.testing.assert_close(terms["contrast"], plain["contrast"])
    assert not torch.allclose(terms["classification"], plain["classification"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reweight_beta": 1.0}, "--reweight-beta: 1.0 is outside"),
        ({"reweight_power": -1}, "--reweight-power: -1 is negative"),
        ({"reweight_power": float("nan")}, "--reweight-power: nan"),
        ({"reweight_after": 1.1}, "--reweight-after: 1.1 is outside"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(ConfigError, match=says):
        ReweightOptions(**options)


@pytest.mark.parametrize("kind", ["inverse", "effective"])
def test_a_class_without_images_has_no_weight(kind):
    with pytest.raises(ConfigError, match="no training image of class 1"):
        class_weights(torch.tensor([3, 0]), ReweightOptions(kind))


# --- ranks


def step(share, *, wrap=lambda network: network):
    """Mean loss and gradient of a linear layer on a part of eight rows."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(8, 3, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 0, 0, 1, 0, 3, 2, 3])
    network = torch.nn.Linear(3, 4, bias=False).double()
    torch.nn.init.constant_(network.weight, 0.1)
    loss = reweighted(reweight="inverse")
    module = wrap(network)
    value = loss(module(x[share]), labels[share]).mean()
    value.backward()
    return value.detach(), network.weight.grad


def step_of_a_rank(rank):
    return step(slice(4 * rank, 4 * rank + 4), wrap=DistributedDataParallel)


@pytest.mark.distributed
def test_two_processes_equal_one():
    value, gradient = step(slice(None))
    (first, gradient0), (second, gradient1) = run_on_two(step_of_a_rank)
    torch.testing.assert_close((first + second) / 2, value)
    torch.testing.assert_close(gradient0, gradient)
    torch.testing.assert_close(gradient1, gradient)
