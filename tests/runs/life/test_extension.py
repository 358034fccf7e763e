"""A pretraining that is extended: a new run with the whole state of a finished one."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ssl_lt.core.errors import DiskError
from ssl_lt.engine.checkpoints.checkpoint import load_checkpoint
from ssl_lt.runs.life import extension
from tests.toolbox import TINY, call, load_yaml, logged, refuses, succeed, write_picture

# One epoch more than TINY has, since the first leaves the boosted weights as they are drawn.
WORDS = [*TINY, "--batch-size", "4", "--data", "folder:photos"]
WORDS += ["--epochs", "2", "--warmup-epochs", "1", "--log-every", "2", "--knn-every", "1"]
METHOD = "--method sdclr --plugins bcl gh --gh.clusters 5 --gh.prior-period 1 --ema 0.5".split()


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Pictures of two classes and a finished run on them, as they are left."""
    place = tmp_path_factory.mktemp("extended")
    for number in range(20):
        write_picture(place / "photos" / "ab"[number % 2] / f"{number:02}.png", number)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        succeed("pretrain", *WORDS, *METHOD, "--run-dir", "old")
    return place


@pytest.fixture
def place(begun, tmp_path, monkeypatch):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checkpoint(run, which):
    return load_checkpoint(sorted((run / "checkpoints").glob("step-*"))[which])


def same(first, second):
    """Every tensor of two checkpoints, to the last bit."""
    assert first.keys() == second.keys()
    for stem in first:
        assert first[stem].keys() == second[stem].keys()
        for name, tensor in first[stem].items():
            assert torch.equal(
                tensor.nan_to_num(7.5) if tensor.is_floating_point() else tensor,
                second[stem][name].nan_to_num(7.5)
                if tensor.is_floating_point()
                else second[stem][name],
            ), name


def test_it_begins_with_the_state_that_the_other_ended_with(place):
    words = ["--extend", "old", "--epochs", "1", "--run-dir", "new"]
    said = succeed("pretrain", *words).out
    assert (
        "extending old: 2 epochs so far, 1 more; the schedule is that of 3 epochs; the same images"
        in said
    )
    old, start = checkpoint(place / "old", -1), checkpoint(place / "new", 0)
    assert start.step == old.step == 8
    same(old.tensors, start.tensors)
    assert start.state["optimizer"] == old.state["optimizer"]
    lines = logged(place / "new")
    assert [line["step"] for line in lines] == [8, 8, 10, 12, 12]
    assert lines[-1]["epoch"] == 2
    # What is measured of the state that it begins with is what was measured at the other's end.
    assert lines[1] | {"step": 0} == logged(place / "old")[-1] | {"step": 0}
    config = load_yaml(place / "new" / "config.yaml")
    assert (config["extend"], config["epochs"], config["method"]) == ("old", 1, "sdclr")
    assert config["gh.warmup-epochs"] == 1
    assert config["started-from.epochs"] == "2"
    assert config["started-from.data-sha256"] == config["started-from.data-sha256-now"]
    # Once more, of the run that was extended.
    succeed("pretrain", "--extend", "new", "--epochs", "1", "--run-dir", "newer")
    assert checkpoint(place / "newer", -1).step == 16
    assert logged(place / "newer")[-1]["epoch"] == 3


@pytest.mark.slow
def test_the_rate_goes_on_by_the_schedule_of_all_epochs(place):
    """Without a change of the length it is the very same training."""
    words = [
        *WORDS,
        *METHOD,
        "--knn-every",
        "0",
        "--schedule",
        "constant",
        "--gh.warmup-epochs",
        "1",
    ]
    succeed("pretrain", *words, "--epochs", "3", "--run-dir", "whole")
    succeed("pretrain", *words, "--epochs", "2", "--run-dir", "part")
    succeed("pretrain", "--extend", "part", "--epochs", "1", "--run-dir", "rest")
    same(checkpoint(place / "whole", -1).tensors, checkpoint(place / "rest", -1).tensors)
    tail = [line for line in logged(place / "whole") if line["step"] > 8]
    assert logged(place / "rest")[1:] == tail


@pytest.mark.slow
@pytest.mark.parametrize("left", [1, 2])
def test_killed_and_resumed_it_ends_the_same(place, left):
    words = ["--extend", "old", "--epochs", "2", "--keep-checkpoints", "4"]
    succeed("pretrain", *words, "--run-dir", "whole")
    succeed("pretrain", *words, "--run-dir", "again")
    folders = sorted((place / "again/checkpoints").glob("step-*"))
    assert len(folders) == 3
    for folder in folders[left:]:
        shutil.rmtree(folder)
    shutil.rmtree(place / "again/exported")
    succeed("pretrain", "--resume", "again", "--extend", "old", "--epochs", "2")
    for name in ("metrics.jsonl", "split.json", "images.csv.gz"):
        assert (place / "again" / name).read_bytes() == (place / "whole" / name).read_bytes()
    same(checkpoint(place / "whole", -1).tensors, checkpoint(place / "again", -1).tensors)
    assert load_file(place / "again/exported/model.safetensors").keys()


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(place):
    succeed("pretrain", "--extend", "old", "--epochs", "1", "--run-dir", "new")
    before = (place / "new/metrics.jsonl").read_bytes()
    for name in ("checkpoints", "exported"):
        shutil.rmtree(place / "new" / name)
    assert "extending old" in succeed("pretrain", "--resume", "new").out
    assert (place / "new/metrics.jsonl").read_bytes() == before


def test_more_images_keep_what_is_remembered_of_the_old_ones(place):
    for number in range(30, 34):
        write_picture(place / "photos" / "b" / f"{number:02}.png", number)
    write_picture(place / "photos" / "a" / "00.png", 77)  # another one by its size
    (place / "photos" / "a" / "00.png").write_bytes(
        (place / "photos" / "a" / "00.png").read_bytes() + b" "
    )
    words = ["--extend", "old", "--epochs", "1", "--run-dir", "new"]
    said = succeed("pretrain", *words).out
    config = load_yaml(place / "new" / "config.yaml")
    assert config["started-from.data-sha256"] != config["started-from.data-sha256-now"]
    start, old = checkpoint(place / "new", 0), checkpoint(place / "old", -1)
    assert start.step == 2 * 5  # as if the earlier epochs had had these images
    same({"model": old.tensors["model"]}, {"model": start.tensors["model"]})
    seen = start.tensors["memory"]["boost.seen"]
    assert f"; {int(seen.sum())} of 20 images were trained on before, whose memory is kept" in said
    assert 0 < int(seen.sum()) < 16
    logits = start.tensors["memory"]["class_prior.logits"]
    assert torch.equal(logits.any(1), seen)
    assert torch.equal(
        start.tensors["memory"]["class_prior.prior"], old.tensors["memory"]["class_prior.prior"]
    )


@pytest.mark.slow
def test_other_data(place):
    words = "--extend old --epochs 1 --data digits --batch-size 64 --run-dir new".split()
    said = succeed("pretrain", *words).out
    assert "images were trained on before: the memory of samples begins anew" in said
    config = load_yaml(place / "new" / "config.yaml")
    # Seen as the network has seen its images so far.
    assert (config["data"], config["image-size"]) == ("digits", 16)
    assert config["mean"] == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("--extend old", 2, "--extend: say with --epochs how many more"),
        ("--extend old --epochs 1 --init-from scratch", 2, "--init-from: --extend goes on from"),
        ("--extend old --epochs 1 --method simclr", 2, "--method simclr (was sdclr): an extended"),
        (
            "--extend old --epochs 1 --width 8",
            2,
            "--extend old: --width 8 (was 4): an extended run",
        ),
        ("--extend old --epochs 1 --plugins gh", 2, "--plugins ['gh'] (was ['bcl', 'gh'])"),
        ("--extend nowhere --epochs 1", 2, "--extend: nowhere: not a run folder"),
        ("--extend auto --epochs 1", 2, "--extend: no pretrain run under runs/"),
    ],
)
def test_what_is_refused(place, words, code, says):
    refuses("pretrain", place, words, code, says)


def test_only_a_finished_pretraining_is_extended(place, finished):
    words = ["--epochs", "1", "--run-dir", "new"]
    outcome = call("pretrain", "--extend", finished.finetuned, *words)
    assert (outcome.code, len(outcome.err)) == (2, 1)
    assert "is a finetune run, not a pretrain run" in outcome.err[0]
    newest = max((place / "old/checkpoints").iterdir())
    blob = bytearray((newest / "model.safetensors").read_bytes())
    blob[-1] ^= 1
    (newest / "model.safetensors").write_bytes(blob)
    outcome = call("pretrain", "--extend", "old", *words)
    assert (outcome.code, len(outcome.err)) == (4, 1)
    assert outcome.err[0].startswith("error: --extend: old/checkpoints/step-000008/model.safete")
    shutil.rmtree(place / "old/exported")
    outcome = call("pretrain", "--extend", "old", *words)
    assert (outcome.code, outcome.err) == (
        2,
        ["error: --extend: old is not finished: --resume it first"],
    )
    assert not (place / "new").exists()


def test_a_full_disk_at_the_start_leaves_nothing(place, monkeypatch):
    def full(*_, **__):
        raise DiskError("new: no space left")

    monkeypatch.setattr(extension, "save_checkpoint", full)
    said = call("pretrain", "--extend", "old", "--epochs", "1", "--run-dir", "new")
    assert (said.code, said.err[-1]) == (7, "error: new: no space left")
    assert not (place / "new").exists()
