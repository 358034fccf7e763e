"""A run that is killed, anywhere, and resumed ends as the one that was left alone, bit for bit."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal

import pytest
import torch

from ssl_lt.engine import fit as loop
from ssl_lt.engine.checkpoints import checkpoint as checkpoints
from ssl_lt.engine.checkpoints.checkpoint import (
    Checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from ssl_lt.engine.checkpoints.run_folder import create_run_folder, new_run_folder
from ssl_lt.engine.signals import Stopped
from ssl_lt.runs import finetune as finetune_run
from ssl_lt.runs.life import find as runs
from ssl_lt.runs.life import training
from tests.engine.tiny import TinyTask
from tests.faults.process import Child, Command
from tests.faults.tiny_runs import (
    STEPS,
    STEPS_PER_EPOCH,
    assert_same_run,
    die,
    die_at,
    in_a_fork,
    measured,
    train,
)
from tests.toolbox import TINY, call, snapshot, succeed


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """It takes long, and those who die of a signal leave what the system has taken over."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def content(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    tensors = {"model": {"w": torch.randn(4, 3, generator=generator)}, "memory": {}, "sums": {}}
    return Checkpoint(step, {"position": step}, tensors)


def save_and_die_everywhere(place):
    """Kills a save, and the rotation after it, before each thing it does to a file in turn."""
    number = 0
    while True:
        number += 1
        folder = place / f"{number:03d}"
        for step in (1, 2):
            save_checkpoint(folder, content(step), keep=2)

        def save(number=number, folder=folder):
            die_at(number, folder)
            save_checkpoint(folder, content(3), keep=2)

        code = in_a_fork(save)
        if code == 0:  # it does no more than that
            return
        assert code == -signal.SIGKILL


@pytest.mark.slow
def test_a_save_or_a_rotation_killed_anywhere_leaves_whole_checkpoints(tmp_path):
    assert Child(tmp_path, save_and_die_everywhere, tmp_path).wait() == 0
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())[:-1]
    seen = set()
    for folder in folders:
        visible = sorted(folder.glob("step-*"))
        assert len(visible) >= 2
        for path in visible:
            found = load_checkpoint(path)  # whole, or not to be seen
            assert found.tensors["model"]["w"].equal(content(found.step).tensors["model"]["w"])
        hidden = [path.name for path in folder.glob(".*")]
        files = sum(len(list(path.iterdir())) for path in folder.glob(".tmp*[0-9]"))
        seen.add((files, len(visible), any(name.endswith("-old") for name in hidden)))
        newest = newest_checkpoint(folder, warn=pytest.fail)
        assert newest.step in (2, 3)
        save_checkpoint(folder, content(4), keep=2)
        assert sorted(path.name for path in folder.iterdir()) == [
            f"step-{newest.step:06d}",
            "step-000004",
        ]
    # After each of the five files; renamed; half way through the old one.
    assert {(n, 2, False) for n in range(6)} <= seen
    assert {(0, 3, False), (0, 2, True)} <= seen


def train_and_die_again_and_again(place, lives):
    rng = random.Random(0)
    died = []
    while True:
        number = rng.randint(1, 80)

        def life(number=number):
            die_at(number, place / "killed")
            train(place / "killed", checkpoint_every=2, log_every=3)

        code = in_a_fork(life)
        died.append(code)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    lives.write_text(str(len(died)))
    assert in_a_fork(lambda: train(place / "alone", checkpoint_every=2, log_every=3)) == 0


@pytest.mark.slow
def test_a_run_killed_at_any_file_ends_as_if_left_alone(tmp_path):
    child = Child(tmp_path, train_and_die_again_and_again, tmp_path, tmp_path / "lives")
    assert child.wait() == 0, child.said
    assert int((tmp_path / "lives").read_text()) > 5
    assert_same_run(tmp_path / "killed", tmp_path / "alone")


def test_what_a_killed_run_was_writing_is_removed_with_one_warning(tmp_path, capsys):
    path = tmp_path / "run"
    train(path)
    for name in (".metrics.jsonl.x", ".timing.jsonl.x", ".results.json.x"):
        (path / name).touch()
    for name in (".exported-7", "checkpoints/.tmp-step-000012-7", "scores/.tmpAbc"):
        (path / name).mkdir(parents=True)
        (path / name / "model.safetensors").touch()
    (path / ".mine").touch()
    train(path)
    said = [line for line in capsys.readouterr().out.splitlines() if "warning: " in line]
    assert len(said) == 1
    assert "removed what a killed run left unfinished: .metrics.jsonl.x, " in said[0]
    assert "checkpoints/.tmp-step-000012-7" in said[0]
    assert [str(p.relative_to(path)) for p in path.rglob(".*")] == [".mine"]


def die_in_every_step(place):
    """Each life dies in one step more than the one before, so that none is left out."""

    class Dies(TinyTask):
        at = 0
        steps = 0

        def forward(self, batch):
            self.steps += 1
            if self.steps == self.at:
                die()
            return super().forward(batch)

    def life(path, at):
        task = Dies()
        task.at = at
        train(path, task=task, checkpoint_every=1, log_every=3)

    for step in range(1, STEPS + 1):
        # The first life dies in its own step; a later one goes on from the last and takes two.
        assert in_a_fork(lambda step=step: life(place / "killed", 1 if step == 1 else 2)) == -9
        assert in_a_fork(lambda step=step: life(place / f"once-{step}", step)) == -9
        assert in_a_fork(lambda step=step: life(place / f"once-{step}", 0)) == 0
    assert in_a_fork(lambda: life(place / "killed", 0)) == 0
    assert in_a_fork(lambda: life(place / "alone", 0)) == 0


@pytest.mark.slow
def test_killed_in_any_step_first_and_last_of_an_epoch_included(tmp_path):
    child = Child(tmp_path, die_in_every_step, tmp_path)
    assert child.wait() == 0, child.said
    for name in ["killed", *(f"once-{step}" for step in range(1, STEPS + 1))]:
        assert_same_run(tmp_path / name, tmp_path / "alone")


def test_killed_while_an_epoch_is_measured_no_step_is_taken_again(tmp_path):
    alone, path = tmp_path / "alone", tmp_path / "killed"
    train(alone)

    def dies_in_the_second(task, epoch):
        if epoch.number == 1:
            raise KeyboardInterrupt
        return measured(task, epoch)

    with pytest.raises(KeyboardInterrupt):
        train(path, end_of_epoch=dies_in_the_second)
    last = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == newest_checkpoint(path / "checkpoints").step == 2 * STEPS_PER_EPOCH
    assert "measured" not in last
    steps = []

    class Counts(TinyTask):
        def forward(self, batch):
            steps.append(1)
            return super().forward(batch)

    train(path, task=Counts())
    assert len(steps) == STEPS_PER_EPOCH
    assert_same_run(path, alone)


def test_asked_to_stop_twice_and_during_a_save_it_saves_once(tmp_path, monkeypatch):
    path, saved = tmp_path / "run", []
    save_file, save = checkpoints.save_file, checkpoints.save_checkpoint

    def interrupted(*arguments):
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        save_file(*arguments)

    def counted(folder, checkpoint, *, keep):
        saved.append(checkpoint.step)
        return save(folder, checkpoint, keep=keep)

    monkeypatch.setattr(checkpoints, "save_file", interrupted)
    monkeypatch.setattr(loop, "save_checkpoint", counted)
    with pytest.raises(Stopped) as stopped:
        train(path, checkpoint_every=2)
    assert stopped.value.exit_code == 143  # the first counts
    assert saved == [2]
    assert [p.name for p in (path / "checkpoints").iterdir()] == ["step-000002"]
    monkeypatch.undo()
    train(path, checkpoint_every=2)
    train(tmp_path / "alone", checkpoint_every=2)
    assert_same_run(path, tmp_path / "alone")


def make_half_a_run(path):
    with new_run_folder(path) as folder:
        folder.config.write_text("verb: pretrain\n")
        die()


@pytest.mark.slow
def test_killed_while_its_folder_is_made_a_run_can_be_begun_again(empty):
    assert Child(empty, make_half_a_run, empty / "runs" / "new").wait() == -signal.SIGKILL
    assert not (empty / "runs" / "new").exists()
    assert any((empty / "runs").iterdir())
    assert runs.newest_run(["pretrain"]) is None
    create_run_folder(empty / "runs" / "new")


def die_instead_of(module, name, verb, *words):
    """Runs a command that dies where it would call a function."""
    setattr(module, name, lambda *_, **__: die())
    call(verb, *words)


def killed_judging(*words):
    die_instead_of(finetune_run, "evaluate_trained", "finetune", *words)


def killed_exporting(*words):
    die_instead_of(training, "export_backbone", "finetune", *words)


def killed_evaluating(*words):
    from ssl_lt.runs import evaluate

    die_instead_of(evaluate, "record", "evaluate", *words)


@pytest.mark.slow
def test_killed_in_an_evaluation_the_training_stays_and_is_judged_again(empty):
    words = [*TINY, "--init-from", "scratch", "--run-dir", "run"]
    assert Child(empty, killed_judging, *words).wait() == -signal.SIGKILL
    trained = snapshot(empty / "run" / "checkpoints")
    assert not (empty / "run" / "results.json").exists()
    assert Child(empty, killed_exporting, "--resume", "run").wait() == -signal.SIGKILL
    judged = json.loads((empty / "run" / "results.json").read_text())["evaluations"]
    succeed("finetune", "--resume", "run")
    assert snapshot(empty / "run" / "checkpoints") == trained
    results = json.loads((empty / "run" / "results.json").read_text())
    assert [e["name"] for e in judged] == [e["name"] for e in results["evaluations"]]
    assert (empty / "run" / "exported" / "model.safetensors").is_file()

    before = snapshot(empty / "run")
    quick = ["--run", "run", "--probe-on", "long-tail", "--map-images", "0"]
    assert Child(empty, killed_evaluating, *quick).wait() == -signal.SIGKILL
    after = snapshot(empty / "run")
    assert {name: after[name] for name in before if "." in name} == {
        name: stat for name, stat in before.items() if "." in name
    }
    succeed("evaluate", *quick)
    assert len(json.loads((empty / "run" / "results.json").read_text())["evaluations"]) > 1


SIMCLR = shlex.split(
    "--width 4 --image-size 16 --batch-size 64 --epochs 3 --warmup-epochs 1 --num-workers 0 "
    "--mixed-precision no --log-every 1 --knn-every 2"
)


@pytest.mark.slow
def test_a_stop_request_ends_the_step_and_leaves_a_run_to_resume(tmp_path):
    run, alone = tmp_path / "stopped", Command(tmp_path, "pretrain", *SIMCLR, "--run-dir", "alone")
    command = Command(tmp_path, "pretrain", *SIMCLR, "--run-dir", "stopped")
    for lines, asked, code in ((3, signal.SIGTERM, 143), (14, signal.SIGINT, 130)):
        command.wait_for_lines(run / "metrics.jsonl", lines)
        assert command.send(asked) == code, command.said
        last = command.said.splitlines()[-1]
        assert last.startswith(f"stopped by {asked.name} after step ")
        assert last.endswith("; --resume goes on from there")
        assert "Traceback" not in command.said
        step = int(last.split("after step ")[1].split(";")[0])
        assert (run / "checkpoints" / f"step-{step:06d}").is_dir()
        assert not (run / "exported").exists()
        command = Command(tmp_path, "pretrain", "--resume", "stopped")
    assert command.wait() == 0, command.said
    assert alone.wait() == 0, alone.said
    assert (run / "exported" / "model.safetensors").is_file()
    assert_same_run(run, tmp_path / "alone")
