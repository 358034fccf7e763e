"""The views of a run: how often they are mirrored, and what loader workers cut for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ssl_lt.augment.boosted import BoostedView
from ssl_lt.augment.views import CROP_AND_FLIP, ContrastiveView, ViewOptions
from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.runs.build.pretraining import build_view
from ssl_lt.runs.build.views import classified_view, view_options, worker_crop
from tests.configs import finetuning, pretraining, read


def digits(*, mirrored_alike=False, own_size=True):
    """The digits, or other images in their place."""
    data = open_data(DataOptions())
    if mirrored_alike:
        data = replace(data, source=replace(data.source, flip_probability=0.5))
    return data if own_size else replace(data, source=replace(data.source, image_size=None))


def test_digits_are_not_mirrored_and_other_images_are_in_half_of_the_views():
    assert view_options(ViewOptions(), digits()).flips == 0
    assert view_options(ViewOptions(), digits(mirrored_alike=True)).flips == 0.5
    assert ViewOptions().flips == 0.5


@pytest.mark.parametrize(("asked", "flips"), [(None, 0), (0.25, 0.25), (0.0, 0)])
def test_every_view_of_a_run_follows_the_flag(asked, flips):
    values = {} if asked is None else {"view.flip-probability": asked}
    data, images = digits(), digits(own_size=False)
    view = build_view(pretraining(values=values), data)
    assert isinstance(view, ContrastiveView)
    assert view.options.flips == flips
    boosted = build_view(pretraining(plugins=["bcl"], values=values), data)
    assert isinstance(boosted, BoostedView)
    assert boosted.contrastive.options.flips == flips
    for augment in ("weak", "autoaugment"):
        config = finetuning(values={"augment": augment, **values})
        assert classified_view(config, data).flip_probability == flips
    large = classified_view(finetuning(values=values), images)
    assert large.options.flips == flips


def test_fine_tuning_takes_the_flag_with_a_loss_of_one_view():
    words = ["--init-from", "scratch", "--loss", "la", "--view.flip-probability", "0"]
    assert read("finetune", words).view.flip_probability == 0


@pytest.mark.parametrize(("loss", "views"), [("la", 1), ("paco", 2), ("rcl", 3)])
def test_workers_cut_the_classified_view_alike_for_every_loss(loss, views):
    spec = replace(digits().spec, interpolation="bilinear")
    config = read(
        "finetune",
        ["--init-from", "scratch", "--loss", loss, "--view.min-scale", "0.5"]
        if views > 1
        else ["--init-from", "scratch", "--loss", loss],
    )
    first, *others = worker_crop(config, spec).views
    assert first == replace(CROP_AND_FLIP, interpolation="bilinear")
    assert others == [config.view] * (views - 1)
    assert all(view.min_scale == 0.5 for view in others)
