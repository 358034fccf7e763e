"""`--mirror` and `--resume URL`, as commands."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ssl_lt.core.errors import DiskError
from ssl_lt.engine import mirror as mirrors
from ssl_lt.engine.mirror import fetch_run
from ssl_lt.engine.run_folder import RunFolder
from tests.cli.commands import TINY, call, succeed
from tests.engine.faulty_store import Faulty, names
from tests.faults.tiny_runs import assert_same_run


@pytest.fixture(autouse=True)
def empty_store(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and no power is cut here
    Faulty.reset()


WORDS = [*TINY, "--epochs", "2", "--knn-every", "0", "--plugins", "bcl", "--log-every", "2"]


@pytest.mark.slow
def test_a_run_resumed_from_its_mirror_is_the_one_left_alone(tmp_path, monkeypatch):
    from ssl_lt.engine import fit as loop

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mirrors, "_SECONDS_BETWEEN_LOOKS", 0.01)
    succeed("pretrain", *WORDS, "--run-dir", "runs/alone")
    save = loop.save_checkpoint

    def save_and_break(*args, **kwargs):
        if args[1].step > 9:
            raise DiskError("the disk is gone")
        return save(*args, **kwargs)

    monkeypatch.setattr(loop, "save_checkpoint", save_and_break)
    words = [*WORDS, "--run-dir", "runs/run", "--mirror", "faulty://bucket"]
    assert call("pretrain", *words).code == 7
    monkeypatch.setattr(loop, "save_checkpoint", save)
    shutil.rmtree("runs/run")
    out = succeed("pretrain", "--resume", "faulty://bucket/run").out
    assert "faulty://bucket/run: fetched into runs/run" in out
    assert "mirror: faulty://bucket/run" in out
    assert_same_run_but_url(tmp_path / "runs/run", tmp_path / "runs/alone")
    fetch_run("faulty://bucket/run", tmp_path / "copy")
    assert_same_run_but_url(tmp_path / "copy", tmp_path / "runs/alone")
    # A finished run is copied where it could not be at its end; a new one takes no other's place.
    Faulty.store.clear()
    succeed("pretrain", "--resume", "runs/run")
    assert "/bucket/run/exported/model.safetensors" in Faulty.store
    again = call("pretrain", *WORDS, "--run-dir", "new/run", "--mirror", "faulty://bucket")
    assert (again.code, len(again.err)) == (2, 1)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_series_is_copied_and_fetched_with_its_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*TINY, "--init-from", "scratch", "--seeds", "0", "1", "--run-dir", "runs/both"]
    succeed("finetune", *words, "--mirror", "faulty://bucket")
    there = sorted(p.removeprefix("/bucket/both/") for p in Faulty.store if "config.yaml" in p)
    assert there == ["config.yaml", "seed0/config.yaml", "seed1/config.yaml"]
    assert "/bucket/both/summary.json" in Faulty.store
    assert "mirror: null" in Path("runs/both/seed0/config.yaml").read_text()
    before = names(RunFolder(Path("runs/both")))
    shutil.rmtree("runs")
    assert "training" not in succeed("finetune", "--resume", "faulty://bucket/both").out
    assert names(RunFolder(Path("runs/both"))) >= {n for n in before if not n.endswith("lock")}


def assert_same_run_but_url(found, expected):
    assert_same_run(found, expected)
    assert (found / "split.json").read_bytes() == (expected / "split.json").read_bytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mirror", "s3://id:sesame@bucket/x"], "error: --mirror s3://***@bucket/x: has credent"),
        (["--resume", "s3://id:sesame@bucket/x"], "error: --resume s3://***@bucket/x: has credent"),
        (["--mirror", "gs://b/x?token=sesame"], "error: --mirror gs://b/x?***: has credent"),
        (["--mirror", "nowhere://bucket"], "error: --mirror nowhere://bucket/new: Protocol not "),
        (["--resume", "faulty://bucket/none"], "error: --resume faulty://bucket/none: no run is "),
    ],
)
def test_a_url_that_will_not_do(tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    outcome = call(
        "pretrain", *TINY, *words, *([] if "--resume" in words else ["--run-dir", "new"])
    )
    assert (outcome.code, len(outcome.err)) == (2, 1), outcome.err
    assert outcome.err[0].startswith(says)
    assert "sesame" not in outcome.out + outcome.err[0]
    assert not (tmp_path / "new").exists()
