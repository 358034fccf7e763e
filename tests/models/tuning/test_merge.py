"""Every kind on every network: it starts as nothing, trains, and is merged or kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from ssl_lt.core.errors import CheckpointError
from ssl_lt.core.types import ImageSpec
from ssl_lt.models.classifiers import CosineClassifier
from ssl_lt.models.export import export_backbone
from ssl_lt.models.tuning.apply import trained_share
from ssl_lt.models.tuning.exported import load_exported
from ssl_lt.models.tuning.insertion import bottleneck
from ssl_lt.models.tuning.merge import merged, merged_state
from ssl_lt.models.tuning.registry import TUNINGS
from ssl_lt.models.weights import load_backbone_weights
from tests.models.tuning.golden import load
from tests.models.tuning.networks import (
    CONVOLUTIONAL,
    TRANSFORMERS,
    inserted,
    network,
    pictures,
    trained_a_little,
    tuned,
)

KINDS = [kind.replace("K", "1") for kind in TUNINGS]
FOR_TRANSFORMERS = ("adaptformer", "lora")
QUICK = ("test_vit", "resnet20_cifar")
CASES = [
    pytest.param(name, kind, marks=() if name in QUICK else pytest.mark.slow)
    for name in (*TRANSFORMERS, *CONVOLUTIONAL)
    for kind in KINDS
    if name in TRANSFORMERS or kind not in FOR_TRANSFORMERS
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_starts_as_the_network_is_and_all_that_trains_has_a_gradient(name, kind):
    made, x = tuned(name, kind), pictures(name)
    found = made(x)
    torch.testing.assert_close(found, network(name)(x))
    assert inserted(made) == made.state_dict().keys() - network(name).state_dict().keys()
    trained = [parameter for parameter in made.parameters() if parameter.requires_grad]
    if trained:
        trained_a_little(made)(x).square().sum().backward()
    assert all(parameter.grad.count_nonzero() for parameter in trained)
    assert all(p.grad is None for p in made.parameters() if not p.requires_grad)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_plain_timm_loads_what_was_merged(tmp_path, name, kind):
    made, x = trained_a_little(tuned(name, kind)), pictures(name)
    images = ImageSpec(size=x.shape[-1], mean=(0.5,) * 3, std=(0.5,) * 3)
    before = {key: tensor.clone() for key, tensor in made.state_dict().items()}
    export_backbone(made, tmp_path / "e", images=images)
    with torch.no_grad():
        expected = made(x)
        if kind == "adaptformer":
            with pytest.raises(RuntimeError, match="adaptformer"):
                timm.create_model(f"local-dir:{tmp_path / 'e'}", pretrained=True)
        else:
            plain = timm.create_model(f"local-dir:{tmp_path / 'e'}", pretrained=True).eval()
            assert plain.state_dict().keys() == network(name).state_dict().keys()
            close = {"rtol": 1e-5, "atol": 1e-5 * expected.abs().max().item()}
            torch.testing.assert_close(plain(x), expected, **close)
            torch.testing.assert_close(merged(made)(x), expected, **close)
        torch.testing.assert_close(load_exported(tmp_path / "e")(x), expected, rtol=1e-4, atol=1e-5)
    assert all(tensor.equal(before[key]) for key, tensor in made.state_dict().items())
    if kind not in ("all", "head"):
        assert (expected - network(name)(x)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["all", "lora", "ssf"])
def test_weights_of_a_tuned_run_load_into_any_other(tmp_path, kind):
    first, x = trained_a_little(tuned("test_vit", kind)), pictures("test_vit")
    state = {f"backbone.{key}": tensor.clone() for key, tensor in first.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    for other in ("all", "adaptformer", "lora", "ssf"):
        second = tuned("test_vit", other)
        report = load_backbone_weights(second, tmp_path / "model.safetensors")
        assert (report.missing, report.unexpected) == ((), ())
        torch.testing.assert_close(second(x), first(x), rtol=1e-4, atol=1e-5)


def test_weights_with_adapters_are_refused(tmp_path: Path):
    state = tuned("test_vit", "adaptformer").state_dict()
    save_file({key: t.clone() for key, t in state.items()}, tmp_path / "a.safetensors")
    plain = network("test_vit")
    with pytest.raises(CheckpointError, match=r"a\.safetensors: what --tune adaptformer inserted"):
        load_backbone_weights(plain, tmp_path / "a.safetensors")
    assert not inserted(plain)
    assert load_file(tmp_path / "a.safetensors").keys() == state.keys()


def test_a_file_with_half_of_what_was_inserted_is_refused():
    state = tuned("test_vit", "lora").state_dict()
    del state["blocks.0.attn.qkv.lora.q.a"]
    with pytest.raises(CheckpointError, match=r"x: blocks\.0\.attn\.qkv: 'q\.a' is missing"):
        merged_state(state, of="x")


def test_bottlenecks_are_those_of_lift():
    numbers = load()
    for pair, dim in zip(
        numbers["bottle_classes_layers"].reshape(-1, 2).tolist(), numbers["bottle_dim"].tolist(),
        strict=True,
    ):  # fmt: skip
        assert bottleneck(*pair) == dim
    made = tuned("test_vit", "adaptformer")  # 100 classes, 6 blocks
    assert made.blocks[0].drop_path2.adaptformer.down.out_features == 8


def test_the_cosine_head_is_that_of_lift():
    numbers = load()
    head = CosineClassifier(16, 5, scale=25.0).double()
    head.load_state_dict({"weight": numbers["cos_W"]})
    torch.testing.assert_close(head(numbers["cos_f"]), numbers["cos_logits"], rtol=1e-10, atol=0)


def test_how_much_trains():
    assert trained_share(tuned("resnet20_cifar", "all")) == "0.0172 M of 0.0172 M weights"
    assert trained_share(tuned("resnet20_cifar", "head")) == "0 M of 0.0172 M weights"
    adapted = trained_share(tuned("test_vit", "adaptformer", dim=1))
    assert adapted == f"{6 * (2 * 64 + 64 + 1 + 64 + 64 + 1) / 1e6:.3g} M of 0.302 M weights"
