"""A backbone as a folder that plain timm loads."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn


def export_backbone(
    backbone: nn.Module,
    folder: Path,
    *,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Writes `model.safetensors` and `config.json`, whole or not at all.

    `timm.create_model(f"local-dir:{folder}", pretrained=True)` gives the backbone back; for our
    own architectures after `import ssl_lt.models.backbones`, which registers their names.

    Args:
        backbone: built by `create_backbone`.
        folder: made anew; an older one is replaced.
        image_size: pixels a side.
        mean: per channel, of pixels in 0 ... 1, that the backbone was trained with.
        std: likewise.
    """
    from timm.models import save_for_hf

    plain = copy.deepcopy(backbone).cpu().to(memory_format=torch.contiguous_format)
    temporary = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    data_config = {"input_size": (3, image_size, image_size), "mean": mean, "std": std}
    save_for_hf(plain, str(temporary), safe_serialization=True, data_config=data_config)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
