"""Weights that others trained: the same features as plain timm, and names that lead nowhere."""

import argparse
import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from ssl_lt.core.errors import CheckpointError, ConfigError
from ssl_lt.models import released
from ssl_lt.models.backbones import build_backbone, converted
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.released import find_released, usual_images
from ssl_lt.models.weights import load_backbone_weights

TINY_VIT = ("depth=2", "embed_dim=48", "num_heads=3")
# Name, arguments that make it small, its own image size, another one.
FAMILIES = [
    ("resnet10t", (), 64, 96),
    ("convnext_atto", ("depths=(1,1,1,1)", "dims=(8,16,24,32)"), 64, 96),
    ("tf_efficientnet_lite0", (), 64, 96),
    ("vit_tiny_patch16_224", TINY_VIT, 224, 96),
    ("vit_small_patch14_reg4_dinov2", TINY_VIT, 518, 98),
    ("vit_base_patch16_clip_224", TINY_VIT, 224, 128),
    ("vit_small_patch14_dinov2", TINY_VIT, 518, 70),
]


def released_by(name, arguments, size):
    """A network of timm with its classifier, every weight and statistic other than at the start."""
    kwargs = ModelOptions(name, model_kwargs=arguments).arguments
    network = timm.create_model(name, num_classes=7, **kwargs).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.02 * torch.rand(tensor.shape, generator=generator))
    return network


@pytest.mark.parametrize(("name", "arguments", "native", "other"), FAMILIES)
def test_features_are_those_of_plain_timm_at_every_size(tmp_path, name, arguments, native, other):
    path = tmp_path / "released.safetensors"
    save_file(released_by(name, arguments, native).state_dict(), path)
    options = ModelOptions(name, model_kwargs=arguments)
    for size in (native, other):
        fixed = {"img_size": size} if name.startswith("vit") else {}
        plain = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path), "num_classes": 7},
            num_classes=0,
            **options.arguments,
            **fixed,
        ).eval()
        ours, _ = build_backbone(options, image_size=size, seed=5)
        report = load_backbone_weights(
            ours, path, convert=lambda state, s=size: converted(state, options, image_size=s)
        )
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(ours.eval()(images), plain(images), rtol=0, atol=1e-6)
        assert not report.missing


def test_names_of_the_first_authors_are_converted(tmp_path):
    """DINOv2's own release has other names than timm's: blocks' scales, and a mask token."""
    name, options = (
        "vit_small_patch14_dinov2",
        ModelOptions("vit_small_patch14_dinov2", model_kwargs=TINY_VIT),
    )
    plain = released_by(name, TINY_VIT, 518)
    state = {key: value for key, value in plain.state_dict().items() if not key.startswith("head.")}
    save_file(state | {"mask_token": torch.zeros(1, 48)}, tmp_path / "w.safetensors")
    ours, _ = build_backbone(options, image_size=70, seed=5)
    load_backbone_weights(
        ours,
        tmp_path / "w.safetensors",
        convert=lambda state: converted(state, options, image_size=70),
    )
    assert torch.equal(ours.blocks[1].ls1.gamma, plain.blocks[1].ls1.gamma)
    assert ours.pos_embed.shape[1] == 26


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (lambda s: {"teacher": under(s, "backbone."), "student": other(s)}, "teacher: backbone."),
        (lambda s: {"state_dict": under(s, "model.encoder.")}, "state_dict: model.encoder."),
        (lambda s: {"model_ema": s, "model": other(s), "epoch": 3}, "model_ema"),
        (lambda s: {"state_dict": under(s, "module.encoder_q.") | under(other(s), "module.m.")},
         "state_dict: module.encoder_q."),
        (lambda s: {"a": {"b": {"c": s}}}, "a.b.c"),
        (lambda s: under(s, "some_name_nobody_foresaw."), "some_name_nobody_foresaw."),
        (lambda s: {"args": argparse.Namespace(lr=0.1, name="x"), "model": s}, "model"),
    ],
)  # fmt: skip
def test_the_place_in_the_file_is_found(tmp_path, content, place):
    state = build_backbone(ModelOptions(width=4), image_size=32, seed=1)[0].state_dict()
    torch.save(content(state), tmp_path / "w.pt")
    ours, _ = build_backbone(ModelOptions(width=4), image_size=32, seed=2)
    report = load_backbone_weights(ours, tmp_path / "w.pt")
    assert report.place == place
    assert str(report).endswith(f"(from {place})")
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in state.items())


def under(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def other(state):
    return {key: value + 1 for key, value in state.items()}


def test_what_a_file_of_another_network_holds_is_said(tmp_path):
    state = timm.create_model("resnet10t", num_classes=0).state_dict()
    torch.save({"teacher": under(state, "backbone."), "epoch": 1}, tmp_path / "w.pt")
    options = ModelOptions("vit_tiny_patch16_224", model_kwargs=TINY_VIT)
    ours, _ = build_backbone(options, image_size=32, seed=2)
    with pytest.raises(CheckpointError) as error:
        load_backbone_weights(
            ours,
            tmp_path / "w.pt",
            convert=lambda state: converted(state, options, image_size=32),
        )
    said = str(error.value)
    assert "of the backbone's 30 tensors; missing: cls_token, pos_embed" in said
    assert f"it holds teacher: {len(state)} tensors such as backbone.conv1" in said
    assert "\n" not in said


def test_an_object_beside_the_weights_is_named(tmp_path):
    torch.save({"model": {}, "when": argparse.ArgumentParser}, tmp_path / "w.pt")
    ours, _ = build_backbone(ModelOptions(width=4), image_size=32, seed=2)
    with pytest.raises(CheckpointError, match=r"it also holds a argparse\.ArgumentParser; save"):
        load_backbone_weights(ours, tmp_path / "w.pt")


def test_what_released_weights_expect_of_images():
    found = find_released("timm:vit_base_patch16_clip_224.openai")
    assert found.backbone == "vit_base_patch16_clip_224.openai"
    assert found.images["image-size"] == 224
    assert found.images["crop-pct"] == 0.9
    assert found.images["mean"] == pytest.approx([0.4815, 0.4578, 0.4082], abs=1e-4)
    assert find_released("timm:tf_efficientnet_lite0").license == "apache-2.0"
    assert usual_images("tf_efficientnet_lite0")["std"] == [0.5, 0.5, 0.5]
    assert usual_images("resnet20_cifar") == {}
    with pytest.raises(ConfigError, match="resnet50 has no weights tagged 'bogus'"):
        usual_images("resnet50.bogus")


def test_a_folder_says_what_it_is_of(tmp_path):
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": {"depth": 2, "img_size": 48},
        "pretrained_cfg": {"input_size": [3, 48, 48], "mean": [0.1, 0.2, 0.3], "license": "mit"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = find_released(f"local-dir:{tmp_path}")
    assert (found.backbone, found.arguments) == ("vit_tiny_patch16_224", {"depth": 2})
    assert found.images["image-size"] == 48
    assert found.license == "mit"
    with pytest.raises(ConfigError, match=r"holds none of model\.safetensors"):
        found.file()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:resnet5", "timm has no resnet5; near: resnet50"),
        ("timm:resnet18.nope", r"timm has no resnet18\.nope; near: resnet18"),
        ("timm:resnet20_cifar", "no released weights of resnet20_cifar; it has none of this"),
        ("local-dir:absent", "absent has no config.json, so it is no exported model"),
        ("timm:", "timm has no"),
    ],
)
def test_names_that_lead_nowhere(name, says):
    with pytest.raises(ConfigError, match=says) as error:
        find_released(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["timm:resnet18", "hf-hub:nobody/nothing"])
def test_without_a_network_the_line_says_how_to_give_a_file(monkeypatch, name):
    monkeypatch.setattr(released, "_resolves", lambda url: False)
    monkeypatch.setenv("HF_HUB_CACHE", "/absent")
    with pytest.raises(ConfigError, match=r"not in the cache .* --init-from FILE --backbone NAME"):
        find_released(name).file()
