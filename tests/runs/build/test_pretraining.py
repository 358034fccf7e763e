"""The patch embedding of a transformer, which may stay as it starts."""

import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.dataset import open_data
from ssl_lt.runs.build.pretraining import build_task
from tests.configs import pretraining

VIT = {
    "backbone": "vit_tiny_patch16_224",
    "model-kwargs": ["depth=1", "embed_dim=24", "num_heads=3"],
}


@pytest.mark.parametrize(
    ("values", "frozen"),
    [
        ({}, True),
        ({"freeze-patch-embed": "off"}, False),
        ({"init-from": "weights.safetensors"}, False),
        ({"init-from": "weights.safetensors", "freeze-patch-embed": "on"}, True),
    ],
)
@pytest.mark.parametrize("method", ["simclr", "sdclr"])
def test_the_patch_embedding_is_kept_from_scratch(method, values, frozen):
    config = pretraining(method, values=VIT | values)
    backbone = build_task(config, open_data(config.data)).backbone
    assert all(p.requires_grad != frozen for p in backbone.patch_embed.parameters())
    assert all(p.requires_grad for p in backbone.blocks.parameters())


@pytest.mark.parametrize(("asked", "frozen"), [("auto", False), ("on", True), ("off", False)])
def test_that_of_a_swin_is_kept_where_asked(asked, frozen):
    values = {
        "backbone": "swin_tiny_patch4_window7_224",
        "image-size": 32,
        "model-kwargs": ["depths=(1,1)", "embed_dim=12", "num_heads=(2,2)", "window_size=2"],
        "freeze-patch-embed": asked,
    }
    config = pretraining(values=values)
    backbone = build_task(config, open_data(config.data)).backbone
    assert all(p.requires_grad != frozen for p in backbone.patch_embed.parameters())


def test_a_network_without_one_is_refused():
    config = pretraining(values={"freeze-patch-embed": "on", "width": 4})
    with pytest.raises(ConfigError, match="resnet20_cifar has no patch embedding"):
        build_task(config, open_data(config.data))
