"""A mirror holds a whole run or an older whole run, whatever breaks while it is written."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress

import fsspec
import pytest

from ssl_lt.core.errors import CheckpointError, ConfigError, DiskError
from ssl_lt.engine import mirror as mirrors
from ssl_lt.engine.checkpoint import newest_checkpoint, save_checkpoint
from ssl_lt.engine.mirror import Mirror, fetch_run
from ssl_lt.engine.run_folder import RunFolder
from tests.engine.faulty_store import Faulty, names
from tests.faults.test_disk import content


@pytest.fixture(autouse=True)
def empty_store(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and no power is cut here
    Faulty.reset()


@pytest.fixture
def run(tmp_path):
    """A run folder with the checkpoints of steps 1 and 2."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.config.write_text("lr: 1\n")
    folder.metrics.write_text('{"step": 1}\n')
    for step in (1, 2):
        save_checkpoint(folder.checkpoints, content(step), keep=2)
    return folder


def mirror(run, url="faulty://bucket/runs", warn=None):
    return Mirror(run, url, warn=warn or (lambda line: pytest.fail(line)))


def fetched(path, url="faulty://bucket/runs/run"):
    fetch_run(url, path)
    return RunFolder(path)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_fetched_is_what_was_copied(run, tmp_path, kind):
    place = {"memory": "memory://bucket", "file": f"file://{tmp_path}/bucket"}[kind]
    run.lock.write_text("process 1")
    (run.path / ".metrics.jsonl.x").write_text("half written")
    (run.checkpoints / ".tmp-step-000003-1").mkdir()
    (run.checkpoints / ".tmp-step-000003-1" / "model.safetensors").write_text("half written")
    with mirror(run, place):
        pass
    found = fetched(tmp_path / "found", f"{place}/run")
    assert names(found) == {n for n in names(run) if n != "lock" and "/." not in f"/{n}"}
    for name in names(found):
        assert (found.path / name).read_bytes() == (run.path / name).read_bytes()
    assert (found.checkpoints / "step-000002").is_dir()
    assert newest_checkpoint(found.checkpoints).step == 2


def test_only_what_is_new_is_copied_and_what_is_gone_is_removed(run, tmp_path):
    with mirror(run):
        pass
    first = len(Faulty.written)
    assert first == len(names(run)) + 1
    again = mirror(run)  # of a process that goes on: it has the list of the one before
    again.copy()
    assert len(Faulty.written) == first
    run.metrics.write_text('{"step": 1}\n{"step": 3}\n')
    save_checkpoint(run.checkpoints, content(3), keep=2)
    again.copy()
    new = [path.removeprefix("/bucket/runs/run/") for path in Faulty.written[first:]]
    assert sorted(new[:-1]) == sorted(
        ["metrics.jsonl"]
        + [f"checkpoints/step-000003/{f.name}" for f in run.checkpoints.glob("*3/*")]
    )
    # A checkpoint's manifest after the rest of it, the list of all files after everything.
    assert new[-2:] == ["checkpoints/step-000003/manifest.json", "mirror.json"]
    assert not [path for path in Faulty.store if "step-000001" in path]
    assert names(fetched(tmp_path / "found")) == names(run)


def test_a_fault_anywhere_leaves_the_older_run_and_the_next_copy_mends_it(run, tmp_path):
    keeper = mirror(run)
    keeper.copy()
    run.metrics.write_text('{"step": 1}\n{"step": 3}\n')
    save_checkpoint(run.checkpoints, content(3), keep=2)
    run.exported.mkdir()
    (run.exported / "model.safetensors").write_text("weights")
    (run.exported / "config.json").write_text("{}")
    before = dict(Faulty.store)
    for left in range(100):
        Faulty.store.clear()
        Faulty.store.update(before)
        Faulty.left = left
        with suppress(DiskError):
            mirror(run).copy()
            break
        found = fetched(tmp_path / f"found-{left}")
        assert newest_checkpoint(found.checkpoints, warn=pytest.fail).step == 2
        assert not found.is_finished
    assert left == 9  # two exported files, the log, five of the checkpoint, the list
    assert newest_checkpoint(fetched(tmp_path / "found").checkpoints).step == 3


def test_the_same_process_tries_again(run, tmp_path):
    keeper = mirror(run)
    for _ in names(run):  # each attempt gets one file further
        Faulty.left = 1
        with pytest.raises(DiskError, match=r"^[^\n]* no route to host$"):
            keeper.copy()
        assert not [path for path in Faulty.store if path.endswith("mirror.json")]
    Faulty.left = 1
    keeper.copy()
    assert newest_checkpoint(fetched(tmp_path / "found").checkpoints).step == 2


def test_checkpoints_go_at_once_a_failure_is_said_and_the_end_insists(run, monkeypatch):
    monkeypatch.setattr(mirrors, "_SECONDS_BETWEEN_LOOKS", 0.01)
    warnings = []
    keeper = mirror(run, warn=warnings.append)
    Faulty.left = 0

    def meanwhile():
        wait_for(lambda: warnings)
        assert warnings[0].startswith("warning: --mirror faulty://bucket/runs/run: not copied")
        assert warnings[0].endswith("; the next checkpoint tries again")
        assert not [path for path in Faulty.store if path.endswith("mirror.json")]
        Faulty.left = None
        save_checkpoint(run.checkpoints, content(3), keep=2)
        wait_for(lambda: [path for path in Faulty.store if path.endswith("mirror.json")])
        Faulty.left = 0
        run.metrics.write_text('{"step": 4}\n')

    with pytest.raises(DiskError, match=r"not copied, all of it is in .*run: no route"), keeper:
        meanwhile()
    assert len(warnings) == 1


def test_a_run_that_ends_early_still_copies_what_it_saved_last(run, tmp_path):
    with pytest.raises(KeyboardInterrupt), mirror(run):
        raise KeyboardInterrupt
    assert newest_checkpoint(fetched(tmp_path / "found").checkpoints).step == 2


def test_a_checkpoint_removed_meanwhile_is_left_out(run, tmp_path, monkeypatch):
    keeper, put = mirror(run), Mirror._put

    def put_and_remove(self, name):
        if name == "checkpoints/step-000001/state.json":
            shutil.rmtree(run.checkpoints / "step-000001", ignore_errors=True)
        return put(self, name)

    monkeypatch.setattr(Mirror, "_put", put_and_remove)
    keeper.copy()
    assert names(fetched(tmp_path / "found")) == names(run)
    assert not [path for path in Faulty.store if "step-000001" in path]


def test_another_run_of_that_name_is_not_overwritten(run, tmp_path):
    mirror(run).copy()
    stranger = RunFolder(tmp_path / "elsewhere" / "run")
    for config in (None, "lr: 2\n"):
        if config is not None:
            stranger.path.mkdir(parents=True)
            stranger.config.write_text(config)
        with pytest.raises(ConfigError, match="has another run, which is never overwritten"):
            mirror(stranger)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a//b", "./a"])
def test_a_list_that_leads_outside_is_refused(run, tmp_path, name):
    mirror(run).copy()
    files = fsspec.filesystem("faulty")
    files.pipe_file("/bucket/runs/run/mirror.json", json.dumps({"files": {name: "0"}}).encode())
    with pytest.raises(CheckpointError, match="is not a file of a run"):
        fetched(tmp_path / "found")
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "\xff", "[" * 100_000])
def test_a_damaged_list_is_refused(run, tmp_path, text):
    fsspec.filesystem("faulty").pipe_file("/bucket/runs/run/mirror.json", text.encode("latin-1"))
    with pytest.raises(CheckpointError, match="not a list of files"):
        fetched(tmp_path / "found")


def test_a_file_that_is_missing_leaves_no_folder(run, tmp_path):
    mirror(run).copy()
    del Faulty.store["/bucket/runs/run/metrics.jsonl"]
    with pytest.raises(DiskError, match=r"metrics\.jsonl cannot be fetched"):
        fetched(tmp_path / "found")
    assert not (tmp_path / "found").exists()


def wait_for(happened):
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)
