"""Flags that nothing reads, given what was chosen."""

from __future__ import annotations

import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.runs.config.stored import effective_mapping
from tests.configs import read


def test_an_alias_brings_the_options_of_its_plugin(config_file):
    assert read("pretrain", ["--method", "gh", "--gh.clusters", "50"]).options.gh.clusters == 50
    both = read("pretrain", ["--method", "bcl", "--plugins", "gh", "--bcl.num-ops", "2"])
    assert (both.options.bcl.num_ops, both.plugins) == (2, ("bcl", "gh"))
    file = config_file("method: bcl\nbcl.beta: 0.9")
    assert read("pretrain", ["--config", file]).options.bcl.beta == 0.9
    with pytest.raises(ConfigError, match=r"--gh\.clusters has no effect without --plugins gh"):
        read("pretrain", ["--method", "bcl", "--gh.clusters", "50"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--optimizer adamw --nesterov", "--nesterov has no effect without --optimizer sgd"),
        ("--optimizer lars --no-nesterov", "--nesterov has no effect without --optimizer sgd"),
        (
            "--optimizer adamw --momentum 0.9",
            "--momentum has no effect without --optimizer sgd or l",
        ),
        ("--milestones 0.5", "--milestones has no effect without --schedule step"),
        ("--step-factor 0.5", "--step-factor has no effect without --schedule step"),
        (
            "--schedule step --final-lr-fraction 0.1",
            "--final-lr-fraction has no effect without --sch",
        ),
        ("--temperature-period 9", "--temperature-period has no effect without --temperature-max"),
        (
            "--view.max-sigma 1",
            "--view.max-sigma has no effect without --view.blur-probability above",
        ),
        (
            "--plugins gh --gh.prior streaming --gh.prior-momentum-after 0.9",
            "--gh.prior-momentum-after has no effect without --gh.prior per-sample",
        ),
        ("--nesterov --momentum 0", "--nesterov: needs a --momentum above 0"),
    ],
)
def test_a_flag_without_effect_is_refused(words, says):
    with pytest.raises(ConfigError) as error:
        read("pretrain", words.split())
    assert says in str(error.value)


def test_a_file_may_say_defaults_and_be_overruled(config_file):
    whole = config_file("optimizer: adamw\nmomentum: 0.9\nmilestones: [0.8, 0.9]")
    assert read("pretrain", ["--config", whole]).optim.optimizer == "adamw"
    steps = config_file("schedule: step\nmilestones: [0.6, 0.7]\nnesterov: true", "steps.yaml")
    overruled = read(
        "pretrain", ["--config", steps, "--schedule", "cosine", "--optimizer", "adamw"]
    )
    assert overruled.schedule.schedule == "cosine"
    assert not {"milestones", "nesterov", "momentum"} & effective_mapping(overruled).keys()
    with pytest.raises(ConfigError, match="--milestones has no effect without --schedule step"):
        read("pretrain", ["--config", steps, "--schedule", "cosine", "--milestones", "0.6", "0.7"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--probe --shots 10", "--shots has no effect without --probe"),
        ("--probe --probe-on long-tail", "--probe-on has no effect without --probe"),
        ("--draws 3", "--draws has no effect without --shots or --fraction"),
        ("--shots 10 --draws 3", None),
    ],
)
def test_flags_of_probes_that_are_not_fitted_are_refused(words, says):
    if says is None:
        assert read("evaluate", words.split()).protocols.draws == 3
        return
    with pytest.raises(ConfigError, match=says):
        read("evaluate", words.split())
