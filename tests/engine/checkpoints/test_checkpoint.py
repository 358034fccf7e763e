from __future__ import annotations

import json

import pytest
import torch

from ssl_lt.core.errors import CheckpointError, DiskError
from ssl_lt.engine.checkpoints.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_optimizer_state,
    newest_checkpoint,
    optimizer_state,
    save_checkpoint,
    signed,
)


def checkpoint(step: int) -> Checkpoint:
    torch.manual_seed(step)
    tensors = {"model": {"w": torch.randn(4, 3), "n": torch.tensor(step)}, "memory": {}}
    return Checkpoint(step, {"position": step}, tensors)


def test_what_is_saved_comes_back(tmp_path):
    path = save_checkpoint(tmp_path, checkpoint(7), keep=2)
    found = load_checkpoint(path)
    assert path.name == "step-000007"
    assert found.step == 7
    assert found.state == {"position": 7}
    assert torch.equal(found.tensors["model"]["w"], checkpoint(7).tensors["model"]["w"])
    assert found.tensors["memory"] == {}
    assert [p.name for p in tmp_path.iterdir()] == ["step-000007"]


def test_the_newest_two_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000003", "step-000010"]
    assert newest_checkpoint(tmp_path).step == 10


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_damage_falls_back_with_a_warning(tmp_path, name, damage):
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    file = save_checkpoint(tmp_path, checkpoint(2), keep=2) / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 * (damage == "cut")])
    warnings = []
    assert newest_checkpoint(tmp_path, warn=warnings.append).step == 1
    assert len(warnings) == 1
    assert name in warnings[0]


def test_only_damaged_ones_is_an_error(tmp_path):
    path = save_checkpoint(tmp_path, checkpoint(1), keep=2)
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        newest_checkpoint(tmp_path)
    assert newest_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "sub/file"])
def test_a_manifest_cannot_name_files_elsewhere(tmp_path, name):
    path = save_checkpoint(tmp_path, checkpoint(1), keep=2)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["state.json"]
    (path / "manifest.json").write_text(json.dumps(signed(manifest)))
    with pytest.raises(CheckpointError, match="not a file of this folder"):
        load_checkpoint(path)


def test_a_newer_format_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, checkpoint(1), keep=2)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["format"] = 99
    (path / "manifest.json").write_text(json.dumps(signed(manifest)))
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="file"):
        save_checkpoint(tmp_path / "file", checkpoint(1), keep=2)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_optimiser_state_returns_in_the_parameters_memory_format(kind):
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    options = {"lr": 0.1} | ({"momentum": 0.9} if kind is torch.optim.SGD else {})
    first = kind(net.parameters(), **options)
    net(torch.randn(2, 3, 8, 8)).square().mean().backward()
    first.step()
    tensors, numbers = optimizer_state(first)
    rowwise = {name: tensor.contiguous() for name, tensor in tensors.items()}
    second = kind(net.parameters(), **options)
    load_optimizer_state(second, rowwise, numbers)
    for parameter in net.parameters():
        for name, value in first.state[parameter].items():
            found = second.state[parameter][name]
            if isinstance(value, torch.Tensor):
                assert torch.equal(found, value)
                assert found.stride() == value.stride()
