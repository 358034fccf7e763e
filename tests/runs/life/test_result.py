"""What a run says at its start."""

from __future__ import annotations

import pytest

from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.engine.plan import FitOptions
from ssl_lt.runs.life.result import left_over, size_hint
from tests.configs import pretraining


@pytest.mark.parametrize(
    ("side", "values", "says"),
    [
        (33, {}, "images of 33 pixels are enlarged to 224; see --image-size 64"),
        (33, {"image-size": 224, "backbone": "resnet18"}, ""),  # asked for, as by released weights
        (300, {}, "resnet20_cifar is for small images and slow at 224 pixels; see --backbone"),
        (300, {"backbone": "resnet18"}, ""),
    ],
)
def test_a_hint_where_a_default_costs_time(side, values, says):
    stats = [ImageStats("a.png", width=2 * side, height=side)] * 3
    stats += [ImageStats("b.png", problem="truncated")]
    assert size_hint(stats, pretraining(values=values), image_size=224) == says
    assert size_hint(stats[3:], pretraining(values=values), image_size=32) == ""


def test_batches_that_make_no_step_are_said():
    fit = FitOptions(batch_size=64, accumulate_steps=4)
    assert left_over(fit, 8) == ""
    said = left_over(fit, 27)
    assert said.startswith("3 of the 27 batches of an epoch (192 images) are left out")
    assert "--accumulate-steps 4" in said
