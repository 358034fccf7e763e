import math

import pytest
import torch

from ssl_lt.core.sgd import cosine_rates, take_steps


def test_rates_fall_along_a_cosine():
    found = list(cosine_rates(0.4, 8))
    assert found[0] == 0.4
    assert found[4] == pytest.approx(0.2)
    assert found[7] == pytest.approx(0.2 * (1 + math.cos(7 * math.pi / 8)))


def test_steps_are_sgd_written_out():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    weight = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([weight], lr=9.0, momentum=0.5)
    batches = [(0.1, torch.tensor([0, 1])), (0.05, torch.tensor([3]))]
    assert take_steps(optimizer, lambda rows: (weight * x[rows]).square().mean() / 2, batches) == 2
    first = 2.5  # mean of x^2 over the batch, times the weight
    after = 1.0 - 0.1 * first
    assert weight.item() == pytest.approx(after - 0.05 * (0.5 * first + 16 * after))
