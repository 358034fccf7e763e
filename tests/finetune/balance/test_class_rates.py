"""How often each class is drawn, from the equations and from counting images."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Epoch
from ssl_lt.data.loading.class_sampler import power_rates
from ssl_lt.finetune.balance.class_rates import (
    SamplerOptions,
    class_rates,
    effective_rates,
    progressive_rates,
)

COUNTS = torch.tensor([50, 20, 9, 4, 1])


def rates(name, *, epoch=0, total=10, **options):
    options = SamplerOptions(name, **options)
    return class_rates(COUNTS, options, Epoch(epoch, total, 1))


def close(found, want):
    torch.testing.assert_close(found, torch.as_tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_powers_of_the_counts(power):
    total = sum(n**power for n in (50, 20, 9, 4, 1))
    close(power_rates(COUNTS, power=power), [n**power / total for n in (50, 20, 9, 4, 1)])


def test_effective_rates_are_those_of_weighted_images():
    """Each image with the weight of its class, one after the other."""
    of_class = [0.0] * 5
    for j, n in enumerate(COUNTS.tolist()):
        for _ in range(n):
            of_class[j] += (1 - 0.95) / (1 - 0.95**n)
    close(effective_rates(COUNTS, beta=0.95), [rate / sum(of_class) for rate in of_class])
    close(effective_rates(COUNTS, beta=0.0), power_rates(COUNTS, power=1))
    torch.testing.assert_close(
        effective_rates(COUNTS, beta=1 - 1e-9), power_rates(COUNTS, power=0), atol=1e-5, rtol=0
    )


def test_progress_goes_from_images_to_classes():
    close(progressive_rates(COUNTS, progress=0), COUNTS / 84)
    close(progressive_rates(COUNTS, progress=1), [0.2] * 5)
    close(progressive_rates(COUNTS, progress=0.3), [0.7 * n / 84 + 0.3 / 5 for n in COUNTS])
    for epoch in range(10):
        close(
            rates("progressive", epoch=epoch),
            [(1 - epoch / 10) * n / 84 + epoch / 10 / 5 for n in COUNTS],
        )


@pytest.mark.parametrize("name", ["class_balanced", "square_root", "progressive", "effective"])
def test_equal_counts_are_drawn_alike_and_the_scale_of_counts_plays_no_part(name):
    options = SamplerOptions(name, sampler_beta=0.0)
    epoch = Epoch(3, 10, 1)
    close(class_rates(torch.tensor([7, 7, 7]), options, epoch), [1 / 3] * 3)
    close(class_rates(COUNTS * 3, options, epoch), class_rates(COUNTS, options, epoch))


def test_each_name_draws_as_it_says():
    assert rates("instance") is None
    close(rates("class_balanced"), [0.2] * 5)
    close(rates("square_root"), COUNTS.double().sqrt() / COUNTS.double().sqrt().sum())
    close(rates("effective", sampler_beta=0.9), effective_rates(COUNTS, beta=0.9))


@pytest.mark.parametrize("name", ["class_balanced", "square_root", "progressive", "effective"])
def test_a_sampler_may_begin_later(name):
    found = [rates(name, epoch=epoch, sampler_after=0.8) for epoch in range(10)]
    assert [rate is None for rate in found] == [True] * 8 + [False] * 2
    close(found[9], rates(name, epoch=9))


def test_a_class_without_images_is_never_drawn():
    counts = torch.tensor([3, 0, 1])
    close(power_rates(counts, power=0), [0.5, 0, 0.5])
    close(progressive_rates(counts, progress=0.5), [0.625, 0, 0.375])
    with pytest.raises(ConfigError, match="no training image of class 1"):
        effective_rates(counts, beta=0.9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sampler_beta": 1.0}, "--sampler-beta: 1.0 is outside"),
        ({"sampler_after": -0.1}, "--sampler-after: -0.1 is outside"),
        ({"sampler": "meta", "sampler_after": 0.5}, "--sampler-after: --sampler meta"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(ConfigError, match=says):
        SamplerOptions(**options)
