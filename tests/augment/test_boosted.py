"""The boosted view: magnitudes, what strength 0 means, what the views of a sample share."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.augment import boosted
from ssl_lt.augment.boosted import BoostedView, magnitudes
from ssl_lt.augment.randaugment import apply_slot
from ssl_lt.augment.views import ContrastiveView, ViewOptions
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import ImageSpec

STATISTICS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
COUNT = 48


def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, 32, 32), generator=generator, dtype=torch.uint8)


def keys(view=0, epoch=1):
    return sample_keys(torch.arange(COUNT), seed=0, epoch=epoch, view=view)


def view(num_ops=2, rule="released"):
    return BoostedView(ViewOptions(), ImageSpec(32, **STATISTICS), num_ops=num_ops, rule=rule)


def plain():
    return ContrastiveView(ViewOptions(), ImageSpec(32, **STATISTICS))(images(), keys())


@pytest.mark.parametrize(
    ("array", "num_ops", "rule", "zeta"),
    [
        ("k1_magnitude", 1, "released", 0.3),
        ("k2_magnitude_u1", 2, "released", 1.0),
        ("k2_magnitude_u0p5", 2, "released", 0.5),
        ("imagenet_magnitude_u1", 2, "paper", 1.0),
        ("imagenet_magnitude_u1", 1, "paper", 1.0),
    ],
)
def test_magnitudes_are_the_released_ones(golden, array, num_ops, rule, zeta):
    data = golden("pretraining/bcl_memory.npz")
    weight = torch.from_numpy(data["weight"])
    got = magnitudes(weight, torch.full_like(weight, zeta), rule=rule, num_ops=num_ops)
    torch.testing.assert_close(got, torch.from_numpy(data[array]), rtol=1e-10, atol=0)


@pytest.mark.parametrize("strength", [None, torch.zeros(COUNT)])
def test_without_strength_it_is_exactly_the_plain_view(strength):
    assert torch.equal(view()(images(), keys(), strength), plain())


def test_only_samples_with_strength_change():
    strength = (torch.arange(COUNT) % 2).float()
    got = view()(images(), keys(), strength)
    changed = (got != plain()).flatten(1).any(1)
    assert not changed[strength == 0].any()
    assert changed[strength == 1].float().mean() > 0.9


def test_after_crop_boosts_too():
    crops, strength = images(), torch.ones(COUNT)
    plain_crops = ContrastiveView(ViewOptions(), ImageSpec(32, **STATISTICS)).after_crop(
        crops, keys()
    )
    assert torch.equal(view().after_crop(crops, keys(), torch.zeros(COUNT)), plain_crops)
    assert not torch.equal(view().after_crop(crops, keys(), strength), plain_crops)


def test_boost_is_randaugment_on_8_bit_values():
    one = view(num_ops=1)
    x = images() / 255
    strength = torch.linspace(0, 1, COUNT)
    (slot,) = one.randaugment.draw(keys(), probability=strength, magnitude=10 + 20 * strength)
    expected = apply_slot(images(), slot) / 255
    assert torch.equal(one._boost(x.clone(), keys(), strength), expected)
    # In between two 8-bit values, a sample is rounded only where something is applied.
    got = one._boost(x + 0.3 / 255, keys(), strength)
    idle = slot.operation == -1
    assert idle.any()
    assert torch.equal(got[~idle], expected[~idle])
    assert torch.equal(got[idle], (x + 0.3 / 255)[idle])


def drawn_magnitudes(monkeypatch, rule, num_ops, view_keys):
    seen = []
    one = view(num_ops=num_ops, rule=rule)
    draw = one.randaugment.draw

    def spy(keys, *, probability, magnitude):
        seen.append(magnitude)
        return draw(keys, probability=probability, magnitude=magnitude)

    monkeypatch.setattr(one.randaugment, "draw", spy)
    result = one(images(), view_keys, torch.full((COUNT,), 0.5))
    return torch.cat(seen), result


@pytest.mark.parametrize(("rule", "low", "high"), [("released", 5, 17.5), ("paper", 0, 15)])
def test_views_share_the_magnitude_but_not_the_operations(monkeypatch, rule, low, high):
    first, x1 = drawn_magnitudes(monkeypatch, rule, 2, keys(view=0))
    second, x2 = drawn_magnitudes(monkeypatch, rule, 2, keys(view=1))
    other_epoch, _ = drawn_magnitudes(monkeypatch, rule, 2, keys(epoch=2))
    assert torch.equal(first, second)
    assert not (first == other_epoch).any()
    assert not torch.equal(x1, x2)
    assert low <= first.min()
    assert first.min() < low + 2
    assert high - 2 < first.max() < high


def test_one_operation_of_the_released_rule_has_a_fixed_magnitude(monkeypatch):
    drawn, _ = drawn_magnitudes(monkeypatch, "released", 1, keys())
    assert (drawn == 20).all()


def test_slices_of_the_batch_change_nothing(monkeypatch):
    x, strength = images() / 255, torch.linspace(0, 1, COUNT)
    whole = view()._boost(x.clone(), keys(), strength)
    monkeypatch.setattr(boosted, "_CHUNK_VALUES", 7 * x[0].numel())
    assert torch.equal(view()._boost(x, keys(), strength), whole)


def test_same_sample_same_view():
    strength = torch.ones(COUNT)
    first = view()(images(), keys(), strength)
    assert torch.equal(view()(images(), keys(), strength), first)
    assert not torch.equal(view()(images(), keys(epoch=2), strength), first)
