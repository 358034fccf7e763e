"""SDCLR's second branch: the same network with its small weights set to zero.

What a network forgets when it is pruned are the samples it has barely learned, those of rare
classes; a contrast between the dense and the pruned network therefore weighs them up
(arXiv:2106.02990).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ssl_lt.models.batch_norm import batch_norms

# Starts of the names of what a mixed network keeps whole.
_ENDS = ("stem", "patch_embed", "head")


def is_transformer(backbone: nn.Module) -> bool:
    """Its blocks are linear layers, without a convolution, as those of timm's ViTs."""
    blocks = getattr(backbone, "blocks", None)
    if not isinstance(blocks, nn.Module):
        return False
    kinds = {type(layer) for layer in blocks.modules()}
    return any(issubclass(kind, nn.Linear) for kind in kinds) and nn.Conv2d not in kinds


def prunable_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """Weights that the twin may do without, by parameter name.

    Those of every Conv2d, as in the release, whose networks have no others. Our extension: of a
    ViT those of the linear layers in its blocks, and of other networks with more weights in linear
    layers than in convolutions, such as Swin and ConvNeXt, both, but for stem, patch embedding
    and head.
    """
    convolutions, linear = (_weights_of(backbone, kind) for kind in (nn.Conv2d, nn.Linear))
    if is_transformer(backbone):
        return {name: w for name, w in linear.items() if name.startswith("blocks.")}
    if _count(convolutions) >= _count(linear):
        return convolutions
    mixed = convolutions | linear
    return {name: w for name, w in mixed.items() if not name.startswith(_ENDS)}


def _weights_of(backbone: nn.Module, kind: type[nn.Conv2d | nn.Linear]) -> dict[str, Tensor]:
    return {
        f"{name}.weight": layer.weight
        for name, layer in backbone.named_modules()
        if isinstance(layer, kind)
    }


def _count(weights: dict[str, Tensor]) -> int:
    return sum(weight.numel() for weight in weights.values())


@torch.no_grad()
def magnitude_mask(weights: Sequence[Tensor], *, prune_ratio: float) -> Tensor:
    """Which weights stay when the smallest are pruned, over all layers at once.

    With P weights in all, `n = ceil(p P)` and `threshold = sort(|w|)[min(n, P-1)]`: a weight stays
    if `|w| >= threshold`, ties included, as in SDCLR's released code. A pure function of the
    weights, so every rank finds the same mask.

    Args:
        weights: tensors of any shapes, one dtype and one device.
        prune_ratio: `p` in [0, 1].

    Returns:
        (P,) bool, the flattened weights in their order.
    """
    magnitudes = torch.cat([w.detach().abs().flatten() for w in weights])
    total = magnitudes.numel()
    num_pruned = math.ceil(prune_ratio * total)
    return magnitudes >= magnitudes.kthvalue(min(num_pruned, total - 1) + 1).values


@torch.no_grad()
def pruned_copy(backbone: nn.Module, *, prune_ratio: float) -> nn.Module:
    """A copy without the smallest of the `prunable_weights`; its norms stay as they are.

    Args:
        backbone: with weights that can be pruned.
        prune_ratio: share of them that become 0.
    """
    pruned = copy.deepcopy(backbone)
    weights = list(prunable_weights(pruned).values())
    mask = magnitude_mask(weights, prune_ratio=prune_ratio)
    parts = mask.split_with_sizes([w.numel() for w in weights])
    for weight, kept in zip(weights, parts, strict=True):
        weight.mul_(kept.view_as(weight))
    return pruned


class PrunedTwin(nn.Module):
    """The branch that borrows a network's weights and owns its norms.

    SDCLR keeps two sets of batch norms, affine parameters as well as running statistics, in
    backbone and projector; everything else is shared, and gradients of both branches add up in
    it. A pruned weight takes its gradient from the dense branch alone. Layer norms, which have no
    running statistics, are its own as well.

    Args:
        backbone: dense network, whose norms are copied as they stand.
        projector: its projector; likewise.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.backbone_norms, self._backbone_names = _own_norms(backbone)
        self.projector_norms, self._projector_names = _own_norms(projector)

    def forward(
        self, x: Tensor, mask: Tensor, *, backbone: nn.Module, projector: nn.Module
    ) -> Tensor:
        """Projections of the pruned network.

        Args:
            x: (B, 3, H, W) images.
            mask: (P,) bool from `magnitude_mask` over `prunable_weights(backbone)`.
            backbone: whose weights are borrowed, the one this twin was made for.
            projector: likewise; it is not pruned.

        Returns:
            (B, D) projections, any norm.
        """
        weights = prunable_weights(backbone)
        parts = mask.split_with_sizes([w.numel() for w in weights.values()])
        pruned = {
            name: w * part.view_as(w)
            for (name, w), part in zip(weights.items(), parts, strict=True)
        }
        norms = _tensors(self._backbone_names, self.backbone_norms)
        features = functional_call(backbone, pruned | norms, x)
        norms = _tensors(self._projector_names, self.projector_norms)
        return cast(Tensor, functional_call(projector, norms, features))


def _own_norms(module: nn.Module) -> tuple[nn.ModuleList, list[str]]:
    """Copies of a module's norms, and the names the originals have."""
    found: list[tuple[str, nn.Module]] = [*batch_norms(module)]
    kinds = (nn.LayerNorm, nn.RMSNorm)
    found += [(name, m) for name, m in module.named_modules() if isinstance(m, kinds)]
    norms = nn.ModuleList([copy.deepcopy(norm) for _, norm in found])
    return norms, [name for name, _ in found]


def _tensors(names: list[str], norms: nn.ModuleList) -> dict[str, Tensor]:
    """Parameters and buffers of the twin's norms, under the names of the originals."""
    return {
        f"{name}.{key}": tensor
        for name, norm in zip(names, norms, strict=True)
        for key, tensor in [
            *norm.named_parameters(recurse=False),
            *norm.named_buffers(recurse=False),
        ]
    }
