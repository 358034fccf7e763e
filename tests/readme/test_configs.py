"""Every file that is shipped below configs/ is read by what reads it for a user."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from ssl_lt.runs.config.schema import to_mapping
from ssl_lt.runs.config.yaml_file import read_yaml
from tests.readme.reading import read

ROOT = Path(__file__).parents[2] / "configs"
RECIPES = sorted(
    path for verb in ("pretrain", "finetune") for path in (ROOT / verb).rglob("*.yaml")
)
SHARED = ("cifar100_lt", "shelf")
LAPTOP = [p for p in RECIPES if p.parent.name == "laptop" and p.stem not in SHARED]
GPUS_OF_MACHINE = {"1_gpu": 1, "8_gpus": 8, "2_nodes": 8, "cpu": 1}


def name(path):
    return str(path.relative_to(ROOT))


def verb_of(path):
    return path.relative_to(ROOT).parts[0]


def parsed(*files):
    """Flag name -> value of the configuration that a command would start with."""
    words = [word for file in files for word in ("--config", str(file))]
    verb = verb_of(files[0])
    # Without a run to start from, which a recipe leaves open.
    start = ["--init-from", "scratch"] if verb == "finetune" else []
    return to_mapping(read(verb, [*words, *start]))


def assert_says(found, *files):
    """Each key of the files has its value, the last file's where two name it."""
    wanted = {key: value for file in files for key, value in read_yaml(file).items()}
    assert wanted.keys() <= found.keys()
    for key, value in wanted.items():
        if key not in ("method", "plugins"):  # an alias is written out
            assert found[key] == value, key


def test_there_are_recipes():
    assert {verb_of(path) for path in RECIPES} == {"pretrain", "finetune"}
    assert len(LAPTOP) >= 7


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_parses_alone(path):
    assert_says(parsed(path), path)


@pytest.mark.parametrize("path", LAPTOP, ids=name)
def test_a_laptop_recipe_parses_after_what_they_share(path):
    shared = path.with_name("cifar100_lt.yaml")
    found = parsed(shared, path)
    assert_says(found, shared, path)
    assert (found["data"], found["imbalance-factor"]) == ("cifar100", 100)


@pytest.mark.parametrize("path", sorted((ROOT / "accelerate").glob("*.yaml")), ids=name)
def test_a_launch_file_loads(path):
    config = load_config_from_file(str(path))
    content = yaml.safe_load(path.read_text())
    assert config.num_processes == content["num_processes"] >= 1
    assert str(config.mixed_precision) == "no"  # --mixed-precision decides
    assert config.num_processes == GPUS_OF_MACHINE[path.stem] * config.num_machines
    assert config.use_cpu == (path.stem == "cpu")
