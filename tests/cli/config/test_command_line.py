from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ssl_lt.cli.config.command_line import RunFiles, read_simple, read_words
from ssl_lt.cli.config.help import documentation
from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.core.errors import ConfigError
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.pretrain.registry import METHODS, PLUGINS
from ssl_lt.runs.config import stored
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.schema import flags, to_mapping
from ssl_lt.runs.config.stored import effective_mapping, write_config
from tests.configs import finetuning as finetune_config
from tests.configs import pretraining as pretrain_config
from tests.configs import read
from tests.toolbox import succeed


def pretraining(*words):
    return read("pretrain", words)


def finetuning(*words):
    return read("finetune", words)


def test_dashes_and_underscores_are_the_same():
    a = pretraining("--batch_size", "32", "--plugins", "gh", "--gh.warmup_epochs=2")
    b = pretraining("--batch-size", "32", "--plugins", "gh", "--gh.warmup-epochs", "2")
    assert to_mapping(a) == to_mapping(b)
    assert (a.fit.batch_size, a.options.gh.warmup_epochs) == (32, 2)


def test_flags_win_over_files_and_later_files_over_earlier_ones(config_file):
    first = config_file("lr: 1e-3\nseed: 1\nepochs: 3\n", "a.yaml")
    second = config_file("seed: 2\nepochs: 4\n", "b.yaml")
    config = pretraining("--config", first, "--epochs", "5", "--config", second)
    assert (config.optim.lr, config.run.seed, config.fit.epochs) == (1e-3, 2, 5)
    assert pretraining("--config", second, "--config", first).run.seed == 1


def test_no_is_a_word_where_the_choices_are(config_file):
    assert pretraining("--config", config_file("mixed-precision: no")).fit.mixed_precision == "no"
    assert pretraining("--mixed-precision", "no").fit.mixed_precision == "no"


def test_method_and_plugins_of_a_file_bring_their_options(config_file):
    text = "method: sdclr\nsdclr.prune-ratio: 0.5\nplugins: [gh]\ngh: {clusters: 7}\n"
    config = pretraining("--config", config_file(text))
    assert (config.method, config.plugins) == ("sdclr", ("gh",))
    assert (config.methods.sdclr.prune_ratio, config.options.gh.clusters) == (0.5, 7)
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
    assert (both.method, both.plugins, both.options.gh.clusters) == ("simclr", ("bcl", "gh"), 5)


def test_a_flag_without_value(config_file):
    assert pretraining("--nesterov").optim.nesterov
    assert not pretraining(
        "--config", config_file("nesterov: true"), "--no-nesterov"
    ).optim.nesterov


BAD_WORDS = [
    ("--epoch 3", "unknown flag --epoch; did you mean --epochs?"),
    ("--bcl.beta 0.5", "--bcl.beta has no effect without --plugins bcl"),
    ("--bcl.beta 0.97", "--bcl.beta has no effect without --plugins bcl"),
    ("--sdclr.prune-ratio 0.5", "--sdclr.prune-ratio has no effect without --method sdclr"),
    ("--prune-ratio 0.5", "unknown flag --prune-ratio; did you mean --sdclr.prune-ratio?"),
    ("--mirror s3://a/b", "unknown flag --mirror"),
    ("--epochs three", "--epochs"),
    ("--epochs 1.5", "--epochs"),
    ("--epochs", "--epochs"),
    ("--epochs 0", "--epochs: 0 is below 1"),
    ("--lr nan", "--lr: nan is not a positive number"),
    ("--schedule cosin", "--schedule"),
    ("stray", "stray"),
    ("--method simclr stray", "stray"),
    ("--method", "--method"),
    ("--method simclear", "invalid choice 'simclear' for argument '--method'"),
    ("--plugins ghh", "--plugins"),
    ("--plugins gh gh", "--plugins: gh is given twice"),
    ("--method bcl --plugins bcl", "--plugins: bcl is given twice"),
    ("--seed -1", "--seed"),
    ("--config", "--config"),
    ("--config nowhere.yaml", "--config nowhere.yaml: no such file, and no recipe of that name"),
    ("--config finetune/cifar_lt/rcl", "; did you mean finetune/cifar10_lt/rcl?"),
]


@pytest.mark.parametrize(("words", "says"), BAD_WORDS)
def test_a_bad_command_line_is_one_line_that_names_it(words, says):
    with pytest.raises(ConfigError) as error:
        pretraining(*words.split())
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--plugins gh --gh.clusters 1", "--gh.clusters: 1 is below 2"),
        ("--plugins gh --gh.prior-momentum 1", "--gh.prior-momentum: 1.0 is outside [0, 1)"),
        ("--method sdclr --sdclr.prune-ratio 1", "--sdclr.prune-ratio: 1.0 is outside [0, 1)"),
        ("--view.hue 2", "--view.hue: 2.0 is outside [0, 0.5]"),
        ("--method bcl --bcl.num-ops 0", "--bcl.num-ops: 0 is below 1"),
        ("--temperature 0", "--temperature: 0.0 is not a positive number"),
    ],
)
def test_a_value_out_of_range_is_named_by_its_flag_alone(words, line):
    with pytest.raises(ConfigError) as error:
        pretraining(*words.split())
    assert str(error.value) == line


BAD_FILES = [
    ("epoch: 3", "unknown key 'epoch'; did you mean epochs?"),
    ("zzzz: 3", "unknown key 'zzzz'"),
    ("gh.clusters: 3", "--gh.clusters has no effect without --plugins gh"),
    ("milestones: [0.5]", "--milestones has no effect without --schedule step"),
    ("plugins: [gh]\ngh.cluster: 3", "unknown key 'gh.cluster'; did you mean gh.clusters?"),
    ("epochs: three", "--epochs: invalid literal for int() with base 10: 'three'"),
    ("lr: fast", "--lr: could not convert string to float: 'fast'"),
    ("lr: [1, 2]", "'2': a word that belongs to no flag"),
    ("epochs: 0", "--epochs: 0 is below 1"),
    ("epochs: true", "--epochs"),
    ("method: [a]", "--method"),
    ("plugins: [[bcl]]", "--plugins"),
    ("plugins: [gh, gh]", "--plugins: gh is given twice"),
]


@pytest.mark.parametrize(("text", "says"), BAD_FILES)
def test_a_bad_file_is_one_line_that_names_it(config_file, text, says):
    with pytest.raises(ConfigError) as error:
        pretraining("--config", config_file(text))
    assert says in str(error.value)
    assert "c.yaml: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--loss foo", "--loss: unknown name 'foo'; there are ce, la, balanced_softmax, pairwise"),
        ("--tau 1 --loss ce", "--tau belongs to --loss la | vs | scl | bcl"),
        ("--gamma 2", "--loss vs | focal | cb_focal | paco | gpaco (--loss vs --help shows its fl"),
        ("--view.min-scale 0.5", "--view.min-scale has no effect without a loss with contrastive"),
        ("--reweight-after 0.8", "--reweight-after has no effect without --reweight"),
        ("--reweight inverse --reweight-beta 0.9", "effect without --reweight effective"),
        ("--reweight effective --reweight-power 1", "effect without --reweight adrw"),
        ("--sampler-after 0.8", "--sampler-after has no effect without --sampler"),
        ("--sampler square_root --sampler-beta 0.9", "effect without --sampler effective"),
        ("--loss bcl --compression-start 0.5", "has no effect without --compression"),
        ("--meta.lr 0.1", "--meta.lr has no effect without --sampler meta"),
        ("--method simclr", "unknown flag --method"),
        ("--init-from", "--init-from"),
        ("--tune adaptfomer", "--tune: unknown name 'adaptfomer'; did you mean adaptformer?"),
        ("--tune last-0", "--tune: 'last-0': K is a number from 1, as in last-2"),
        ("--tune last-K", "--tune: 'last-K': K is a number from 1"),
        ("--adapter-dim 4", "--adapter-dim has no effect without --tune adaptformer or lora"),
        ("--tune ssf --adapter-dim 4", "--adapter-dim has no effect without --tune adaptformer"),
        ("--tune lora --adapter-dim 0", "--adapter-dim: 0"),
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
    schedule = replace(config.schedule, schedule="step", milestones=(0.5, 1.0), warmup_epochs=0.5)
    run = replace(config.run, run_dir=Path("1e3"), seed=2**32 - 1)
    data = replace(config.data, data="folder:a b/ü", imbalance="none", imbalance_factor=10.0)
    return replace(
        config, fit=fit, optim=optim, schedule=schedule, run=run, data=data,
        model=replace(config.model, width=4),
    )  # fmt: skip


ALL = list(PLUGINS)
PRETRAININGS = [
    pytest.param(method, plugins, marks=() if plugins == ALL else pytest.mark.slow)
    for method in METHODS
    for plugins in ([], *([name] for name in ALL), ALL, ALL[::-1])
]


@pytest.mark.parametrize(("method", "plugins"), PRETRAININGS)
def test_a_pretraining_configuration_is_read_back_as_it_was(tmp_path, method, plugins):
    default = pretrain_config(method, plugins)
    for config in (default, changed(default)):
        path = tmp_path / "config.yaml"
        write_config(path, config, verb="pretrain", command="x --y 'z'")
        assert stored.read_config(path).config == config
        assert stored.read_config(path).command == "x --y 'z'"
        assert pretraining("--config", str(path)) == config
        # A flag says the same as a key.
        assert pretraining("--config", str(path), "--seed", "3").run.seed == 3


def test_help_lists_every_loss():
    said = re.findall(r"[a-z_]+", documentation(FinetuneConfig)["loss"])
    assert set(LOSSES) <= set(said)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_finetuning_configuration_is_read_back_as_it_was(tmp_path, loss):
    config = changed(
        finetune_config(loss, {"init-from": "scratch", "tune": "lora", "adapter-dim": 3})
    )
    path = tmp_path / "config.yaml"
    write_config(path, config, verb="finetune", command="")
    assert finetuning("--config", str(path)) == config


def test_what_a_run_says_of_itself_is_no_option(tmp_path):
    path = tmp_path / "config.yaml"
    write_config(path, pretrain_config(), verb="pretrain", command="pretrain.py")
    assert read_yaml(path)["verb"] == "pretrain"
    words = read_words(["--config", str(path)], RunFiles())
    assert not {"verb", "command"} & dict(words.values[0][1]).keys()
    assert list(YAML(typ="safe").load(path))[:2] == ["verb", "command"]


def test_what_has_no_effect_is_not_written():
    names = effective_mapping(pretrain_config("sdclr", ["gh"])).keys()
    assert {"sdclr.prune-ratio", "gh.clusters"} <= names
    assert not {"focal.gamma", "bcl.beta"} & names
    assert "view.min-scale" not in effective_mapping(finetune_config("la"))
    assert "view.min-scale" in effective_mapping(finetune_config("rcl"))


def test_evaluation_parses_too():
    config = read_simple(["--probe-on", "all", "--knn-k", "5"], EvaluateConfig(), usage="x")
    assert (config.protocols.probe_on, config.protocols.knn_k) == (("all",), (5,))
    with pytest.raises(ConfigError, match="unknown flag --resume"):
        read_simple(["--resume"], EvaluateConfig(), usage="x")


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "evaluate", "retrain", "tail", "export"])
def test_help_has_the_flags_most_need_and_help_all_every_one(verb):
    short, whole = (succeed(verb, flag).out for flag in ("--help", "--help-all"))
    assert "--config" in short
    assert ("--resume" in short) == (verb in ("pretrain", "finetune"))
    assert len(short.splitlines()) <= len(whole.splitlines())
    if verb == "pretrain":
        assert {f"--{flag.name}" for flag in flags(pretrain_config())} <= set(whole.split())
    if verb == "finetune":
        assert {f"--{flag.name}" for flag in flags(finetune_config())} <= set(whole.split())
        assert "--contrast-weight" in succeed("finetune", "--loss", "rcl", "--help").out


def test_the_short_page_of_pretraining_is_short():
    shown = [line for line in succeed("pretrain", "--help").out.splitlines() if "  --" in line]
    assert 20 <= len(shown) <= 33


def test_help_says_defaults_that_another_verb_has_otherwise():
    said = " ".join(succeed("pretrain", "--help").out.split())
    assert "as make 300 optimiser steps. (default: 40)" in said
    assert "0.01 from released weights. (default: 0.3)" in said
    assert "otherwise resnet20_cifar. (default" not in said


def test_what_a_run_started_from_is_read_back_and_is_no_option(tmp_path):
    path, start = tmp_path / "config.yaml", {"weights": "timm:resnet18", "sha256": "0123"}
    config = finetune_config("ce")
    write_config(path, config, verb="finetune", command="", started_from=start)
    read = stored.read_config(path)
    assert read.started_from == start
    assert read.config == config
