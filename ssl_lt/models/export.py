"""A network as a folder that plain timm loads."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ssl_lt.core.disk.folders import replace_dir_atomically
from ssl_lt.core.errors import NumericError
from ssl_lt.core.types import ImageSpec
from ssl_lt.models.tuning.exported import TUNING
from ssl_lt.models.tuning.merge import has_to_stay, merged

WEIGHTS, CONFIG, CLASSIFIER = "model.safetensors", "config.json", "classifier.safetensors"
# Key of config.json.
ABOUT = "ssl_lt"
# Of the same weights in the same arithmetic; a share of the largest value.
RELOAD_TOLERANCE = 1e-5


def export_backbone(
    backbone: nn.Module,
    folder: Path,
    *,
    images: ImageSpec,
) -> None:
    """Writes `model.safetensors` and `config.json`, whole or not at all.

    `timm.create_model(f"local-dir:{folder}", pretrained=True)` gives the backbone back; for our
    own architectures after `import ssl_lt.models.backbones`, which registers their names. Of one
    with adapters `load_exported` does.

    Args:
        backbone: built by `create_backbone`.
        folder: made anew; an older one is replaced.
        images: what it was trained on.
    """
    with replace_dir_atomically(folder) as temporary:
        save_for_timm(backbone, temporary, images=images)


def save_for_timm(
    network: nn.Module,
    folder: Path,
    *,
    images: ImageSpec,
    class_names: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes weights and configuration into an existing folder, the latter into the weights, too.

    What `--tune` inserted is merged. Adapters, which cannot be, are written beside the weights, and
    `load_exported` reads such a folder.

    Args:
        network: made by timm, on any device; with a classifier or without.
        folder: to write into.
        images: what it was trained on.
        class_names: (C,) of the classifier.
        about: what else to keep in the configuration, under the key `ABOUT`.
    """
    from timm.models import save_for_hf

    plain = merged(network).cpu().to(memory_format=torch.contiguous_format)
    data_config: dict[str, Any] = {
        "input_size": (3, images.size, images.size),
        "mean": images.mean,
        "std": images.std,
        "interpolation": images.interpolation,
        "crop_pct": images.crop,
    }
    model_config: dict[str, Any] = {"label_names": list(class_names)} if class_names else {}
    if (kind := has_to_stay(network)) is not None:
        model_config[TUNING] = kind
    if about is not None:
        model_config[ABOUT] = dict(about)
    save_for_hf(
        plain,
        str(folder),
        model_config=model_config,
        safe_serialization=True,
        data_config=data_config,
    )
    # So that the file can be used where it is alone.
    header = {"format": "pt", CONFIG: (folder / CONFIG).read_text("utf-8")}
    save_file(plain.state_dict(), folder / WEIGHTS, metadata=header)
    _sort_header(folder / WEIGHTS)


def _sort_header(path: Path) -> None:
    """The same weights make the same file: safetensors writes what is said of them in any order."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= length
        file.seek(8)
        file.write(text.ljust(length))


def with_classifier(backbone: nn.Module, classifier: nn.Module) -> nn.Module | None:
    """One network of timm's with the classifier as its last layer.

    Returns:
        A copy in evaluation mode on the CPU; None where the architecture does not allow it: the
        classifier is not one linear layer, or the backbone's own is of another shape.
    """
    if not isinstance(classifier, nn.Linear) or not hasattr(backbone, "reset_classifier"):
        return None
    network: Any = copy.deepcopy(backbone).cpu()
    network.reset_classifier(classifier.out_features)
    last = network.get_classifier()
    if not isinstance(last, nn.Linear) or last.weight.shape != classifier.weight.shape:
        return None
    last.load_state_dict({name: t.cpu() for name, t in classifier.state_dict().items()})
    return cast(nn.Module, network.eval())


def save_classifier(classifier: nn.Module, folder: Path) -> None:
    """Writes `classifier.safetensors`, for a classifier that timm's network has no place for."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in classifier.state_dict().items()}
    save_file(tensors, folder / CLASSIFIER)


def check_same(found: Tensor, expected: Tensor, *, tolerance: float, what: str) -> float:
    """Holds what an exported network says of a batch against what the run's own says.

    Args:
        found: (B, D) or any other shape.
        expected: of the same shape.
        tolerance: for the largest difference, as a share of the largest expected value.
        what: for the message.

    Returns:
        The largest difference as that share.

    Raises:
        NumericError: it is above the tolerance, or a value is not finite.
    """
    if not bool(expected.isfinite().all()):
        raise NumericError("the run's network: an output is not finite, nothing was exported")
    scale = float(expected.abs().max().clamp(min=1e-12))
    difference = float((found - expected).abs().max()) / scale
    if not difference <= tolerance:
        raise NumericError(
            f"{what}: differs from the run's network by {difference:.1e} of the largest output, "
            f"at most {tolerance:.0e} is allowed; nothing was exported"
        )
    return difference
