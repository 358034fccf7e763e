"""What classifiers made after training say of their probabilities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ssl_lt.finetune.retraining.cached import CachedFeatures
from ssl_lt.finetune.retraining.linear import SGDOptions
from ssl_lt.finetune.retraining.registry import RETRAINING, RetrainingOptions

COUNTS = (40, 20, 10)
PROBABLE = [name for name in RETRAINING if name not in ("ncm", "plugin")]


@pytest.fixture(scope="module")
def cached():
    """Three overlapping classes, a long tail, and a classifier that is not sure of itself."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    centres = torch.randn(3, 5, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        trained = nn.Linear(5, 3).requires_grad_(requires_grad=False)
    return CachedFeatures(
        features=centres[labels] + torch.randn(len(labels), 5, generator=generator),
        labels=labels,
        queries=torch.randn(30, 5, generator=generator),
        held_out=torch.arange(len(labels)) % 5 == 0,
        num_classes=3,
        trained=trained,
        origin="made up",
        sgd=SGDOptions(epochs=2),
        seed=0,
    )


def answer(name, cached, **options):
    return RETRAINING[name].run(cached, RetrainingOptions(**options))


@pytest.mark.parametrize("name", PROBABLE)
def test_the_likeliest_class_is_the_prediction(cached, name):
    found = answer(name, cached)
    p = found.logits.softmax(dim=1)
    assert torch.equal(p.argmax(dim=1), found.predictions)
    assert 1 / 3 < p.max(dim=1).values.mean() < 0.99


def test_sub_classes_put_together_keep_their_probabilities(cached):
    logits = answer("cog", cached, cog_merge="sum").logits
    torch.testing.assert_close(logits.exp().sum(dim=1).float(), torch.ones(30))


def test_distances_are_no_probabilities(cached):
    assert answer("ncm", cached).logits is None


def test_corrected_probabilities_are_those_of_bayes(cached):
    p = cached.classifier(cached.queries).softmax(dim=1)
    torch.testing.assert_close(answer("posthoc", cached, taus=(0.0,)).logits.softmax(dim=1), p)
    shares = torch.tensor(COUNTS) / sum(COUNTS)
    balanced = p / shares / (p / shares).sum(dim=1, keepdim=True)
    for name in ("posthoc", "threshold"):
        found = answer(name, cached, taus=(1.0,)).logits.softmax(dim=1)
        torch.testing.assert_close(found.float(), balanced)


def test_validation_images_choose_where_there_are_some(cached):
    strengths = (0.0, 0.5, 1.0, 3.0)
    x, labels = cached.features[::3] + 0.5, cached.labels[::3]

    def predict(network, features, strength):
        return (network(features) - strength * cached.log_prior).argmax(dim=1)

    scores = []
    for strength in strengths:
        right = predict(cached.trained, x, strength) == labels
        scores.append(torch.stack([right[labels == c].float().mean() for c in range(3)]).mean())
    assert len(set(map(float, scores))) == len(strengths)
    nothing_held = replace(cached, held_out=torch.zeros_like(cached.held_out))
    chosen, note = replace(nothing_held, validation=(x, labels)).choose(strengths, predict)
    assert chosen == strengths[int(torch.stack(scores).argmax())]
    assert note.endswith(f"chosen on {len(labels)} validation images")
