from __future__ import annotations

from types import SimpleNamespace

import pytest

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError


@pytest.mark.parametrize(
    ("interval", "inside", "outside", "fault"),
    [
        ("[0, 1)", (0, 0.5, None), (-0.1, 1, float("nan")), "is outside [0, 1)"),
        ("(0, 1]", (1e-9, 1), (0, 1.1), "is outside (0, 1]"),
        ("(0, inf)", (0.1, 1e9), (0, float("inf"), float("nan")), "is not a positive number"),
        ("[0, inf)", (0, 7), (-1, float("inf")), "is negative or not finite"),
        ("(-inf, inf)", (-3,), (float("-inf"),), "is not finite"),
    ],
)
def test_numbers_are_held_against_intervals(interval, inside, outside, fault):
    for value in inside:
        check_range(SimpleNamespace(step_size=value), {"step_size": interval})
    for value in outside:
        with pytest.raises(ConfigError) as caught:
            check_range(SimpleNamespace(step_size=value), {"step_size": interval}, prefix="gh.")
        assert str(caught.value) == f"--gh.step-size: {value} {fault}"
