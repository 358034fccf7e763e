"""Test-time ensembling: the mean of a network's answers to several views of an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ensemble = Literal["none", "flip", "five-crops"]
# Pixels by which an image is enlarged before five crops are cut from it, as in LIFT
# (arXiv:2309.10019).
_MARGIN = 24


class ViewEnsemble(nn.Module):
    """Mean of the logits over views.

    "flip": the image and its mirror image. "five-crops": the image enlarged from S to S + 24
    pixels a side, and of it the four corners and the middle, S pixels each. The views are made of
    what the network would see without them, so they need no second pass over the files.

    Args:
        network: (B, 3, S, S) -> (B, C) logits.
        ensemble: which views.
    """

    def __init__(self, network: nn.Module, ensemble: Ensemble) -> None:
        super().__init__()
        self.network, self.ensemble = network, ensemble

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C) logits."""
        return torch.stack([self.network(view).float() for view in self._views(images)]).mean(dim=0)

    def _views(self, images: Tensor) -> Iterator[Tensor]:
        if self.ensemble != "five-crops":
            yield images
            if self.ensemble == "flip":
                yield images.flip(-1)
            return
        size = images.shape[-1]
        larger = F.interpolate(images, (size + _MARGIN,) * 2, mode="bicubic", antialias=True)
        corners = [(0, 0), (0, _MARGIN), (_MARGIN, 0), (_MARGIN, _MARGIN)]
        for top, left in [*corners, (_MARGIN // 2, _MARGIN // 2)]:
            yield larger[..., top : top + size, left : left + size].contiguous(
                memory_format=torch.channels_last
            )
