"""SSF: the operations that are scaled and shifted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lt.models.batch_norm import synchronised
from ssl_lt.models.tuning.apply import apply_tuning
from tests.models.tuning.networks import inserted, pictures, trained_a_little, tuned


@pytest.mark.parametrize("training", [False, True])
def test_layers_are_followed_by_a_scale_and_a_shift(training):
    layers = nn.ModuleList(
        [nn.Linear(4, 4), nn.LayerNorm(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)]
    )
    inputs = [
        torch.randn(2, 4),
        torch.randn(2, 4),
        torch.randn(2, 4, 3, 3),
        torch.randn(2, 4, 3, 3),
    ]
    layers[3].running_mean.uniform_()
    layers.eval()
    plain = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
    apply_tuning(layers, "ssf", num_classes=2)
    layers.train(training)  # the statistics stay whatever the mode
    for layer, x, y in zip(layers, inputs, plain, strict=True):
        torch.testing.assert_close(layer(x), y)
        nn.init.normal_(layer.ssf.scale)
        nn.init.normal_(layer.ssf.shift)
        shape = [1, 4] + [1] * (y.ndim - 2)
        expected = y * layer.ssf.scale.view(shape) + layer.ssf.shift.view(shape)
        torch.testing.assert_close(layer(x), expected)


def test_a_layer_without_bias_and_the_norm_after_it_are_one_operation():
    made = tuned("test_resnet", "ssf")
    places = {key.split(".ssf.")[0] for key in inserted(made)}
    layers = tuned("test_resnet", "head").named_modules()
    assert places == {name for name, layer in layers if isinstance(layer, nn.BatchNorm2d)}


def test_all_kinds_of_operations_of_a_transformer():
    made = tuned("test_vit", "ssf")
    places = {key.split(".ssf.")[0] for key in inserted(made)}
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    assert {f"blocks.0.{layer}" for layer in layers} | {"patch_embed.proj", "norm"} <= places


def test_statistics_that_stay_are_not_synchronised():
    """Which would take scale and shift away with the class of the layer."""
    made = trained_a_little(tuned("test_efficientnet", "ssf"))
    x = pictures("test_efficientnet")
    expected = made(x)
    torch.testing.assert_close(synchronised(made)(x), expected)
