from __future__ import annotations

import pytest
import torch

from ssl_lt.finetune.experts.router import (
    ExpertRouter,
    RouterOptions,
    balanced_rows,
    routed,
    running_means,
    train_router,
    worth_asking,
)
from ssl_lt.models.classifiers import linear_classifier
from ssl_lt.models.expert_classifiers import ExpertClassifiers

OPTIONS = RouterOptions(epochs=40, batch_size=32)


def logits(batch=50):
    return torch.randn(3, batch, 4, generator=torch.Generator().manual_seed(0))


def labels(batch=50):
    return torch.arange(batch) % 4


def test_targets_are_those_of_a_loop():
    z, y = logits(), labels()
    found = worth_asking(z, y)
    for i in range(len(y)):
        right = [int(z[: e + 1, i].sum(dim=0).argmax()) == int(y[i]) for e in range(3)]
        for e in range(2):
            assert bool(found[e, i]) == (not right[e] and any(right[e + 1 :]))
    assert 0 < found.double().mean() < 1


def test_means_run_over_the_experts_so_far():
    z = logits()
    for e in range(3):
        torch.testing.assert_close(running_means(z)[e], z[: e + 1].mean(dim=0))


@pytest.mark.parametrize(
    ("gates", "num_asked"), [([-1, -1], 1), ([-1, 1], 1), ([1, -1], 2), ([1, 1], 3)]
)
def test_the_first_gate_that_says_no_ends_it(gates, num_asked):
    z = logits(1)
    found, asked = routed(z, torch.tensor(gates, dtype=torch.float32)[:, None])
    assert asked.tolist() == [num_asked]
    torch.testing.assert_close(found[0], z[:num_asked, 0].mean(dim=0))


def test_all_gates_open_is_the_ensemble():
    z = logits()
    found, asked = routed(z, torch.ones(2, 50))
    torch.testing.assert_close(found, z.mean(dim=0))
    assert (asked == 3).all()


def test_a_gate_does_not_see_later_experts():
    router = ExpertRouter(3, 5, 4)
    x, z = torch.randn(7, 15), logits(7)
    said = router(x, z)
    assert said.shape == (2, 7)
    other = z.clone()
    other[2] += 5
    x[:, 10:] += 5
    torch.testing.assert_close(router(x, other), said)
    other[1] += torch.randn(7, 4)
    assert torch.equal(router(x, other)[0], said[0])
    assert not torch.equal(router(x, other)[1], said[1])


def test_rows_are_balanced_and_of_their_class():
    y = torch.tensor([0] * 90 + [2] * 9 + [5])
    rows = balanced_rows(y, 3000, torch.Generator().manual_seed(0))
    counts = torch.bincount(y[rows], minlength=6)
    assert counts[[1, 3, 4]].tolist() == [0, 0, 0]
    assert (counts[[0, 2, 5]] - 1000).abs().max() < 100
    assert rows[y[rows] == 0].unique().numel() == 90


def experts():
    """Expert 1 errs where the first feature is negative, experts 2 and 3 never do."""
    heads = [linear_classifier(2, 2) for _ in range(3)]
    with torch.no_grad():
        for head, scale in zip(heads, (1.0, 8.0, 8.0), strict=True):
            head.bias.zero_()
            head.weight.copy_(scale * torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    g = torch.Generator().manual_seed(2)
    hard = torch.rand(400, generator=g) < 0.3
    y = torch.randint(2, (400,), generator=g)
    side = 1.0 - 2.0 * y
    easy = torch.where(hard, -1.0, 1.0)
    x = torch.stack([easy, side * easy, easy, side, easy, side], dim=1)
    return ExpertClassifiers(heads), x, y, hard


def train():
    classifier, x, y, hard = experts()
    router = train_router(classifier, x, y, options=OPTIONS, seed=3)
    z = classifier.per_expert(x)
    return (*routed(z, router(x, z)), router, y, hard)


def test_it_learns_to_ask_where_asking_helps():
    found, asked, _, y, hard = train()
    assert (found.argmax(dim=1) == y).all()
    assert asked[hard].min() > 1
    assert asked[~hard].max() == 1


@pytest.mark.slow
def test_training_draws_on_nothing_but_its_seed():
    first = train()[2].state_dict()
    torch.rand(5)
    before = torch.random.get_rng_state()
    second = train()[2].state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    classifier, x, y, _ = experts()
    torch.random.set_rng_state(before)
    train_router(classifier, x, y, options=RouterOptions(epochs=1), seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_heads_stay_as_they_are():
    classifier, x, y, _ = experts()
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    train_router(classifier, x, y, options=RouterOptions(epochs=1), seed=0)
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())
    assert all(p.grad is None for p in classifier.parameters())


def test_fewer_images_than_a_batch():
    classifier, x, y, _ = experts()
    router = train_router(classifier, x[:3], y[:3], options=RouterOptions(), seed=0)
    assert all(torch.isfinite(p).all() for p in router.parameters())
