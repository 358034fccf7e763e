"""Runs go on from anywhere, moved with their data or without, and say when images are others."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_lt.data.options import DataOptions
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.runs.config.stored import write_config
from ssl_lt.runs.life.place import Moved, located
from tests.configs import pretraining
from tests.toolbox import TINY, call, load_yaml, newest_weights, succeed, write_picture

WORDS = [*TINY, "--batch-size", "8", "--knn-every", "0"]


# --- paths


def stored(project, folder="runs/run", **options):
    """A folder with the configuration of a run that was started in a project."""
    run = RunFolder(project / folder)
    run.path.mkdir(parents=True)
    config = pretraining()
    config = replace(config, data=replace(config.data, **options))
    before = Path.cwd()
    os.chdir(project)
    try:
        write_config(run.config, config, verb="pretrain", command="")
    finally:
        os.chdir(before)
    return run, config.data


@pytest.fixture
def project(tmp_path):
    """With data of every kind, and another working directory beside it."""
    place = tmp_path / "project"
    for name in ("photos/a", "shards", "hub", "lists", "data"):
        (place / name).mkdir(parents=True)
    for name in ("lists/all.csv", "lists/test.csv", "shards/x-000.tar", "rows.json"):
        (place / name).write_text("")
    (tmp_path / "elsewhere").mkdir()
    return place


KINDS = {
    "folder:photos": "folder:{}/photos",
    "csv:lists/all.csv": "csv:{}/lists/all.csv",
    "list:lists/all.csv": "list:{}/lists/all.csv",
    "hf:hub": "hf:{}/hub",
    "hf:org/name": "hf:org/name",
    "wds:shards/x-{000..001}.tar::shards": "wds:{0}/shards/x-{{000..001}}.tar::{0}/shards",
    "wds:s3://bucket/x": "wds:s3://bucket/x",
    "folder:/abs": "folder:/abs",
    "folder:nowhere": "folder:nowhere",
    "digits": "digits",
}


@pytest.mark.parametrize("data", KINDS)
def test_relative_data_is_found_from_anywhere(project, monkeypatch, data):
    run, options = stored(project, data=data)
    monkeypatch.chdir(project)
    assert located(run, options).data == data  # where it was started, as it was typed
    monkeypatch.chdir(project.parent / "elsewhere")
    assert located(run, options).data == KINDS[data].format(project)
    # The run is moved without the data, then the whole project.
    away = project.parent / "elsewhere" / "run"
    shutil.copytree(run.path, away)
    assert located(RunFolder(away), options).data == KINDS[data].format(project)
    other = project.with_name("other")
    project.rename(other)
    assert located(RunFolder(other / "runs/run"), options).data == KINDS[data].format(other)


def test_other_paths_too(project, monkeypatch):
    run, options = stored(project, data="cifar10", split=Path("rows.json"))
    monkeypatch.chdir(project.parent / "elsewhere")
    found = located(run, options)
    assert (found.data_root, found.split) == (f"{project}/data", project / "rows.json")
    monkeypatch.chdir(project)
    assert located(run, options) == options
    # What is said anew is seen from here.
    said = replace(options, data="folder:x", data_root="y")
    assert located(run, said) == said


@pytest.mark.parametrize(
    ("data", "test", "root", "found"),
    [
        ("folder:photos", None, "new", ("folder:new/photos", None, "new")),
        ("folder:/old/photos", None, "new", ("folder:new/photos", None, "new")),
        ("folder:old", None, "new/photos", ("folder:new/photos", None, "new/photos")),
        ("csv:lists/all.csv", "csv:lists/test.csv", "new",
         ("csv:new/lists/all.csv", "csv:new/lists/test.csv", None)),
        ("csv:all.csv", None, "new", ("csv:all.csv", None, "new")),
        ("digits", None, "new", ("digits", None, "new")),
    ],
)  # fmt: skip
def test_a_data_root_is_where_the_data_has_moved_to(project, monkeypatch, data, test, root, found):
    run, options = stored(project, data=data, test_data=test)
    new = project / "new"
    new.mkdir()
    for name in ("photos", "lists"):
        (project / name).rename(new / name)
    monkeypatch.chdir(project)
    got = located(run, Moved(None, root).of(options))
    assert (got.data, got.test_data, got.data_root) == found


# --- whole runs


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A project with pictures, a pretraining on them and a fine-tuning from it."""
    place = tmp_path_factory.mktemp("begun") / "project"
    place.mkdir()
    for number in range(40):
        write_picture(place / "photos" / "ab"[number % 2] / f"{number:02}.png", number)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(os, "fsync", lambda descriptor: None)
        words = ["--data", "folder:photos", "--epochs", "2", "--plugins", "bcl"]
        succeed("pretrain", *WORDS, *words, "--run-dir", "runs/pre")
        tuning = ["--init-from", "runs/pre", "--epochs", "1", "--num-workers", "0"]
        tuning += ["--batch-size", "8", "--mixed-precision", "no", "--head-init", "random"]
        succeed("finetune", *tuning, "--lr", "0.01", "--run-dir", "runs/tuned")
    return place


@pytest.fixture
def place(begun, tmp_path, monkeypatch):
    """A copy to change, and another working directory."""
    shutil.copytree(begun, tmp_path / "project")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    # What the copy's configuration names is not to be found where it was made.
    for path in (tmp_path / "project").glob("runs/*/config.yaml"):
        path.write_text(path.read_text().replace(str(begun), str(tmp_path / "project")))
    return tmp_path / "project"


def cut_back(run):
    """As if it had been killed after its first epoch."""
    shutil.rmtree(max((run / "checkpoints").glob("step-*")))
    shutil.rmtree(run / "exported")
    (run / "results.json").unlink()


def judge_everything(run, tuned, *moved):
    """Every verb that reads the data of a run."""
    quick = ["--map-images", "0", "--probe", "--num-workers", "0"]
    for one in (run, tuned):
        succeed("evaluate", "--run", one, *quick, *moved)
    succeed("tail", run, *moved)
    succeed("retrain", tuned, "--classifier", "ncm", "--num-workers", "0", *moved)
    names = [e["name"] for e in json.loads((tuned / "results.json").read_text())["evaluations"]]
    assert "kNN" in names
    assert any("class mean" in name for name in names)


@pytest.mark.slow
def test_every_verb_from_another_working_directory(place, tmp_path):
    run = place / "runs/pre"
    weights = newest_weights(run)
    cut_back(run)
    succeed("pretrain", "--resume", run)
    assert all(bool((newest_weights(run)[name] == w).all()) for name, w in weights.items())
    judge_everything(run, place / "runs/tuned")
    succeed("finetune", "--init-from", run, "--epochs", "1", "--num-workers", "0",
            "--batch-size", "8", "--run-dir", "again")  # fmt: skip
    assert load_yaml(tmp_path / "elsewhere/again/config.yaml")["data"] == f"folder:{place}/photos"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["data", "data-root", "folder"])
def test_every_verb_where_the_data_has_moved(place, tmp_path, how):
    run, tuned = place / "runs/pre", place / "runs/tuned"
    weights = newest_weights(run)
    (tmp_path / "disk").mkdir()
    (place / "photos").rename(tmp_path / "disk/photos")
    outcome = call("evaluate", "--run", run)
    assert (outcome.code, len(outcome.err)) == (3, 1)
    moved = {
        "data": ["--data", f"folder:{tmp_path}/disk/photos"],
        "data-root": ["--data-root", tmp_path / "disk"],
        "folder": ["--data-root", tmp_path / "disk/photos"],
    }[how]
    cut_back(run)
    succeed("pretrain", "--resume", run, *moved)
    assert all(bool((newest_weights(run)[name] == w).all()) for name, w in weights.items())
    judge_everything(run, tuned, *moved)
    assert not (tmp_path / "elsewhere/runs").exists()  # judged where it stands
    start = ["--epochs", "1", "--run-dir"]
    succeed("pretrain", "--extend", run, *moved, *start, "more")
    start += ["tuned", "--num-workers", "0", "--batch-size", "8"]
    succeed("finetune", "--init-from", run, *moved, *start)
    assert load_yaml(tmp_path / "elsewhere/tuned/config.yaml")["image-size"] == 16


@pytest.mark.slow
def test_a_moved_run_is_exported_without_its_data(place, tmp_path):
    shutil.rmtree(place / "photos")
    for name in ("pre", "tuned"):
        (place / "runs" / name).rename(tmp_path / name)
        said = succeed("export", tmp_path / name).out
        assert "on 8 images of noise" in said
        assert "folder:photos" in (tmp_path / name / "exported-model/README.md").read_text()
    config = json.loads((tmp_path / "tuned/exported-model/config.json").read_text())
    assert config["label_names"] == ["a", "b"]


def test_what_has_changed_is_said(place):
    run = place / "runs/pre"
    write_picture(place / "photos/a/zz.png", 1)
    (place / "photos/b/01.png").unlink()
    (place / "photos/b/03.png").rename(place / "photos/a/03.png")
    told = "2 images added (a/03.png, a/zz.png), 2 images gone (b/01.png, b/03.png)"
    cut_back(run)
    for verb, flag in (("pretrain", "--resume"), ("evaluate", "--run")):
        outcome = call(verb, flag, run)
        assert (outcome.code, len(outcome.err)) == (3, 1)
        assert outcome.err[0].endswith(told)
    # Other images elsewhere are no place of the same ones.
    outcome = call("pretrain", "--resume", run, "--data", f"folder:{place}/photos/a")
    assert (outcome.code, len(outcome.err)) == (3, 1)


def test_how_this_machine_reads_the_data_is_said_anew(tmp_path):
    stored = DataOptions(data="wds:a.tar", shard_cache=Path("/gone"), worker_timeout=9)
    said = DataOptions(shard_cache=tmp_path, cache_mib=0, image_size=16)
    assert Moved.said(said).of(stored) == replace(stored, shard_cache=tmp_path, cache_mib=0)
