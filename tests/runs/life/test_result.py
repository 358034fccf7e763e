"""What a run says at its start."""

from __future__ import annotations

import pytest

from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.runs.life.result import size_hint
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
