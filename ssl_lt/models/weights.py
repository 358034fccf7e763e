"""Weights for a backbone from checkpoints that others wrote, under whatever prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_lt.core.errors import CheckpointError

PREFIXES = ("module.", "backbone.", "encoder.", "encoder_q.", "base_encoder.", "_orig_mod.")
CONTAINERS = ("state_dict", "model")
MIN_MATCHED_SHARE = 0.9
_NUM_SHOWN = 3


@dataclass(frozen=True)
class WeightsReport:
    """What became of each tensor.

    Attributes:
        matched: keys of the backbone that were loaded.
        missing: keys of the backbone that the file does not have; they keep their values.
        unexpected: keys of the file, as it writes them, that the backbone does not have.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.matched)} tensors loaded, {len(self.missing)} missing, "
            f"{len(self.unexpected)} not used"
        )


def load_backbone_weights(backbone: nn.Module, path: Path) -> WeightsReport:
    """Loads a backbone's weights from a safetensors or a torch file.

    A torch file may hold the tensors themselves or under `state_dict` or `model`; it is read with
    `weights_only`, so that it cannot run code. Prefixes such as `module.` or `encoder_q.` are
    taken off. Nothing is loaded unless all checks pass.

    Args:
        backbone: takes the weights, in place.
        path: file; `.safetensors` by its suffix, anything else is a torch file.

    Returns:
        Which keys matched, are missing, and were not used.

    Raises:
        CheckpointError: a file that is absent or damaged, a tensor of another shape, two tensors
            for one key, or less than 90 % of the backbone's tensors found.
    """
    target = backbone.state_dict()
    source = _read(path)
    names: dict[str, str] = {}
    for written in source:
        key = _stripped(written, target)
        if key in names and key in target:
            raise CheckpointError(f"{path}: {names[key]} and {written} are both {key}")
        names[key] = written
    matched = {key: source[names[key]] for key in target if key in names}
    _check(matched, target, path)
    backbone.load_state_dict(matched, strict=False)
    return WeightsReport(
        matched=tuple(matched),
        missing=tuple(key for key in target if key not in matched),
        unexpected=tuple(names[key] for key in names if key not in target),
    )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle makes torch.load raise almost any kind
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as weights: {reason}") from error
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not named tensors")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _stripped(key: str, target: Mapping[str, Tensor]) -> str:
    """`key` without prefixes; a backbone that uses one of them itself keeps it."""
    while key not in target:
        prefix = next((p for p in PREFIXES if key.startswith(p)), None)
        if prefix is None:
            return key
        key = key.removeprefix(prefix)
    return key


def _check(matched: Mapping[str, Tensor], target: Mapping[str, Tensor], path: Path) -> None:
    other = [key for key, tensor in matched.items() if tensor.shape != target[key].shape]
    if other:
        shown = ", ".join(
            f"{key} is {tuple(matched[key].shape)}, expected {tuple(target[key].shape)}"
            for key in other[:_NUM_SHOWN]
        )
        raise CheckpointError(f"{path}: {len(other)} tensors of another shape: {shown}")
    # Old files do not count batches, and nothing depends on that count.
    needed = [key for key in target if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in matched]
    if len(needed) - len(missing) < MIN_MATCHED_SHARE * len(needed):
        raise CheckpointError(
            f"{path}: has {len(needed) - len(missing)} of the backbone's {len(needed)} tensors; "
            f"missing: {', '.join(missing[:_NUM_SHOWN])}"
        )
