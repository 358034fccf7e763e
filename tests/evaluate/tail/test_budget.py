"""Images to label first: against a loop, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lt.evaluate.tail.budget import choose_images
from ssl_lt.evaluate.tail.findings import rarest_first
from tests.evaluate.tail.test_scores import drawn, loop_cosines, made


def drawn_score(num=40):
    return np.random.default_rng(11).permutation(num).astype(np.float64)


def loop_choice(features, score, *, budget, first):
    cosines = loop_cosines(features)
    pool = rarest_first(score)[: max(budget, len(score) // 2)].tolist()
    chosen = [first]
    while len(chosen) < budget:
        left = [i for i in pool if i not in chosen]
        chosen.append(min(left, key=lambda i: max(cosines[i, j] for j in chosen)))
    return chosen


@pytest.mark.parametrize("budget", [1, 2, 13, 20, 33, 40])
def test_the_choice_is_that_of_a_loop(budget):
    features, score = drawn(9), drawn_score()
    found = choose_images(features, score, budget=budget, seed=3)
    assert len(found) == len(set(found.tolist())) == budget
    assert found.tolist() == loop_choice(features, score, budget=budget, first=int(found[0]))
    np.testing.assert_array_equal(found, choose_images(features, score, budget=budget, seed=3))


def test_a_smaller_budget_is_the_beginning_of_a_larger_one():
    features, score = drawn(10), drawn_score()
    few, many = (choose_images(features, score, budget=n, seed=0) for n in (5, 20))
    np.testing.assert_array_equal(few, many[:5])
    firsts = {int(choose_images(features, score, budget=1, seed=seed)[0]) for seed in range(9)}
    assert len(firsts) > 1


def test_only_high_scores_are_chosen_and_unknown_ones_last():
    features, score = drawn(12), drawn_score()
    assert (score[choose_images(features, score, budget=20, seed=0)] >= 20).all()
    score[score < 8] = np.nan
    found = choose_images(features, score, budget=32, seed=0)
    assert np.isfinite(score[found]).all()


def test_the_choice_goes_with_the_images_and_knows_no_length():
    features, score = drawn(13), drawn_score()
    chosen = choose_images(features, score, budget=15, seed=0)
    order = np.random.default_rng(1).permutation(40)
    moved = choose_images(features.take(torch.from_numpy(order)), score[order], budget=15, seed=0)
    np.testing.assert_array_equal(order[moved], chosen)
    longer = made(features.features * torch.linspace(0.1, 9, 40)[:, None])
    np.testing.assert_array_equal(choose_images(longer, score, budget=15, seed=0), chosen)


def test_copies_are_chosen_when_nothing_else_is_left_and_only_once():
    features = made(np.repeat(np.eye(4), [7, 1, 1, 1], axis=0))
    found = choose_images(features, np.zeros(10), budget=10, seed=0)
    assert sorted(found.tolist()) == list(range(10))
    assert {int(i) for i in found[:4] if i >= 7} == {7, 8, 9}
