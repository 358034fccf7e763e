"""AdaptFormer: LIFT's numbers, and its place beside the MLP."""

from __future__ import annotations

import copy

import pytest
import torch

from ssl_lt.core.errors import CheckpointError, ConfigError
from ssl_lt.models.tuning.adaptformer import Adapter
from ssl_lt.models.tuning.merge import has_to_stay, merged, merged_state
from tests.models.tuning.golden import assert_golden
from tests.models.tuning.networks import network, pictures, trained_a_little, tuned

LAYERS = {
    "ln.weight": "norm.weight",
    "ln.bias": "norm.bias",
    "down_proj.weight": "down.weight",
    "down_proj.bias": "down.bias",
    "up_proj.weight": "up.weight",
    "up_proj.bias": "up.bias",
}


def test_it_is_lifts_adapter():
    assert_golden(Adapter(16, 4), {"scale": "scale", **LAYERS}, "adaptformer")


def test_without_its_scale_it_is_the_plain_adapter():
    class Unscaled(Adapter):
        def __init__(self):
            super().__init__(16, 4)
            del self.scale
            self.scale = 1.0

    assert_golden(Unscaled(), LAYERS, "adapter")


def test_it_begins_as_nothing_with_weights_that_can_learn():
    adapter = Adapter(64, 512)
    assert adapter(torch.randn(2, 64)).count_nonzero() == 0
    assert adapter.scale.item() == 1
    # Kaiming's normal with a = sqrt 5: sqrt(2 / 6) / sqrt(64).
    assert adapter.down.weight.std().item() == pytest.approx((1 / 3) ** 0.5 / 8, rel=0.02)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2"])
def test_it_stands_beside_each_mlp(name):
    """The block written out, with the adapter on what the MLP's norm sees."""
    made = trained_a_little(tuned(name, "adaptformer", dim=3))
    block = made.blocks[1]
    adapter = block.drop_path2.adaptformer
    x = torch.randn(2, 5, adapter.norm.normalized_shape[0])
    after_attention = x + block.ls1(block.attn(block.norm1(x)))
    expected = after_attention + block.ls2(block.mlp(block.norm2(after_attention)))
    expected = expected + adapter(after_attention)
    block.drop_path2.seen = None
    torch.testing.assert_close(block(x), expected)
    assert adapter.down.weight.shape == (3, x.shape[-1])


def test_a_copy_has_adapters_of_its_own():
    made = trained_a_little(tuned("test_vit", "adaptformer", dim=3))
    x = pictures("test_vit")
    expected = made(x)
    copied = copy.deepcopy(made)
    for name, parameter in made.named_parameters():
        if "adaptformer" in name:
            parameter.data.zero_()
    torch.testing.assert_close(copied(x), expected)
    torch.testing.assert_close(made(x), network("test_vit")(x))


def test_it_cannot_be_merged():
    made = tuned("test_vit", "adaptformer")
    assert has_to_stay(made) == "adaptformer"
    assert merged(made).state_dict().keys() == made.state_dict().keys()
    with pytest.raises(CheckpointError, match=r"^a file: what --tune adaptformer inserted cannot"):
        merged_state(made.state_dict(), of="a file")


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ConfigError, match="--tune adaptformer: resnet20_cifar has no transformer"):
        tuned("resnet20_cifar", "adaptformer")
