import math

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.cross_entropy import cross_entropy
from ssl_lt.losses.ldam import (
    Ldam,
    LdamOptions,
    ldam,
    ldam_hinge,
    ldam_hinge_loss,
    ldam_margins,
)
from tests.losses.logits import COUNTS, assert_golden, batch, golden_batch, weighted_mean


def oracle(cosines, labels, margins, scale):
    soft, hinge = [], []
    for z, y in zip(cosines.tolist(), labels.tolist(), strict=True):
        own = math.exp(scale * (z[y] - margins[y]))
        others = [x for j, x in enumerate(z) if j != y]
        soft.append(-math.log(own / (own + sum(math.exp(scale * x) for x in others))))
        hinge.append(max(max(others) - z[y] + margins[y], 0))
    return soft, hinge


def test_equals_the_paper():
    logits, labels = batch(40)
    cosines = logits.tanh()
    margins = [0.5 * (n / 1) ** -0.25 for n in COUNTS.tolist()]
    soft, hinge = oracle(cosines, labels, margins, 30)
    got = ldam_margins(COUNTS, max_margin=0.5)
    np.testing.assert_allclose(got, margins, rtol=1e-12)
    losses = Ldam(COUNTS, LdamOptions())(30 * cosines, labels)
    np.testing.assert_allclose(losses.detach(), soft, rtol=1e-12, atol=1e-14)
    losses = ldam_hinge_loss(COUNTS, LdamOptions())(30 * cosines, labels)
    np.testing.assert_allclose(losses.detach() / 30, hinge, rtol=1e-12)
    assert 0 < np.count_nonzero(hinge) < len(hinge)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("weighting", ["none", "drw0", "drw1"])
def test_golden_of_cosines_is_that_of_logits_of_scale_30(golden, classes, weighting):
    d = golden("supervised/ldam.npz")
    cosines, labels, counts = golden_batch(d, classes, "cos")
    margins = ldam_margins(counts, max_margin=0.5)
    np.testing.assert_allclose(margins, d[f"m_list{classes}"], rtol=1e-10)
    losses = Ldam(counts, LdamOptions())(30 * cosines, labels)
    weights = np.ones(classes) if weighting == "none" else d[f"{weighting}_weights{classes}"]
    loss = weighted_mean(losses, labels, weights)
    assert_golden(d, f"ldam{classes}_{weighting}", loss, cosines)


def test_golden_hinge(golden):
    d = golden("supervised/ldam.npz")
    cosines, labels, counts = golden_batch(d, 10, "cos")
    wanted = d["ldam_hg10_per_example"]
    losses = ldam_hinge(cosines, labels, ldam_margins(counts, max_margin=0.5))
    np.testing.assert_allclose(losses.detach(), wanted, rtol=1e-10)
    scaled = ldam_hinge_loss(counts, LdamOptions())(30 * cosines, labels)
    np.testing.assert_allclose(scaled.detach(), 30 * wanted, rtol=1e-10)


def test_margins_do_not_see_a_factor_on_the_counts():
    torch.testing.assert_close(
        ldam_margins(COUNTS, max_margin=0.5), ldam_margins(7 * COUNTS, max_margin=0.5)
    )


def test_no_margin_is_cross_entropy():
    logits, labels = batch()
    off = Ldam(COUNTS, LdamOptions(max_margin=0.0))
    torch.testing.assert_close(off(logits, labels), cross_entropy(logits, labels))


def test_uniform_counts_give_one_margin():
    logits, labels = batch()
    even = Ldam(torch.full((4,), 7), LdamOptions(max_margin=0.2, scale=10))
    moved = logits.clone()
    moved[torch.arange(7), labels] -= 2
    torch.testing.assert_close(even(logits, labels), cross_entropy(moved, labels))


def test_one_class_alone_costs_nothing():
    logits = torch.tensor([[3.0]], requires_grad=True)
    for equation in (ldam, ldam_hinge):
        loss = equation(logits, torch.tensor([0]), torch.tensor([0.5]))
        assert loss.item() == 0
        (grad,) = torch.autograd.grad(loss.sum(), logits)
        assert grad.item() == 0


def test_bad_input():
    with pytest.raises(ConfigError, match=r"--max-margin: -0.1 is negative or not finite"):
        LdamOptions(max_margin=-0.1)
    for scale in (0.0, -3.0, float("nan")):
        with pytest.raises(ConfigError, match=r"--scale: .* is not a positive number"):
            LdamOptions(scale=scale)
    with pytest.raises(ConfigError, match="counts_per_class: no training image of class 1"):
        Ldam(torch.tensor([5, 0]), LdamOptions())
