"""The boosted view: SimCLR's view, then RandAugment as strong as each sample's weight says.

Boosted Contrastive Learning (BCL, arXiv:2205.12693) augments samples that are memorised late,
which tail samples are, more strongly. With w in [0, 1] the weight of a sample, each of k drawn
operations is applied with probability w, at a magnitude that the paper and its released code set
differently, see `StrengthRule`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ssl_lt.augment.randaugment import MAX_MAGNITUDE, RandAugment, apply_slot
from ssl_lt.augment.views import ContrastiveView, PlainView, ViewOptions
from ssl_lt.core.random import draw_id, shared_keys, uniform
from ssl_lt.core.types import ImageSpec

_ZETA = draw_id("boost magnitude")
_CHUNK_VALUES = 1 << 20


StrengthRule = Literal["released", "paper"]


def magnitudes(strength: Tensor, zeta: Tensor, *, rule: StrengthRule, num_ops: int) -> Tensor:
    """Magnitudes (B,) from 0 to 30 of samples with weight w and a zeta ~ U(0, 1).

    The released code has 10 + 20 w for one operation and 5 + 25 w zeta for several. The paper,
    and released code for ImageNet, have 30 w zeta, which reaches down to 0. We start from the
    first: magnitude 0 is not weak. There Contrast, Color, Brightness and Sharpness stand at factor
    0.1 (neutral is magnitude 15), Posterize keeps only 4 bits and Solarize inverts everything; the
    floor keeps away from that, and training steady.

    Args:
        strength: (B,) weights w in [0, 1].
        zeta: (B,) in [0, 1).
        rule: whose.
        num_ops: operations drawn a sample.
    """
    if rule == "paper":
        return MAX_MAGNITUDE * strength * zeta
    if num_ops == 1:
        return 10 + 20 * strength
    return 5 + 25 * strength * zeta


class BoostedView(PlainView):
    """SimCLR's view followed by RandAugment with a strength per sample.

    zeta is drawn once for a sample and epoch, so its views share the magnitude; operations,
    signs and places are drawn for each view. RandAugment works on 8-bit values: a sample that
    gets an operation is rounded first, one that gets none is exactly SimCLR's view.

    Args:
        options: of SimCLR's view.
        images: size and normalisation that the network expects.
        num_ops: operations drawn a sample, k.
        rule: from weight to magnitude.
    """

    def __init__(
        self,
        options: ViewOptions,
        images: ImageSpec,
        *,
        num_ops: int,
        rule: StrengthRule,
    ) -> None:
        super().__init__(images)
        # Normalised by nothing: RandAugment comes first.
        neutral = replace(images, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.contrastive = ContrastiveView(options, neutral)
        self.randaugment = RandAugment(num_ops)
        self.rule = rule

    def forward(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """(B, 3, size, size) normalised views of uint8 images (B, 3, H, W).

        Args:
            images: of any height and width, the same for the batch.
            keys: (B,) int64 from `sample_keys`.
            strength: (B,) in [0, 1], probability and magnitude of RandAugment; None or zeros
                give SimCLR's view exactly.
        """
        return self.normalise(self._boost(self.contrastive(images, keys), keys, strength))

    def after_crop(self, crops: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """The same view where loader workers have already cropped; see `ContrastiveView`."""
        x = self.contrastive.after_crop(crops, keys)
        return self.normalise(self._boost(x, keys, strength))

    def _boost(self, x: Tensor, keys: Tensor, strength: Tensor | None) -> Tensor:
        """Boosts images (B, 3, H, W) in [0, 1], in place."""
        if strength is None:
            return x
        # On a CPU, slices whose temporaries stay in its cache.
        rows = max(1, _CHUNK_VALUES // x[0].numel()) if x.is_cpu else len(x)
        for chunk in zip(*(torch.split(t, rows) for t in (x, keys, strength)), strict=True):
            self._boost_in_place(*chunk)
        return x

    def _boost_in_place(self, x: Tensor, keys: Tensor, strength: Tensor) -> None:
        zeta = uniform(shared_keys(keys), _ZETA)[:, 0]
        magnitude = magnitudes(strength, zeta, rule=self.rule, num_ops=self.randaugment.num_ops)
        images = (x * 255).add_(0.5).to(torch.uint8)
        applied = torch.zeros_like(keys, dtype=torch.bool)
        for slot in self.randaugment.draw(keys, probability=strength, magnitude=magnitude):
            images = apply_slot(images, slot)
            applied = applied | (slot.operation >= 0)
        changed = images.to(x.dtype).div_(255)
        torch.where(applied[:, None, None, None], changed, x, out=x)
