"""`finetune.py --budget`: from a time to epochs and a recipe."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter

import pytest

import ssl_lt
from ssl_lt.core.errors import ConfigError
from ssl_lt.engine.speed import seconds_per_step
from ssl_lt.runs import budget
from ssl_lt.runs.budget import within_budget
from ssl_lt.runs.config.budget import budget_seconds, recipe
from ssl_lt.runs.config.schema import to_mapping
from ssl_lt.runs.life.init_from import find_source
from ssl_lt.runs.life.training import opened
from tests.configs import read
from tests.toolbox import call, load_yaml, newest_weights, refuses, stop_after, succeed

# A narrow network on the few digits that are left.
SMALL = (
    "--width 4 --image-size 16 --batch-size 64 --num-workers 0 --mixed-precision no "
    "--imbalance-factor 20 --eval-every 0"
).split()
SCRATCH = [*SMALL, "--init-from", "scratch"]
RECIPE = ["augment", "backbone", "decay", "ema", "epochs", "nesterov", "width"]


def timing(patch, seconds):
    """Says that a step takes so long; returns the tasks that were measured."""
    measured = []

    def stand_in(task, *_, **__):
        measured.append(task)
        return seconds

    patch.setattr(budget, "seconds_per_step", stand_in)
    return measured


def ticking(patch, seconds):
    """Measures by a clock that goes on by so much from step to step."""
    measured = []

    def stand_in(task, *arguments, **options):
        measured.append(task)
        times = count(0.0, seconds)
        clock = partial(next, times)
        return seconds_per_step(task, *arguments, **options, clock=clock)

    patch.setattr(budget, "seconds_per_step", stand_in)
    return measured


def values(run):
    return {name: load_yaml(run / "config.yaml").get(name) for name in RECIPE}


def same_weights(one, other):
    first, second = newest_weights(one), newest_weights(other)
    assert first.keys() == second.keys()
    return all(first[name].equal(second[name]) for name in first)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1min", 60), ("90min", 5400), ("2h", 7200), ("1.5h", 5400)]
)
def test_a_time(text, seconds):
    assert budget_seconds(text) == seconds


@pytest.mark.parametrize("text", ["5", "min", "10 m", "10s", "-5min", "1h30min", "nanh", ""])
def test_what_is_no_time(text):
    with pytest.raises(ConfigError, match="is no time: such as 10min or 2h"):
        budget_seconds(text)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--budget 5", "--budget: 5 is no time: such as 10min or 2h"),
        ("--budget 0.5min", "--budget: 0.5min is less than a minute"),
        ("--budget 10min --epochs 5", "--budget: --epochs says how long, too; leave one of them"),
        (
            "--budget 10min --stages all --stage-epochs 3",
            "--budget: --stage-epochs says how long; leave one of them out",
        ),
        ("--budget 10min --batch-size 100000", "--batch-size"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(empty, words, says):
    refuses("finetune", empty, f"--init-from scratch {words}", 2, says)


def test_what_is_said_last_counts(empty):
    (empty / "f.yaml").write_text("epochs: 7\nema: 0.5\n")
    (empty / "g.yaml").write_text("budget: 30min\n")
    (empty / "run.yaml").write_text("budget: 30min\nepochs: 12\n")

    def length(*words):
        config = read("finetune", ["--init-from", "scratch", *words])
        return config.budget, config.fit.epochs

    assert length("--config", "f.yaml", "--budget", "10min") == ("10min", None)
    assert length("--config", "f.yaml", "--config", "g.yaml") == ("30min", None)
    assert length("--config", "g.yaml", "--config", "f.yaml") == (None, 7)
    assert length("--config", "g.yaml", "--epochs", "3") == (None, 3)
    assert length("--config", "run.yaml") == ("30min", 12)
    assert length("--config", "run.yaml", "--budget", "1h") == ("1h", None)


def test_recipes_are_flags():
    known = to_mapping(read("finetune", ["--init-from", "scratch"])).keys()
    for start in ("scratch", "run", "released"):
        for epochs in (1, 200):
            assert recipe(start, epochs=epochs, is_small=True).keys() <= known
    assert recipe("released", epochs=5, is_small=False) == {"ema": 0.998, "warmup-epochs": 0.5}
    assert recipe("scratch", epochs=99, is_small=False)["augment"] == "weak"
    fast = load_yaml(Path(ssl_lt.__file__).parent / "recipes" / "finetune" / "fast.yaml")
    assert recipe("scratch", epochs=99, is_small=True).items() <= fast.items()
    assert recipe("scratch", epochs=100, is_small=False)["augment"] == "autoaugment"


@pytest.mark.slow
def test_the_weights_are_those_of_the_flags_it_stands_for(empty, monkeypatch):
    timed = ticking(monkeypatch, 4.0)
    said = succeed("finetune", *SCRATCH, "--budget", "1min", "--run-dir", "a").out
    # With the recipe of a long run, and with its own.
    assert len(timed) == 2
    found = values(empty / "a")
    steps = load_yaml(empty / "a" / "config.yaml")
    assert steps["budget"] == "1min"
    assert found == {
        "augment": "weak", "backbone": "convnet7_cifar", "decay": "weights", "ema": 0.0,
        "epochs": found["epochs"], "nesterov": True, "width": 4,
    }  # fmt: skip
    assert 1 <= found["epochs"] < 10
    number = f"{found['epochs']} epoch{'s' * (found['epochs'] > 1)}"  # a slow machine has one
    line = f"budget 1min: {number} from scratch at 4 s a step, weak augmentation, "
    assert f"{line}convnet7_cifar of width 4" in said

    typed = "--backbone convnet7_cifar --decay weights --nesterov --augment weak".split()
    epochs = ["--epochs", str(found["epochs"])]
    succeed("finetune", *SCRATCH, *epochs, *typed, "--run-dir", "b")
    assert same_weights(empty / "a", empty / "b")
    # And of the stored configuration.
    succeed("finetune", "--config", "a/config.yaml", "--run-dir", "c")
    assert len(timed) == 2
    assert same_weights(empty / "a", empty / "c")
    assert load_yaml(empty / "c" / "config.yaml")["budget"] == "1min"


def test_what_is_given_stays(empty, monkeypatch):
    timed = timing(monkeypatch, 1e-4)
    (empty / "f.yaml").write_text("ema: 0.5\nepochs: 3\n")
    given = "--backbone resnet20_cifar --augment weak --momentum 0 --config f.yaml".split()
    monkeypatch.setattr(budget, "MOST_EPOCHS", {"scratch": 1})
    monkeypatch.setattr(budget, "MIN_STEPS", 1)
    said = succeed("finetune", *SCRATCH, *given, "--budget", "1min", "--run-dir", "a").out
    assert "budget 1min: 1 epoch (the most) from scratch at 0.0001 s a step" in said
    assert len(timed) == 1
    assert values(empty / "a") == {
        "augment": "weak", "backbone": "resnet20_cifar", "decay": "weights", "ema": 0.5,
        "epochs": 1, "nesterov": False, "width": 4,
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_epochs(empty, monkeypatch):
    timed = timing(monkeypatch, 4.0)
    words = [*SCRATCH, "--budget", "1min", "--run-dir", "a"]
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert call("finetune", *words).code
    assert len(timed) == 2
    before = values(empty / "a")
    assert before["epochs"] > 1
    succeed("finetune", "--resume", "a")
    assert len(timed) == 2
    assert values(empty / "a") == before
    refuses("finetune", empty, "--resume a --budget 2min", 2, "--budget 2min (was 1min)")


@pytest.mark.slow
def test_seeds_are_measured_once(empty, monkeypatch):
    timed = timing(monkeypatch, 5.0)
    words = [*SCRATCH, "--budget", "1min", "--seeds", "3", "4"]
    succeed("finetune", *words, "--run-dir", "s")
    assert len(timed) == 2
    found = [values(empty / "s" / name) for name in ("", "seed3", "seed4")]
    assert found[0] == found[1] == found[2]
    assert found[0]["decay"] == "weights"


def test_stages_share_it(empty, monkeypatch):
    timing(monkeypatch, 1.0)
    words = [*SCRATCH, "--budget", "2min", "--augment", "weak"]
    epochs = []
    for more in ([], ["--stages", "classifier", "all"]):
        asked = read("finetune", [*words, *more, "--run-dir", "r"])
        with opened(asked, empty / "r", None) as run:
            source = find_source("scratch")
            found = within_budget(run, asked, source, given=frozenset(), begun_at=perf_counter())
        epochs.append(found.fit.num_epochs)
    assert epochs[0] > 3
    assert epochs[1] == pytest.approx(epochs[0] / 2, abs=1)


@pytest.mark.slow
def test_from_python(empty, monkeypatch):
    timing(monkeypatch, 20.0)
    flags = {"width": 4, "num_workers": 0, "imbalance_factor": 20, "eval_every": 0}
    run = ssl_lt.finetune(init_from="scratch", budget="1min", run_dir="a", **flags)
    assert run.configuration["budget"] == "1min"
    assert run.configuration["epochs"] == 1


@pytest.mark.slow
def test_each_start_is_measured(empty, monkeypatch):
    succeed("pretrain", *SMALL[:-2], "--epochs", "1", "--warmup-epochs", "0", "--run-dir", "p")
    timed = timing(monkeypatch, 9.0)
    own = [word for word in SMALL if word not in ("--width", "4")]
    words = [*own, "--head-init", "random", "--budget", "1min", "--compare", "scratch", "p"]
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert call("finetune", *words).code
    (series,) = empty.glob("runs/finetune-*")
    measured_before = len(timed)
    assert measured_before == 3  # from scratch, also with weak augmentation
    # The same command goes on, with the epochs that were found.
    assert "the same comparison, which goes on" in succeed("finetune", *words).out
    assert len(timed) == measured_before
    first, second = values(series / "1-scratch-seed0"), values(series / "2-p-seed0")
    assert first["backbone"] == second["backbone"] == "resnet20_cifar"
    assert (first["nesterov"], second["nesterov"]) == (True, False)
    assert (first["ema"], second["ema"]) == (0, 0.998)
    assert (first["decay"], second["decay"]) == ("weights", "all")
