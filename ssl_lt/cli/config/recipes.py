"""Recipes that come with the package: YAML files of options, named below `ssl_lt/recipes`."""

from __future__ import annotations

from pathlib import Path

from ssl_lt.core.errors import ConfigError
from ssl_lt.runs.config.schema import nearest

_RECIPES = Path(__file__).parents[2] / "recipes"


def recipe_names() -> list[str]:
    """Of all recipes, such as `finetune/cifar100_lt/rcl`."""
    files = sorted(_RECIPES.rglob("*.yaml"))
    return [file.relative_to(_RECIPES).with_suffix("").as_posix() for file in files]


def config_file(asked: Path) -> Path:
    """The file that `--config` names: one that is there, or else a recipe of that name.

    Raises:
        ConfigError: neither.
    """
    if asked.exists():
        return asked
    recipe = _RECIPES / asked.with_suffix(".yaml")
    if recipe.is_file():
        return recipe
    raise ConfigError(
        f"--config {asked}: no such file, and no recipe of that name"
        f"{nearest(asked.as_posix(), recipe_names())}"
    )
