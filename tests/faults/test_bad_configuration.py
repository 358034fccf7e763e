"""A configuration with a mistake: one line that names the field, a code, and nothing was made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_origin

import pytest

from ssl_lt.cli import main as console
from ssl_lt.cli.commands.pretrain import read
from ssl_lt.core.errors import EXIT_CODES, ConfigError, UserError
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import FinetuneConfig, kind_of
from ssl_lt.runs.config.parse import from_mapping
from ssl_lt.runs.config.retrain import RetrainConfig
from ssl_lt.runs.config.schema import flags
from ssl_lt.runs.config.tail import TailConfig
from tests.configs import finetuning, pretraining
from tests.toolbox import call, refuses

CONFIG = 2


# --- numbers that no field can use


def numeric_fields():
    """(configuration, flag, float or int, is a list) of every number of every command, once."""
    configs = [pretraining("sdclr", ["bcl", "gh"]), pretraining("focal")]
    configs += [finetuning(loss) for loss in LOSSES]
    seen = set()
    for config in [*configs, EvaluateConfig(), RetrainConfig(), TailConfig()]:
        for flag in flags(config):
            kinds = [k for k in (flag.kind, *get_args(flag.kind)) if k in (int, float)]
            if kinds and flag.name not in seen:
                seen.add(flag.name)
                many = get_origin(flag.kind) is tuple
                yield pytest.param(config, flag.name, kinds[0], many, id=flag.name)


NUMBERS = list(numeric_fields())


def test_there_are_numbers():
    assert len(NUMBERS) > 90


@pytest.mark.parametrize(("config", "flag", "kind", "many"), NUMBERS)
def test_a_number_without_sense_is_refused_by_its_name(config, flag, kind, many):
    hostile = [float("nan"), -float("inf")] if kind is float else [10**30]
    hostile += [True, "one"]
    is_loss = isinstance(config, FinetuneConfig)
    of = kind_of(config.loss) if is_loss else type(config)
    for value in hostile:
        with pytest.raises(ConfigError, match=re.escape(flag)) as caught:
            from_mapping(of, {flag: [value] if many else value}, default=config)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999"])
def test_a_flag_without_sense_is_refused_too(word):
    """Those that reach the check behind tyro: their own would let them through."""
    for flag in ("temperature-max", "warmup-epochs", "clip-grad-norm"):
        with pytest.raises(ConfigError, match=f"--{flag}"):
            read([f"--{flag}={word}"])
    with pytest.raises(ConfigError, match="--epochs: a whole number of 4294967296 or more"):
        read(["--epochs", "9" * 30])


# --- files


PRETRAIN = [
    ("epcohs: 1", "c.yaml: unknown key 'epcohs'; did you mean epochs?"),
    ("epochs: 1\nepochs: 2", 'c.yaml, line 2: found duplicate key "epochs"'),
    ("batch-size: 1\nbatch_size: 2", "'batch-size' appears twice, in two spellings"),
    ("lr: -0.1", "c.yaml: --lr: -0.1 is not a positive number"),
    ("lr: 0", "--lr: 0.0 is not a positive number"),
    ("lr: .nan", "--lr: nan is not a positive number"),
    ("lr: .inf", "--lr: inf is not a positive number"),
    ("weight-decay: .nan", "--weight-decay: nan is negative or not finite"),
    ("lr: [0.1, 0.2]", "'0.2': a word that belongs to no flag"),
    ("lr:", "--lr: None is not a number"),
    ("lr: 2001-01-01", "--lr: could not convert string to float: '2001-01-01'"),
    ("epochs: 1.5", "--epochs: invalid literal for int() with base 10: '1.5'"),
    ("epochs: 1e3", "--epochs: invalid literal for int() with base 10: '1000.0'"),
    ("epochs: yes", "--epochs: invalid literal for int() with base 10: 'yes'"),
    ("epochs: true", "--epochs"),
    ("epochs: 1:30", "--epochs: invalid literal for int() with base 10: '1:30'"),
    ("epochs: -1", "--epochs: -1 is below 1"),
    ("batch-size: 586", "--batch-size 586: the training set has only 585 images"),
    ("batch-size: -4", "--batch-size"),
    ("knn-every: -1", "--knn-every: -1 is below 0"),
    ("width: -3", "--width: -3, must be at least 1"),
    ("width: 99999999999", "width: a whole number of 4294967296 or more"),
    ("momentum: 1", "--momentum: 1.0 is outside [0, 1)"),
    ("step-factor: -1", "--step-factor: -1.0 is outside (0, 1]"),
    ("temperature: 0", "--temperature"),
    ("plugins: [1]", "--plugins"),
    ("plugins: [bcl, bcl]", "--plugins: bcl is given twice"),
    ("method: {a: 1}", "unknown key 'method.a'"),
    ("compile: no way", "--compile: takes no value; it is --compile or --no-compile"),
    ("mixed-precision: on", "invalid choice 'on' for argument '--mixed-precision'"),
    ("schedule: linear", "invalid choice 'linear' for argument '--schedule'"),
    ("projector: {output-dim: 0}", "--projector.output-dim: 0 is below 1"),
    ("view: {max-sigma: -1}", "c.yaml: --view.max-sigma: -1.0 is outside [1e-6, inf)"),
    ("gh: {clusters: 3}", "c.yaml: --gh.clusters has no effect without --plugins gh"),
    ("data: nowhere", "--data nowhere: unknown, did you mean"),
    ("imbalance-factor: 0.5", "--imbalance-factor 0.5: must be 1 or more"),
    ("seed: -1", "--seed: -1 is outside 0 ... 2^32 - 1"),
]
FINETUNE = [
    ("tau: -1", "tau"),
    ("tau: 0\nloss: scl\ntemperature: 0", "--temperature"),
    ("loss: lo", "--loss: unknown name 'lo'"),
    ("val-fraction: 1", "--val-fraction: 1.0 is outside [0, 1)"),
    ("eval-every: -1", "--eval-every: -1 is below 0"),
    ("seeds: [1, 1]", "--seeds: 1 1 names one twice"),
    ("init-from: 7", "--init-from: 7 is no run, exported folder or weights file"),
    ("gamma: 2", "c.yaml: gamma belongs to --loss"),
]
EVALUATE = [
    ("knn-temperature: 0", "--knn-temperature: 0.0, but it must be above 0"),
    ("knn-k: [0]", "--knn-k: 0, but at least 1 neighbour is needed"),
    ("batch-size: 0", "--batch-size: 0 is below 1"),
    ("map-images: -1", "--map-images: -1 is below 0"),
    ("num-workers: -1", "--num-workers: -1 is below 0"),
    ("run: nowhere", "nowhere: not a run folder"),
    ("knn_kk: 3", "unknown key 'knn-kk'; did you mean knn-k?"),
]
CASES = [
    (verb, text, says)
    for verb, cases in (("pretrain", PRETRAIN), ("finetune", FINETUNE), ("evaluate", EVALUATE))
    for text, says in cases
]


@pytest.mark.parametrize(("verb", "text", "says"), CASES)
def test_a_file_with_a_mistake_ends_with_one_line_and_makes_nothing(empty, verb, text, says):
    (empty / "c.yaml").write_text(text)
    refuses(verb, empty, "--config c.yaml", CONFIG, says)


@pytest.mark.parametrize("text", ["lr: 1e-3", "lr: 1E-3", "lr: 0.001", "lr: .001"])
def test_a_number_as_people_write_it_is_one(empty, text):
    (empty / "c.yaml").write_text(text)
    assert read(["--config", "c.yaml"])[0].optim.lr == 0.001


# --- how commands end


def one_line(text):
    return " ".join(text.split())


COMMANDS = [*console._COMMANDS, *(f"data {name}" for name in console._DATA_COMMANDS)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_of_help_and_makes_nothing(empty, command):
    outcome = call(*command.split(), "--help")
    assert (outcome.code, outcome.err) == (0, [])
    assert outcome.out.startswith("usage: ")
    assert list(empty.iterdir()) == []


def test_the_console_script_says_so_too(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ssl-lt"])
    with pytest.raises(SystemExit) as ended:
        console.main()
    assert ended.value.code == 0
    assert one_line(EXIT_CODES) in one_line(capsys.readouterr().out)


def test_every_code_is_explained_once():
    codes = {kind.exit_code: kind.__name__ for kind in UserError.__subclasses__()}
    assert len(codes) == len(UserError.__subclasses__()) == 7
    documented = (Path(__file__).parents[2] / "docs/reliability.md").read_text("utf-8")
    for code in [*codes, 0, 1, 130, 143]:
        assert re.search(rf"[ ,]{code} ", EXIT_CODES), code
        assert re.search(rf"^\| ([0-9]+, )?{code}(, [0-9]+)? \|", documented, re.MULTILINE), code


def test_where_an_error_was_raised_is_shown_to_those_who_ask(empty, monkeypatch):
    plain = call("pretrain", "--epochs", "0")
    assert plain.err == ["error: --epochs: 0 is below 1"]
    monkeypatch.setenv("SSL_LT_DEBUG", "1")
    shown = call("pretrain", "--epochs", "0")
    assert shown.code == plain.code == CONFIG
    assert shown.err[-1] == plain.err[0]
    assert shown.err[0].startswith("Traceback")
    assert any("in check_at_least" in line for line in shown.err)
