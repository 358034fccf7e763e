"""Whatever was done to a checkpoint, it is refused and nothing has changed."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_lt.core.errors import CheckpointError, DataError
from ssl_lt.engine.checkpoints import state as state_module
from ssl_lt.engine.checkpoints.checkpoint import (
    FORMAT_VERSION,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    signed,
)
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.checkpoints.state import TrainingState, notes_on, surroundings
from ssl_lt.engine.fit import fit
from ssl_lt.engine.logs.metrics import MetricsLog
from ssl_lt.engine.plan import FitOptions, Identity
from tests.engine.tiny import TinyLoader, TinyTask, plan
from tests.faults.hostile import Sentinel

IDENTITY = Identity({"lr": 0.1, "epochs": 3, "plugins": ["bcl"]}, "ab" * 32)
STEP = 5


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True, mixed_precision="no")


def training(folder, accelerator, *, steps=0):
    """A training in memory, some steps old; its optimiser has a momentum."""
    task = TinyTask()
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9)
    log = MetricsLog(RunFolder(folder), accelerator)
    for batch in list(TinyLoader().epoch(0))[:steps]:
        output = task(batch)
        output.loss.backward()
        optimizer.step()
        log.add({"loss": output.loss.detach()})
    now = surroundings(FitOptions(), accelerator)
    return TrainingState(task, optimizer, log, 12, IDENTITY, surroundings=now)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, accelerator):
    """A folder with one checkpoint; copy it before you damage it."""
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(folder, training(folder, accelerator, steps=3).at(STEP), keep=2)
    return folder


@pytest.fixture
def damaged(saved, tmp_path):
    """A copy of the checkpoint, to damage."""
    return shutil.copytree(saved / "step-000005", tmp_path / "step-000005")


def content(state):
    """Everything a load could have changed."""
    held = state.at(STEP)
    return copy.deepcopy((dict(held.state), {k: dict(v) for k, v in held.tensors.items()}))


def assert_unchanged(state, before):
    numbers, tensors = content(state)
    assert numbers == before[0]
    for stem, named in before[1].items():
        assert tensors[stem].keys() == named.keys()
        for name, value in named.items():
            assert torch.equal(tensors[stem][name], value), f"{stem}: {name}"


def sign(path, **changes):
    """Writes the manifest anew, as one who knows how it is made would."""
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(signed(manifest | changes)))


def replace_file(path, name, data):
    """Another content for a file, with the digest to match."""
    (path / name).write_bytes(data)
    files = json.loads((path / "manifest.json").read_text())["files"]
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    sign(path, files=files | {name: entry})


# --- cut, changed, missing


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_file_cut_at_any_length_is_found(saved, data):
    path = saved / "step-000005"
    file = path / data.draw(st.sampled_from(sorted(p.name for p in path.iterdir())))
    whole = file.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    try:
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
    finally:
        file.write_bytes(whole)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    if file.name != "manifest.json":
        assert f"{length} bytes, {len(whole)} were written" in str(caught.value)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_bit_flipped_at_any_place_is_found(saved, data):
    path = saved / "step-000005"
    file = path / data.draw(st.sampled_from(sorted(p.name for p in path.iterdir())))
    whole = file.read_bytes()
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place // 8] ^= 1 << place % 8
    try:
        file.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=file.name):
            load_checkpoint(path)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "forged"])
def test_a_training_that_finds_only_a_damaged_checkpoint_is_as_it_was(damaged, accelerator, damage):
    """Nothing is taken over from the files that are still right."""
    file = damaged / "optimizer.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "forged":
        replace_file(damaged, file.name, b"no tensors")
    else:
        whole = bytearray(file.read_bytes())
        whole[-1] ^= 1
        file.write_bytes(whole if damage == "flip" else whole[:-1])
    run = RunFolder(damaged.parent / "run")
    shutil.copytree(damaged, run.checkpoints / "step-000005")
    task = TinyTask()
    before = copy.deepcopy(task.state_dict())
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors"):
        fit(
            task,
            TinyLoader(),
            plan(),
            accelerator=accelerator,
            folder=run,
            end_of_epoch=lambda task, epoch: {},
        )
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert not task.memory.tables["count"].any()


# --- nothing is unpickled


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "extra.safetensors"])
def test_a_pickle_in_a_checkpoint_is_refused_and_does_not_run(damaged, tmp_path, name):
    sentinel = Sentinel(tmp_path / "it ran")
    replace_file(damaged, name, pickle.dumps(sentinel))
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read"):
        load_checkpoint(damaged)
    assert not sentinel.path.exists()
    pickle.loads(pickle.dumps(sentinel))  # it would have run
    assert sentinel.path.exists()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[1]", "3", '{"a": NaN', "\0", '{"a": "\ud800"}']
)  # fmt: skip
def test_a_state_that_is_none_is_refused(damaged, text):
    replace_file(damaged, "state.json", text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"state\.json: cannot be read"):
        load_checkpoint(damaged)


# --- other tensors


def bad_model(tensors, kind):
    model = dict(tensors["model"])
    if kind == "missing":
        del model["out.weight"]
    elif kind == "unknown":
        model["more.weight"] = torch.zeros(2, 7)
    else:
        model["out.weight"] = torch.zeros(5, 32)
    return tensors | {"model": model}


def bad_memory(tensors, kind):
    memory = {} if kind == "missing" else {"seen.count": torch.zeros(65)}
    return tensors | {"memory": memory}


def bad_optimizer(tensors, kind):
    key = "99.momentum_buffer" if kind == "unknown" else "0.momentum_buffer"
    return tensors | {"optimizer": {**tensors["optimizer"], key: torch.zeros(3, 3)}}


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (bad_model, "missing", "out.weight (4, 32) is missing"),
        (bad_model, "unknown", "more.weight (2, 7) is unknown"),
        (bad_model, "misshaped", "out.weight is (5, 32), expected (4, 32)"),
        (bad_memory, "missing", "seen.count (64,) is missing"),
        (bad_memory, "misshaped", "seen.count is (65,), expected (64,)"),
        (bad_optimizer, "unknown", "99.momentum_buffer (3, 3) is unknown"),
        (bad_optimizer, "misshaped", "0.momentum_buffer is (3, 3), expected (8, 3, 3, 3)"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_loaded(
    saved, tmp_path, accelerator, change, kind, says
):
    checkpoint = load_checkpoint(saved / "step-000005")
    state = training(tmp_path, accelerator, steps=1)
    before = content(state)
    with pytest.raises(CheckpointError) as caught:
        state.restore(replace(checkpoint, tensors=change(dict(checkpoint.tensors), kind)))
    assert says in str(caught.value)
    assert_unchanged(state, before)
    state.restore(checkpoint)  # the right one does change it
    assert not torch.equal(state.task.out.weight, before[1]["model"]["out.weight"])


def test_the_first_five_of_many_are_named(saved, tmp_path, accelerator):
    checkpoint = load_checkpoint(saved / "step-000005")
    renamed = {f"module.{name}": value for name, value in checkpoint.tensors["model"].items()}
    with pytest.raises(CheckpointError) as caught:
        training(tmp_path, accelerator).restore(
            replace(checkpoint, tensors={**checkpoint.tensors, "model": renamed})
        )
    assert str(caught.value).count(" is ") == 5
    assert str(caught.value).endswith(f"and {2 * len(renamed) - 5} more")


@pytest.mark.parametrize("lost", ["memory.safetensors", "optimizer.safetensors"])
def test_a_checkpoint_without_a_part_is_refused(damaged, tmp_path, accelerator, lost):
    """It is whole by its manifest, and still not what a run needs."""
    files = json.loads((damaged / "manifest.json").read_text())["files"]
    sign(damaged, files={name: entry for name, entry in files.items() if name != lost})
    with pytest.raises(CheckpointError, match=f"checkpoint without {lost.split('.')[0]}"):
        training(tmp_path, accelerator).restore(load_checkpoint(damaged))


# --- of another run


@pytest.mark.parametrize(
    ("identity", "error", "says"),
    [
        (Identity({"lr": 0.2, "epochs": 3}), CheckpointError, r"--lr 0\.1 \(now 0\.2\)"),
        (
            Identity({"epochs": 4, "plugins": []}),
            CheckpointError,
            r"--epochs 3 \(now 4\), --plugins \['bcl'\] \(now \[\]\)",
        ),
        (replace(IDENTITY, data_sha256="cd" * 32), DataError, "training images are not those"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused_with_what_differs(
    saved, tmp_path, accelerator, identity, error, says
):
    state = replace(training(tmp_path, accelerator), identity=identity)
    before = content(state)
    with pytest.raises(error, match=says):
        state.restore(load_checkpoint(saved / "step-000005"))
    assert_unchanged(state, before)


def test_an_option_that_one_of_both_does_not_know_is_not_compared(saved, tmp_path, accelerator):
    identity = Identity({"lr": 0.1, "an-option-of-a-later-version": 1})
    replace(training(tmp_path, accelerator), identity=identity).restore(
        load_checkpoint(saved / "step-000005")
    )


def test_other_processes_or_threads_are_said_and_allowed(saved, accelerator, monkeypatch):
    checkpoint = load_checkpoint(saved / "step-000005")
    assert list(notes_on(checkpoint, surroundings(FitOptions(), accelerator))) == []
    threads = torch.get_num_threads()
    monkeypatch.setattr(state_module, "world_size", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    of_processes, of_threads = notes_on(checkpoint, surroundings(FitOptions(), accelerator))
    assert of_processes.startswith("note: 1 processes wrote this checkpoint and 4 go on")
    assert of_threads.startswith(f"note: {threads} threads wrote")
    assert "equal up to rounding, not bit for bit" in of_processes


def test_another_precision_and_a_compiled_step_are_said_and_allowed(saved, accelerator):
    checkpoint = load_checkpoint(saved / "step-000005")
    now = surroundings(FitOptions(compile=True), accelerator) | {"precision": "bf16"}
    of_precision, of_compile = notes_on(checkpoint, now)
    assert "taken in fp32, the next ones are in bf16" in of_precision
    assert "--compile" in of_compile
    old = {k: v for k, v in checkpoint.state.items() if k not in ("precision", "compile")}
    assert list(notes_on(replace(checkpoint, state=old), now)) == []


# --- paths and versions


@pytest.mark.parametrize("kind", ["file", "folder", "loop"])
def test_a_link_in_a_checkpoint_is_not_followed(damaged, tmp_path, kind):
    """Not even to the very file that should stand there."""
    file = damaged / "model.safetensors"
    other = tmp_path / "outside.safetensors"
    file.rename(other)
    file.symlink_to({"file": other, "folder": tmp_path, "loop": file}[kind])
    with pytest.raises(CheckpointError, match=r"'model\.safetensors' is not a file of this folder"):
        load_checkpoint(damaged)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/hostname", "sub/x", "a/../state.json", "", ".", "..", "x" * 5000, "a\0b"]
)
def test_a_manifest_names_files_of_its_folder_alone(damaged, name):
    files = json.loads((damaged / "manifest.json").read_text())["files"]
    (damaged / "sub").mkdir()
    (damaged / "sub" / "x").write_bytes((damaged / "state.json").read_bytes())
    (damaged.parent / "x").write_bytes((damaged / "state.json").read_bytes())
    sign(damaged, files=files | {name: files["state.json"]})
    with pytest.raises(CheckpointError, match=r"not a file of this folder|missing|cannot be read"):
        load_checkpoint(damaged)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": []}, {"files": {"state.json": 3}}, {"files": {}}, {"step": None}, {"step": 1e400},
        {"files": {"state.json": {"bytes": "many", "sha256": ""}}}, {"format": "x"}, {"step": 6},
    ],
)  # fmt: skip
def test_a_manifest_that_is_signed_and_still_wrong_is_refused(damaged, changes):
    sign(damaged, **changes)
    with pytest.raises(CheckpointError, match=r"manifest\.json: ") as caught:
        load_checkpoint(damaged)
    assert "\n" not in str(caught.value)


def test_a_later_version_says_what_is_read_here(damaged):
    """Said before the rest is looked at, which may be anything."""
    sign(damaged, format=FORMAT_VERSION + 1, files="elsewhere")
    with pytest.raises(CheckpointError, match=f"format {FORMAT_VERSION + 1}, this reads up to "):
        newest_checkpoint(damaged.parent)
