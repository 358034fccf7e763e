"""The shipped recipes parse, and say what their papers say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from ssl_lt.cli.commands.pretrain import read_config

RECIPES = Path(__file__).parents[2] / "configs" / "pretrain"
FILES = sorted(RECIPES.glob("*/*.yaml"))
SETS = ("cifar10_lt", "cifar100_lt", "imagenet100_lt", "imagenet_lt", "places_lt")
METHODS = ("simclr", "sdclr", "bcl_i", "bcl_d", "gh", "ts")


@cache
def read(file):
    return read_config(["--config", str(file)], None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_parses(file):
    read(file)


def test_every_data_set_has_every_method():
    found = {(file.parent.name, file.stem) for file in FILES}
    assert {(data, method) for data in SETS for method in METHODS} <= found


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
    config = read(RECIPES / data / f"{name}.yaml")
    assert (config.method, config.plugins) == (method, plugins)
    assert (config.options.temperature_max is not None) == (name == "ts")
    large = not data.startswith("cifar")
    assert config.model.backbone == ("resnet50" if large else "resnet18_cifar")
    assert (config.fit.batch_size, config.optim.lr) == ((256, 0.5) if large else (512, 0.5))
    assert (config.view.min_scale, config.view.blur_probability) == (
        (0.08, 0.5) if large else (0.1, 0.0)
    )
    if plugins == ("gh",):
        assert config.gh.warmup_epochs < config.fit.epochs
