import math

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.cross_entropy import cross_entropy
from ssl_lt.losses.focal import Focal, FocalOptions, focal, focal_of
from tests.losses.logits import assert_golden, batch, golden_batch


def oracle(logits, labels, gamma):
    out = []
    for f, y in zip(logits.tolist(), labels.tolist(), strict=True):
        p = math.exp(f[y]) / sum(map(math.exp, f))
        out.append(-((1 - p) ** gamma) * math.log(p))
    return out


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_equals_the_paper(gamma):
    logits, labels = batch()
    got = focal(logits, labels, gamma=gamma)
    np.testing.assert_allclose(got.detach(), oracle(logits, labels, gamma), rtol=1e-12)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_golden(golden, classes, gamma):
    d = golden("supervised/ldam.npz")
    cosines, labels, _ = golden_batch(d, classes, "cos")
    logits = (8 * cosines).detach().requires_grad_()
    loss = focal(logits, labels, gamma=gamma).mean()
    assert_golden(d, f"sfocal{classes}_g{gamma}", loss, logits)


@pytest.mark.parametrize("classes", [10, 100])
def test_weights_inside_the_exponent_are_those_of_the_released_code(golden, classes):
    d = golden("supervised/ldam.npz")
    cosines, labels, _ = golden_batch(d, classes, "cos")
    logits = (8 * cosines).detach().requires_grad_()
    weights = torch.tensor(d[f"drw1_weights{classes}"])[labels]
    losses = cross_entropy(logits, labels)
    loss = focal_of(weights * losses, gamma=1.0).mean()
    assert_golden(d, f"sfocalw{classes}_g1.0", loss, logits)
    outside = (weights * focal_of(losses, gamma=1.0)).mean()
    assert abs(outside.item() / loss.item() - 1) > 1e-4


def test_no_gamma_is_cross_entropy():
    logits, labels = batch()
    torch.testing.assert_close(focal(logits, labels, gamma=0.0), cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_certain_prediction_has_a_finite_gradient(gamma):
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0], [20.0, 0.0]], requires_grad=True)
    losses = focal(logits, torch.tensor([0, 0, 0]), gamma=gamma)
    np.testing.assert_allclose(losses.tolist()[:2], [0.0, 300.0])
    (grad,) = torch.autograd.grad(losses.sum(), logits)
    assert grad.isfinite().all()


def test_bad_input():
    for gamma in (-0.5, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=r"--gamma: .*, must be at least 0 and finite"):
            FocalOptions(gamma=gamma)
    assert Focal(torch.tensor([3, 0]), FocalOptions()).state_dict() == {}
