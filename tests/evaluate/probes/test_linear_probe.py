import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ssl_lt.core.errors import DataError
from ssl_lt.data.splits.hold_out import held_out_rows
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.probes import linear_probe as probe_module
from ssl_lt.evaluate.probes import logistic
from ssl_lt.evaluate.probes.linear_probe import L2_GRID, linear_probe
from ssl_lt.evaluate.probes.logistic import Stop, fit_logistic, logits


def mixture(counts, *, seed, dim=12, noise=1.5):
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(len(counts), dim, generator=torch.Generator().manual_seed(77))
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    rows = centres[labels] + noise * torch.randn(len(labels), dim, generator=random)
    return Features(rows, labels, torch.arange(len(labels)))


@pytest.mark.parametrize("l2", [1e-1, 1e-2, 1e-3])
def test_probabilities_equal_sklearn(l2):
    data = mixture([60, 30, 12, 5], seed=0)
    x = data.features.double()
    weights, _ = fit_logistic(x, data.labels, l2=l2, stop=Stop(1e-8))
    found = logits(x, weights).softmax(dim=1)
    # sklearn minimises the sum of losses plus ||W||^2 / (2 C).
    oracle = LogisticRegression(C=1 / (l2 * len(data)), tol=1e-8, max_iter=5000)
    expected = oracle.fit(x.numpy(), data.labels.numpy()).predict_proba(x.numpy())
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_float32_fit_is_close_to_float64():
    data = mixture([60, 30, 12, 5], seed=0)
    low, _ = fit_logistic(data.features, data.labels, l2=1e-2)
    high, _ = fit_logistic(data.features.double(), data.labels, l2=1e-2)
    p_low = logits(data.features, low).softmax(dim=1)
    p_high = logits(data.features.double(), high).softmax(dim=1)
    torch.testing.assert_close(p_low.double(), p_high, rtol=0, atol=2e-3)


def test_solution_has_no_gradient():
    data = mixture([40, 20, 10], seed=1)
    x, y = data.features.double(), data.labels
    weights, _ = fit_logistic(x, y, l2=1e-2, stop=Stop(1e-7))
    weights.requires_grad_()
    loss = torch.nn.functional.cross_entropy(logits(x, weights), y)
    loss = loss + 0.5e-2 * weights[:-1].square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    assert gradient.abs().max() < 1e-6


def test_adjusted_solution_has_no_gradient():
    counts = [60, 20, 5]
    data = mixture(counts, seed=1)
    x, y = data.features.double(), data.labels
    weights, _ = fit_logistic(x, y, l2=1e-2, tau=1.0, stop=Stop(1e-7))
    weights.requires_grad_()
    prior = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    loss = torch.nn.functional.cross_entropy(logits(x, weights) + prior.log(), y)
    loss = loss + 0.5e-2 * weights[:-1].square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    assert gradient.abs().max() < 1e-6


def test_adjustment_moves_the_bias_alone_and_helps_the_tail():
    counts = [200, 40, 6]
    train, test = mixture(counts, seed=4, noise=3.0), mixture([80, 80, 80], seed=5, noise=3.0)
    x = train.features.double()
    plain, _ = fit_logistic(x, train.labels, l2=1e-2, stop=Stop(1e-9))
    adjusted, _ = fit_logistic(x, train.labels, l2=1e-2, tau=1.0, stop=Stop(1e-9))
    torch.testing.assert_close(adjusted[:-1], plain[:-1], rtol=0, atol=1e-4)
    prior = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    shift = plain[-1] - prior.log() - adjusted[-1]
    assert (shift - shift.mean()).abs().max() < 1e-3  # one constant is free
    before = linear_probe(train, test, num_classes=3, l2_grid=(1e-2,))
    after = linear_probe(train, test, num_classes=3, l2_grid=(1e-2,), tau=1.0)
    assert after.per_class[2] > before.per_class[2] + 0.1


def test_warm_start_needs_fewer_iterations():
    data = mixture([80, 40, 20, 10], seed=2)
    before, cold = fit_logistic(data.features, data.labels, l2=1e-2)
    _, warm = fit_logistic(data.features, data.labels, l2=1e-2, start=before)
    assert warm < cold / 2


def test_enormous_features_stay_finite():
    data = mixture([40, 20], seed=3)
    huge = Features(data.features * 1e12 + 1e14, data.labels, data.index)
    found = linear_probe(huge, huge, num_classes=2)
    plain = linear_probe(data, data, num_classes=2)
    assert found.per_class == pytest.approx(plain.per_class, abs=0.1)


def test_constant_features_do_no_harm():
    data = mixture([40, 20], seed=3)
    constant = torch.full((60, 1), 0.1)
    wider = Features(torch.cat([data.features, constant], 1), data.labels, data.index)
    shifted = Features(torch.cat([data.features, constant + 5], 1), data.labels, data.index)
    assert torch.equal(
        linear_probe(wider, shifted, num_classes=2).predictions,
        linear_probe(data, data, num_classes=2).predictions,
    )


def test_held_out_is_stratified_seeded_and_leaves_one():
    data = mixture([50, 11, 4, 2, 1], seed=0)

    def held_out(share, seed):
        return held_out_rows(data.labels, data.index, share=share, seed=seed)

    held = held_out(0.2, 0)
    assert data.labels[held].bincount(minlength=5).tolist() == [10, 2, 1, 1, 0]
    assert torch.equal(held, held_out(0.2, 0))
    assert not torch.equal(held, held_out(0.2, 1))
    # Even when nearly everything is held out, one image is left to fit.
    assert data.labels[~held_out(0.99, 0)].bincount().tolist() == [1, 1, 1, 1, 1]


def test_held_out_does_not_depend_on_the_order_of_rows():
    data = mixture([20, 10, 3], seed=0)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    held = held_out_rows(data.labels, data.index, share=0.2, seed=0)
    moved = held_out_rows(data.labels[order], data.index[order], share=0.2, seed=0)
    assert torch.equal(held[order], moved)


def test_test_labels_change_nothing_but_the_score():
    train, test = mixture([80, 30, 10], seed=4), mixture([30, 30, 30], seed=5)
    found = linear_probe(train, test, num_classes=3)
    wrong = Features(test.features, (test.labels + 1) % 3, test.index)
    other = linear_probe(train, wrong, num_classes=3)
    assert torch.equal(found.predictions, other.predictions)
    assert found.grid == other.grid
    assert found.per_class != other.per_class


def test_validation_images_choose_in_place_of_held_out_ones():
    train, test = mixture([80, 30, 10], seed=4), mixture([30, 30, 30], seed=5)
    validation = mixture([0, 25, 25], seed=6, noise=3.0)  # it need not have every class
    found = linear_probe(train, test, num_classes=3, validation=validation)
    for l2, score in found.grid.items():  # fitted to all of the training images
        fitted = linear_probe(train, validation, num_classes=3, l2_grid=(l2,))
        balanced = [a for a in fitted.per_class if a is not None]
        assert score == pytest.approx(sum(balanced) / 2, abs=0.03)
    assert found.l2 == max(found.grid, key=found.grid.get)
    assert found.grid != linear_probe(train, test, num_classes=3).grid
    one = Features(train.features[[0, 80, 110]], torch.arange(3), torch.arange(3))
    linear_probe(one, test, num_classes=3, validation=validation)  # nothing could be held out


def test_of_a_small_set_five_draws_choose_together():
    train, test = mixture([80, 30, 10], seed=4), mixture([30, 30, 30], seed=5)
    found = linear_probe(train, test, num_classes=3)
    for l2, score in found.grid.items():
        scores = []
        for seed in range(5):
            held = held_out_rows(train.labels, train.index, share=0.2, seed=seed)
            fitted, judged = (
                Features(train.features[rows], train.labels[rows], train.index[rows])
                for rows in (~held, held)
            )
            per_class = linear_probe(fitted, judged, num_classes=3, l2_grid=(l2,)).per_class
            scores.append(sum(per_class) / 3)
        assert score == pytest.approx(sum(scores) / 5, abs=0.05)


def test_choice_is_the_best_held_out_and_the_refit_uses_all():
    train, test = mixture([80, 30, 10], seed=4), mixture([30, 30, 30], seed=5)
    found = linear_probe(train, test, num_classes=3)
    strengths = sorted(L2_GRID, reverse=True)
    assert list(found.grid) == strengths[: len(found.grid)]
    scores = list(found.grid.values())
    # Either every strength was tried, or the last two were no better than the best before them.
    assert len(scores) == len(strengths) or max(scores[-2:]) <= max(scores[:-2])
    assert found.l2 == max(found.grid, key=found.grid.get)
    refit = linear_probe(train, test, num_classes=3, l2_grid=(found.l2,))
    # They start elsewhere and so end within the solver's tolerance of each other.
    assert (refit.predictions == found.predictions).float().mean() > 0.96
    assert refit.grid == {}
    assert found.iterations > refit.iterations > 0
    hits = found.predictions == test.labels
    by_hand = [float(hits[test.labels == c].float().mean()) for c in range(3)]
    assert found.per_class == pytest.approx(by_hand)


def test_classes_missing_from_training_are_never_predicted():
    train = mixture([30, 0, 20, 0, 10], seed=6)
    test = mixture([10, 10, 10, 10, 10], seed=7)
    found = linear_probe(train, test, num_classes=5)
    assert set(found.predictions.tolist()) <= {0, 2, 4}
    assert found.per_class[1] == 0.0


def test_bad_input_is_named():
    good = mixture([10, 5], seed=0)
    nan = Features(good.features.clone().fill_(float("nan")), good.labels, good.index)
    with pytest.raises(DataError, match="train feature is not finite"):
        linear_probe(nan, good, num_classes=2)
    with pytest.raises(DataError, match="test feature is not finite"):
        linear_probe(good, nan, num_classes=2)
    with pytest.raises(DataError, match=r"train labels 0 \.\.\. 1 do not fit 1"):
        linear_probe(good, good, num_classes=1)
    empty = Features(good.features[:0], good.labels[:0], good.index[:0])
    with pytest.raises(DataError, match="no train features"):
        linear_probe(empty, good, num_classes=2)
    with pytest.raises(DataError, match="two training images"):
        linear_probe(mixture([1, 1], seed=0), good, num_classes=2)


def test_very_many_classes_let_some_choose_and_stop_early(monkeypatch):
    train, test = mixture([20] * 12, seed=4), mixture([10] * 12, seed=5)
    converged = linear_probe(train, test, num_classes=12)
    monkeypatch.setattr(probe_module, "MOST_CLASSES", 6)
    some = linear_probe(train, test, num_classes=12)
    assert not converged.many
    assert some.many
    # A class of six has twice the share of the loss that one of twelve has.
    assert 0.05 <= some.l2 / converged.l2 <= 20
    assert np.mean(some.per_class) == pytest.approx(np.mean(converged.per_class), abs=0.05)


def test_rows_in_parts_have_the_same_solution(monkeypatch):
    data = mixture([40, 20, 10], seed=1)
    whole, _ = fit_logistic(data.features, data.labels, l2=1e-2)
    monkeypatch.setattr(logistic, "_LARGEST", 30)
    parts, _ = fit_logistic(data.features, data.labels, l2=1e-2)
    assert torch.allclose(whole, parts, atol=1e-4)
