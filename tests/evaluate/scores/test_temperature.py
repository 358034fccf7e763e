"""The temperature against a search over a grid, and what probabilities are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lt.core.errors import DataError
from ssl_lt.evaluate.scores.temperature import HIGHEST, LOWEST, fit_temperature, probabilities


def drawn(seed, scale, num_images=400, num_classes=5):
    """Logits whose labels are drawn from the softmax of logits / scale."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_images, num_classes, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return scale * logits, labels


@pytest.mark.parametrize("scale", [0.05, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_temperature_of_a_grid_is_better(scale, weighted):
    logits, labels = drawn(0, scale)
    weights = torch.tensor([0.5, 1.0, 2.0, 1.0, 0.2]).double()[labels] if weighted else None
    found = fit_temperature(logits, labels, weights=weights)

    def loss(temperature):
        losses = F.cross_entropy(logits.double() / temperature, labels, reduction="none")
        return float(losses.mean() if weights is None else (weights * losses).sum() / weights.sum())

    grid = np.geomspace(LOWEST, HIGHEST, 4001)
    best = min(grid, key=loss)
    assert loss(found) <= loss(best) + 1e-12
    assert found == pytest.approx(best, rel=3e-3)
    assert found == pytest.approx(scale, rel=0.25)


def test_a_weight_counts_as_so_many_images():
    logits, labels = drawn(1, 2.0)
    times = torch.arange(len(labels)) % 3 + 1
    repeated = fit_temperature(logits.repeat_interleave(times, 0), labels.repeat_interleave(times))
    assert fit_temperature(logits, labels, weights=times) == pytest.approx(repeated, rel=1e-6)


def test_where_the_images_cannot_tell_nothing_is_changed():
    logits, labels = drawn(3, 1.0)  # which are calibrated
    assert fit_temperature(logits, labels) == 1
    logits, labels = drawn(3, 1.6)
    assert fit_temperature(logits[:20], labels[:20]) == 1
    assert 1.4 < fit_temperature(logits, labels) < 1.8


def test_few_images_that_are_all_right_change_nothing():
    all_right, lowest = 0, 1.0
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        logits = 10 * torch.randn(20, 5, generator=generator)  # calibrated, 92 % right
        labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
        found = fit_temperature(logits, labels)
        lowest = min(lowest, found)
        if bool((logits.argmax(dim=1) == labels).all()):
            all_right += 1
            assert found == 1
    assert all_right > 20
    assert lowest > LOWEST


def test_it_ends_at_an_end_where_nothing_bounds_it():
    labels = torch.tensor([0, 1, 2])
    logits, drawn_labels = drawn(0, 0.002)
    assert fit_temperature(logits, drawn_labels) == LOWEST
    assert fit_temperature(-10 * torch.eye(3), labels) == HIGHEST
    assert fit_temperature(torch.zeros(3, 3), labels) == 1  # all are equally good


def test_without_finite_logits_it_is_refused():
    for logits in (torch.empty(0, 3), torch.full((2, 3), torch.nan)):
        with pytest.raises(DataError, match="finite logits"):
            fit_temperature(logits, torch.zeros(len(logits), dtype=torch.int64))


def test_probabilities_are_those_of_the_formula():
    logits, _ = drawn(2, 1.0, num_images=20)
    shift = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2], dtype=torch.float64))
    found = probabilities(logits, temperature=2.5, log_shift=shift)
    odds = (logits.double() / 2.5).exp() * shift.exp()
    torch.testing.assert_close(found, (odds / odds.sum(dim=1, keepdim=True)).float())
    torch.testing.assert_close(probabilities(logits), logits.softmax(dim=1))
