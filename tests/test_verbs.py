"""`ssl_lt.pretrain`, `finetune` and `evaluate` do what the commands do, and say what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ssl_lt
from ssl_lt.cli.commands import pretrain as command
from ssl_lt.core.errors import ConfigError, OutOfMemoryError, UserError
from ssl_lt.finetune.registry import LOSSES  # and so the package of its name is imported
from ssl_lt.verbs import words_of
from tests.toolbox import call, load_yaml, newest_weights, succeed

TINY = {
    "width": 4, "image_size": 16, "batch_size": 64, "epochs": 1, "warmup_epochs": 0,
    "num_workers": 0, "mixed_precision": "no",
}  # fmt: skip
# Of the run that fine-tuning starts from.
TUNING = {key: value for key, value in TINY.items() if key != "width"}
FLAGS = ["lr", "sdclr.prune-ratio", "gh.clusters"]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"lr": 0.1}, ["--lr=0.1"]),
        ({"sdclr_prune_ratio": 0.9}, ["--sdclr.prune-ratio=0.9"]),
        ({"sdclr.prune-ratio": 0.9}, ["--sdclr.prune-ratio=0.9"]),
        ({"nesterov": True, "download": False}, ["--nesterov", "--no-download"]),
        ({"plugins": ("bcl", "gh"), "seeds": []}, ["--plugins", "bcl", "gh", "--seeds"]),
        ({"run_dir": Path("a b")}, ["--run-dir=a b"]),
        ({"config": ["a.yaml", Path("b.yaml")]}, ["--config=a.yaml", "--config=b.yaml"]),
        ({"config": "a.yaml"}, ["--config=a.yaml"]),
        ({"resume": True}, ["--resume"]),
        ({"resume": Path("runs/a")}, ["--resume", "runs/a"]),
        ({"resume": None, "config": None}, []),
        ({"resume": False}, []),
    ],
)
def test_keywords_are_what_a_user_would_type(keywords, words):
    assert words_of(keywords, FLAGS) == words


def test_importing_the_package_is_light():
    code = "import ssl_lt, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "timm", "tyro", "accelerate", "rich", "sklearn", "matplotlib"}
    assert not heavy & {*done.stdout.split()}


def test_everything_it_names_is_there():
    assert all(getattr(ssl_lt, name) is not None for name in ssl_lt.__all__)
    assert set(ssl_lt.__all__) <= {*dir(ssl_lt)}
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = ssl_lt.train


def test_a_function_stays_where_a_package_has_its_name():
    assert LOSSES
    assert all(callable(verb) for verb in (ssl_lt.pretrain, ssl_lt.finetune, ssl_lt.evaluate))
    assert all(callable(verb) for verb in (ssl_lt.predict, ssl_lt.embed, ssl_lt.load))


@pytest.mark.parametrize(
    ("verb", "keywords"),
    [
        ("pretrain", {"epoch": 3}),
        ("pretrain", {"epochs": "three"}),
        ("pretrain", {"bcl_beta": 0.5}),
        ("pretrain", {"plugins": ["gh", "gh"]}),
        ("pretrain", {"data": "cifar1000"}),
        ("pretrain", {"resume": "nowhere"}),
        ("pretrain", {"config": "nowhere.yaml"}),
        ("finetune", {"loss": "lo", "init_from": "scratch"}),
        ("finetune", {"loss": "ce", "tau": 1.0, "init_from": "scratch"}),
        ("finetune", {"init_from": "nowhere"}),
        ("evaluate", {"run": "nowhere"}),
        ("evaluate", {"knn_k": [0]}),
    ],
)
def test_a_mistake_raises_the_sentence_of_the_command_line(verb, keywords, empty):
    with pytest.raises(UserError) as error:
        getattr(ssl_lt, verb)(**keywords)
    said = call(verb, *words_of(keywords, ["bcl.beta"]))
    assert said.err == [f"error: {error.value}"]
    assert said.code == error.value.exit_code


def test_what_the_command_line_can_explain_is_explained(monkeypatch):
    def full(words):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(command, "run", full)
    with pytest.raises(OutOfMemoryError):
        ssl_lt.pretrain()


def test_a_fault_of_the_program_stays_as_it_is(monkeypatch):
    def broken(words):
        raise KeyError("a fault")

    monkeypatch.setattr(command, "run", broken)
    with pytest.raises(KeyError, match="a fault"):
        ssl_lt.pretrain()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Pretrained, fine-tuned and judged by functions, in a notebook's kind of session."""
    place = tmp_path_factory.mktemp("functions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        pretrained = ssl_lt.pretrain(method="sdclr", sdclr_prune_ratio=0.8, **TINY, knn_every=0)
        tuned = ssl_lt.finetune(init_from=pretrained, loss="rcl", **TUNING, eval_every=0)
        judged = ssl_lt.evaluate(run=tuned, probe_on=["long-tail"], map_images=0, num_workers=0)
        again = ssl_lt.finetune(resume=tuned)
    return place, pretrained, tuned, judged, again


@pytest.mark.slow
def test_a_function_returns_the_records_of_its_run(runs):
    place, pretrained, tuned, judged, again = runs
    assert (pretrained.verb, pretrained.method) == ("pretrain", "sdclr")
    assert (tuned.verb, tuned.method, tuned.members) == ("finetune", "rcl", ())
    assert (place / tuned.path / "results.json").is_file()
    assert [e.name for e in tuned.evaluations] == ["classifier"]
    assert {"classifier", "kNN", "linear probe, long-tailed"} <= {
        e.name for e in judged.evaluations
    }
    assert (judged.path, again.path) == (tuned.path, tuned.path)
    assert 0 < judged.evaluations[0].accuracy.balanced <= 1
    assert again.evaluations == judged.evaluations
    assert len(repr(judged)) < 300
    assert repr(judged).startswith(f"<finetune rcl: {judged.path}, classifier ")


@pytest.mark.slow
def test_it_is_the_run_of_the_command(runs, empty):
    place, pretrained, *_ = runs
    words = words_of({"method": "sdclr", "sdclr.prune-ratio": 0.8, **TINY, "knn_every": 0}, FLAGS)
    succeed("pretrain", *words, "--run-dir", "typed")
    one, other = newest_weights(empty / "typed"), newest_weights(place / pretrained.path)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    typed, called = (
        load_yaml(path / "config.yaml") for path in (empty / "typed", place / pretrained.path)
    )
    command = called.pop("command")
    assert command.startswith("ssl_lt.pretrain(method='sdclr', sdclr_prune_ratio=0.8, width=4")
    places = dict.fromkeys(("command", "run-dir", "directory", "directory-from-run"))
    assert typed | places == called | places


@pytest.mark.slow
def test_another_precision_may_follow_and_nothing_is_drawn(empty, capsys):
    short = {**TINY, "init_from": "scratch", "loss": "ce", "eval_every": 0}
    ssl_lt.finetune(**short)
    ssl_lt.finetune(**{**short, "mixed_precision": "bf16"})
    said = capsys.readouterr()
    assert said.err == ""
    assert len(said.out.splitlines()) < 28  # what each run understood, where it is, what is next


@pytest.mark.slow
def test_several_runs_return_their_mean_and_each_of_them(empty):
    series = ssl_lt.finetune(
        loss="ce", init_from="scratch", seeds=[0, 1], eval_every=0, run_dir="s", **TINY
    )
    assert [run.path.name for run in series.members] == ["seed0", "seed1"]
    assert series.path == Path("s")
    accuracies = [run.evaluations[0].accuracy.balanced for run in series.members]
    assert series.evaluations[0].accuracy.balanced == pytest.approx(np.mean(accuracies))


@pytest.mark.slow
def test_a_type_checker_knows_the_keywords(tmp_path):
    (tmp_path / "right.py").write_text(
        "import ssl_lt\n"
        "run = ssl_lt.finetune(data='cifar100', loss='rcl', epochs=5, view_min_scale=0.2)\n"
        "judged = ssl_lt.evaluate(run=run, knn_k=[1, 5])\n"
        "accuracy: float = judged.evaluations[0].accuracy.balanced\n"
        "ssl_lt.losses.LogitAdjustedLoss([5, 2], tau=1.0)\n"
        "rows_written: int = ssl_lt.predict(run=run, data='new', top_k=3).num_images\n"
        "names: tuple[str, ...] = ssl_lt.load(run).class_names\n"
        "rows = ssl_lt.long_tailed_subset([0, 1], imbalance_factor=1)\n"
    )
    (tmp_path / "wrong.py").write_text(
        # mypy remembers errors by what a file says, with the path of the first that said it.
        f"import ssl_lt  # {tmp_path}\n"
        "ssl_lt.pretrain(epoch=5)\n"
        "ssl_lt.pretrain(method='simclear')\n"
        "ssl_lt.evaluate(knn_k=5)\n"
        "ssl_lt.embed(neighbors=5)\n"
    )
    words = "-m mypy --strict --no-error-summary".split()
    # In the checkout, with what mypy remembers of the package.
    done = subprocess.run(
        [sys.executable, *words, tmp_path / "right.py", tmp_path / "wrong.py"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if "error" in line]
    places = [line.split(":")[:2] for line in errors]
    wrong = str(tmp_path / "wrong.py")
    assert places == [[wrong, str(line)] for line in (2, 3, 4, 5)], done.stdout


def test_config_error_is_a_value_error():
    assert issubclass(ConfigError, ValueError)
