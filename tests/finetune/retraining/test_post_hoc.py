from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.finetune.retraining.choice import balanced_accuracy, best_strength
from ssl_lt.finetune.retraining.post_hoc import (
    inverse_frequency_costs,
    plug_in_predictions,
    post_hoc_adjusted,
    threshold_moved,
)

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(40, 4, generator=GENERATOR, dtype=torch.float64)
LOG_PRIOR = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("tau", [0.5, 1.0, 1.3, 2.0])
def test_post_hoc_golden(golden, num_classes, tau):
    g = golden("supervised/logit_adjust_balsoftmax.npz")
    prior = torch.from_numpy(g[f"cls_num{num_classes}"]).double()
    prior /= prior.sum()
    f = torch.from_numpy(g[f"logits{num_classes}"])
    adjusted = post_hoc_adjusted(f, prior.log(), tau=tau)
    # The golden numbers subtract log(pi^tau + 1e-12).
    shift = torch.log1p(1e-12 / prior**tau)
    expected = g[f"posthoc{num_classes}_t{tau}_logits"]
    assert_allclose((adjusted - shift).numpy(), expected, rtol=1e-10, atol=1e-12)
    assert_allclose(adjusted.argmax(1).numpy(), g[f"posthoc{num_classes}_t{tau}_pred"])


def test_no_strength_and_a_uniform_prior_change_no_prediction():
    assert torch.equal(post_hoc_adjusted(LOGITS, LOG_PRIOR, tau=0.0), LOGITS)
    uniform = torch.full((4,), 0.25).double().log()
    moved = post_hoc_adjusted(LOGITS, uniform, tau=1.7)
    assert torch.equal(moved.argmax(1), LOGITS.argmax(1))


def test_threshold_moving_golden(golden):
    g = golden("supervised/misc_formula.npz")
    p = torch.from_numpy(g["tm_probs"])
    moved = threshold_moved(p, torch.from_numpy(g["tm_cost"]))
    assert_allclose(moved.numpy(), g["tm_out"], rtol=1e-10)
    assert_allclose(moved.argmax(1).numpy(), g["tm_pred"])


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.3])
def test_threshold_moving_golden_by_inverse_frequency(golden, tau):
    g = golden("supervised/misc_formula.npz")
    prior = torch.from_numpy(golden("supervised/logit_adjust_balsoftmax.npz")["cls_num10"]).double()
    costs = inverse_frequency_costs((prior / prior.sum()).log(), tau=tau)
    moved = threshold_moved(torch.from_numpy(g["tm_probs"]), costs)
    assert_allclose(moved.numpy(), g[f"tm_la_t{tau}"], rtol=1e-10)


def test_threshold_moving_is_the_slow_sum():
    p = LOGITS.softmax(1)
    costs = torch.rand(4, 4, generator=GENERATOR, dtype=torch.float64)
    moved = threshold_moved(p, costs)
    for row, out in zip(p.tolist(), moved.tolist(), strict=True):
        raw = [row[k] * math.fsum(costs[k].tolist()) for k in range(4)]
        assert_allclose(out, [x / math.fsum(raw) for x in raw], rtol=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 2.0])
def test_threshold_moving_by_inverse_frequency_is_post_hoc_adjustment(tau):
    costs = inverse_frequency_costs(LOG_PRIOR, tau=tau)
    assert torch.equal(costs.diagonal(), torch.zeros(4, dtype=torch.float64))
    moved = threshold_moved(LOGITS.softmax(1), costs)
    adjusted = post_hoc_adjusted(LOGITS, LOG_PRIOR, tau=tau).softmax(1)
    assert_allclose(moved.numpy(), adjusted.numpy(), rtol=1e-10)


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        (torch.ones(3, 4), "costs: 3 x 4 numbers for 4 classes"),
        (torch.ones(4), "costs: 4 numbers for 4 classes"),
        (torch.eye(4) - 0.1 * torch.eye(4)[[1, 0, 2, 3]], "costs: -0.1 in row 0, column 1"),
        (torch.full((4, 4), torch.nan), "costs: nan in row 0, column 0"),
        (torch.diag(torch.tensor([1.0, 1, 0, 1])), "costs: row 2 sums to 0"),
    ],
)
def test_what_is_no_cost_matrix_is_refused_in_one_line(costs, says):
    with pytest.raises(DataError) as caught:
        threshold_moved(LOGITS.softmax(1).float(), costs)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_plug_in_golden(golden):
    g = golden("supervised/misc_formula.npz")
    # The golden numbers compare a score with the share of positives; here it is a probability.
    score = torch.from_numpy(g["plug_eta"])
    positive = torch.from_numpy(g["plug_y"]) == 1
    counts = torch.tensor([(~positive).sum(), positive.sum()])
    assert_allclose(float(counts[1] / counts.sum()), float(g["plug_phat"]), rtol=1e-6)
    predictions = plug_in_predictions(torch.stack([1 - score, score], dim=1), counts)
    assert_allclose((2 * predictions - 1).numpy(), g["plug_h"])
    found = balanced_accuracy(predictions, positive.long())
    assert_allclose(float(found), float(g["plug_am"]), rtol=1e-10)


def test_plug_in_is_post_hoc_adjustment_of_strength_1():
    counts = torch.tensor([90, 10])
    log_prior = (counts / counts.sum()).double().log()
    f = LOGITS[:, :2]
    expected = post_hoc_adjusted(f, log_prior, tau=1.0).argmax(1)
    assert torch.equal(plug_in_predictions(f.softmax(1), counts), expected)
    assert 0 < int(expected.sum()) < len(f)


def test_plug_in_is_for_two_classes():
    with pytest.raises(ConfigError, match="two classes, not 4"):
        plug_in_predictions(LOGITS.softmax(1), torch.tensor([4, 3, 2, 1]))


def test_balanced_accuracy_is_the_mean_over_the_classes_present():
    labels = torch.tensor([0, 0, 0, 0, 3, 3, 1])
    predictions = torch.tensor([0, 0, 0, 1, 3, 0, 2])
    assert_allclose(float(balanced_accuracy(predictions, labels)), np.mean([3 / 4, 1 / 2, 0]))


def test_best_strength_and_the_middle_of_equally_good_ones():
    labels = torch.tensor([0, 1, 2])
    right_from_to = {0.0: 1, 0.1: 2, 0.2: 3, 0.3: 3, 0.4: 3, 0.5: 0}

    def predict(strength):
        wrong = (labels + 1) % 3
        return torch.where(torch.arange(3) < right_from_to[strength], labels, wrong)

    assert best_strength(list(right_from_to), predict, labels) == 0.3
    assert best_strength([0.0, 0.5], predict, labels) == 0.0
