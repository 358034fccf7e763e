"""Every recipe and every file below configs/ is read by what reads it for a user."""

from __future__ import annotations

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.runs.config.schema import to_mapping
from tests.configs import CONFIGS, RECIPES, recipe, recipes
from tests.toolbox import load_yaml

NAMES = [(verb, name) for verb in ("pretrain", "finetune") for name in recipes(verb)]
SHARED = {"pretrain": "laptop/cifar100_lt", "finetune": "laptop/shelf"}
LAPTOP = [(v, name) for v, name in NAMES if name.startswith("laptop/") and name != SHARED[v]]
GPUS_OF_MACHINE = {"1_gpu": 1, "8_gpus": 8, "2_nodes": 8, "cpu": 1}


def assert_says(verb, *names):
    """Each key of the files has its value, the last file's where two name it."""
    found = to_mapping(recipe(verb, *names))
    wanted = {}
    for name in names:
        wanted |= read_yaml(RECIPES / verb / f"{name}.yaml")
    assert wanted.keys() <= found.keys()
    for key, value in wanted.items():
        if key not in ("method", "plugins"):  # an alias is written out
            assert found[key] == value, key


def test_there_are_recipes():
    assert {verb for verb, _ in NAMES} == {"pretrain", "finetune"}
    assert len(LAPTOP) >= 7
    assert {path.stem for path in (CONFIGS / "accelerate").iterdir()} == {*GPUS_OF_MACHINE}


@pytest.mark.parametrize(("verb", "name"), NAMES)
def test_a_recipe_parses_alone(verb, name):
    assert_says(verb, name)


@pytest.mark.parametrize(("verb", "name"), LAPTOP)
def test_a_laptop_recipe_parses_after_what_they_share(verb, name):
    assert_says(verb, SHARED[verb], name)
    data = recipe(verb, SHARED[verb], name).data
    found = "cifar100" if verb == "pretrain" else "cifar10"
    assert (data.data, data.imbalance_factor) == (found, 100)


@pytest.mark.parametrize("name", GPUS_OF_MACHINE)
def test_a_launch_file_loads(name):
    path = CONFIGS / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    content = load_yaml(path)
    assert config.num_processes == content["num_processes"] >= 1
    assert str(config.mixed_precision) == "no"  # --mixed-precision decides
    assert config.num_processes == GPUS_OF_MACHINE[name] * config.num_machines
    assert config.use_cpu == (name == "cpu")
