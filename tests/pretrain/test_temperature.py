"""The cosine of temperatures at points known by hand."""

from __future__ import annotations

import math

import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.pretrain.temperature import TemperatureOptions, temperature_at

PAPER = TemperatureOptions(temperature=0.1, temperature_max=1.0, temperature_period=400)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 1.0), (100, 0.55), (200, 0.1), (300, 0.55), (400, 1.0), (600, 0.1)]
)
def test_quarters_of_the_period(epoch, expected):
    assert temperature_at(PAPER, epoch) == pytest.approx(expected, rel=1e-12)


def test_equals_the_released_code():
    # Theirs counts half periods: 0.1 + 0.5 (1.0 - 0.1) (1 + cos(pi epoch / 200)).
    for epoch in range(0, 2000, 37):
        released = 0.1 + 0.5 * (1.0 - 0.1) * (1 + math.cos(math.pi * epoch / 200))
        assert temperature_at(PAPER, epoch) == pytest.approx(released, rel=1e-10)


def test_stays_between_the_two_and_repeats():
    values = [temperature_at(PAPER, epoch / 4) for epoch in range(8000)]
    assert min(values) >= 0.1 - 1e-12
    assert max(values) <= 1.0 + 1e-12
    assert values[:1600] == pytest.approx(values[1600:3200], abs=1e-9)


def test_constant_without_a_maximum():
    assert {temperature_at(TemperatureOptions(0.3), epoch) for epoch in range(500)} == {0.3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "--temperature: 0.0"),
        ({"temperature": -1.0}, "--temperature: -1.0"),
        ({"temperature": float("nan")}, "--temperature: nan"),
        ({"temperature": 0.2, "temperature_max": 0.1}, "--temperature-max: 0.1"),
        ({"temperature_period": 0.0}, "--temperature-period: 0.0"),
    ],
)
def test_bad_options_name_their_flag(options, message):
    with pytest.raises(ConfigError, match=message):
        TemperatureOptions(**options)
