import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.class_balanced import ClassBalancedOptions
from ssl_lt.losses.effective_number import effective_number, effective_number_weights


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.9999])
def test_golden(golden, classes, beta):
    d = golden("supervised/class_balanced.npz")
    counts = torch.tensor(d[f"cls_num{classes}"], dtype=torch.float64)
    number = effective_number(counts, beta=beta)
    np.testing.assert_allclose(number, d[f"effnum{classes}_b{beta}"], rtol=1e-10)
    weights = effective_number_weights(counts, beta=beta)
    np.testing.assert_allclose(weights, d[f"w{classes}_b{beta}"], rtol=1e-10)


def test_is_the_expected_volume_of_a_random_cover():
    """E_n = 1 + beta E_(n-1): a new image is of a part not yet covered, or of one that is."""
    expected, found = 0.0, []
    for _ in range(40):
        expected = 1 + 0.97 * expected
        found.append(expected)
    number = effective_number(torch.arange(1, 41), beta=0.97)
    np.testing.assert_allclose(number, found, rtol=1e-6)


def test_limits_of_beta():
    counts = torch.tensor([900, 30, 5])
    torch.testing.assert_close(effective_number(counts, beta=0.0), torch.ones(3))
    torch.testing.assert_close(effective_number_weights(counts, beta=0.0), torch.ones(3))
    near_one = effective_number(counts, beta=1 - 1e-9)
    torch.testing.assert_close(near_one, counts.float(), rtol=1e-5, atol=0)


def test_weights_sum_to_the_number_of_classes_and_grow_towards_the_tail():
    weights = effective_number_weights(torch.tensor([5000, 387, 50, 1]), beta=0.999)
    assert weights.dtype == torch.float32
    assert weights.sum().item() == pytest.approx(4)
    assert (weights.diff() > 0).all()
    even = effective_number_weights(torch.full((3,), 70), beta=0.999)
    torch.testing.assert_close(even, torch.ones(3))


def test_single_precision_counts_lose_nothing():
    counts = torch.tensor([5, 4, 1])
    exact = effective_number_weights(counts.double(), beta=0.9999)
    got = effective_number_weights(counts, beta=0.9999)
    np.testing.assert_allclose(got, exact, rtol=1e-6)


def test_bad_input():
    with pytest.raises(ConfigError, match="counts_per_class: no training image of class 1"):
        effective_number_weights(torch.tensor([5, 0]), beta=0.9)
    for beta in (1.0, 1.2, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=r"--beta: .* is outside \[0, 1\)"):
            ClassBalancedOptions(beta=beta)
