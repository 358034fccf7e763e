from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ssl_lt.cli.config.parse import parse, peek_values, read_configs, split_arguments, write_config

from ssl_lt.cli.commands import pretrain
from ssl_lt.core.errors import ConfigError
from ssl_lt.pretrain.registry import METHODS, PLUGINS
from ssl_lt.runs.config import finetune as finetune_config
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.schema import to_mapping
from ssl_lt.runs.config.yaml_file import read_yaml


def pretraining(*words):
    return pretrain.read_config(split_arguments(words), None)


def finetuning(*words):
    return finetune_config.read_config(split_arguments(words), None)[0]


@pytest.fixture
def config_file(tmp_path):
    def write(text, name="c.yaml"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_words_are_split_and_values_left_alone():
    words = ["--batch_size=4", "--data", "folder:a_b", "--run-dir=a=b_c", "--x="]
    expected = ["--batch-size", "4", "--data", "folder:a_b", "--run-dir", "a=b_c", "--x", ""]
    assert split_arguments(words) == expected


def test_peeking_sees_the_last_and_removes_nothing():
    words = ["--loss", "ce", "--plugins", "a", "b", "--loss", "la"]
    assert peek_values(words, "--loss") == ["la"]
    assert peek_values(words, "--plugins") == ["a", "b"]
    assert peek_values(words, "--no") == []
    assert len(words) == 7


def test_dashes_and_underscores_are_the_same():
    a = pretraining("--batch_size", "32", "--plugins", "gh", "--gh.warmup_epochs=2")
    b = pretraining("--batch-size", "32", "--plugins", "gh", "--gh.warmup-epochs", "2")
    assert to_mapping(a) == to_mapping(b)
    assert (a.run.batch_size, a.gh.warmup_epochs) == (32, 2)


def test_flags_win_over_files_and_later_files_over_earlier_ones(config_file):
    first = config_file("lr: 1e-3\nseed: 1\nepochs: 3\n", "a.yaml")
    second = config_file("seed: 2\nepochs: 4\n", "b.yaml")
    config = pretraining("--config", first, "--epochs", "5", "--config", second)
    assert (config.optim.lr, config.run.seed, config.fit.epochs) == (1e-3, 2, 5)
    assert pretraining("--config", second, first).run.seed == 1


def test_no_is_a_word_where_the_choices_are(config_file):
    assert pretraining("--config", config_file("mixed-precision: no")).fit.mixed_precision == "no"
    assert pretraining("--mixed-precision", "no").fit.mixed_precision == "no"


def test_method_and_plugins_of_a_file_bring_their_options(config_file):
    text = "method: sdclr\nprune-ratio: 0.5\nplugins: [gh]\ngh: {clusters: 7}\n"
    config = pretraining("--config", config_file(text))
    assert (config.method, config.plugins) == ("sdclr", ("gh",))
    assert (config.options.prune_ratio, config.gh.clusters) == (0.5, 7)
    assert finetuning("--config", config_file("loss: ce\ninit-from: scratch")).loss == "ce"


def test_flags_replace_a_files_plugins(config_file):
    file = config_file("plugins: [gh]")
    assert pretraining("--config", file, "--plugins", "bcl").plugins == ("bcl",)
    assert pretraining("--config", file, "--plugins").plugins == ()


@pytest.mark.parametrize("alias", ["bcl", "gh"])
def test_an_alias_is_written_out(alias, config_file):
    for config in (
        pretraining("--method", alias),
        pretraining("--config", config_file(f"method: {alias}")),
    ):
        assert to_mapping(config) == to_mapping(pretraining("--plugins", alias))
    both = pretraining("--method", "bcl", "--plugins", "gh", "--gh.clusters", "5")
    assert (both.method, both.plugins, both.gh.clusters) == ("simclr", ("bcl", "gh"), 5)


def test_a_flag_without_value(config_file):
    assert pretraining("--nesterov").optim.nesterov
    assert not pretraining(
        "--config", config_file("nesterov: true"), "--no-nesterov"
    ).optim.nesterov


BAD_WORDS = [
    ("--epoch 3", "unknown flag --epoch; did you mean --epochs?"),
    ("--bcl.beta 0.5", "--bcl.beta belongs to --plugins bcl, which was not chosen"),
    ("--prune-ratio 0.5", "--prune-ratio belongs to --method sdclr, which was not chosen"),
    ("--epochs three", "--epochs"),
    ("--epochs 1.5", "--epochs"),
    ("--epochs", "--epochs"),
    ("--epochs 0", "--epochs: 0 is below 1"),
    ("--lr nan", "--lr: nan is not a positive number"),
    ("--schedule cosin", "--schedule"),
    ("stray", "stray"),
    ("--method simclr stray", "stray"),
    ("--method", "--method"),
    ("--method simclear", "--method: unknown name 'simclear'; did you mean simclr?"),
    ("--plugins ghh", "--plugins: unknown name 'ghh'; did you mean gh?"),
    ("--plugins gh gh", "--plugins: gh is given twice"),
    ("--method bcl --plugins bcl", "--plugins: bcl is given twice"),
    ("--seed -1", "--seed"),
    ("--config", "--config: no file given"),
    ("--config nowhere.yaml", "--config: cannot read nowhere.yaml"),
]


@pytest.mark.parametrize(("words", "says"), BAD_WORDS)
def test_a_bad_command_line_is_one_line_that_names_it(words, says):
    with pytest.raises(ConfigError) as error:
        pretraining(*words.split())
    assert says in str(error.value)
    assert "\n" not in str(error.value)


BAD_FILES = [
    ("epoch: 3", "unknown key 'epoch'; did you mean epochs?"),
    ("zzzz: 3", "unknown key 'zzzz'"),
    ("gh.clusters: 3", "gh.clusters belongs to --plugins gh"),
    ("plugins: [gh]\ngh.cluster: 3", "unknown key 'gh.cluster'; did you mean gh.clusters?"),
    ("epochs: three", "epochs: 'three' is not of type int"),
    ("lr: fast", "lr: 'fast' is not of type float"),
    ("lr: [1]", r"lr: [1] is not of type float"),
    ("epochs: 0", "--epochs: 0 is below 1"),
    ("method: [a]", "method: ['a'] is not of type str"),
    ("plugins: bcl", "plugins: 'bcl' is not a list"),
    ("plugins: [[bcl]]", "plugins: ['bcl'] is not of type str"),
    ("plugins: [gh, gh]", "--plugins: gh is given twice"),
]


@pytest.mark.parametrize(("text", "says"), BAD_FILES)
def test_a_bad_file_is_one_line_that_names_it(config_file, text, says):
    with pytest.raises(ConfigError) as error:
        pretraining("--config", config_file(text))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--loss lo", "--loss: unknown name 'lo'"),
        ("--tau 1 --loss ce", "--tau belongs to --loss"),
        ("--method simclr", "unknown flag --method"),
        ("--init-from", "--init-from"),
    ],
)
def test_finetuning_refuses_likewise(words, says, empty):
    with pytest.raises(ConfigError) as error:
        finetuning(*words.split())
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def changed(config):
    """Nothing as it is by default, where a value of its kind can be had."""
    fit = replace(config.fit, epochs=7, trackers=("tensorboard",), mixed_precision="no")
    optim = replace(config.optim, lr=1e-5, clip_grad_norm=1.0, nesterov=True)
    schedule = replace(config.schedule, milestones=(0.5, 1.0), warmup_epochs=0.5)
    run = replace(config.run, run_dir=Path("1e3"), seed=2**32 - 1)
    data = replace(config.data, data="folder:a b/ü", imbalance="none", imbalance_factor=10.0)
    return replace(
        config, fit=fit, optim=optim, schedule=schedule, run=run, data=data,
        model=replace(config.model, width=4),
    )  # fmt: skip


PRETRAININGS = [
    (method, plugins)
    for method in METHODS
    for plugins in ([], *([name] for name in PLUGINS), list(PLUGINS), list(PLUGINS)[::-1])
]


@pytest.mark.parametrize(("method", "plugins"), PRETRAININGS)
def test_a_pretraining_configuration_is_read_back_as_it_was(tmp_path, method, plugins):
    for config in (pretrain.default(method, plugins), changed(pretrain.default(method, plugins))):
        path = tmp_path / "config.yaml"
        write_config(path, config, verb="pretrain", command="x --y 'z'")
        found = pretraining("--config", str(path))
        # Each reading makes classes of its own, so the objects are compared field by field.
        assert to_mapping(found) == to_mapping(config)
        for part in ("run", "data", "model", "optim", "schedule", "fit", "options", *plugins):
            assert getattr(found, part) == getattr(config, part)
        # A flag says the same as a key.
        assert pretraining("--config", str(path), "--seed", "3").run.seed == 3


@pytest.mark.parametrize("loss", finetune_config.ENTRIES)
def test_a_finetuning_configuration_is_read_back_as_it_was(tmp_path, loss):
    default = finetune_config.default(loss)
    config = replace(changed(default), init_from="scratch", freeze_backbone=True)
    path = tmp_path / "config.yaml"
    write_config(path, config, verb="finetune", command="")
    found = finetuning("--config", str(path))
    assert to_mapping(found) == to_mapping(config)
    for part in ("run", "data", "model", "optim", "schedule", "fit", "options"):
        assert getattr(found, part) == getattr(config, part)


def test_what_a_run_says_of_itself_is_no_option(tmp_path):
    path = tmp_path / "config.yaml"
    write_config(path, pretrain.default("simclr", []), verb="pretrain", command="pretrain.py")
    assert read_yaml(path)["verb"] == "pretrain"
    assert not {"verb", "command"} & read_configs(["--config", str(path)]).keys()
    assert list(yaml.safe_load(path.read_text()))[:3] == ["verb", "command", "method"]


def test_evaluation_parses_too():
    config = parse(EvaluateConfig(), ["--probe-on", "all", "--knn-k", "5"], {}, prog="x")
    assert (config.protocols.probe_on, config.protocols.knn_k) == (("all",), (5,))


def test_help_lists_the_chosen_options_and_ends_well(capsys):
    with pytest.raises(SystemExit) as stop:
        pretraining("--method", "sdclr", "--plugins", "gh", "--help")
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "--prune-ratio" in said
    assert "--gh.clusters" in said
    assert "Balanced Contrastive" in said
