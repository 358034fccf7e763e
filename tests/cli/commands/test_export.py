"""`ssl-lt export`: what is written says what the run's network says, in a process without ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from ssl_lt.core.errors import NumericError
from ssl_lt.models.export import check_same
from ssl_lt.models.tuning.exported import load_exported
from ssl_lt.runs import export
from tests.toolbox import TINY, call, refuses, snapshot, succeed

pytestmark = pytest.mark.slow  # most of them train

CONFIG, CHECKPOINT, NOT_FINITE = 2, 4, 5


@pytest.fixture
def runs(finished, empty):
    """Copies of a pretrained and a fine-tuned run, both evaluated."""
    shutil.copytree(finished.pretrained, empty / "pretrained")
    shutil.copytree(finished.finetuned, empty / "finetuned")
    return empty


def test_a_fine_tuned_run_is_exported_with_its_classifier(runs):
    said = succeed("export", "finetuned").out
    folder = runs / "finetuned" / "exported-model"
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors",
    }  # fmt: skip
    assert "checked: the network that timm loads: differs from the run's network by" in said
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == [str(digit) for digit in range(10)]
    network = load_exported(folder)
    x = torch.randn(3, 3, 16, 16)
    (checkpoint,) = sorted((runs / "finetuned" / "checkpoints").iterdir())[-1:]
    saved = load_file(checkpoint / "model.safetensors")
    torch.testing.assert_close(network.fc.weight, saved["classifier.weight"])
    torch.testing.assert_close(network.conv1.weight, saved["backbone.conv1.weight"])
    assert network(x).shape == (3, 10)
    assert not list((runs / "finetuned").glob(".*"))


def test_the_card_says_what_it_is(runs):
    succeed("export", "finetuned", "--output", "model")
    _, head, body = (runs / "model" / "README.md").read_text().split("---\n", 2)
    fields = YAML(typ="safe", pure=True).load(head)
    assert fields["library_name"] == "timm"
    assert "long-tailed" in fields["tags"]
    assert fields["license"] == "unknown"
    result = json.loads((runs / "finetuned" / "results.json").read_text())
    evaluation = result["evaluations"][0]["accuracy"]
    for words in (
        "import timm, ssl_lt.models.backbones",
        "10 logits",
        f"`{result['data']['split_sha256']}`",
        f"{100 * evaluation['balanced']:.1f}",
        "by thirds of the classes",
        "classifier",
        "## Limits",
        "(allowed: 1e-05)",
        result["command"].split()[0],
    ):
        assert words in body, words
    succeed("export", "finetuned", "--output", "model")  # an earlier export is replaced


def test_a_pretrained_run_gives_features(runs):
    shutil.rmtree(runs / "pretrained" / "exported")
    said = succeed("export", "pretrained").out
    assert "note: this run is not finished" in said
    folder = runs / "pretrained" / "exported-model"
    assert load_exported(folder)(torch.randn(2, 3, 16, 16)).shape == (2, 16)
    card = (folder / "README.md").read_text()
    assert "Its training was not finished" in card
    assert "Not evaluated yet" in card
    assert "simclr" not in card.split("## Command")[0]  # the command is pytest's own
    assert "sdclr \\+ bcl \\+ gh" in card or "sdclr + bcl + gh" in card


PLAIN = """
import sys, numpy, timm, torch
model = timm.create_model("local-dir:model", pretrained=True).eval()
with torch.no_grad():
    numpy.save("found.npy", model(torch.from_numpy(numpy.load("x.npy"))).numpy())
assert not any(name.split(".")[0] == "ssl_lt" for name in sys.modules)
"""


@pytest.mark.slow
def test_plain_timm_loads_a_network_of_its_own(empty):
    words = [word for word in TINY if word not in ("--width", "4")]
    words += ["--init-from", "scratch", "--backbone", "test_resnet", "--run-dir", "run"]
    succeed("finetune", *words)
    succeed("export", "run", "--output", "model")
    x = torch.randn(3, 3, 16, 16)
    np.save("x.npy", x.numpy())
    subprocess.run([sys.executable, "-c", PLAIN], check=True)
    found = torch.from_numpy(np.load("found.npy"))
    (checkpoint,) = sorted((empty / "run" / "checkpoints").iterdir())[-1:]
    saved = load_file(checkpoint / "model.safetensors")
    import timm

    backbone = timm.create_model("test_resnet", num_classes=0).eval()
    prefix = "backbone."
    backbone.load_state_dict(
        {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
    )
    with torch.no_grad():
        logits = backbone(x) @ saved["classifier.weight"].T + saved["classifier.bias"]
    largest = logits.abs().max().item()
    torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-5 * largest)
    assert "With plain timm" in (empty / "model" / "README.md").read_text()


def test_a_cosine_classifier_goes_into_a_file_of_its_own(empty):
    words = [*TINY, "--init-from", "scratch", "--classifier", "cosine", "--run-dir", "run"]
    succeed("finetune", *words)
    succeed("export", "run")
    folder = empty / "run" / "exported-model"
    weight = load_file(folder / "classifier.safetensors")["weight"]
    assert weight.shape == (10, 16)
    assert load_exported(folder)(torch.randn(2, 3, 16, 16)).shape == (2, 16)
    card = (folder / "README.md").read_text()
    assert "logits are 30 times the cosine" in card


@pytest.mark.slow
def test_onnx_says_the_same_for_any_number_of_images(runs):
    import onnx
    import onnxruntime

    said = succeed("export", "finetuned", "--onnx").out
    assert "checked: model.onnx in ONNX Runtime" in said
    folder = runs / "finetuned" / "exported-model"
    (opset,) = (entry.version for entry in onnx.load(folder / "model.onnx").opset_import)
    assert opset == 18
    assert "opset 18" in (folder / "README.md").read_text()
    assert "onnx" in (folder / "README.md").read_text().split("---")[1]
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    network = load_exported(folder)
    for size in (1, 5):
        x = torch.randn(size, 3, 16, 16)
        (found,) = session.run(["logits"], {"images": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), network(x), rtol=1e-3, atol=1e-4)


def test_what_says_something_else_is_refused():
    expected = torch.tensor([[1.0, -4.0]])
    assert check_same(expected + 2e-5, expected, tolerance=1e-5, what="it") == pytest.approx(
        5e-6, rel=0.1
    )
    for found in (expected + 1e-3, expected * torch.nan):
        with pytest.raises(NumericError, match="it: differs from the run's network"):
            check_same(found, expected, tolerance=1e-5, what="it")
    with pytest.raises(NumericError, match="not finite"):
        check_same(expected, expected * torch.inf, tolerance=1e-5, what="it")


refused = partial(refuses, "export")


def test_a_network_that_came_out_otherwise_is_not_put_in_place(runs, monkeypatch):
    succeed("export", "finetuned")

    def other(folder):
        network = load_exported(folder)
        with torch.no_grad():
            network.fc.bias += 1
        return network

    monkeypatch.setattr(export, "load_exported", other)
    before = snapshot(runs / "finetuned" / "exported-model")
    outcome = call("export", "finetuned")
    assert outcome.code == NOT_FINITE
    (line,) = outcome.err
    assert "the network that timm loads: differs from the run's network" in line
    assert snapshot(runs / "finetuned" / "exported-model") == before
    assert not list((runs / "finetuned").glob(".*"))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("nowhere", CONFIG, "nowhere: not a run folder"),
        ("finetuned --opset 3", CONFIG, "unknown flag --opset"),
        ("finetuned --output pretrained", CONFIG, "--output: pretrained is not empty and has no"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(runs, words, code, says):
    refused(runs, words, code, says)


def test_missing_and_damaged_checkpoints_are_named(runs):
    for file in (runs / "finetuned" / "checkpoints").glob("*/model.safetensors"):
        file.write_bytes(file.read_bytes()[:-3])
    refused(runs, "finetuned", CHECKPOINT, "no valid checkpoint")
    shutil.rmtree(runs / "pretrained" / "checkpoints")
    refused(runs, "pretrained", CHECKPOINT, "pretrained: has no checkpoint yet")


def test_without_onnx_one_is_told_what_to_install(runs, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(runs, "finetuned --onnx", CONFIG, 'pip install "ssl_lt[onnx]"')
