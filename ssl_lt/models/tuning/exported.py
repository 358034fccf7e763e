"""Exported folders that plain timm cannot load, because their adapters cannot be merged."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from ssl_lt.models.tuning.registry import TUNINGS

# Key of config.json.
TUNING = "tuning"


def load_exported(folder: Path) -> nn.Module:
    """The network of an exported folder, with adapters or without, in evaluation mode.

    Args:
        folder: written by `ssl-lt export`, or `exported` of a run.
    """
    import timm  # seconds to import

    import ssl_lt.models.backbones  # noqa: F401  (registers our architectures)

    name = f"local-dir:{folder}"
    kind = json.loads((folder / "config.json").read_text("utf-8")).get(TUNING)
    if kind is None:
        plain: nn.Module = timm.create_model(name, pretrained=True)
        return plain.eval()
    network: nn.Module = timm.create_model(name, pretrained=False)
    tensors = load_file(folder / "model.safetensors")
    dim = next(len(t) for key, t in tensors.items() if key.endswith(f"{kind}.down.weight"))
    insert = TUNINGS[kind].insert
    assert insert is not None
    insert(network, network.num_classes, dim)  # type: ignore[arg-type]
    network.load_state_dict(tensors)
    return network.eval()
