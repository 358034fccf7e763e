"""RandAugment with the operations, ranges and roundings of the released BCL code, batched.

In a slot every sample has an operation of its own. Operations that can share one pass over the
pixels do: five are one affine map, five are one table of values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from ssl_lt.augment.pixel_ops import (
    affine_nearest,
    autocontrast,
    blend,
    contrast_centre,
    cut_out,
    equalize,
    look_up,
    saturate,
    sharpen,
)
from ssl_lt.core.random import draw_id, uniform

MAX_MAGNITUDE = 30.0
_DRAW = draw_id("randaugment")


@dataclass(frozen=True)
class Slot:
    """What one slot does to each sample.

    Attributes:
        operation: (B,) int64, number in `OPERATIONS`; -1 where nothing is done.
        value: (B,) float64 in the operation's unit, with its sign.
        centre: (B, 2) float64 in [0, 1), where Cutout cuts: fractions of width and height.
    """

    operation: Tensor
    value: Tensor
    centre: Tensor

    def rows(self, index: Tensor) -> Slot:
        """The slot of some of the samples."""
        return Slot(self.operation[index], self.value[index], self.centre[index])


def centred_matrices(images: Tensor, slot: Slot) -> Tensor:
    """(B, 2, 3) maps of shears, translations and rotations, for `affine_nearest`."""
    height, width = images.shape[-2:]

    def amount(name: str) -> Tensor:
        return torch.where(slot.operation == _NUMBER[name], slot.value, 0.0)

    # A positive angle turns counter-clockwise about the image's centre.
    angle = torch.deg2rad(amount("Rotate"))
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = width / 2, height / 2
    matrices = [
        cos,
        amount("ShearX") - sin,
        amount("TranslateX") * width + (sin * y - cos * x + x),
        amount("ShearY") + sin,
        cos,
        amount("TranslateY") * height + (-sin * x - cos * y + y),
    ]
    return torch.stack(matrices, 1).view(-1, 2, 3)


def _move(images: Tensor, slot: Slot) -> Tensor:
    return affine_nearest(images, centred_matrices(images, slot))


def _map_values(images: Tensor, slot: Slot) -> Tensor:
    kind, value = slot.operation[:, None, None], slot.value[:, None, None]
    ramp = torch.arange(256, dtype=torch.uint8, device=images.device)[None, None]
    # To invert is to solarize from 0 on, and brightness is contrast about black.
    first_inverted = value.masked_fill(kind == _NUMBER["Invert"], 0)
    tables = torch.where(ramp < first_inverted, ramp, 255 - ramp)
    kept_bits = (256 - torch.exp2(8 - value.clamp(1, 8).floor())).to(torch.uint8)
    tables = torch.where(kind == _NUMBER["Posterize"], ramp & kept_bits, tables)
    is_contrast, is_brightness = kind == _NUMBER["Contrast"], kind == _NUMBER["Brightness"]
    centre = contrast_centre(images).masked_fill(is_brightness, 0)
    blended = blend(centre, ramp, slot.value)
    return look_up(images, torch.where(is_contrast | is_brightness, blended, tables))


def _autocontrast(images: Tensor, slot: Slot) -> Tensor:
    return autocontrast(images)


def _equalize(images: Tensor, slot: Slot) -> Tensor:
    return equalize(images)


def _color(images: Tensor, slot: Slot) -> Tensor:
    return saturate(images, slot.value)


def _sharpness(images: Tensor, slot: Slot) -> Tensor:
    return sharpen(images, slot.value)


def _cutout(images: Tensor, slot: Slot) -> Tensor:
    height, width = images.shape[-2:]
    x, y = slot.centre.unbind(1)
    return cut_out(images, slot.value * width, torch.stack([x * width, y * height], 1))


@dataclass(frozen=True)
class Operation:
    """One of the operations.

    Attributes:
        name: as in the released code.
        minimum, maximum: value at magnitude 0 and at magnitude 30: slope for the shears, fraction
            of the image's side for TranslateX, TranslateY and Cutout, degrees for Rotate, first
            inverted value for Solarize, kept bits for Posterize, blending factor for Contrast,
            Brightness, Color and Sharpness (where 1 changes nothing). The others have no value.
        change: the pass it is part of; operations of one pass stand side by side in the table.
        signed: whether the value's sign is drawn, each with probability 1/2.
    """

    name: str
    minimum: float
    maximum: float
    change: Callable[[Tensor, Slot], Tensor]
    signed: bool = False


OPERATIONS = (
    Operation("ShearX", 0.0, 0.6, _move, signed=True),
    Operation("ShearY", 0.0, 0.6, _move, signed=True),
    Operation("TranslateX", 0.0, 0.66, _move, signed=True),
    Operation("TranslateY", 0.0, 0.66, _move, signed=True),
    Operation("Rotate", 0.0, 60.0, _move, signed=True),
    Operation("Invert", 0.0, 1.0, _map_values),
    Operation("Solarize", 0.0, 110.0, _map_values),
    Operation("Posterize", 4.0, 8.0, _map_values),
    Operation("Contrast", 0.1, 1.9, _map_values),
    Operation("Brightness", 0.1, 1.9, _map_values),
    Operation("AutoContrast", 0.0, 1.0, _autocontrast),
    Operation("Equalize", 0.0, 1.0, _equalize),
    Operation("Color", 0.1, 1.9, _color),
    Operation("Sharpness", 0.1, 1.9, _sharpness),
    Operation("Cutout", 0.0, 0.4, _cutout),
)
_NUMBER = {operation.name: number for number, operation in enumerate(OPERATIONS)}
# A pass and the numbers of its first and last operation.
Pass = tuple[Callable[[Tensor, Slot], Tensor], int, int]
PASSES: tuple[Pass, ...] = tuple(
    (change, _NUMBER[group[0].name], _NUMBER[group[-1].name])
    for change, members in groupby(OPERATIONS, key=lambda operation: operation.change)
    for group in [list(members)]
)


def apply_slot(images: Tensor, slot: Slot, passes: Sequence[Pass] = PASSES) -> Tensor:
    """Applies each sample's operation.

    Args:
        images: (B, 3, H, W) uint8.
        slot: of the same samples.
        passes: what is done, in the order of `OPERATIONS`, all of them.

    Returns:
        (B, 3, H, W) uint8, a new tensor; where the operation is -1 the sample is unchanged.
    """
    # On a CPU a pass sees only its own samples. Elsewhere the host would have to wait for their
    # number, so there each pass sees all samples and shapes are fixed.
    if images.is_cpu:
        return _apply_grouped(images, slot, passes)
    return _apply_masked(images, slot, passes)


def _apply_grouped(images: Tensor, slot: Slot, passes: Sequence[Pass]) -> Tensor:
    order = slot.operation.argsort(stable=True)
    counts = torch.bincount(slot.operation + 1, minlength=len(OPERATIONS) + 1).tolist()
    sizes = [sum(counts[first + 1 : last + 2]) for _, first, last in passes]
    unchanged, *groups = torch.split(order, [counts[0], *sizes])
    parts = [images.index_select(0, unchanged)]
    for (change, _, _), rows in zip(passes, groups, strict=True):
        if len(rows) > 0:
            parts.append(change(images.index_select(0, rows), slot.rows(rows)))
    return torch.cat(parts).index_select(0, order.argsort())


def _apply_masked(images: Tensor, slot: Slot, passes: Sequence[Pass]) -> Tensor:
    for change, first, last in passes:
        mine = (slot.operation >= first) & (slot.operation <= last)
        images = torch.where(mine[:, None, None, None], change(images, slot), images)
    return images


class RandAugment(nn.Module):
    """Draws operations with replacement and applies each or not, on its own.

    Args:
        num_ops: operations drawn a sample, k in the papers.
    """

    ranges: Tensor

    def __init__(self, num_ops: int) -> None:
        super().__init__()
        self.num_ops = num_ops
        rows = [(o.minimum, o.maximum, -1.0 if o.signed else 1.0) for o in OPERATIONS]
        ranges = torch.tensor(rows, dtype=torch.float64)
        self.register_buffer("ranges", ranges, persistent=False)

    def draw(self, keys: Tensor, *, probability: Tensor, magnitude: Tensor) -> list[Slot]:
        """What is done to each sample.

        Args:
            keys: (B,) of the view.
            probability: (B,) that a drawn operation is applied.
            magnitude: (B,) from 0 to 30; value = magnitude / 30 (maximum - minimum) + minimum.

        Returns:
            `num_ops` slots, to be applied one after the other.
        """
        slots = []
        for drawn in torch.split(uniform(keys, _DRAW, 5 * self.num_ops), 5, dim=1):
            which, whether, sign, *centre = drawn.double().unbind(1)
            operation = (which * len(OPERATIONS)).long()
            minimum, maximum, flipped = self.ranges[operation].unbind(1)
            value = magnitude.double() / MAX_MAGNITUDE * (maximum - minimum) + minimum
            value = torch.where(sign < 0.5, value, flipped * value)
            operation = torch.where(whether < probability, operation, -1)
            slots.append(Slot(operation, value, torch.stack(centre, 1)))
        return slots
