from dataclasses import replace

import pytest
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.data.splits.hold_out import rank_within_class
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.probes.draws import balanced_draw
from ssl_lt.evaluate.probes.linear_probe import linear_probe
from ssl_lt.evaluate.probes.published_probe import (
    BCL,
    SDCLR,
    SDCLR_FEW_SHOT,
    protocol,
    published_probe,
)
from tests.evaluate.probes.test_linear_probe import mixture

NAMES = ("cat", "dog", "owl")


def test_rates_are_the_published_ones():
    # Epochs 1-9, 10-19 and 20-30 of 30; 1-39, 40-59 and 60-100 of 100.
    full = [SDCLR.rate(epoch) for epoch in range(30)]
    assert full == pytest.approx([30.0] * 9 + [3.0] * 10 + [0.3] * 11)
    few = [SDCLR_FEW_SHOT.rate(epoch) for epoch in range(100)]
    assert few == pytest.approx([30.0] * 39 + [3.0] * 20 + [0.3] * 41)
    assert BCL.rate(0) == pytest.approx(1e-2)
    assert BCL.rate(500) == pytest.approx(1e-6)
    assert BCL.rate(250) == pytest.approx(1e-4)


def test_settings_are_the_published_ones():
    layer = SDCLR.layer(400, 50)
    assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not layer.bias.any()
    sgd = SDCLR.optimizer(layer.parameters()).defaults
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"]) == (30.0, 0.9, 0.0)
    adam = BCL.optimizer(layer.parameters()).defaults
    assert (adam["lr"], adam["weight_decay"], adam["betas"]) == (1e-2, 5e-6, (0.9, 0.999))
    sizes = [(p.epochs, p.batch_size, p.held_out) for p in (SDCLR, SDCLR_FEW_SHOT, BCL)]
    assert sizes == [(30, 128, 0.1), (100, 128, 0.1), (500, 1000, 0.0)]


def test_protocols_by_name():
    few, many = mixture([100, 100], seed=0), mixture([101, 5], seed=0)
    assert protocol("sdclr", few) is SDCLR_FEW_SHOT
    assert protocol("sdclr", many) is SDCLR
    assert protocol("bcl", few) is protocol("bcl", many) is BCL


@pytest.mark.parametrize("name", ["sdclr", "bcl"])
def test_learns_nearly_what_the_convex_probe_does(name):
    train, test = mixture([80, 60, 40], seed=4), mixture([50, 50, 50], seed=5)
    train, test = (Features(p.features.relu(), p.labels, p.index) for p in (train, test))
    found = published_probe(train, test, protocol(name, train), num_classes=3)
    best = linear_probe(train, test, num_classes=3)
    assert sum(found.per_class) / 3 > sum(best.per_class) / 3 - 0.08
    again = published_probe(train, test, protocol(name, train), num_classes=3)
    assert torch.equal(found.predictions, again.predictions)
    assert found.iterations == protocol(name, train).epochs * {"sdclr": 2, "bcl": 1}[name]


def test_the_callers_random_numbers_stay():
    data = mixture([20, 20], seed=0)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    published_probe(data, data, SDCLR, num_classes=2)
    assert torch.equal(torch.rand(4), expected)


def test_the_best_epoch_is_kept():
    """Negative rates after the first epoch climb away from the solution."""
    train, test = mixture([60, 60], seed=1, noise=0.3), mixture([50, 50], seed=2, noise=0.3)
    ruin = replace(SDCLR, epochs=4, batch_size=1000, rate=lambda e: 0.1 if e == 0 else -100.0)
    assert min(published_probe(train, test, ruin, num_classes=2).per_class) > 0.9
    last = replace(ruin, held_out=0.0)
    assert min(published_probe(train, test, last, num_classes=2).per_class) < 0.5


def test_bad_input_is_named():
    good = mixture([10, 5], seed=0)
    nan = Features(good.features * float("nan"), good.labels, good.index)
    with pytest.raises(DataError, match="train feature is not finite"):
        published_probe(nan, good, BCL, num_classes=2)


def test_draws_are_balanced_seeded_and_nested():
    train = mixture([60, 25, 12], seed=0)
    first = balanced_draw(train, shots=10, draw=0, class_names=NAMES)
    assert first.labels.bincount().tolist() == [10, 10, 10]
    assert torch.equal(train.features[first.index], first.features)
    same = balanced_draw(train, shots=10, draw=0, class_names=NAMES)
    assert torch.equal(first.index, same.index)
    for other in ({"draw": 1}, {"draw": 0, "seed": 1}):
        found = balanced_draw(train, shots=10, class_names=NAMES, **other)
        assert not torch.equal(first.index, found.index)
    fewer = balanced_draw(train, shots=4, draw=0, class_names=NAMES)
    assert set(fewer.index.tolist()) < set(first.index.tolist())
    everything = balanced_draw(train, shots=12, draw=0, class_names=NAMES)
    assert {*range(85, 97)} < set(everything.index.tolist())


def test_every_image_is_as_likely():
    labels, index = torch.zeros(40, dtype=torch.int64), torch.arange(40)
    drawn = torch.zeros(40)
    for draw in range(400):
        drawn += rank_within_class(labels, index, seed=0, draw=draw) < 10
    # 400 draws of a quarter: 100 each, standard deviation 8.7.
    assert drawn.sum() == 4000
    assert drawn.min() > 60
    assert drawn.max() < 140


def test_a_class_with_fewer_images_than_shots_is_named():
    with pytest.raises(DataError, match=r"^--shots: 13 images .* class owl has 12$"):
        balanced_draw(mixture([60, 25, 12], seed=0), shots=13, draw=0, class_names=NAMES)
    with pytest.raises(DataError, match="class owl has 0"):
        balanced_draw(mixture([60, 25], seed=0), shots=1, draw=0, class_names=NAMES)
