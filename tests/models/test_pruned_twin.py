import copy
import math

import numpy as np
import pytest
import timm
import torch
from torch import nn

from ssl_lt.models.pruned_twin import (
    PrunedTwin,
    magnitude_mask,
    prunable_weights,
    pruned_copy,
)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.33, 0.5, 0.9, 0.99, 1.0])
def test_golden_masks(golden, ratio):
    d = golden("pretraining/sdclr_prune_mask_f64.npz")
    names = ["conv1", "conv2", "conv3"]
    mask = magnitude_mask([torch.tensor(d[f"w_{n}"]) for n in names], prune_ratio=ratio)
    want = np.concatenate([d[f"p{ratio}_mask_{n}"].ravel() for n in names])
    np.testing.assert_array_equal(mask, want.astype(bool))


def test_masks_keep_ties_and_never_everything_out():
    w = [torch.tensor([[0.5, -0.5], [0.5, 1.0]]), torch.tensor([0.1, 0.0])]
    assert magnitude_mask(w, prune_ratio=0.5).tolist() == [True, True, True, True, False, False]
    assert magnitude_mask(w, prune_ratio=0.0).all()
    assert magnitude_mask(w, prune_ratio=0.999).sum() == 1


def test_share_that_is_pruned():
    torch.manual_seed(0)
    w = [torch.randn(64, 32, 3, 3), torch.randn(100)]
    total = 64 * 32 * 9 + 100
    assert magnitude_mask(w, prune_ratio=0.9).sum() == total - math.ceil(0.9 * total)


def networks():
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten()
    )
    return backbone, nn.Sequential(nn.Linear(24, 5), nn.BatchNorm1d(5))


def pruned_by_hand(backbone, projector, mask):
    """The same branch as a network of its own."""
    backbone, projector = copy.deepcopy((backbone, projector))
    start = 0
    for layer in (backbone[0], backbone[3]):
        size = layer.weight.numel()
        layer.weight.data *= mask[start : start + size].view_as(layer.weight)
        start += size
    return backbone, projector


def test_is_a_network_of_its_own_with_borrowed_weights():
    backbone, projector = networks()
    weights = prunable_weights(backbone)
    assert list(weights) == ["0.weight", "3.weight"]
    mask = magnitude_mask(list(weights.values()), prune_ratio=0.7)
    twin = PrunedTwin(backbone, projector)
    own = pruned_by_hand(backbone, projector, mask)
    x = torch.randn(8, 3, 6, 6)
    z = twin(x, mask, backbone=backbone, projector=projector)
    want = own[1](own[0](x))
    torch.testing.assert_close(z, want)
    for net, name in zip(own, ("backbone_norms", "projector_norms"), strict=True):
        norm = getattr(twin, name)[0]
        torch.testing.assert_close(norm.running_var, net[1].running_var)
        assert norm.num_batches_tracked == 1
    assert backbone[1].num_batches_tracked == 0
    assert torch.equal(backbone[1].running_var, torch.ones(4))

    z.square().sum().backward()
    want.square().sum().backward()
    torch.testing.assert_close(projector[0].weight.grad, own[1][0].weight.grad)
    torch.testing.assert_close(twin.backbone_norms[0].weight.grad, own[0][1].weight.grad)
    part = mask[: backbone[0].weight.numel()].view_as(backbone[0].weight)
    torch.testing.assert_close(backbone[0].weight.grad, own[0][0].weight.grad * part)
    assert backbone[1].weight.grad is None


def vit():
    torch.manual_seed(0)
    backbone = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, num_classes=0, depth=2, embed_dim=24, num_heads=3
    )
    return backbone, nn.Sequential(nn.Linear(24, 8), nn.BatchNorm1d(8))


def test_of_a_transformer_the_linear_weights_of_the_blocks_are_pruned():
    backbone, projector = vit()
    names = prunable_weights(backbone)
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert set(names) == {f"blocks.{b}.{layer}.weight" for b in range(2) for layer in layers}
    twin = PrunedTwin(backbone, projector)
    mask = magnitude_mask(list(names.values()), prune_ratio=0.6)
    assert mask.float().mean() == pytest.approx(0.4, abs=1e-3)
    own, head = copy.deepcopy(backbone), copy.deepcopy(projector)
    parts = mask.split_with_sizes([w.numel() for w in names.values()])
    with torch.no_grad():
        for name, part in zip(names, parts, strict=True):
            own.get_parameter(name).mul_(part.view_as(own.get_parameter(name)))
    x = torch.randn(8, 3, 32, 32)
    z, want = twin(x, mask, backbone=backbone, projector=projector), head(own(x))
    torch.testing.assert_close(z, want)
    z.square().sum().backward()
    want.square().sum().backward()
    # Its layer norms are its own; the patch embedding is shared and whole.
    norms = dict(zip(twin._backbone_names, twin.backbone_norms, strict=True))
    assert set(norms) == {"norm", *(f"blocks.{b}.norm{n}" for b in range(2) for n in (1, 2))}
    torch.testing.assert_close(norms["blocks.0.norm1"].weight.grad, own.blocks[0].norm1.weight.grad)
    assert backbone.blocks[0].norm1.weight.grad is None
    embedding = (backbone.patch_embed.proj.weight, own.patch_embed.proj.weight)
    torch.testing.assert_close(*(weight.grad for weight in embedding))


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_of_a_convolutional_network_the_convolutions_are_pruned(name):
    with torch.device("meta"):
        backbone = timm.create_model(name, num_classes=0)
    convolutions = [n for n, m in backbone.named_modules() if isinstance(m, nn.Conv2d)]
    assert list(prunable_weights(backbone)) == [f"{n}.weight" for n in convolutions]


def swin():
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=2,
        num_classes=0,
        embed_dim=12,
        depths=(1, 1),
        num_heads=(2, 2),
        drop_path_rate=0.0,
    )


def convnext():
    return timm.create_model(
        "convnext_tiny", num_classes=0, depths=(1, 1, 1, 1), dims=(4, 8, 12, 24)
    )


@pytest.mark.parametrize(("build", "stem"), [(swin, "patch_embed."), (convnext, "stem.")])
def test_of_a_mixed_network_all_but_the_stem_is_pruned_and_layer_norms_are_its_own(build, stem):
    torch.manual_seed(0)
    backbone, projector = build(), nn.Sequential(nn.Linear(24, 8), nn.BatchNorm1d(8))
    matrices = {
        f"{name}.weight"
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    names = list(prunable_weights(backbone))
    assert matrices - set(names) == {n for n in matrices if n.startswith(stem)} != set()
    mask = magnitude_mask(list(prunable_weights(backbone).values()), prune_ratio=0.9)
    twin = PrunedTwin(backbone, projector)
    x = torch.randn(8, 3, 32, 32)
    twin(x, mask, backbone=backbone, projector=projector).square().sum().backward()
    norms = {n for n, m in backbone.named_modules() if isinstance(m, nn.LayerNorm)}
    assert set(twin._backbone_names) == norms != set()
    assert all(backbone.get_submodule(name).weight.grad is None for name in norms)
    assert all(norm.weight.grad is not None for norm in twin.backbone_norms)
    want = nn.Sequential(pruned_copy(backbone, prune_ratio=0.9), projector)(x)
    got = twin(x, mask, backbone=backbone, projector=projector)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    "name",
    ["swin_tiny_patch4_window7_224", "convnext_tiny", "pvt_v2_b0", "levit_128", "caformer_s18"],
)
def test_of_released_networks_nearly_all_weights_can_be_pruned(name):
    with torch.device("meta"):
        backbone = timm.create_model(name, num_classes=0)
    total = sum(weight.numel() for weight in backbone.parameters())
    assert sum(w.numel() for w in prunable_weights(backbone).values()) > 0.95 * total


def test_only_its_norms_are_its_own():
    twin = PrunedTwin(*networks())
    assert {k.rsplit(".", 1)[0] for k in twin.state_dict()} == {
        "backbone_norms.0",
        "projector_norms.0",
    }
    assert len(list(twin.parameters())) == 4


def test_a_pruned_copy_lacks_the_smallest_weights_and_is_another_network():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pruned = pruned_copy(network, prune_ratio=0.3).state_dict()
    weights = [before["0.weight"], before["2.weight"]]
    least = sorted(float(w) for w in torch.cat([w.abs().flatten() for w in weights]))
    threshold = least[math.ceil(0.3 * len(least))]
    for name, tensor in before.items():
        assert torch.equal(network.state_dict()[name], tensor)
        expected = tensor
        if name in ("0.weight", "2.weight"):
            expected = torch.where(tensor.abs() >= threshold, tensor, 0)
        assert torch.equal(pruned[name], expected)
