"""Whatever a user gets wrong ends with one line, the right exit code, and nothing written."""

from __future__ import annotations

import shutil

import pytest

from tests.toolbox import TINY, call, snapshot, write_picture

CONFIG, DATA, CHECKPOINT = 2, 3, 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of ten pictures."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(20):
        write_picture(root / "ab"[number % 2] / f"{number:02}.png", number)
    return root


@pytest.fixture
def broken(photos, tmp_path_factory):
    """A copy of the pictures to damage, outside the working directory."""
    root = tmp_path_factory.mktemp("broken") / "photos"
    shutil.copytree(photos, root)
    return root


def refuse(empty, verb, *words, code, says):
    """The command ends with `code` and one line that says so; the directory stays as it was."""
    before = snapshot(empty)
    outcome = call(verb, *words)
    assert len(outcome.err) == 1, outcome.err
    assert outcome.err[0].startswith("error: ")
    assert says in outcome.err[0]
    assert outcome.code == code
    assert snapshot(empty) == before
    return outcome


PRETRAIN = [
    ("--epoch 1", CONFIG, "unknown flag --epoch"),
    ("--epochs 0", CONFIG, "--epochs"),
    ("--epochs x", CONFIG, "--epochs"),
    ("--backbone resnet19_cifar", CONFIG, "--backbone: unknown name 'resnet19_cifar'"),
    ("--width 0", CONFIG, "--width"),
    ("--data cifar", CONFIG, "--data cifar: unknown, did you mean cifar10?"),
    ("--data cifar10 --data-root nowhere", DATA, "nowhere"),
    ("--data folder:nowhere", DATA, "nowhere: no such folder of images"),
    ("--imbalance-factor 0.5", CONFIG, "--imbalance-factor 0.5: must be 1 or more"),
    ("--imbalance-factor 1000", CONFIG, "--imbalance-factor 1000: leaves"),
    ("--batch-size 1000", CONFIG, "--batch-size 1000: the training set has only 585 images"),
    ("--batch-size 1", CONFIG, "--batch-size 1"),
    ("--batch-size 0", CONFIG, "--batch-size 0"),
    ("--accumulate-steps 10", CONFIG, "--accumulate-steps: 10 batches of 64"),
    ("--method sdclr --sdclr.prune-ratio 1", CONFIG, "--sdclr.prune-ratio: 1.0 is outside [0, 1)"),
    ("--method sdclr --prune-ratio -0.1", CONFIG, "--prune-ratio"),
    ("--method sdclr --backbone vit_tiny_patch16_224 --width 4", CONFIG, "--width"),
    ("--plugins gh --gh.warmup-epochs 1", CONFIG, "--gh.warmup-epochs"),
    ("--plugins gh --gh.warmup-epochs 9", CONFIG, "--gh.warmup-epochs"),
    ("--plugins gh --gh.clusters 100000 --gh.warmup-epochs 0", CONFIG, "--gh.clusters"),
    ("--plugins bcl bcl", CONFIG, "--plugins: bcl is given twice"),
    ("--temperature 0", CONFIG, "--temperature"),
    ("--view.min-scale 2", CONFIG, "min"),
    ("--split nowhere.json", DATA, "nowhere.json"),
    ("--trackers wandb", CONFIG, "--trackers: wandb is not installed"),
    ("--resume", CONFIG, "--resume: no pretrain run"),
    ("--resume nowhere", CONFIG, "nowhere: not a run folder"),
]


@pytest.mark.parametrize(("words", "code", "says"), PRETRAIN)
def test_pretraining_refuses(empty, monkeypatch, words, code, says):
    monkeypatch.setattr("accelerate.utils.is_wandb_available", lambda: False)
    refuse(empty, "pretrain", *TINY, *words.split(), code=code, says=says)


@pytest.mark.parametrize("text", ["epoch: 1", "epochs: x", "epochs: 0", "gh.clusters: 3", "a: *b"])
def test_a_bad_file_of_options_is_refused(empty, text):
    (empty / "c.yaml").write_text(text)
    refuse(empty, "pretrain", "--config", "c.yaml", code=CONFIG, says=text.split(":")[0])


FINETUNE = [
    ("--loss lo", CONFIG, "--loss: unknown name 'lo'"),
    ("--init-from nowhere", CONFIG, "--init-from: nowhere is no run"),
    ("--classifier round", CONFIG, "--classifier"),
    ("--tau x", CONFIG, "--tau"),
    ("--batch-size 1000", CONFIG, "--batch-size 1000"),
]


@pytest.mark.parametrize(("words", "code", "says"), FINETUNE)
def test_finetuning_refuses(empty, words, code, says):
    refuse(empty, "finetune", *TINY, *words.split(), code=code, says=says)


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_an_existing_folder_is_never_overwritten(empty, verb):
    (empty / "run").mkdir()
    (empty / "run/notes.txt").write_text("mine")
    says = "--run-dir: run exists and is never overwritten; --resume run continues it"
    refuse(empty, verb, *TINY, "--run-dir", "run", code=CONFIG, says=says)


def test_weights_that_are_none(empty):
    (empty / "w.safetensors").write_bytes(b"no weights")
    words = [*TINY, "--init-from", "w.safetensors"]
    refuse(empty, "finetune", *words, code=CHECKPOINT, says="w.safetensors: cannot be read")


def on_photos(root, *words):
    return [*TINY, "--batch-size", "4", "--data", f"folder:{root}", *words]


def damage(root, how):
    """Damages every picture of class b: some are trained on, some tested on."""
    for path in (root / "b").iterdir():
        if how == "truncated":
            path.write_bytes(path.read_bytes()[:-200])
        else:
            path.write_bytes(b"" if how == "empty" else b"these are words")


@pytest.mark.parametrize(
    ("how", "says"),
    [("truncated", "cannot be decoded"), ("empty", "empty file"), ("words", "not an image")],
)
@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_an_unreadable_image(empty, broken, verb, how, says):
    damage(broken, how)
    refuse(empty, verb, *on_photos(broken), code=DATA, says=f".png: {says}")


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_an_unreadable_test_image_is_found_before_the_run_begins(empty, photos, broken, verb):
    shutil.move(broken, broken.with_name("train"))
    shutil.copytree(photos, broken.with_name("test"))
    damage(broken.with_name("test"), "truncated")
    refuse(empty, verb, *on_photos(broken.parent), code=DATA, says=".png: cannot be decoded")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_an_unreadable_image_that_is_met_while_training(empty, broken, verb, workers):
    damage(broken, "truncated")
    words = on_photos(broken, "--cache-mib", "0", "--run-dir", "run", "--num-workers", workers)
    outcome = call(verb, *words)
    assert outcome.code == DATA
    assert len(outcome.err) == 1
    assert ".png: cannot be decoded" in outcome.err[0]
    # Nothing had been learned yet, so nothing is left in the way of another start.
    assert not (empty / "run").exists()


@pytest.mark.slow
def test_data_without_labels_is_not_finetuned_on(empty, photos):
    words = on_photos(photos / "a")
    refuse(empty, "finetune", *words, code=CONFIG, says="has no labels, and fine-tuning needs them")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_and_the_run_untouched(finished, empty):
    shutil.copytree(finished.pretrained, "run")
    shutil.rmtree("run/exported")
    for path in (empty / "run/checkpoints").glob("*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    says = "no valid checkpoint"
    refuse(empty, "pretrain", "--resume", "run", code=CHECKPOINT, says=says)
    refuse(empty, "evaluate", "--run", "run", code=CHECKPOINT, says=says)
    refuse(empty, "finetune", "--init-from", "run", code=CHECKPOINT, says=says)


@pytest.mark.slow
def test_a_resumed_run_meets_other_data(finished, empty, photos):
    """The split file is held against the data before anything is trained."""
    shutil.copytree(finished.pretrained, "run")
    shutil.rmtree("run/exported")
    text = (empty / "run/split.json").read_text()
    (empty / "run/split.json").write_text(text.replace('"num_rows": 1497', '"num_rows": 1496'))
    refuse(empty, "pretrain", "--resume", "run", code=DATA, says="split.json")
