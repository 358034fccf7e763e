"""Small networks, and weights that tell whether they are used."""

from __future__ import annotations

import timm
import torch

from ssl_lt.models.backbones import create_backbone
from ssl_lt.models.tuning.apply import apply_tuning
from ssl_lt.models.tuning.merge import place_of

TRANSFORMERS = ("test_vit", "test_vit2", "eva")
CONVOLUTIONAL = ("resnet20_cifar", "test_resnet", "test_convnext", "test_efficientnet")


def network(name):
    """In evaluation mode; batch norms have statistics, and no branch is scaled away."""
    torch.manual_seed(0)
    width = 4 if name.endswith("_cifar") else None
    if name == "eva":  # one layer for each of query, key and value
        small = {"img_size": 28, "depth": 2, "qkv_fused": False}
        made = timm.create_model("eva02_tiny_patch14_224", num_classes=0, **small).eval()
    else:
        made = create_backbone(name, width=width, image_size=32).eval()
    for key, buffer in made.named_buffers():
        if "running_mean" in key:
            buffer.uniform_(-0.1, 0.1)
    for key, parameter in made.named_parameters():
        is_zero = key.endswith("weight") and not parameter.any()
        if "gamma" in key or is_zero:  # layer scales, and the last norms of branches
            parameter.data.fill_(0.5)
    return made


def tuned(name, tune, *, dim=None):
    made = network(name)
    apply_tuning(made, tune, num_classes=100, dim=dim)
    return made


def trained_a_little(made):
    """Moves all that is trained, so that what was inserted is felt."""
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return made


def pictures(name):
    size = 28 if name == "eva" else 32
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(2))


def inserted(made):
    return {key for key in made.state_dict() if place_of(key) is not None}
