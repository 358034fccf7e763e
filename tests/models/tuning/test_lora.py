"""LoRA: LIFT's numbers, and its place in queries and values."""

from __future__ import annotations

import pytest
import timm
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.tuning.apply import apply_tuning
from ssl_lt.models.tuning.lora import LowRank, QueryAndValue, merge
from tests.models.tuning.golden import assert_golden
from tests.models.tuning.networks import inserted, tuned


def test_it_is_lifts_update():
    assert_golden(LowRank(16, 16, 4), {"lora_A": "a", "lora_B": "b"}, "lora")


def test_it_begins_as_nothing_with_weights_that_can_learn():
    update = LowRank(64, 32, 4)
    assert update(torch.randn(2, 64)).count_nonzero() == 0
    assert 0.45 < update.a.abs().max() <= 0.5  # uniform within 1 / sqrt(r)


def test_queries_and_values_move_and_keys_stay():
    update = QueryAndValue(6, 4, 2)
    torch.nn.init.normal_(update.q.b)
    torch.nn.init.normal_(update.v.b)
    x = torch.randn(3, 6)
    q, k, v = update(x).chunk(3, dim=-1)
    torch.testing.assert_close(q, x @ update.q.a @ update.q.b / 2)
    torch.testing.assert_close(v, x @ update.v.a @ update.v.b / 2)
    assert k.count_nonzero() == 0
    weight, bias = torch.randn(12, 6), torch.randn(12)
    found, found_bias = merge(weight, bias, dict(update.named_parameters()))
    torch.testing.assert_close(x @ found.T, x @ weight.T + update(x))
    assert found_bias is bias


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("test_vit", {f"attn.qkv.lora.{part}" for part in ("q.a", "q.b", "v.a", "v.b")}),
        ("eva", {f"attn.{p}_proj.lora.{m}" for p in "qv" for m in "ab"}),
    ],
)
def test_its_places(name, keys):
    made = tuned(name, "lora", dim=2)
    assert {key.removeprefix("blocks.0.") for key in inserted(made) if "blocks.0." in key} == keys
    assert len(inserted(made)) == 4 * len(made.blocks)


@pytest.mark.parametrize("name", ["resnet20_cifar", "test_convnext"])
def test_a_network_without_blocks_is_refused(name):
    with pytest.raises(ConfigError, match=f"--tune lora: {name} has no transformer blocks"):
        tuned(name, "lora")


def test_attention_that_takes_the_weight_out_of_its_layer_is_refused():
    made = timm.create_model("eva02_tiny_patch14_224", img_size=28, depth=1)
    with pytest.raises(ConfigError, match="--tune lora: the attention of eva02_tiny_patch14_224"):
        apply_tuning(made, "lora", num_classes=10)
