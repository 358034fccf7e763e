"""`finetune.py --tune`, from the command line to a network that others load."""

from __future__ import annotations

import json
import shlex

import pytest
import timm
import torch
from safetensors.torch import load_file

from ssl_lt.models.tuning.exported import load_exported
from ssl_lt.models.tuning.merge import place_of
from ssl_lt.models.tuning.registry import TUNINGS
from ssl_lt.report.records.results import read_results
from tests.toolbox import TINY, call, logged, newest_weights, refuses, stop_after, succeed

pytestmark = pytest.mark.slow  # most of them train

COMMON = [word for word in TINY if word not in ("--width", "4", "--image-size", "16")]
COMMON += shlex.split("--init-from scratch --imbalance-factor 100 --eval-every 0 --lr 0.01")
NETWORKS = {
    "vit": ["--backbone", "test_vit", "--image-size", "32"],
    "resnet": ["--width", "4", "--image-size", "16"],
}
KINDS = [kind.replace("K", "1") for kind in TUNINGS]
CASES = [("vit", kind) for kind in KINDS]
CASES += [("resnet", kind) for kind in KINDS if kind not in ("adaptformer", "lora")]


def finetune(run, network, kind, *words):
    return succeed(
        "finetune", *COMMON, *NETWORKS[network], "--tune", kind, "--run-dir", run, *words
    )


@pytest.mark.parametrize(("network", "kind"), CASES)
def test_it_goes_on_bit_for_bit(empty, network, kind):
    """Stopped in the middle of an epoch; and only what is trained moves."""
    said = finetune("whole", network, kind, "--epochs", "2").out
    assert "trained: " in said
    words = [*COMMON, *NETWORKS[network], "--tune", kind, "--run-dir", "parts", "--epochs", "2"]
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, logged(empty / "whole")[-1]["step"] // 2 + 1)
        assert call("finetune", *words, "--checkpoint-every", "1").code == 143
    assert not (empty / "parts" / "results.json").exists()
    succeed("finetune", "--resume", "parts")
    one, two = newest_weights(empty / "whole"), newest_weights(empty / "parts")
    assert one.keys() == two.keys()
    assert all(tensor.equal(two[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("network", "kind"), [("vit", "adaptformer"), ("vit", "lora"), ("resnet", "ssf")]
)
def test_a_tuned_run_is_judged_exported_and_started_from(empty, network, kind):
    finetune("run", network, kind)
    first = read_results(empty / "run" / "results.json").evaluations[0].accuracy
    succeed("evaluate", "--run", "run", "--probe-on", "long-tail", "--map-images", "0")
    again = read_results(empty / "run" / "results.json").evaluations
    assert next(e for e in again if e.name == "classifier").accuracy == first
    saved = newest_weights(empty / "run")
    assert any(place_of(name) for name in saved)

    said = succeed("export", "run", "--output", "model", "--onnx").out
    assert said.count("checked: ") == 2
    size = int(NETWORKS[network][-1])
    x = torch.rand(3, 3, size, size)
    network_of = load_exported(empty / "model")
    card = (empty / "model" / "README.md").read_text()
    backbone = load_exported(empty / "run" / "exported")
    found = backbone(x) @ saved["classifier.weight"].T + saved["classifier.bias"]
    torch.testing.assert_close(network_of(x), found, rtol=1e-4, atol=1e-5)
    if kind == "adaptformer":
        assert json.loads((empty / "model" / "config.json").read_text())["tuning"] == kind
        assert "from ssl_lt.models.tuning.exported import load_exported" in card
        assert "timm.create_model" not in card
        words = " ".join([*COMMON, "--init-from", "run"])
        for start in ("run", "run/exported"):
            again = words.replace("--init-from run", f"--init-from {start}")
            refuses("finetune", empty, again, 4, "what --tune adaptformer inserted cannot be")
        return
    plain = timm.create_model(f"local-dir:{empty / 'model'}", pretrained=True).eval()
    torch.testing.assert_close(plain(x), network_of(x))
    assert not any(place_of(name) for name in load_file(empty / "model" / "model.safetensors"))
    assert "timm.create_model" in card

    second = [word for word in COMMON if word not in ("--init-from", "scratch")]
    second += ["--init-from", "run", "--init-classifier", "--run-dir", "second"]
    said = succeed("finetune", *second, "--tune", "norms", "--lr", "1e-30").out
    assert " 0 missing, " in said
    merged = load_file(empty / "run" / "exported" / "model.safetensors")
    started = newest_weights(empty / "second")
    for name, tensor in merged.items():
        torch.testing.assert_close(started[f"backbone.{name}"], tensor)


@pytest.mark.parametrize("loss", ["rcl", "paco", "dro_lt"])
@pytest.mark.parametrize(("network", "kind"), [("vit", "adaptformer"), ("resnet", "norms")])
def test_with_losses_that_are_more_than_a_classification(empty, loss, network, kind):
    finetune("run", network, kind, "--loss", loss, "--layer-decay", "0.8", "--head-lr", "0.01")
    assert logged(empty / "run")[-1]["step"] > 0
    state = newest_weights(empty / "run")
    counts = [t for name, t in state.items() if name.startswith("backbone.") and "tracked" in name]
    assert not any(count.item() for count in counts)
    followed = {name for name in state if name.startswith("key_encoder.copies.0.")}
    assert bool(followed) == (loss == "paco")
    assert not any(state[name].item() for name in followed if "tracked" in name)


def test_experts(empty):
    ride = ["--experts", "ride"]
    finetune("whole", "resnet", "all", *ride)
    words = [w for w in [*COMMON, *ride] if w not in ("--init-from", "scratch")]
    succeed("finetune", *words, "--init-from", "whole", "--tune", "ssf", "--run-dir", "tuned")
    saved = newest_weights(empty / "tuned")
    assert any(name.startswith("backbone.experts.1.") and place_of(name) for name in saved)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--tune adaptformer --width 4", "--tune adaptformer: resnet20_cifar has no transformer"),
        ("--tune lora --backbone test_convnext", "--tune lora: test_convnext has no transformer"),
        ("--tune last-9 --width 4", "--tune last-9: resnet20_cifar has 3 blocks or stages"),
        ("--tune adapformer", "--tune: unknown name 'adapformer'; did you mean adaptformer?"),
        ("--tune ssf --adapter-dim 8", "--adapter-dim has no effect without --tune adaptformer"),
        ("--tune adaptformer --experts ride", "--tune adaptformer: cifar_experts has no trans"),
        ("--tune head --loss rcl", "--tune head: --loss rcl trains the backbone"),
    ],
)
def test_mistakes_end_in_one_line(empty, words, says):
    refuses("finetune", empty, " ".join([*COMMON, words]), 2, says)
