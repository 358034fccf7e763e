from __future__ import annotations

import math

import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.engine.schedule import ScheduleOptions, lr_multiplier


def at(step, options, total=100, per_epoch=10):
    return lr_multiplier(step, options, total_steps=total, steps_per_epoch=per_epoch)


def test_warmup_then_cosine():
    options = ScheduleOptions(warmup_epochs=2)
    assert [at(step, options) for step in (0, 9, 19)] == [0.05, 0.5, 1.0]
    assert at(20, options) == 1.0
    assert at(60, options) == pytest.approx(0.5)
    assert at(99, options) == pytest.approx(0.5 * (1 + math.cos(math.pi * 79 / 80)))
    assert at(100, options) == pytest.approx(0, abs=1e-12)


def test_cosine_ends_where_it_is_told():
    options = ScheduleOptions(warmup_epochs=0, final_lr_fraction=0.2)
    assert at(100, options) == pytest.approx(0.2)


def test_steps():
    options = ScheduleOptions(schedule="step", warmup_epochs=0, milestones=(0.8, 0.9))
    found = [at(s, options) for s in (0, 79, 80, 89, 90)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_constant():
    options = ScheduleOptions(schedule="constant", warmup_epochs=1)
    assert [at(s, options) for s in (0, 10, 99)] == [0.1, 1.0, 1.0]


@pytest.mark.parametrize(
    "values", [{"warmup_epochs": -1}, {"final_lr_fraction": 2}, {"milestones": (0.5, 3)}]
)
def test_bad_values_name_their_flag(values):
    flag = "--" + next(iter(values)).replace("_", "-")
    with pytest.raises(ConfigError, match=flag):
        ScheduleOptions(**values)
