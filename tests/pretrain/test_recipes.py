"""The shipped recipes say what their papers say."""

from __future__ import annotations

import pytest

from tests.configs import recipe, recipes

SETS = ("cifar10_lt", "cifar100_lt", "imagenet100_lt", "imagenet_lt", "places_lt")
METHODS = ("simclr", "sdclr", "bcl_i", "bcl_d", "gh", "ts")


def test_every_data_set_has_every_method():
    wanted = {f"{data}/{method}" for data in SETS for method in METHODS}
    assert wanted <= set(recipes("pretrain"))


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize(
    ("name", "method", "plugins"),
    [
        ("simclr", "simclr", ()),
        ("sdclr", "sdclr", ()),
        ("bcl_i", "simclr", ("bcl",)),
        ("bcl_d", "sdclr", ("bcl",)),
        ("gh", "simclr", ("gh",)),
        ("ts", "simclr", ()),
    ],
)
def test_a_recipe_is_what_its_name_says(data, name, method, plugins):
    config = recipe("pretrain", f"{data}/{name}")
    assert (config.method, config.plugins) == (method, plugins)
    assert (config.methods.shared.temperature_max is not None) == (name == "ts")
    large = not data.startswith("cifar")
    assert config.model.backbone == ("resnet50" if large else "resnet18_cifar")
    assert (config.fit.batch_size, config.optim.lr) == ((256, 0.5) if large else (512, 0.5))
    assert (config.view.min_scale, config.view.blur_probability) == (
        (0.08, 0.5) if large else (0.1, 0.0)
    )
    if plugins == ("gh",):
        assert config.options.gh.warmup_epochs < config.fit.epochs
