"""Which of a network's own weights train."""

from __future__ import annotations

import pytest
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.backbones import create_experts
from ssl_lt.models.tuning.apply import apply_tuning
from tests.models.tuning.networks import CONVOLUTIONAL, TRANSFORMERS, tuned


def trained(made):
    return {name for name, parameter in made.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *TRANSFORMERS])
def test_all_and_head(name):
    made = tuned(name, "all")
    assert trained(made) == {key for key, _ in made.named_parameters()}
    assert trained(tuned(name, "head")) == set()


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *TRANSFORMERS])
def test_norms(name):
    made = tuned(name, "norms")
    found = trained(made)
    assert found
    layers = dict(made.named_modules())
    kinds = (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)
    for key, _ in made.named_parameters():
        assert isinstance(layers[key.rpartition(".")[0]], kinds) == (key in found), key


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *TRANSFORMERS])
def test_biases(name):
    found = trained(tuned(name, "bias"))
    assert found
    assert all(key.endswith("bias") for key in found)


def test_blocks_of_a_transformer_and_the_norm_after_them():
    found = trained(tuned("test_vit", "last-2"))
    assert {key.split(".")[0] for key in found} == {"blocks", "norm"}
    assert {key.split(".")[1] for key in found if key.startswith("blocks")} == {"4", "5"}


@pytest.mark.parametrize(
    ("name", "count", "parts"),
    [
        ("resnet20_cifar", 1, {"layer3"}),
        ("resnet20_cifar", 3, {"layer1", "layer2", "layer3"}),
        ("test_resnet", 2, {"layer3", "layer4"}),
        ("test_convnext", 1, {"stages", "head"}),
        ("test_efficientnet", 1, {"blocks", "conv_head", "bn2"}),
    ],
)
def test_stages_of_a_convolutional_network(name, count, parts):
    assert {key.split(".")[0] for key in trained(tuned(name, f"last-{count}"))} == parts


def test_a_stage_of_experts_is_that_of_all():
    shares = {"num_experts": 2, "expert_width": 0.75, "shared_gradient": "all"}
    made = create_experts("resnet20_cifar", width=4, image_size=32, **shares)
    apply_tuning(made, "last-1", num_classes=10)
    assert {".".join(key.split(".")[:3]) for key in trained(made)} == {
        "experts.0.layer3", "experts.1.layer3",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tune", "says"),
    [
        ("test_vit", "last-7", "--tune last-7: test_vit has 6 blocks or stages"),
        ("resnet20_cifar", "last-4", "--tune last-4: resnet20_cifar has 3 blocks or stages"),
    ],
)
def test_more_than_there_are(name, tune, says):
    with pytest.raises(ConfigError, match=says):
        tuned(name, tune)


@pytest.mark.parametrize("tune", ["norms", "ssf"])
def test_nothing_to_train(tune):
    with pytest.raises(ConfigError, match=f"--tune {tune}: Sequential has none of these weights"):
        apply_tuning(nn.Sequential(nn.Linear(2, 2, bias=False)), tune, num_classes=2)
    with pytest.raises(ConfigError, match="--tune last-1: Sequential has no blocks or stages"):
        apply_tuning(nn.Sequential(nn.Linear(2, 2)), "last-1", num_classes=2)
