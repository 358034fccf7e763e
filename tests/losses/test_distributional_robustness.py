from __future__ import annotations

import math

import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import gather_rows, own_rows
from ssl_lt.losses.distributional_robustness import (
    DistributionalRobustnessOptions,
    distributional_robustness,
    frequency_weights,
)
from ssl_lt.losses.labelled_rows import LabelledRows, labelled_rows
from tests.distributed.pool import NUM_RANKS, run_on_two

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def oracle(features, labels, centroids, radii, temperature, weights=None):
    """The loss of the batch, class by class and row by row."""
    present = sorted({int(y) for y in labels})
    total = 0.0
    for c in present:
        members = [i for i, y in enumerate(labels) if int(y) == c]

        def logit(k, c=c):
            distance = math.sqrt(
                sum(float(a - b) ** 2 for a, b in zip(features[k], centroids[c], strict=True))
            )
            return -(distance + (float(radii[c]) if int(labels[k]) == c else 0.0)) / temperature

        denominator = sum(math.exp(logit(k)) for k in range(len(labels)))
        mean = sum(-math.log(math.exp(logit(i)) / denominator) for i in members) / len(members)
        if weights is None:
            total += mean / len(present)
        else:
            total += mean * float(weights[c]) / float(weights.sum())
    return total


def case(labels=(3, 0, 1, 1, 2, 0, 3, 1), num_classes=5, dim=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor(labels)
    features = torch.randn(len(labels), dim, generator=g, dtype=torch.float64)
    centroids = torch.randn(num_classes, dim, generator=g, dtype=torch.float64)
    radii = torch.rand(num_classes, generator=g, dtype=torch.float64) * 2
    return features, labels, centroids, radii


def loss_of(features, labels, centroids, radii, *, temperature=0.7, weights=None):
    return distributional_robustness(
        labelled_rows(features, labels),
        centroids,
        radii,
        temperature=temperature,
        class_weights=weights,
    )


@pytest.mark.parametrize("name", ["noeps", "eps1", "eps1_t0.07", "epsvar"])
def test_golden(golden, name):
    numbers = {k: torch.from_numpy(v) for k, v in golden("supervised/drolt.npz").items()}
    rows, classes = numbers["centroid_feats"], numbers["centroid_targets"]
    centroids = torch.stack([rows[classes == c].mean(dim=0) for c in range(5)])
    radii = {"noeps": torch.zeros(5), "epsvar": numbers["eps"]}.get(name, torch.ones(5))
    features = numbers["batch_feats"].requires_grad_()
    losses = loss_of(
        features,
        numbers["batch_targets"],
        centroids,
        radii.double(),
        temperature=0.07 if "t0.07" in name else 1.0,
        weights=numbers["lt_weights"] if name in ("eps1", "epsvar") else None,
    )
    torch.testing.assert_close(losses.mean(), numbers[f"{name}_loss_intended"], **EXACT)
    if name != "epsvar":  # where the released code gives rows the radii of others
        (grad,) = torch.autograd.grad(losses.mean(), features)
        torch.testing.assert_close(grad, numbers[f"{name}_grad_official"], **EXACT)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "labels", [(3, 0, 1, 1, 2, 0, 3, 1), (2,), (4, 4, 4), (0, 1, 2, 3, 4)], ids=str
)
def test_equation(labels, weighted):
    features, labels, centroids, radii = case(labels)
    weights = torch.tensor([1, 0.4, 0.2, 0.1, 0.05]).double() if weighted else None
    got = loss_of(features, labels, centroids, radii, weights=weights)
    assert got.shape == labels.shape
    want = oracle(features, labels, centroids, radii, 0.7, weights)
    assert got.mean().item() == pytest.approx(want, rel=1e-10)


def test_classes_count_alike_and_rows_by_their_class():
    features, labels, centroids, radii = case()
    losses = loss_of(features, labels, centroids, radii)
    order = torch.tensor([5, 1, 0, 3, 2, 7, 6, 4])
    permuted = loss_of(features[order], labels[order], centroids, radii)
    torch.testing.assert_close(permuted, losses[order])
    classes = torch.tensor([2, 4, 0, 1, 3])  # new name of each class
    renamed = torch.empty_like(centroids).index_copy(0, classes, centroids)
    radii = torch.empty_like(radii).index_copy(0, classes, radii)
    torch.testing.assert_close(loss_of(features, classes[labels], renamed, radii), losses)


def test_it_grows_with_the_radius_and_reaches_it():
    features, labels, centroids, radii = case()
    features.requires_grad_(), radii.requires_grad_()
    loss_of(features, labels, centroids, radii).mean().backward()
    # Class 4 has no row.
    assert (radii.grad[:4] > 0).all()
    assert radii.grad[4] == 0
    assert (features.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    "features", [torch.zeros(4, 3), torch.full((4, 3), 1e4), torch.eye(4)[:, :3] * 1e-20]
)
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [2, 2, 2, 2], [0, 1, 2, 0]])
def test_finite_on_the_centroids_and_far_away(features, labels):
    features = features.clone().requires_grad_()
    radii = torch.ones(3, requires_grad=True)
    losses = loss_of(features, torch.tensor(labels), torch.zeros(3, 3), radii, temperature=0.05)
    losses.mean().backward()
    assert losses.isfinite().all()
    assert features.grad.isfinite().all()
    assert radii.grad.isfinite().all()


def _rank_losses(rank, features, labels, centroids, radii):
    num = len(labels) // NUM_RANKS
    part = slice(rank * num, (rank + 1) * num)
    local, radii = features[part].clone().requires_grad_(), radii.clone().requires_grad_()
    rows = LabelledRows(
        local,
        labels[part],
        gather_rows(local),
        gather_rows(labels[part]),
        own_rows(num, device=local.device),
    )
    losses = distributional_robustness(rows, centroids, radii, temperature=0.7)
    grads = torch.autograd.grad(losses.mean(), (local, radii))
    return losses.detach(), *grads


@pytest.mark.distributed
def test_two_processes_equal_one():
    features, labels, centroids, radii = case()
    first, second = run_on_two(_rank_losses, features, labels, centroids, radii)
    features.requires_grad_(), radii.requires_grad_()
    losses = loss_of(features, labels, centroids, radii)
    grad, radius_grad = torch.autograd.grad(losses.mean(), (features, radii))
    torch.testing.assert_close(torch.cat([first[0], second[0]]), losses.detach())
    torch.testing.assert_close(torch.cat([first[1], second[1]]) / NUM_RANKS, grad)
    torch.testing.assert_close((first[2] + second[2]) / NUM_RANKS, radius_grad)


def test_frequency_weights():
    assert frequency_weights(torch.tensor([50, 20, 5])).tolist() == pytest.approx([1, 0.4, 0.1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tau", -1.0),
        ("robust_temperature", 0.0),
        ("robust_weight", -0.5),
        ("robust_after", 1.2),
        ("radius", float("nan")),
        ("class_weights", "inverse"),
        ("robust_class_weights", "inverse"),
    ],
)
def test_bad_options(field, value):
    with pytest.raises(ConfigError, match="--" + field.replace("_", "-")):
        DistributionalRobustnessOptions(**{field: value})
