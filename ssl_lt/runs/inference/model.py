"""A trained network that is ready for use: what `ssl_lt.load` gives."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from ssl_lt.augment.views import PlainView
from ssl_lt.core.disk.files import file_sha256
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.precision import autocast_dtype
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.images.crops import centre, centre_square, storage_size
from ssl_lt.data.images.decode import as_rgb
from ssl_lt.models.onnx import OnnxNetwork
from ssl_lt.runs.inference.facts import Facts, Temperature


class TrainedModel(nn.Module):
    """A backbone with its classifier and what it expects of its images, in evaluation mode.

    Args:
        backbone: (B, 3, S, S) -> (B, D).
        classifier: (B, D) -> (B, C); None: there is none.
        facts: of the network.
        name: where it is from, for people.
    """

    def __init__(
        self, backbone: nn.Module, classifier: nn.Module | None, facts: Facts, *, name: str
    ) -> None:
        super().__init__()
        self.backbone, self.classifier = backbone, classifier
        self.facts, self.name = facts, name
        self.view = PlainView(facts.images)
        self.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """(C,) in the order of the logits; empty where there are no labels."""
        return self.facts.class_names

    @property
    def counts_per_class(self) -> tuple[int, ...]:
        """(C,) training images of each class."""
        return self.facts.counts_per_class

    @property
    def temperature(self) -> Temperature | None:
        """What to divide logits by for calibrated probabilities; None: never fitted."""
        return self.facts.temperature

    @property
    def images(self) -> ImageSpec:
        """Size, resizing and normalisation of the images."""
        return self.facts.images

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.backbone.parameters()).device

    def transform(self, image: Image.Image) -> Tensor:
        """(3, S, S) float32, normalised, of an image of any size and mode, as in evaluation.

        Raises:
            DataError: pixels that have no known range, such as floating-point ones.
        """
        pixels = to_pixels(as_rgb(image, self.facts.decoding), self.images)
        return self.view.to_network(pixels[None].to(self.device))[0]

    def features(self, images: Tensor) -> Tensor:
        """(B, D) float32 of (B, 3, S, S) images that `transform` made."""
        return self._in_precision(self.backbone, images)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C) logits, float32, of (B, 3, S, S) images that `transform` made.

        Raises:
            ConfigError: there is no classifier.
        """
        if self.classifier is None:
            raise ConfigError(no_classifier(self.name))
        return self._in_precision(nn.Sequential(self.backbone, self.classifier), images)

    @property
    def has_logits(self) -> bool:
        """There is a classifier."""
        return self.classifier is not None

    def sha256(self) -> str:
        """Of all weights and of how images are prepared: equal for equal logits."""
        return _sha256(self, self.images)

    def features_sha256(self) -> str:
        """The same of the backbone alone: equal for equal features."""
        return _sha256(self.backbone, self.images)

    def _in_precision(self, network: nn.Module, images: Tensor) -> Tensor:
        dtype = autocast_dtype(self.facts.precision, self.device)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            return cast(Tensor, network(images)).float()


class OnnxModel(TrainedModel):
    """A file that `ssl-lt export --onnx` wrote, in ONNX Runtime on the CPU.

    Args:
        path: of the file.
        network: that it holds.
        facts: of it.
    """

    def __init__(self, path: Path, network: OnnxNetwork, facts: Facts) -> None:
        super().__init__(nn.Identity(), None, facts, name=str(path))
        self.run = network

    @property
    def has_logits(self) -> bool:
        """The file gives logits."""
        return self.run.metadata.get("output") == "logits"

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def features(self, images: Tensor) -> Tensor:
        """See `TrainedModel`.

        Raises:
            ConfigError: the file gives logits.
        """
        if self.has_logits:
            raise ConfigError(
                f"{self.name}: gives logits and no features; its exported folder does"
            )
        return self.run(images)

    def forward(self, images: Tensor) -> Tensor:
        """See `TrainedModel`."""
        if not self.has_logits:
            raise ConfigError(no_classifier(self.name))
        return self.run(images)

    def sha256(self) -> str:
        """Of the file."""
        return file_sha256(Path(self.name))

    def features_sha256(self) -> str:
        """Of the file."""
        return self.sha256()


def _sha256(network: nn.Module, images: ImageSpec) -> str:
    found = hashlib.sha256(repr(images).encode())
    for key, tensor in sorted(network.state_dict().items()):
        found.update(key.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def to_pixels(image: Image.Image, spec: ImageSpec) -> Tensor:
    """(3, S, S) uint8: the middle of an RGB image, as evaluation cuts it from decoded images."""
    side = storage_size(spec.size, spec.crop)
    square = centre_square(image, size=side, interpolation=spec.interpolation)
    return centre(square[None], size=spec.size)[0]


def no_classifier(name: str) -> str:
    """One line for what can only give features."""
    return f"--run: {name} has no classifier: fine-tune it first, or take ssl-lt embed for features"
