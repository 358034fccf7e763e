"""Nearest class means, local decomposition and synthetic features."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose

from ssl_lt.finetune.retraining.class_means import nearest_mean_logits
from ssl_lt.finetune.retraining.linear import SGDOptions
from ssl_lt.finetune.retraining.local_decomposition import fit_decomposed, parent_scores
from ssl_lt.finetune.retraining.smote import interpolated, nearest_neighbours, smote


@pytest.mark.parametrize("normalisation", ["un", "l2n", "cl2n"])
@pytest.mark.parametrize("similarity", ["l2", "cos"])
def test_nearest_mean_golden(golden, normalisation, similarity):
    g = golden("supervised/decoupling.npz")
    logits = nearest_mean_logits(
        torch.from_numpy(g["ncm_query"]),
        torch.from_numpy(g["X"]),
        torch.from_numpy(g["y"]),
        num_classes=10,
        normalisation=normalisation,
        similarity=similarity,
    )
    expected = g[f"ncm_{normalisation}_{similarity}_logits"]
    assert_allclose(logits.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_a_class_without_images_is_never_the_nearest():
    x = torch.tensor([[5.0, 5.0], [6.0, 5.0]])
    logits = nearest_mean_logits(
        torch.zeros(1, 2),
        x,
        torch.tensor([1, 1]),
        num_classes=3,
        normalisation="un",
        similarity="l2",
    )
    assert logits.argmax().item() == 1
    assert torch.equal(logits[0, [0, 2]], torch.full((2,), -torch.inf))


@pytest.mark.parametrize("merge", ["max", "sum"])
def test_parent_scores_are_the_slow_loop(merge):
    logits = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    parents = torch.tensor([0, 0, 0, 1, 3, 3])
    scores = parent_scores(logits, parents, num_classes=4, merge=merge)
    combine = {"max": max, "sum": sum}[merge]
    for row, p in zip(scores.tolist(), logits.softmax(1).tolist(), strict=True):
        for c in range(4):
            own = [p[k] for k in range(6) if parents[k] == c]
            assert row[c] == pytest.approx(combine(own) if own else 0.0)


def test_the_likeliest_sub_class_wins_by_max():
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    parents = torch.tensor([0, 0, 0, 1, 2, 2])
    by_max = parent_scores(logits, parents, num_classes=3, merge="max").argmax(1)
    assert torch.equal(by_max, parents[logits.argmax(1)])


def test_decomposition_tells_apart_what_no_single_line_can():
    g = torch.Generator().manual_seed(0)
    # The frequent class lies on both sides of the rare one.
    corners = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 0.0]])
    x = corners.repeat_interleave(30, dim=0) + 0.4 * torch.randn(90, 2, generator=g)
    labels = torch.tensor([0, 0, 1]).repeat_interleave(30)
    layer, parents = fit_decomposed(
        x, labels, torch.tensor([60, 30]), options=SGDOptions(epochs=100), seed=0
    )
    assert parents.tolist() == [0, 0, 1]
    for merge in ("max", "sum"):
        predictions = parent_scores(layer(x), parents, num_classes=2, merge=merge).argmax(1)
        assert float((predictions == labels).float().mean()) > 0.95


def test_synthetic_features_golden(golden):
    g = golden("supervised/misc_formula.npz")
    x = torch.from_numpy(g["smote_X"])
    table = nearest_neighbours(x, 5)
    assert_allclose(table.numpy(), g["smote_nn"])
    first = torch.from_numpy(g["smote_i"])
    second = table[first, torch.from_numpy(g["smote_j"])]
    made = interpolated(x, first, second, torch.from_numpy(g["smote_lam"]))
    assert_allclose(made.numpy(), g["smote_out"], rtol=1e-10)


def test_every_class_gets_as_many_rows_of_its_own_kind():
    counts = [30, 12, 4, 1]
    labels = torch.tensor([c for c, n in enumerate(counts) for _ in range(n)])
    x = torch.randn(47, 3, generator=torch.Generator().manual_seed(0)) + 100 * labels[:, None]
    made, classes = smote(x, labels, rows_per_class=12, k=5, seed=0)
    assert torch.equal(torch.bincount(classes), torch.full((4,), 12))
    for c, n in enumerate(counts):
        own, rows = x[labels == c], made[classes == c]
        real = (rows[:, None] == own).all(-1)
        # Frequent rows once each; all rows of a rare class stay.
        assert int(real.any(0).sum()) == min(n, 12)
        if n >= 12:
            assert int(real.any(1).sum()) == 12
        for row in rows[~real.any(1)]:
            assert min(_distance_to_segment(row, a, b) for a in own for b in own) < 1e-4


def test_synthetic_features_are_repeatable_and_new_for_another_seed():
    x, labels = torch.randn(9, 2), torch.tensor([0] * 6 + [2] * 3)
    first, _ = smote(x, labels, rows_per_class=5, k=2, seed=0)
    assert torch.equal(first, smote(x, labels, rows_per_class=5, k=2, seed=0)[0])
    assert not torch.equal(first, smote(x, labels, rows_per_class=5, k=2, seed=1)[0])


def test_neighbours_never_include_the_point_itself_even_among_equal_points():
    table = nearest_neighbours(torch.zeros(6, 2), 3)
    assert not (table == torch.arange(6)[:, None]).any()


def _distance_to_segment(p, a, b):
    along = b - a
    length = float(along @ along)
    t = 0.0 if length == 0 else min(1.0, max(0.0, float((p - a) @ along) / length))
    return float((a + t * along - p).norm())
