"""Checkpoints that are whole or invisible.

A checkpoint is a folder: tensors in safetensors, the rest in JSON, and a manifest with size and
SHA-256 of each file. It is written under a temporary name, synced, verified and only then renamed;
older ones go after that. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ssl_lt.core.disk.files import file_sha256, sync_path
from ssl_lt.core.errors import CheckpointError, DiskError
from ssl_lt.core.version import __version__

FORMAT_VERSION = 1
AVERAGE = "ema"  # stem of the file with averaged weights; "model" has those that are trained
_MANIFEST = "manifest.json"
_STATE = "state.json"
_NAME = re.compile(r"step-(\d{6,})")
# What a damaged or crafted JSON file makes the reader and the look-ups in it raise.
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on.

    Attributes:
        step: optimiser steps taken.
        state: JSON-serialisable: position, digests, optimiser numbers.
        tensors: file stem ("model", "optimizer", "memory", "ema") -> name -> tensor.
        kept_step: of an earlier one that is not removed when this one is saved.
    """

    step: int
    state: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]
    kept_step: int | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes `folder/step-000123`, then removes older ones.

    The newest `keep` (at least 2) stay, and a kept one.

    Raises:
        DiskError: the disk is full or may not be written; nothing half written stays.
    """
    target = folder_of(folder, checkpoint.step)
    temporary = folder / f".tmp-{target.name}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        temporary.mkdir()
        for stem, tensors in checkpoint.tensors.items():
            # safetensors refuses tensors that are not dense in row order.
            dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(dense, temporary / f"{stem}.safetensors")
        (temporary / _STATE).write_text(json.dumps(checkpoint.state, indent=1))
        _write_manifest(temporary, checkpoint.step)
        _verify(temporary)
        if target.exists():  # a damaged one that an earlier resume passed over
            _remove(target)
        temporary.rename(target)
        sync_path(folder)
    except (OSError, SafetensorError, RuntimeError, CheckpointError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        needed = sum(t.nbytes for tensors in checkpoint.tensors.values() for t in tensors.values())
        raise DiskError(
            f"{target}: checkpoint of {needed:,} bytes not written "
            f"({shutil.disk_usage(folder.parent).free:,} are free): {error}"
        ) from error
    for old in _folders(folder)[max(2, keep) :]:
        if checkpoint.kept_step is None or old != folder_of(folder, checkpoint.kept_step):
            _remove(old)
    return target


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads one checkpoint folder after verifying every file of it.

    Raises:
        CheckpointError: names the file that is missing, cut, changed, of a newer format or, with a
            digest that is right, not what it should hold.
    """
    step, files = _verify(path)
    tensors = {}
    for name in files:
        file = path / name
        try:
            if name.endswith(".safetensors"):
                tensors[name.removesuffix(".safetensors")] = load_file(file)
            elif name == _STATE:
                state = dict(json.loads(file.read_text(encoding="utf-8")))
        except (*_UNREADABLE, SafetensorError) as error:
            raise CheckpointError(f"{file}: cannot be read: {error}") from error
    return Checkpoint(step=step, state=state, tensors=tensors)


def newest_checkpoint(folder: Path, warn: Any = print) -> Checkpoint | None:
    """The newest valid checkpoint in a folder; damaged ones are passed over with a warning.

    Raises:
        CheckpointError: there are checkpoints, but every one is damaged.
    """
    damaged: list[str] = []
    for path in _folders(folder):
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        for line in damaged:
            warn(f"warning: {line}; falling back to {path.name}")
        return checkpoint
    if damaged:
        raise CheckpointError(f"no valid checkpoint: {damaged[0]}")
    return None


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors by name and plain numbers."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                numbers[f"{index}.{name}"] = value
    return tensors, numbers


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Puts a saved state back.

    The groups' settings stay: they follow from the configuration. Each tensor takes the memory
    format of its parameter, as it had before it was saved.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    entries: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *numbers.items()]:
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = like_layout(value, parameter)
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(
        {"state": entries, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def like_layout(tensor: Tensor, own: Tensor) -> Tensor:
    """The tensor in the memory format of `own`: sums over it keep their order."""
    return torch.empty_like(own, dtype=tensor.dtype).copy_(tensor)


def folder_of(folder: Path, step: int) -> Path:
    """Of the checkpoint after `step` optimiser steps."""
    return folder / f"step-{step:06d}"


def _folders(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    if not folder.is_dir():
        return []
    found = [(int(m[1]), p) for p in folder.iterdir() if (m := _NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


def _remove(path: Path) -> None:
    """Hides a checkpoint, then deletes it: half deleted, it would be taken for a damaged one."""
    hidden = path.with_name(f".tmp-{path.name}-old")
    try:
        path.rename(hidden)
    except OSError:
        return  # it stays, whole; the next save tries again
    shutil.rmtree(hidden, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(".tmp-step-*"):
        shutil.rmtree(path, ignore_errors=True)


def signed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with a digest of itself, so that damage to it is found too."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True)
    return {**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _write_manifest(folder: Path, step: int) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        sync_path(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    manifest = {
        "format": FORMAT_VERSION,
        "step": step,
        "versions": {"ssl_lt": __version__, "torch": torch.__version__},
        "files": files,
    }
    (folder / _MANIFEST).write_text(json.dumps(signed(manifest), indent=1))
    sync_path(folder / _MANIFEST)
    sync_path(folder)


def _verify(path: Path) -> tuple[int, list[str]]:
    """Step and files, after the manifest and every file have been held against their digests."""
    step, files = _read_manifest(path / _MANIFEST)
    for name, (written_bytes, sha256) in files.items():
        file = path / name
        try:
            if Path(name).name != name or file.is_symlink():
                raise CheckpointError(f"{path / _MANIFEST}: {name!r} is not a file of this folder")
            if not file.is_file():
                raise CheckpointError(f"{file}: missing")
            size = file.stat().st_size
            if size != written_bytes:
                raise CheckpointError(f"{file}: {size} bytes, {written_bytes} were written")
            if file_sha256(file) != sha256:
                raise CheckpointError(f"{file}: content has changed since it was written")
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    return step, list(files)


def _read_manifest(path: Path) -> tuple[int, dict[str, tuple[int, str]]]:
    """Step, and file name -> (bytes, SHA-256)."""
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = int(plain["format"])
        if version > FORMAT_VERSION:
            raise CheckpointError(f"{path}: format {version}, this reads up to {FORMAT_VERSION}")
        if signed(plain) != plain:
            raise CheckpointError(f"{path}: content has changed since it was written")
        files = {n: (int(e["bytes"]), str(e["sha256"])) for n, e in plain["files"].items()}
        step = int(plain["step"])
    except CheckpointError:
        raise
    except _UNREADABLE as error:
        raise CheckpointError(f"{path}: not a readable manifest ({error})") from error
    if _STATE not in files:
        raise CheckpointError(f"{path}: lists no {_STATE}")
    if _NAME.fullmatch(path.parent.name) and path.parent != folder_of(path.parent.parent, step):
        raise CheckpointError(f"{path}: is of step {step}, not {path.parent.name}")
    return step, files
