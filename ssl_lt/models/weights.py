"""Weights for a backbone from checkpoints that others wrote, wherever they stand in the file."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_lt.core.errors import CheckpointError, first_line
from ssl_lt.models.tuning.merge import merged_state, place_of

# Of several networks in one file that all fit: the one that is meant to be used comes first.
PREFERRED = ("ema", "teacher", "encoder_q", "base_encoder", "backbone", "student")
MIN_MATCHED_SHARE = 0.9
_POINTER = b"version https://git-lfs"  # how a file begins that stands for another
_NUM_SHOWN = 3
_MAX_DEPTH = 3
_NUM_TRIED = 2  # places in a file that are converted: each builds the network anew

State = Mapping[str, Tensor]
# From tensors as a file names them to those of the backbone that they could be made into.
Convert = Callable[[State], State]


@dataclass(frozen=True)
class WeightsReport:
    """What became of each tensor.

    Attributes:
        matched: keys of the backbone that were loaded.
        missing: keys of the backbone that the file does not have; they keep their values.
        unexpected: keys of the file, as it writes them, that the backbone does not have.
        place: where in the file they stand, such as "teacher: backbone."; "" at its top.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    place: str = ""

    def __str__(self) -> str:
        return (
            f"{len(self.matched)} tensors loaded, {len(self.missing)} missing, "
            f"{len(self.unexpected)} not used" + (f" (from {self.place})" if self.place else "")
        )


@dataclass(frozen=True)
class _Found:
    """Tensors in a file, under the names that the backbone would give them.

    Attributes:
        place: as in `WeightsReport`.
        prefix: that was taken off the names.
        tensors: the renamed ones that have the prefix.
        others: names without it.
        num_matched: how many of them the backbone has.
    """

    place: str
    prefix: str
    tensors: State
    others: tuple[str, ...]
    num_matched: int


def load_backbone_weights(
    backbone: nn.Module, path: Path, *, convert: Convert | None = None
) -> WeightsReport:
    """Loads a backbone's weights from a safetensors or a torch file.

    A torch file is read with `weights_only`, so that it cannot run code. The tensors may stand at
    its top or in a container (`state_dict`, `model`, `teacher` ...), and under any prefix
    (`module.`, `encoder_q.` ...): the place where most of the backbone's names are is taken.
    Nothing is loaded unless all checks pass.

    Args:
        backbone: takes the weights, in place.
        path: file; `.safetensors` by its suffix, anything else is a torch file.
        convert: tried where the tensors do not fit as they are: other names, or position
            embeddings of another image size.

    Returns:
        Which keys matched, are missing, and were not used.

    Raises:
        CheckpointError: a file that is absent or damaged, adapters that cannot be merged, a tensor
            of another shape, or less than 90 % of the backbone's tensors found.
    """
    # What is inserted for light fine-tuning is in no file of others, and merged where it is in one.
    target = {key: t for key, t in backbone.state_dict().items() if place_of(key) is None}
    content = _read(path)
    found = sorted(
        (
            _renamed(name, merged_state(tensors, of=str(path)), target)
            for name, tensors in _containers(content)
        ),
        key=lambda one: (-one.num_matched, _preference(one.place)),
    )
    if not found:
        raise CheckpointError(f"{path}: holds no named tensors{_held(content)}")
    try:
        return _load(backbone, found[0], target, path)
    except CheckpointError as error:
        for one in found[:_NUM_TRIED] if convert is not None else ():
            assert convert is not None
            try:
                candidate = replace(one, tensors=convert(one.tensors))
                return _load(backbone, candidate, target, path)
            except CheckpointError:
                continue
        raise CheckpointError(f"{error}{_held(content)}") from error


def _load(backbone: nn.Module, found: _Found, target: State, path: Path) -> WeightsReport:
    matched = {key: found.tensors[key] for key in target if key in found.tensors}
    _check(matched, target, path)
    backbone.load_state_dict(matched, strict=False)
    unused = tuple(found.prefix + key for key in found.tensors if key not in target)
    return WeightsReport(
        matched=tuple(matched),
        missing=tuple(key for key in target if key not in matched),
        unexpected=(*unused, *found.others),
        place=found.place,
    )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Training scripts keep their arguments beside the weights; a namespace holds plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle makes torch.load raise almost any kind
        raise CheckpointError(
            f"{path}: cannot be read as weights: {_reason(path, error)}"
        ) from error


def _reason(path: Path, error: Exception) -> str:
    """One line; torch's own goes on about how to load what one does not trust."""
    text = str(error)
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            return "it only points to the weights; git lfs pull fetches them"
    if isinstance(error, KeyError):  # a sign of no pickle
        return "it is no file of torch.save"
    if "Unsupported global: GLOBAL " in text:
        name = text.split("Unsupported global: GLOBAL ")[1].split()[0]
        return f"it also holds a {name}; save the tensors alone, torch.save(model.state_dict(), ..)"
    return first_line(error).split("\x1b")[0].strip()


def _containers(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Every mapping in the file that holds tensors, with its dotted name."""
    if not isinstance(content, Mapping) or depth > _MAX_DEPTH:
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield name, tensors
    for key, value in content.items():
        yield from _containers(value, f"{name}.{key}" if name else str(key), depth + 1)


def _renamed(container: str, tensors: State, target: State) -> _Found:
    """The tensors without the prefix under which most of the backbone's names stand."""
    counts: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in target:
                counts["".join(f"{part}." for part in parts[:start])] += 1
    best = max(counts, key=lambda p: (counts[p], -_preference(p), -len(p)), default="")
    kept = {key.removeprefix(best): t for key, t in tensors.items() if key.startswith(best)}
    others = tuple(key for key in tensors if not key.startswith(best))
    place = f"{container}: {best}" if container and best else container or best
    return _Found(place, best, kept, others, counts[best])


def _preference(name: str) -> int:
    """Rank among networks that fit equally well; the smallest is taken."""
    words = name.lower()
    return next((i for i, word in enumerate(PREFERRED) if word in words), len(PREFERRED))


def _held(content: Any) -> str:
    """What a file has instead: its containers and their first names."""
    if not isinstance(content, Mapping):
        return f"; it holds a {type(content).__name__}"
    shown = [
        f"{name + ': ' if name else ''}{len(tensors)} tensors such as {next(iter(tensors))}"
        for name, tensors in _containers(content)
    ]
    if not shown:
        return f"; it holds {', '.join(map(str, list(content)[:_NUM_SHOWN])) or 'nothing'}"
    return f"; it holds {'; '.join(shown[:_NUM_SHOWN])}"


def _check(matched: State, target: State, path: Path) -> None:
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
