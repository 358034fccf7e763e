"""Mixing each image with a partner: mixup, CutMix, or one of the two.

Every image draws for itself whether and how it is mixed, from its own key, so that neither the
batch nor the number of processes plays a part. (timm and the released codes draw once a batch;
timm's `mode="elem"` draws as we do.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lt.core.checks import check_range
from ssl_lt.core.options import option
from ssl_lt.core.random import draw_id, uniform

Kind = Literal["none", "mixup", "cutmix", "both", "concutmix"]
Partners = Literal["batch", "class_balanced"]

_MIXING = draw_id("image mixing")
# The distribution of what is drawn from a table is off by at most one interval's probability.
_INTERVALS = 4096


@dataclass(frozen=True)
class MixOptions:
    """How the classified images are mixed; what is None follows from `mix`."""

    mix: Kind = "none"
    """Mix each classified image and its label with a partner's: mixup (arXiv:1710.09412), cutmix
    (arXiv:1905.04899), both (one of the two for each image), or concutmix (cutmix with labels that
    a contrast's prototypes rectify, arXiv:2407.04911)."""
    mix_alpha: float | None = option(None, page="all")
    """The own share of an image is drawn from Beta(alpha, alpha). Default: 0.2 for mixup, 1 for
    cutmix."""
    mix_probability: float | None = option(None, page="all")
    """Share of the images that are mixed. Default: 1; 0.5 with concutmix."""
    mix_partners: Partners | None = option(None, page="all")
    """Where partners come from: batch (the neighbour in the batch), or class_balanced (drawn from
    the training images, every class equally often; a step then reads twice the images). Default:
    batch; class_balanced with concutmix."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        check_range(self, {"mix_alpha": "(0, inf)", "mix_probability": "[0, 1]"})

    @property
    def alphas(self) -> tuple[float, float]:
        """Of mixup and of CutMix."""
        return (self.mix_alpha or 0.2, self.mix_alpha or 1.0)

    @property
    def probability(self) -> float:
        """`mix_probability`, or its default."""
        if self.mix_probability is None:
            return 0.5 if self.mix == "concutmix" else 1.0
        return self.mix_probability

    @property
    def partners(self) -> Partners:
        """`mix_partners`, or its default."""
        return self.mix_partners or ("class_balanced" if self.mix == "concutmix" else "batch")

    def by_area(self) -> MixOptions:
        """The same mixing with labels by area, where nothing is there to rectify them."""
        if self.mix != "concutmix":
            return self
        return replace(
            self, mix="cutmix", mix_probability=self.probability, mix_partners=self.partners
        )

    @property
    def pairs_the_batch(self) -> bool:
        """Partners are images of the batch."""
        return self.mix != "none" and self.partners == "batch"

    @property
    def reads_partners(self) -> bool:
        """A batch has the partners behind its images."""
        return self.mix != "none" and self.partners == "class_balanced"


def beta_quantiles(alpha: float) -> Tensor:
    """(N + 1,) quantiles 0, 1/N ... 1 of Beta(alpha, alpha), float64."""
    from scipy.special import betaincinv  # only where images are mixed

    steps = torch.linspace(0, 1, _INTERVALS + 1, dtype=torch.float64)
    return torch.from_numpy(betaincinv(alpha, alpha, steps.numpy()))


def from_quantiles(quantiles: Tensor, u: Tensor) -> Tensor:
    """Draws of the distribution that a table is of, by its piecewise linear inverse CDF.

    Args:
        quantiles: (N + 1,), as `beta_quantiles` gives.
        u: (B,) in [0, 1).

    Returns:
        (B,) of the table's type.
    """
    place = u.to(quantiles.dtype) * (len(quantiles) - 1)
    below = place.long()
    return torch.lerp(quantiles[below], quantiles[below + 1], place - below)


def pasted_boxes(own_share: Tensor, centres: Tensor, *, height: int, width: int) -> Tensor:
    """Boxes of CutMix: sides `W sqrt(1 - lam)`, `H sqrt(1 - lam)`, clipped at the border.

    As in the released code the centre is a uniform pixel, sides are whole pixels rounded down, and
    a box goes from the centre minus half a side, rounded down, to the centre plus as much.

    Args:
        own_share: (B,) `lam`; 1 gives an empty box.
        centres: (B, 2) in [0, 1): where the centres are, as shares of height and width.
        height: of the images in pixels.
        width: likewise.

    Returns:
        (B, 4) int64: top, left, bottom, right; the last two are not in the box.
    """
    cut = (1 - own_share.double()).sqrt()
    starts, ends = [], []
    for place, extent in zip(centres.double().unbind(1), (height, width), strict=True):
        centre, half = (place * extent).long(), (cut * extent).long() // 2
        starts.append((centre - half).clamp(min=0))
        ends.append((centre + half).clamp(max=extent))
    return torch.stack((*starts, *ends), dim=1)


def outside_boxes(boxes: Tensor, *, height: int, width: int) -> Tensor:
    """(B, H, W) bool: which pixels are in none of `pasted_boxes` (B, 4)."""
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    rows, columns = (torch.arange(n, device=boxes.device) for n in (height, width))
    in_rows = (rows >= top) & (rows < bottom)
    in_columns = (columns >= left) & (columns < right)
    return ~(in_rows[:, :, None] & in_columns[:, None, :])


class Mixer(nn.Module):
    """`w x + (1 - w) x'` of images x and their partners x', with the share of x in each.

    Mixup: `w = lam ~ Beta(alpha, alpha)` (arXiv:1710.09412). CutMix: `w` is 0 in a box of about
    `1 - lam` of the pixels, else 1, and the share is the part of the pixels outside the clipped box
    (arXiv:1905.04899).

    Args:
        options: with a kind that mixes.
    """

    mixup_quantiles: Tensor
    cutmix_quantiles: Tensor

    def __init__(self, options: MixOptions) -> None:
        super().__init__()
        self.kind, self.probability = options.mix, options.probability
        self.pairs_the_batch = options.pairs_the_batch
        mixup, cutmix = map(beta_quantiles, options.alphas)
        self.register_buffer("mixup_quantiles", mixup, persistent=False)
        self.register_buffer("cutmix_quantiles", cutmix, persistent=False)

    def partner_rows(self, num_rows: int, *, device: torch.device) -> Tensor:
        """(B,) rows of a batch that its first B are mixed with.

        Within the batch an even row and the one behind it are each other's partners: the pairs
        of an epoch are as random as its order, and stay in one process however a batch is shared.
        Partners that were read are the second half.
        """
        rows = torch.arange(num_rows, device=device)
        return rows ^ 1 if self.pairs_the_batch else rows[num_rows // 2 :]

    def forward(self, images: Tensor, partners: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images and the own share of each.

        Args:
            images: (B, 3, H, W) floating.
            partners: (B, 3, H, W), of each image.
            keys: (B,) int64 from `sample_keys`, of the images.

        Returns:
            (B, 3, H, W), and (B,) float32 in [0, 1].
        """
        height, width = images.shape[-2:]
        draws = uniform(keys, _MIXING, 5)
        is_mixed = draws[:, 0] < self.probability
        is_cut = draws[:, 1] < {"mixup": 0.0, "both": 0.5}.get(self.kind, 1.0)
        u, centres = draws[:, 2], draws[:, 3:]
        lam = torch.where(
            is_cut,
            from_quantiles(self.cutmix_quantiles, u),
            from_quantiles(self.mixup_quantiles, u),
        )
        lam = torch.where(is_mixed, lam, 1.0)
        boxes = pasted_boxes(lam, centres, height=height, width=width)
        outside = outside_boxes(boxes, height=height, width=width)
        w = torch.where(is_cut[:, None, None], outside, lam[:, None, None])[:, None]
        w = w.to(images.dtype)
        share = torch.where(is_cut, outside.double().mean(dim=(1, 2)), lam)
        return w * images + (1 - w) * partners, share.float()
