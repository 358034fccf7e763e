"""What a run starts from, in every verb, and what it takes over of it."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ssl_lt.cli.commands.finetune import read_new
from ssl_lt.cli.config.command_line import Files, RunFiles, read_words
from ssl_lt.cli.config.judged import read_judged
from ssl_lt.runs.build.defaults import MIN_STEPS, USUAL, with_defaults
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import default_config
from ssl_lt.runs.life.init_from import find_source
from tests.configs import read
from tests.toolbox import TINY, call, load_yaml, newest_weights, refuses, succeed

ONCE = [word for word in TINY if word not in ("--width", "4")]


def results(run):
    return json.loads((run / "results.json").read_text())


def accuracy(run, name):
    (found,) = (e for e in results(run)["evaluations"] if e["name"] == name)
    return found["accuracy"]["balanced"]


def test_an_exported_folder_brings_its_network_and_its_images(finished):
    source = find_source(str(finished.pretrained / "exported"))
    assert source.values["backbone"] == "resnet20_cifar"
    assert source.values["width"] == 4
    assert source.values["image-size"] == 16
    assert source.values["mean"] == pytest.approx([0.31267474] * 3)
    assert source.start == "run"
    assert find_source(str(finished.pretrained)).start == "run"
    assert find_source("scratch").start == "scratch"


def test_how_often_images_are_mirrored_goes_with_the_images(finished, empty):
    run = empty / "mirrored"
    shutil.copytree(finished.pretrained, run)
    flips = "view.flip-probability: null"
    text = (run / "config.yaml").read_text()
    assert flips in text
    (run / "config.yaml").write_text(text.replace(flips, "view.flip-probability: 0.25"))
    start = ["--init-from", str(run)]
    for verb in ("pretrain", "finetune"):
        assert read(verb, start).view.flip_probability == 0.25
    assert read("finetune", [*start, "--view.flip-probability", "0"]).view.flip_probability == 0
    assert read("finetune", [*start, "--data", "cifar10"]).view.flip_probability is None
    compare = read_words(["--compare", "scratch", str(run)], RunFiles())
    assert read_new(compare).config.view.flip_probability == 0.25
    assert "--view.flip-probability" not in [w for s in read_new(compare).starts for w in s.words]
    config, _ = read_judged(read_words(start, Files()), EvaluateConfig())
    assert config.data.data == "digits"


@pytest.mark.slow
def test_weights_are_judged_without_a_run(finished, empty):
    exported = finished.pretrained / "exported"
    said = succeed("evaluate", "--init-from", exported, "--data", "digits", "--run-dir", "judged")
    assert "resnet20_cifar sees 16 pixels (bicubic), mean 0.313 0.313 0.313" in said.out
    run = empty / "judged"
    assert results(run)["verb"] == "evaluate"
    for name in ("kNN", "nearest class mean", "linear probe"):
        assert accuracy(run, name) == pytest.approx(accuracy(finished.pretrained, name), abs=1e-9)
    weights = (exported / "model.safetensors").read_bytes()
    assert results(run)["started_from"] == {
        "weights": str(exported),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    assert (run / "report" / "index.html").is_file()
    # It holds no weights, and is no run that others start from.
    outcome = call("evaluate", "--run", "judged")
    assert outcome.code
    assert "this is what evaluate.py measured of" in outcome.err[0]


@pytest.mark.slow
def test_a_run_is_judged_on_other_data(finished, empty):
    words = ["--run", finished.pretrained, "--data", "digits", "--imbalance", "none"]
    succeed("evaluate", *words, "--run-dir", "other", "--map-images", "0")
    assert sum(results(empty / "other")["data"]["counts_per_class"]) > 1000
    assert load_yaml(empty / "other" / "config.yaml")["init-from"] == str(finished.pretrained)


@pytest.mark.slow
def test_pretraining_goes_on_from_weights(finished, empty):
    exported = finished.pretrained / "exported"
    words = ["--init-from", exported, "--lr", "1e-9", "--weight-decay", "0", "--knn-every", "0"]
    succeed("pretrain", *ONCE, *words, "--run-dir", "on")
    before, after = load_file(exported / "model.safetensors"), newest_weights(empty / "on")
    weight = "layer1.0.conv1.weight"
    torch.testing.assert_close(after[f"backbone.{weight}"], before[weight], rtol=0, atol=1e-6)
    config = load_yaml(empty / "on" / "config.yaml")
    assert (config["backbone"], config["width"]) == ("resnet20_cifar", 4)
    assert config["started-from.weights"] == str(exported)


@pytest.mark.slow
@pytest.mark.parametrize("size", [12, 24])
def test_small_images_at_another_size(finished, empty, size):
    words = ["--init-from", finished.pretrained, "--image-size", str(size), "--run-dir", "run"]
    succeed("finetune", *ONCE, *words)
    assert load_yaml(empty / "run" / "config.yaml")["image-size"] == size
    config = json.loads((empty / "run" / "exported" / "config.json").read_text())
    assert config["pretrained_cfg"]["input_size"] == [3, size, size]
    succeed("evaluate", "--run", "run", "--map-images", "0")


@pytest.mark.slow
def test_the_head_starts_at_the_probe_of_the_same_features(finished, empty):
    words = ["--init-from", finished.pretrained, "--lr", "1e-9", "--weight-decay", "0"]
    said = succeed(
        "finetune", *ONCE, *words, "--batch-norm", "keep", "--eval-every", "1", "--run-dir", "run"
    ).out
    (line,) = (line for line in said.splitlines() if line.startswith("head: "))
    assert "starts at a logit-adjusted (tau 1) linear probe, L2 strength" in line
    first = float(line.split("accuracy ")[1].split()[0])
    assert first > 0.3  # a random head has 0.1
    assert accuracy(empty / "run", "classifier") == pytest.approx(first, abs=1e-3)


@pytest.mark.slow
def test_a_cosine_head_starts_at_the_class_means(finished, empty):
    words = ["--init-from", finished.pretrained, "--classifier", "cosine", "--lr", "1e-9"]
    succeed("finetune", *ONCE, *words, "--batch-norm", "keep", "--run-dir", "run")
    nearest = accuracy(finished.pretrained, "nearest class mean")
    assert accuracy(empty / "run", "classifier") == pytest.approx(nearest, abs=0.01)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--head-init class-means", "a linear classifier starts at probe"),
        ("--head-init probe --classifier cosine", "a cosine classifier starts at class-means"),
        ("--head-init probe --experts ride", "experts and sigmoid losses start at random"),
        ("--head-init best", "--head-init"),
        ("--cosine-scale 20", "--cosine-scale has no effect without --classifier cosine"),
        ("--init-from timm:resnet5", "timm has no resnet5; near: resnet50"),
        ("--init-from absent.pth", "absent.pth is no run, exported folder or weights file"),
        ("--model-kwargs depth", "--model-kwargs: 'depth' is not name=value"),
        ("--std 0 1 1", "--std: 0, must be above 0"),
        ("--image-size 4", "--image-size: 4 is below 8"),
    ],
)
def test_what_a_start_cannot_be(empty, words, says):
    start = "" if "--init-from" in words else "--init-from scratch "
    refuses("finetune", empty, f"{start}{words} --width 4", 2, says)


def test_a_run_and_weights_cannot_both_be_judged(empty):
    refuses("evaluate", empty, "--run a --init-from b", 2, "--run: --init-from says what is judged")
    refuses("evaluate", empty, "--init-from scratch --data digits", 2, "scratch has nothing")


def test_flags_of_data_have_no_effect_on_a_run_that_is_judged_on_its_own(finished, empty):
    words = f"--run {finished.pretrained} --image-size 48"
    refuses("evaluate", empty, words, 2, "--image-size has no effect without --data or --init-from")


def test_defaults_depend_on_the_start_and_reach_a_number_of_steps():
    config = default_config("la")
    for start, usual in USUAL.items():
        found = with_defaults(config, start, steps_per_epoch=100)
        assert (found.fit.epochs, found.optim.lr) == (usual.epochs, usual.lr)
        assert found.batch_norm == usual.batch_norm
        few = with_defaults(config, start, steps_per_epoch=4)
        assert few.fit.epochs == MIN_STEPS // 4
    own = default_config("rcl")
    own = with_defaults(own, "scratch", steps_per_epoch=1)
    assert with_defaults(own, "released", steps_per_epoch=1000) == own


def test_runs_from_before_image_size_was_for_every_source_keep_theirs(tmp_path):
    from ssl_lt.runs.config.stored import read_config

    path = tmp_path / "config.yaml"
    path.write_text("verb: pretrain\ncommand: x\ndata: cifar10\nimage-size: 224\n")
    assert read_config(path).config.data.image_size is None
    path.write_text("verb: pretrain\ncommand: x\ndata: folder:a\nimage-size: 224\n")
    assert read_config(path).config.data.image_size == 224
