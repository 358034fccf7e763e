from __future__ import annotations

import json
from dataclasses import replace

import pytest
from accelerate import Accelerator

from ssl_lt.core.errors import CheckpointError
from ssl_lt.core.types import Epoch
from ssl_lt.engine.checkpoints.checkpoint import load_checkpoint
from ssl_lt.engine.checkpoints.chosen import describe_weights, evaluated_weights, read_choice
from ssl_lt.engine.checkpoints.run_folder import RunFolder, create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.engine.plan import FitOptions
from ssl_lt.engine.selection import Selection
from tests.engine.tiny import TinyLoader, TinyTask, plan

# Of each epoch; the second best comes twice.
ACCURACIES = (0.3, 0.7, 0.5, 0.7, 0.6, 0.2)


class DiedError(Exception):
    pass


class Dies(TinyTask):
    """In one of its steps."""

    def __init__(self, at=None):
        super().__init__()
        self.steps, self.at = 0, at

    def forward(self, batch):
        if self.steps == self.at:
            raise DiedError
        self.steps += 1
        return super().forward(batch)


def train(path, task=None, *, dies_in=None, ema=0.0, **options):
    """Six epochs of four steps; dies in the measurement of an epoch."""
    task = task or TinyTask()

    def end_of_epoch(task, epoch):
        if epoch.number == dies_in:
            raise DiedError
        return {"accuracy": ACCURACIES[epoch.number]}

    settings = plan(**{"epochs": 6, "keep": "best", **options})
    fit(
        task,
        TinyLoader(),
        replace(settings, measure="accuracy", optim=replace(settings.optim, ema=ema)),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=RunFolder(path) if path.exists() else create_run_folder(path),
        end_of_epoch=end_of_epoch,
    )
    return task


def steps_of(path):
    return sorted(int(p.name[5:]) for p in (path / "checkpoints").glob("step-*"))


def test_the_first_of_the_best_is_kept_whatever_is_removed(tmp_path):
    task = train(tmp_path / "run", ema=0.5)
    assert steps_of(tmp_path / "run") == [8, 20, 24]
    path, step = evaluated_weights(tmp_path / "run" / "checkpoints")
    assert (path.parent.name, path.name, step) == ("step-000008", "ema.safetensors", 8)
    best = load_checkpoint(path.parent).tensors["ema"]
    assert all(best[name].equal(tensor) for name, tensor in task.state_dict().items())
    choice = read_choice(tmp_path / "run" / "checkpoints")
    assert (choice.value, choice.step, choice.epoch) == (0.7, 8, 2)
    assert (choice.waited, choice.trained) == (4, 6)
    told = describe_weights(tmp_path / "run/checkpoints", epochs=6, averaged="averaged")
    assert told == "epoch 2 of 6, chosen by accuracy on validation images (0.700), averaged"


def test_the_last_is_kept_where_nothing_is_chosen(tmp_path):
    train(tmp_path / "run", keep="last")
    checkpoints = tmp_path / "run" / "checkpoints"
    assert steps_of(tmp_path / "run") == [20, 24]
    assert read_choice(checkpoints) is None
    assert evaluated_weights(checkpoints)[1] == 24
    assert describe_weights(checkpoints, epochs=6, averaged="") == "last epoch"


@pytest.mark.parametrize(("keep", "evaluated"), [("best", 8), ("last", 16)])
def test_training_stops_after_measurements_without_a_better_one(tmp_path, keep, evaluated):
    path = tmp_path / "run"
    train(path, keep=keep, early_stop=2)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 16  # of epochs 2, 3 and 4, the last two bring nothing
    assert evaluated_weights(path / "checkpoints")[1] == evaluated
    told = describe_weights(path / "checkpoints", epochs=6, averaged="")
    if keep == "last":
        assert told == "epoch 4 of 6, stopped early by accuracy"
    # Taken up again it does not train on.
    again = Dies()
    train(path, again, keep=keep, early_stop=2)
    assert again.steps == 0


def test_a_measurement_without_the_number_counts_for_nothing():
    selection = Selection(FitOptions(keep="best", early_stop=1), measure="knn")
    assert not selection.observe({"feature_std": 0.0}, step=4, epoch=Epoch(0, 3, 4))
    assert selection.choice is None
    assert selection.observe({"knn": 0.2}, step=8, epoch=Epoch(1, 3, 4))
    assert not selection.has_waited_enough
    selection.observe({"knn": 0.1}, step=12, epoch=Epoch(2, 3, 4))
    assert selection.has_waited_enough


def assert_same(found, expected):
    assert (found / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    choices = [(run / "checkpoints" / "choice.json").read_text() for run in (found, expected)]
    assert choices[0] == choices[1]
    assert steps_of(found) == steps_of(expected)
    for step in steps_of(found):
        mine, other = (
            load_checkpoint(run / f"checkpoints/step-{step:06d}") for run in (found, expected)
        )
        assert mine.state == other.state
        for stem, tensors in other.tensors.items():
            assert all(mine.tensors[stem][name].equal(t) for name, t in tensors.items())


@pytest.mark.parametrize("at", [3, 9, 13, 16])
def test_killed_in_a_step_the_choice_is_the_same(tmp_path, at):
    expected = train(tmp_path / "alone", early_stop=3)
    with pytest.raises(DiedError):
        train(tmp_path / "killed", Dies(at), early_stop=3, checkpoint_every=3)
    found = train(tmp_path / "killed", early_stop=3)
    assert_same(tmp_path / "killed", tmp_path / "alone")
    assert found.out.weight.equal(expected.out.weight)


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_killed_in_a_measurement_the_choice_is_the_same(tmp_path, epoch):
    train(tmp_path / "alone", early_stop=3)
    with pytest.raises(DiedError):
        train(tmp_path / "killed", dies_in=epoch, early_stop=3)
    train(tmp_path / "killed", early_stop=3)
    assert_same(tmp_path / "killed", tmp_path / "alone")


def test_damaged_checkpoints_take_what_they_knew_with_them(tmp_path):
    train(tmp_path / "alone", keep_checkpoints=3)
    with pytest.raises(DiedError):
        train(tmp_path / "damaged", Dies(17), keep_checkpoints=3)
    assert steps_of(tmp_path / "damaged") == [8, 12, 16]
    for step in (12, 16):
        (tmp_path / f"damaged/checkpoints/step-{step:06d}/state.json").write_text("{}")
    train(tmp_path / "damaged", keep_checkpoints=3)  # from step 8, measured again
    assert_same(tmp_path / "damaged", tmp_path / "alone")


def test_a_damaged_choice_is_named(tmp_path):
    train(tmp_path / "run")
    path = tmp_path / "run/checkpoints/choice.json"
    for text in ("{", '{"keep": "best"}', path.read_text().replace("8", '"8"')):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"choice\.json: cannot be read"):
            evaluated_weights(tmp_path / "run/checkpoints")
    train(tmp_path / "run")  # goes by its checkpoints, and writes it anew
    assert read_choice(tmp_path / "run/checkpoints").step == 8


def test_the_best_checkpoint_may_not_be_damaged(tmp_path):
    with pytest.raises(DiedError):
        train(tmp_path / "run", Dies(21))
    (tmp_path / "run/checkpoints/step-000008/model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-000008/model\.safetensors"):
        train(tmp_path / "run")
