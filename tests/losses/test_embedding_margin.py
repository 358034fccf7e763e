import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lt.losses.embedding_margin import embedding_margin
from ssl_lt.losses.labelled_rows import labelled_rows

COUNTS = torch.tensor([50.0, 9.0, 2.0], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 0, 1, 0, 2, 1, 0])


def embeddings(num=8):
    g = torch.Generator().manual_seed(3)
    z = F.normalize(torch.randn(num, 5, generator=g, dtype=torch.float64), dim=1)
    return z.requires_grad_()


def oracle(z, labels, counts, strength, temperature):
    out, rows, labels = [], z.tolist(), labels.tolist()

    def similarity(i, k):
        return sum(a * b for a, b in zip(rows[i], rows[k], strict=True)) / temperature

    for i, y in enumerate(labels):
        positives = [k for k in range(len(labels)) if k != i and labels[k] == y]
        total = 0.0
        for p in positives:
            inner = 1.0
            for k, other in enumerate(labels):
                if other != y:
                    margin = (counts[other] / counts[y]) ** strength
                    inner += margin * math.exp(similarity(i, k) - similarity(i, p))
            total += math.log(inner)
        out.append(total / len(positives) if positives else 0.0)
    return out


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equals_its_equation(strength, temperature):
    z = embeddings()
    got = embedding_margin(
        labelled_rows(z, LABELS), strength * COUNTS.log(), temperature=temperature
    )
    wanted = oracle(z.detach(), LABELS, COUNTS.tolist(), strength, temperature)
    np.testing.assert_allclose(got.detach(), wanted, rtol=1e-12)


def test_uniform_counts_have_no_margin_and_rare_anchors_a_larger_one():
    rows = labelled_rows(embeddings(), LABELS)
    plain = embedding_margin(rows, torch.zeros(3), temperature=0.1)
    even = embedding_margin(rows, torch.full((3,), 4.0), temperature=0.1)
    torch.testing.assert_close(even, plain)
    long_tailed = embedding_margin(rows, COUNTS.log(), temperature=0.1)
    assert (long_tailed[LABELS == 2] > plain[LABELS == 2]).all()
    assert (long_tailed[LABELS == 0] < plain[LABELS == 0]).all()


def test_permuted_rows_have_permuted_losses():
    z, order = embeddings(), torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    losses = embedding_margin(labelled_rows(z, LABELS), COUNTS.log(), temperature=0.1)
    moved = labelled_rows(z[order], LABELS[order])
    torch.testing.assert_close(
        embedding_margin(moved, COUNTS.log(), temperature=0.1), losses[order]
    )


@pytest.mark.parametrize("labels", [[1], [1, 1, 1], [0, 1, 2], [2, 2, 0]])
def test_any_batch_is_finite(labels):
    z, labels = embeddings(len(labels)), torch.tensor(labels)
    losses = embedding_margin(labelled_rows(z, labels), COUNTS.log(), temperature=0.1)
    has_pair = torch.tensor([1 < (labels == y).sum() < len(labels) for y in labels])
    assert torch.equal(losses > 0, has_pair)
    (grad,) = torch.autograd.grad(losses.sum(), z)
    assert grad.isfinite().all()
