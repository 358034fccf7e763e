"""Rows 30 and 31, and the exit codes: one line that names the field, and nothing was made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_origin

import pytest
from ssl_lt.cli.config.help_pages import COMMANDS, made_page
from ssl_lt.cli.config.parse import parse

from ssl_lt.cli import main as console
from ssl_lt.cli.commands import pretrain
from ssl_lt.cli.commands.tail import TailConfig
from ssl_lt.core.errors import EXIT_CODES, ConfigError, UserError
from ssl_lt.pretrain.registry import METHODS, PLUGINS
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import ENTRIES
from ssl_lt.runs.config.finetune import default as finetune_default
from ssl_lt.runs.config.retrain import RetrainConfig
from ssl_lt.runs.config.schema import flat_fields, to_mapping, with_values
from ssl_lt.runs.config.yaml_file import read_yaml
from tests.cli.commands import call, refuses

CONFIG = 2


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- numbers that no field can use


def numeric_fields():
    """(configuration, flag, float or int, is a list) of every number of every command, once."""
    configs = [pretrain.default(method, []) for method in METHODS]
    configs += [pretrain.default("simclr", [plugin]) for plugin in PLUGINS]
    configs += [finetune_default(loss) for loss in ENTRIES]
    seen = set()
    for config in [*configs, EvaluateConfig(), RetrainConfig(), TailConfig()]:
        for flag, _, kind in flat_fields(config):
            kinds = [k for k in (kind, *get_args(kind)) if k in (int, float)]
            if kinds and flag not in seen:
                seen.add(flag)
                many = get_origin(kind) is tuple
                yield pytest.param(config, flag, kinds[0], many, id=flag)


NUMBERS = list(numeric_fields())


def test_there_are_numbers():
    assert len(NUMBERS) > 90


@pytest.mark.parametrize(("config", "flag", "kind", "many"), NUMBERS)
def test_a_number_without_sense_is_refused_by_its_name(config, flag, kind, many):
    hostile = [float("nan"), float("inf"), -float("inf")] if kind is float else [10**30, -(10**30)]
    hostile += [True, "1", "nan", {}, 10**400]
    for value in hostile:
        with pytest.raises(ConfigError, match=re.escape(flag)) as caught:
            with_values(config, {flag: [value] if many else value}, origin="c.yaml")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999"])
def test_a_flag_without_sense_is_refused_too(word):
    """Those that reach the check behind tyro: their own would let them through."""
    for flag in ("temperature-max", "warmup-epochs", "clip-grad-norm"):
        with pytest.raises(ConfigError, match=f"--{flag}"):
            parse(pretrain.default("simclr", []), [f"--{flag}", word], {}, prog="")
    with pytest.raises(ConfigError, match="--epochs: a whole number of 4294967296 or more"):
        parse(pretrain.default("simclr", []), ["--epochs", "9" * 30], {}, prog="")


# --- files


PRETRAIN = [
    ("epcohs: 1", "unknown key 'epcohs'; did you mean epochs?"),
    ("epochs: 1\nepochs: 2", "line 2: key 'epochs' appears twice"),
    ("batch-size: 1\nbatch_size: 2", "'batch-size' appears twice, in two spellings"),
    ("lr: -0.1", "--lr: -0.1 is not a positive number"),
    ("lr: 0", "--lr: 0.0 is not a positive number"),
    ("lr: .nan", "lr: nan is not a finite number"),
    ("lr: .inf", "lr: inf is not a finite number"),
    ("lr: '1e-3'", "lr: '1e-3' is not of type float"),
    ("lr: [0.1]", "lr: [0.1] is not of type float"),
    ("lr:", "lr: None is not of type float"),
    ("lr: 2001-01-01", "lr: datetime.date(2001, 1, 1) is not of type float"),
    ("epochs: 1.5", "epochs: 1.5 is not of type int"),
    ("epochs: 1e3", "epochs: 1000.0 is not of type int"),
    ("epochs: yes", "epochs: True is not of type int"),
    ("epochs: 010", "line 1: '010' is no plain number"),
    ("epochs: 1:30", "line 1: '1:30' is no plain number"),
    ("epochs: -1", "--epochs: -1 is below 1"),
    ("epochs: " + "x" * 60_000, "epochs: 'xxxxxxxx"),
    ("batch-size: 586", "--batch-size 586: the training set has only 585 images"),
    ("batch-size: -4", "--batch-size -4: must be 1 or more"),
    ("knn-every: -1", "--knn-every: -1 is below 0"),
    ("width: -3", "--width: -3, must be at least 1"),
    ("width: 99999999999", "width: a whole number of 4294967296 or more"),
    ("momentum: 1", "--momentum: 1.0 is outside [0, 1)"),
    ("step-factor: -1", "--step-factor: -1.0 is outside (0, 1]"),
    ("temperature: 0", "--temperature"),
    ("plugins: bcl", "plugins: 'bcl' is not a list"),
    ("plugins: [1]", "plugins: 1 is not of type str"),
    ("plugins: [bcl, bcl]", "--plugins: bcl is given twice"),
    ("method: [simclr]", "method: ['simclr'] is not of type str"),
    ("method: {a: 1}", "unknown key 'method.a'; did you mean"),
    ("compile: no way", "compile: 'no way' is not of type bool"),
    ("mixed-precision: on", "mixed-precision: True is none of auto, no, bf16"),
    ("schedule: linear", "schedule: 'linear' is none of cosine, step, constant"),
    ("projector: {output-dim: 0}", "--projector.output-dim: 0 is below 1"),
    ("view: {max-sigma: -1}", "--view.max-sigma: -1.0 is not between"),
    ("gh: {clusters: 3}", "gh.clusters belongs to --plugins gh"),
    ("data: nowhere", "--data nowhere: unknown, did you mean"),
    ("imbalance-factor: 0.5", "--imbalance-factor 0.5: must be 1 or more"),
    ("seed: -1", "--seed: -1 is outside 0 ... 2^32 - 1"),
]
FINETUNE = [
    ("tau: -1", "tau"),
    ("tau: 0\nloss: scl\ntemperature: 0", "--temperature"),
    ("loss: lo", "--loss: unknown name 'lo'"),
    ("hold-out: 1", "--hold-out: 1.0 is outside [0, 1)"),
    ("eval-every: -1", "--eval-every: -1 is below 0"),
    ("seeds: [1, 1]", "--seeds: 1 1 names one twice"),
    ("seeds: 3", "seeds: 3 is not a list"),
    ("init-from: 7", "init-from: 7 is not of type str"),
    ("gamma: 2", "gamma belongs to"),
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
    values = read_yaml(empty / "c.yaml")
    found = parse(pretrain.default("simclr", []), [], values, prog="")
    assert to_mapping(found)["lr"] == 0.001


# --- how commands end


def one_line(text):
    return " ".join(text.split())


@pytest.mark.parametrize("command", sorted({*console._VERBS, *COMMANDS}))
def test_every_help_says_what_the_exit_codes_mean(empty, command):
    outcome = call(*command.split(), "--help")
    assert (outcome.code, outcome.err) == (0, [])
    # Kept as text, and as the command itself would say it.
    for page in (outcome.out, made_page(command)):
        assert one_line(EXIT_CODES) in one_line(page)
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
    readme = one_line((Path(__file__).parents[2] / "README.md").read_text("utf-8"))
    for code in [*codes, 0, 130, 143]:
        for text in (EXIT_CODES, readme[readme.index("Exit codes:") :][:400]):
            assert len(re.findall(rf"\b{code}\b", text)) == 1, codes.get(code, code)


def test_where_an_error_was_raised_is_shown_to_those_who_ask(empty, monkeypatch):
    plain = call("pretrain", "--epochs", "0")
    assert plain.err == ["error: --epochs: 0 is below 1"]
    monkeypatch.setenv("SSL_LT_DEBUG", "1")
    shown = call("pretrain", "--epochs", "0")
    assert shown.code == plain.code == CONFIG
    assert shown.err[-1] == plain.err[0]
    assert shown.err[0].startswith("Traceback")
    assert any("in check_at_least" in line for line in shown.err)
