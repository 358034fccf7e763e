from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.losses.subclass_contrastive import (
    SubClassContrastiveOptions,
    ranked_contrastive,
    temperatures_by_density,
    two_level_contrastive,
)
from ssl_lt.losses.supervised_contrastive import supervised_contrastive

EXACT = {"rtol": 1e-10, "atol": 1e-12}
RELEASED_FACTOR = 0.1 / 0.07
SUB_LABELS, PARENTS = (0, 1, 1, 2, 4, 3, 0, 5, 2), torch.tensor([0, 0, 0, 1, 1, 2])
PHI = torch.tensor([0.2, 0.07, 0.1], dtype=torch.float64)


def case(sub_labels=SUB_LABELS, dim=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(2 * len(sub_labels), dim, generator=g, dtype=torch.float64)
    return F.normalize(z, dim=1), torch.tensor(sub_labels)


def ccl(z, sub_labels, parents=PARENTS, *, weight=0.25):
    rows = labelled_rows(z, sub_labels.repeat(2))
    return two_level_contrastive(rows, parents, temperature=0.1, class_weight=weight)


def rank(z, sub_labels, parents=PARENTS, phi=PHI, *, weight=0.25):
    rows = labelled_rows(z, sub_labels.repeat(2))
    other = torch.arange(len(z)).roll(len(z) // 2)
    return ranked_contrastive(rows, other, parents, phi, temperature=0.1, class_weight=weight)


def log_likelihood(z, i, positives, candidates, t):
    """Mean over the positives of log softmax over the candidates."""
    dots = {k: float(z[i] @ z[k]) / t for k in {*positives, *candidates}}
    denominator = sum(math.exp(dots[k]) for k in candidates)
    return sum(math.log(math.exp(dots[p]) / denominator) for p in positives) / len(positives)


def oracle(form, z, sub_labels, weight=0.25):
    sub = [int(s) for s in sub_labels] * 2
    classes = [int(PARENTS[s]) for s in sub]
    n, out = len(sub), []
    for i in range(n):
        others = [k for k in range(n) if k != i]
        siblings = [k for k in others if sub[k] == sub[i]]
        loss = -log_likelihood(z, i, siblings, others, 0.1)
        if form == "ccl":
            family = [k for k in others if classes[k] == classes[i]]
            loss -= weight * log_likelihood(z, i, family, others, 0.1)
        else:
            view = (i + n // 2) % n
            candidates = [k for k in others if sub[k] != sub[i] or k == view]
            family = [k for k in candidates if classes[k] == classes[i]]
            t = float(PHI[classes[i]])
            loss -= weight * log_likelihood(z, i, family, candidates, t)
        out.append(loss)
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize(("name", "loss"), [("ccl", ccl), ("rank", rank)])
def test_golden(golden, name, loss):
    numbers = {k: torch.from_numpy(v) for k, v in golden("supervised/sbcl.npz").items()}
    labels, sub_labels = numbers["labels"], numbers["cluster"]
    parents = torch.zeros(7, dtype=torch.int64).index_copy(0, sub_labels, labels)
    views = numbers["features"].requires_grad_()  # (B, V, D)
    z = views.transpose(0, 1).flatten(0, 1)
    more = {"phi": numbers["rank_temperature"]} if name == "rank" else {}
    # The released code scales the first term alone.
    losses = loss(z, sub_labels, parents, weight=0.25 / RELEASED_FACTOR, **more)
    total = RELEASED_FACTOR * losses.mean()
    torch.testing.assert_close(total, numbers[f"{name}_loss"], **EXACT)
    (grad,) = torch.autograd.grad(total, views)
    torch.testing.assert_close(grad, numbers[f"{name}_grad"], **EXACT)


@pytest.mark.parametrize("sub_labels", [SUB_LABELS, (0, 1, 2, 3, 4, 5), (1, 1), (5,)], ids=str)
@pytest.mark.parametrize(("name", "loss"), [("ccl", ccl), ("rank", rank)])
def test_equation(name, loss, sub_labels):
    z, sub_labels = case(sub_labels)
    got = loss(z, sub_labels, weight=0.4)
    torch.testing.assert_close(got, oracle(name, z, sub_labels, 0.4), **EXACT)


@pytest.mark.parametrize("loss", [ccl, rank])
def test_permutation(loss):
    z, sub_labels = case()
    order = torch.randperm(len(sub_labels))
    both = torch.cat([order, order + len(order)])
    torch.testing.assert_close(loss(z[both], sub_labels[order]), loss(z, sub_labels)[both])


def test_whole_classes_are_the_supervised_contrast():
    z, labels = case()
    scl = supervised_contrastive(labelled_rows(z, labels.repeat(2)), temperature=0.1)
    whole = torch.arange(6)
    torch.testing.assert_close(ccl(z, labels, whole), 1.25 * scl)
    torch.testing.assert_close(rank(z, labels, weight=0.0), scl)
    # One sub-class alone: the other view against all others, as without labels.
    simclr = supervised_contrastive(
        labelled_rows(z, torch.arange(len(labels)).repeat(2)), temperature=0.1
    )
    phi = torch.full((6,), 0.1, dtype=torch.float64)
    each = torch.arange(9)
    alone = rank(z, each, each, phi.new_full((9,), 0.1)) - 1.25 * simclr
    torch.testing.assert_close(alone, torch.zeros_like(simclr))


@pytest.mark.parametrize("loss", [ccl, rank])
@pytest.mark.parametrize("sub_labels", [(0,), (1, 1, 1), (0, 5), (3, 4, 3)], ids=str)
def test_finite(loss, sub_labels):
    z = torch.zeros(2 * len(sub_labels), 4, dtype=torch.float64)
    z[:, 0] = 1
    z.requires_grad_()
    losses = loss(z, torch.tensor(sub_labels))
    losses.mean().backward()
    assert losses.isfinite().all()
    assert z.grad.isfinite().all()


def test_temperatures():
    g = torch.Generator().manual_seed(0)
    counts, spreads = [60, 30, 20, 12, 5, 2], [1.0, 0.2, 2.0, 0.6, 0.1, 1.5]
    labels = torch.arange(6).repeat_interleave(torch.tensor(counts))
    noise = torch.randn(len(labels), 4, generator=g, dtype=torch.float64)
    features = F.normalize(1 + torch.tensor(spreads).double()[labels, None] * noise, dim=1)
    sub_classes = torch.tensor([6, 3, 2, 2, 1, 1])
    density = []
    for c in range(6):
        rows = features[labels == c].numpy()
        distances = np.linalg.norm(rows - rows.mean(axis=0), axis=1)
        density.append(distances.mean() / math.log(len(rows) + 10))
    density = np.clip(density, np.percentile(density, 20), np.percentile(density, 80))
    want = np.where(sub_classes.numpy() == 1, 0.1, 0.1 * density / density.mean())
    got = temperatures_by_density(features, labels, sub_classes, temperature=0.1)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)
    assert len({round(float(t), 6) for t in got}) > 2


@pytest.mark.parametrize("labels", [[0] * 6, [0, 0, 0, 1, 1, 2]])
def test_temperatures_of_rows_that_coincide(labels):
    features = torch.ones(6, 4) / 2
    got = temperatures_by_density(
        features, torch.tensor(labels), torch.tensor([2, 2, 1]), temperature=0.1
    )
    torch.testing.assert_close(got, torch.full((3,), 0.1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("form", "both"),
        ("class_weight", -0.1),
        ("cluster_after", -1),
        ("recluster_every", 0),
        ("smallest_sub_class", 0),
        ("temperature", 0.0),
        ("contrast_weight", -1.0),
    ],
)
def test_bad_options(field, value):
    with pytest.raises(ConfigError, match="--" + field.replace("_", "-")):
        SubClassContrastiveOptions(**{field: value})
