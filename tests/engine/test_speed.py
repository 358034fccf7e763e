"""How long a step takes."""

from __future__ import annotations

from itertools import count

import pytest
from accelerate import Accelerator

from ssl_lt.engine.speed import seconds_per_step
from tests.engine.tiny import TinyLoader, TinyTask, plan


def clock_of(*seconds):
    """A clock that goes on by these from reading to reading, and then by 1 s."""
    now, steps = 0.0, iter(seconds)
    while True:
        yield now
        now += next(steps, 1.0)


def measured(clock, **values):
    task = TinyTask()
    before = {name: tensor.clone() for name, tensor in task.named_parameters()}
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    found = seconds_per_step(
        task,
        TinyLoader(),
        plan(epochs=2, **values),
        accelerator=accelerator,
        clock=lambda: next(clock),
    )
    assert all(tensor.equal(before[name]) for name, tensor in task.named_parameters())
    return found, task


def test_the_first_steps_are_left_out_and_what_is_odd_hardly_counts():
    # Three steps of warm-up, one reading between, then steps.
    assert measured(clock_of(60, 60, 60, 0))[0] == 1.0
    assert measured(clock_of(60, 60, 60, 0, 1, 0.5, 1, 1, 1, 1))[0] == 1.0


def test_batches_that_come_in_bursts_count_by_the_mean():
    bursts = [0.1, 0.1, 0.1, 1.7] * 3
    assert measured(clock_of(1, 1, 1, 0, *bursts))[0] == pytest.approx(0.5, rel=0.2)


def test_few_images_are_shown_again(monkeypatch):
    found, task = measured(iter(0.25 * n for n in count()))
    assert found == 0.25
    assert task.epochs_started[:3] == [0, 1, 0]
