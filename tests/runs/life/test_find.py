from __future__ import annotations

import os
import re

import pytest

from ssl_lt.cli.commands import pretrain
from ssl_lt.core.errors import ConfigError
from ssl_lt.runs.config.stored import SERIES, write_config
from ssl_lt.runs.life import find as runs
from tests.configs import pretraining
from tests.toolbox import TINY, call, snapshot


def make(path, verb="pretrain", *, second=0):
    path.mkdir(parents=True)
    write_config(path / "config.yaml", pretraining(), verb=verb, command="")
    os.utime(path / "config.yaml", (1000 + second, 1000 + second))
    (path / "checkpoints" / "step-000001").mkdir(parents=True)
    return path


def test_a_new_runs_name_says_what_it_is_and_is_never_taken_twice(empty):
    first = runs.new_run_path("pretrain", "simclr", "folder:a/b")
    assert re.fullmatch(r"runs/pretrain-simclr-folder-a-b-\d{8}-\d{6}", str(first))
    first.mkdir(parents=True)
    (empty / f"{first}+2").mkdir()
    third = runs.new_run_path("pretrain", "simclr", "folder:a/b")
    assert third == first.with_name(f"{first.name}+3") or third.name > first.name


def test_the_newest_run_of_a_verb(empty):
    assert runs.newest_run(["pretrain"]) is None
    make(empty / "runs" / "z", second=1)
    make(empty / "runs" / "a", second=2)
    make(empty / "runs" / "f", "finetune", second=3)
    (empty / "runs" / "report").mkdir()
    assert runs.newest_run(["pretrain"]).path.name == "a"
    assert runs.newest_run(["pretrain", "finetune"]).path.name == "f"


def test_a_run_that_never_came_to_save_anything_is_resumed_and_nothing_else(empty):
    make(empty / "runs" / "saved", second=1)
    stub = make(empty / "runs" / "stub", second=2)
    (stub / "checkpoints" / "step-000001").rmdir()
    assert runs.newest_run(["pretrain"]).path.name == "saved"
    assert runs.find_run("auto").path.name == "saved"
    assert runs.run_to_resume((), "pretrain").path.name == "stub"
    (stub / "exported").mkdir()  # finished
    assert runs.newest_run(["pretrain"]).path.name == "stub"


def test_auto_is_no_older_run_than_the_newest_series(empty):
    make(empty / "runs" / "f", "finetune", second=1)
    series = make(empty / "runs" / "s", SERIES, second=2)
    (series / "checkpoints" / "step-000001").rmdir()
    assert runs.find_run("auto").path.name == "f"  # the series has no run with weights yet
    for name in ("seed0", "seed1"):
        make(series / name, "finetune")
    for run in ("auto", "runs/s"):
        with pytest.raises(ConfigError, match=r"runs/s holds several runs.*: runs/s/seed0, runs/s"):
            runs.find_run(run)
    outcome = call("report", "runs/s")
    assert outcome.err == [
        "error: runs/s: holds several runs; ssl-lt report runs/s/seed0 runs/s/seed1"
    ]
    assert runs.newest_run(["finetune"]).path.name == "f"
    make(empty / "runs" / "g", "finetune", second=3)
    assert runs.find_run("auto").path.name == "g"


@pytest.mark.parametrize("values", [(), ("auto",)])
def test_bare_resume_is_the_newest_run_of_its_verb(empty, values):
    with pytest.raises(ConfigError, match="--resume: no pretrain run under runs/"):
        runs.run_to_resume(values, "pretrain")
    make(empty / "runs" / "a")
    make(empty / "runs" / "b", "finetune", second=5)
    assert runs.run_to_resume(values, "pretrain").path.name == "a"


def test_resume_of_a_path(empty):
    make(empty / "here")
    assert runs.run_to_resume(("here",), "pretrain").path.name == "here"
    assert runs.run_to_resume(None, "pretrain") is None
    with pytest.raises(ConfigError, match="--resume: here is a pretrain run, not a finetune run"):
        runs.run_to_resume(("here",), "finetune")
    with pytest.raises(ConfigError, match="nowhere: not a run folder"):
        runs.run_to_resume(("nowhere",), "finetune")


@pytest.mark.parametrize(
    ("words", "field", "asked", "was"),
    [
        ("--epochs 3", "epochs", "3", "1"),
        ("--seed 7", "seed", "7", "0"),
        ("--gh.clusters 9", "gh.clusters", "9", "10"),
        ("--method simclr", "method", "simclr", "sdclr"),
        ("--plugins gh", "plugins", "['gh']", "['bcl', 'gh']"),
        ("--mixed-precision bf16", "mixed-precision", "bf16", "no"),
        ("--cache-mib 7", "cache-mib", "7", "1024"),
    ],
)
def test_a_changed_field_is_refused_with_both_values(finished, words, field, asked, was):
    before = snapshot(finished.pretrained)
    outcome = call("pretrain", "--resume", finished.pretrained, *words.split())
    assert outcome.code == 2
    assert len(outcome.err) == 1
    assert outcome.err[0].startswith(f"error: {finished.pretrained}: --{field} {asked} (was {was})")
    assert outcome.err[0].endswith("a resumed run keeps its configuration")
    assert snapshot(finished.pretrained) == before


def test_harmless_fields_and_the_same_command_again_are_allowed(finished, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("gh.clusters: 10\nplugins: [bcl, gh]\n")
    same = ["--config", recipe, *TINY, "--method", "sdclr", "--gh.warmup-epochs", "0"]
    harmless = "--keep-checkpoints 5 --checkpoint-every 3 --data-root elsewhere"
    words = ["--resume", finished.pretrained, *same, *harmless.split()]
    outcome = call("pretrain", *words)
    assert (outcome.code, outcome.err) == (0, [])
    assert "nothing to do" in outcome.out


def test_the_alias_a_run_was_started_with_may_be_repeated(empty):
    make(empty / "run")
    write_config(empty / "run/config.yaml", pretraining("bcl"), verb="pretrain", command="")
    config, _, run = pretrain.read(["--method", "bcl", "--resume", "run"])
    assert (config.plugins, run.path.name) == (("bcl",), "run")
    with pytest.raises(ConfigError, match="--plugins"):
        pretrain.read(["--method", "gh", "--resume", "run"])


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_finished_run_has_nothing_to_do_and_is_not_touched(finished, verb, monkeypatch):
    monkeypatch.chdir(finished.path)
    before = snapshot(finished.path)
    for words in (["--resume"], ["--resume", "auto"]):
        outcome = call(verb, *words)
        assert (outcome.code, outcome.err) == (0, [])
        assert "is finished: nothing to do" in outcome.out
    assert snapshot(finished.path) == before
