"""What users hand to a loss, refused in one sentence where no loss can use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import ConfigError

Reduction = Literal["mean", "sum", "none"]
# (C,) training images of each class.
Counts: TypeAlias = Tensor | Sequence[int] | Sequence[float] | NDArray[Any]


def checked_reduction(reduction: Reduction) -> Reduction:
    """The reduction itself.

    Raises:
        ConfigError: another word.
    """
    if reduction not in get_args(Reduction):
        raise ConfigError(f"reduction: {reduction!r}, must be mean, sum or none")
    return reduction


def reduced(losses: Tensor, reduction: Reduction) -> Tensor:
    """(B,) losses as they are, or a scalar."""
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def checked_counts(counts: Counts) -> Tensor:
    """(C,) int64, or floating where the counts are.

    Raises:
        ConfigError: other than one number a class, or one that is not finite.
    """
    try:
        found = torch.as_tensor(counts)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"counts: no numbers of training images: {error}") from error
    if found.ndim != 1 or len(found) < 2:
        raise ConfigError(
            f"counts: shape {tuple(found.shape)}, expected one number for each of 2 classes or more"
        )
    odd = torch.nonzero(~found.isfinite()).flatten().tolist()
    if odd:
        raise ConfigError(f"counts: {found[odd[0]].item()} of class {odd[0]} is not finite")
    return found.to(torch.get_default_dtype()) if found.is_floating_point() else found.long()


def checked_logits(
    logits: Tensor, labels: Tensor, *, num_classes: int | None
) -> tuple[Tensor, Tensor]:
    """(B, C) logits in fp32 or float64, and (B,) int64 labels.

    Args:
        logits: (B, C).
        labels: (B,) integers.
        num_classes: C of the counts; None: there are none.

    Raises:
        ConfigError: other shapes or types, or a label outside 0 ... C-1.
    """
    logits = _rows("logits", logits)
    if num_classes is not None and logits.shape[1] != num_classes:
        raise ConfigError(
            f"logits: {logits.shape[1]} classes, but the counts are of {num_classes} classes"
        )
    return logits, checked_labels(labels, len(logits), num_classes=logits.shape[1])


def checked_labels(
    labels: Tensor, num_samples: int, *, num_classes: int | None, name: str = "labels"
) -> Tensor:
    """(B,) int64.

    Args:
        labels: (B,) integers.
        num_samples: B.
        num_classes: C; None: any class from 0 on.
        name: for messages.

    Raises:
        ConfigError: another shape or type, or a label outside the classes.
    """
    if labels.shape != (num_samples,) or labels.is_floating_point() or labels.is_complex():
        raise ConfigError(
            f"{name}: {labels.dtype} of shape {tuple(labels.shape)}, expected {num_samples} "
            "integers, one a sample"
        )
    labels = labels.long()
    # Waits for the device, which a step of `finetune.py` never does: there, the data is checked.
    if num_samples and not torch.compiler.is_compiling():
        low, high = (int(end) for end in torch.aminmax(labels))
        if low < 0 or (num_classes is not None and high >= num_classes):
            most = "..." if num_classes is None else f"... {num_classes - 1}"
            raise ConfigError(f"{name}: {low} to {high}, must be in 0 {most}")
    return labels


def checked_pair(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """Two (B, D) in fp32 or float64.

    Raises:
        ConfigError: other shapes or types.
    """
    z1, z2 = _rows("z1", z1), _rows("z2", z2)
    if z1.shape != z2.shape:
        raise ConfigError(f"z2: shape {tuple(z2.shape)}, expected that of z1, {tuple(z1.shape)}")
    return z1, z2


def checked_prototypes(prototypes: Tensor, width: int, *, num_classes: int | None) -> Tensor:
    """(C, D) in fp32 or float64.

    Args:
        prototypes: (C, D), row j of class j.
        width: D.
        num_classes: C; None: any.

    Raises:
        ConfigError: another shape or type.
    """
    prototypes = _rows("prototypes", prototypes)
    rows = len(prototypes) if num_classes is None else num_classes
    if prototypes.shape != (rows, width):
        raise ConfigError(
            f"prototypes: shape {tuple(prototypes.shape)}, expected {(rows, width)}, one a class"
        )
    return prototypes


def _rows(name: str, values: Tensor) -> Tensor:
    """(B, D) floating; half precision as fp32, in which `finetune.py` compares.

    Raises:
        ConfigError: no matrix of numbers with a point.
    """
    if values.ndim != 2 or not values.is_floating_point():
        raise ConfigError(
            f"{name}: {values.dtype} of shape {tuple(values.shape)}, expected floating numbers, "
            "two-dimensional, one row a sample"
        )
    return values if values.dtype == torch.float64 else values.float()
