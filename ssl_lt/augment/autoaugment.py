"""AutoAugment (arXiv:1805.09501), batched: a learned table of pairs of operations.

Magnitudes, signs, fill colour and interpolation are those of the port that the long-tail papers'
codes use, not torchvision's: 10 levels, gray fill, rotation never changes sign, shears are cubic.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lt.augment.pixel_ops import affine_nearest
from ssl_lt.augment.randaugment import (
    OPERATIONS,
    PASSES,
    Pass,
    Slot,
    apply_slot,
    centred_matrices,
)
from ssl_lt.augment.shear import shear_bicubic
from ssl_lt.core.random import draw_id, uniform

PolicyName = Literal["cifar10", "imagenet"]
# Operation, probability, level 0 ... 9; then the same of the second operation.
SubPolicy = tuple[str, float, int, str, float, int]

FILL = 128
_DRAW = draw_id("autoaugment")
_NUMBER = {operation.name: number for number, operation in enumerate(OPERATIONS)}
_GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_ENHANCING = ("Color", "Contrast", "Brightness", "Sharpness")
_SIGNED = (*_GEOMETRIC[:4], *_ENHANCING)
# Value at level 0 and at level 9: slope, fraction of the side, degrees, kept bits, first inverted
# value, distance of the blending factor from 1. Operations that are missing here have no value.
_RANGES = {
    "ShearX": (0.0, 0.3),
    "ShearY": (0.0, 0.3),
    "TranslateX": (0.0, 150 / 331),
    "TranslateY": (0.0, 150 / 331),
    "Rotate": (0.0, 30.0),
    "Posterize": (8.0, 4.0),
    "Solarize": (256.0, 0.0),
    **dict.fromkeys(_ENHANCING, (0.0, 0.9)),
}

POLICIES: dict[PolicyName, tuple[SubPolicy, ...]] = {
    "cifar10": (
        ("Invert", 0.1, 7, "Contrast", 0.2, 6),
        ("Rotate", 0.7, 2, "TranslateX", 0.3, 9),
        ("Sharpness", 0.8, 1, "Sharpness", 0.9, 3),
        ("ShearY", 0.5, 8, "TranslateY", 0.7, 9),
        ("AutoContrast", 0.5, 8, "Equalize", 0.9, 2),
        ("ShearY", 0.2, 7, "Posterize", 0.3, 7),
        ("Color", 0.4, 3, "Brightness", 0.6, 7),
        ("Sharpness", 0.3, 9, "Brightness", 0.7, 9),
        ("Equalize", 0.6, 5, "Equalize", 0.5, 1),
        ("Contrast", 0.6, 7, "Sharpness", 0.6, 5),
        ("Color", 0.7, 7, "TranslateX", 0.5, 8),
        ("Equalize", 0.3, 7, "AutoContrast", 0.4, 8),
        ("TranslateY", 0.4, 3, "Sharpness", 0.2, 6),
        ("Brightness", 0.9, 6, "Color", 0.2, 8),
        ("Solarize", 0.5, 2, "Invert", 0.0, 3),
        ("Equalize", 0.2, 0, "AutoContrast", 0.6, 0),
        ("Equalize", 0.2, 8, "Equalize", 0.6, 4),
        ("Color", 0.9, 9, "Equalize", 0.6, 6),
        ("AutoContrast", 0.8, 4, "Solarize", 0.2, 8),
        ("Brightness", 0.1, 3, "Color", 0.7, 0),
        ("Solarize", 0.4, 5, "AutoContrast", 0.9, 3),
        ("TranslateY", 0.9, 9, "TranslateY", 0.7, 9),
        ("AutoContrast", 0.9, 2, "Solarize", 0.8, 3),
        ("Equalize", 0.8, 8, "Invert", 0.1, 3),
        ("TranslateY", 0.7, 9, "AutoContrast", 0.9, 1),
    ),
    "imagenet": (
        ("Posterize", 0.4, 8, "Rotate", 0.6, 9),
        ("Solarize", 0.6, 5, "AutoContrast", 0.6, 5),
        ("Equalize", 0.8, 8, "Equalize", 0.6, 3),
        ("Posterize", 0.6, 7, "Posterize", 0.6, 6),
        ("Equalize", 0.4, 7, "Solarize", 0.2, 4),
        ("Equalize", 0.4, 4, "Rotate", 0.8, 8),
        ("Solarize", 0.6, 3, "Equalize", 0.6, 7),
        ("Posterize", 0.8, 5, "Equalize", 1.0, 2),
        ("Rotate", 0.2, 3, "Solarize", 0.6, 8),
        ("Equalize", 0.6, 8, "Posterize", 0.4, 6),
        ("Rotate", 0.8, 8, "Color", 0.4, 0),
        ("Rotate", 0.4, 9, "Equalize", 0.6, 2),
        ("Equalize", 0.0, 7, "Equalize", 0.8, 8),
        ("Invert", 0.6, 4, "Equalize", 1.0, 8),
        ("Color", 0.6, 4, "Contrast", 1.0, 8),
        ("Rotate", 0.8, 8, "Color", 1.0, 2),
        ("Color", 0.8, 8, "Solarize", 0.8, 7),
        ("Sharpness", 0.4, 7, "Invert", 0.6, 8),
        ("ShearX", 0.6, 5, "Equalize", 1.0, 9),
        ("Color", 0.4, 0, "Equalize", 0.6, 3),
        ("Equalize", 0.4, 7, "Solarize", 0.2, 4),
        ("Solarize", 0.6, 5, "AutoContrast", 0.6, 5),
        ("Invert", 0.6, 4, "Equalize", 1.0, 8),
        ("Color", 0.6, 4, "Contrast", 1.0, 8),
        ("Equalize", 0.8, 8, "Equalize", 0.6, 3),
    ),
}


def value_at(name: str, level: int) -> float:
    """Value of an operation at level 0 ... 9, before its sign; Posterize keeps whole bits."""
    low, high = _RANGES.get(name, (0.0, 0.0))
    value = low + (high - low) * level / 9
    return float(round(value)) if name == "Posterize" else value


def _shear(images: Tensor, slot: Slot) -> Tensor:
    slopes = (torch.where(slot.operation == _NUMBER[n], slot.value, 0.0) for n in _SHEARS)
    return shear_bicubic(images, *slopes, fill=FILL)


def _move(images: Tensor, slot: Slot) -> Tensor:
    return affine_nearest(images, centred_matrices(images, slot), fill=FILL)


# Geometry as Pillow does it with a gray fill, the rest as RandAugment has it.
_SHEARS = ("ShearX", "ShearY")
_PASSES: tuple[Pass, ...] = (
    (_shear, _NUMBER["ShearX"], _NUMBER["ShearY"]),
    (_move, _NUMBER["TranslateX"], _NUMBER["Rotate"]),
    *(entry for entry in PASSES if entry[1] > _NUMBER["Rotate"]),
)


def apply_operations(images: Tensor, slot: Slot) -> Tensor:
    """Applies each sample's operation, as Pillow does with a gray fill.

    Args:
        images: (B, 3, H, W) uint8.
        slot: of the same samples; the blending factor of the enhancing operations is the value.

    Returns:
        (B, 3, H, W) uint8; where the operation is -1 the sample is unchanged.
    """
    return apply_slot(images, slot, _PASSES)


class AutoAugment(nn.Module):
    """One sub-policy a sample, uniformly; each of its two operations with its probability.

    Args:
        policy: for which data the table was learned.
    """

    operation: Tensor
    probability: Tensor
    value: Tensor
    neutral: Tensor
    signed: Tensor

    def __init__(self, policy: PolicyName) -> None:
        super().__init__()
        pairs = [[row[:3], row[3:]] for row in POLICIES[policy]]

        def table(name: str, number: list[list[float]]) -> None:
            rows = torch.tensor(number, dtype=torch.float64)
            self.register_buffer(name, rows, persistent=False)

        table("operation", [[_NUMBER[str(o[0])] for o in pair] for pair in pairs])
        table("probability", [[float(o[1]) for o in pair] for pair in pairs])
        table("value", [[value_at(str(o[0]), int(o[2])) for o in pair] for pair in pairs])
        # An enhancing factor lies on either side of 1, a slope or a distance of 0.
        table("neutral", [[float(o[0] in _ENHANCING) for o in pair] for pair in pairs])
        table("signed", [[float(o[0] in _SIGNED) for o in pair] for pair in pairs])

    def draw(self, keys: Tensor) -> list[Slot]:
        """What is done to each sample: two slots, to be applied one after the other.

        Args:
            keys: (B,) of the view.
        """
        which, *draws = uniform(keys, _DRAW, 5).double().unbind(1)
        row = (which * len(self.operation)).long()
        slots = []
        for number, (whether, sign) in enumerate(zip(draws[:2], draws[2:], strict=True)):
            applied = whether < self.probability[row, number]
            operation = torch.where(applied, self.operation[row, number].long(), -1)
            flip = 1 - 2 * self.signed[row, number] * (sign < 0.5)
            value = self.neutral[row, number] + flip * self.value[row, number]
            slots.append(Slot(operation, value, torch.zeros_like(value)[:, None].expand(-1, 2)))
        return slots

    def forward(self, images: Tensor, keys: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 of the same."""
        for slot in self.draw(keys):
            images = apply_operations(images, slot)
        return images
