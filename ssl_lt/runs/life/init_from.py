"""Where a backbone's weights come from: a run, released weights, a folder, a file, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from safetensors.torch import load_file
from torch import nn

from ssl_lt.core.disk.files import file_sha256
from ssl_lt.core.errors import CheckpointError, ConfigError
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.options import DataOptions
from ssl_lt.engine.checkpoints.chosen import evaluated_weights
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.released import (
    HUB,
    LOCAL,
    TIMM,
    ReleasedModel,
    find_released,
    released_folder,
    timm_names,
    usual_images,
)
from ssl_lt.models.weights import WeightsReport, load_backbone_weights
from ssl_lt.runs.config.budget import Start
from ssl_lt.runs.config.schema import flags, nearest, to_mapping
from ssl_lt.runs.config.stored import read_config
from ssl_lt.runs.life.find import RUNS, folders, newest_run
from ssl_lt.runs.life.place import Moved, moved_options

# A property of the images, which whoever trains on them takes over.
FLIPS = "view.flip-probability"


@dataclass(frozen=True)
class InitSource:
    """What a run starts from.

    Attributes:
        name: what is written into the configuration: a path, the name of released weights, or
            "scratch".
        weights: file with the backbone, None from scratch.
        values: flags that are taken over: the data and network of a run, and how often its views
            were mirrored if that was asked for; the network and the images that released weights
            expect.
        note: a line for the user.
        start: which kind of weights they are.
        license: tag of released weights; "" where none is known.
    """

    name: str
    weights: Path | None
    values: dict[str, Any]
    note: str
    start: Start
    license: str = ""

    @property
    def stem(self) -> str:
        """Last part of the name, for a folder of results."""
        return Path(self.name.rpartition(":")[2]).stem

    def facts(self) -> dict[str, str]:
        """What is recorded of the weights: their name, digest and licence; empty from scratch."""
        if self.weights is None:
            return {}
        facts = {"weights": self.name, "sha256": file_sha256(self.weights)}
        return facts | ({"license": self.license} if self.license else {})


def find_source(
    init_from: str, *, backbone: str | None = None, moved: Moved | None = None
) -> InitSource:
    """Resolves `--init-from`; released weights are downloaded if they are not there yet.

    Args:
        init_from: `auto`, `scratch`, a run, an exported folder, a file, `FILE@BACKBONE`,
            `timm:NAME`, `hf-hub:ORG/NAME` or `local-dir:PATH`.
        backbone: `--backbone`, which says what a plain file is of.
        moved: `--data` and `--data-root`, if they were given: where the images of a run are now, or
            other images; then what chose its own is left.

    Raises:
        ConfigError: nothing is there.
        CheckpointError: a run without a valid checkpoint.
    """
    if init_from == "scratch":
        return InitSource("scratch", None, {}, "from scratch", "scratch")
    if init_from == "auto":
        run = newest_run(["pretrain"])
        if run is None:
            note = f"no pretraining run under {RUNS}/: training from scratch"
            return InitSource("scratch", None, {}, note, "scratch")
        return _of_run(run, moved or Moved())
    if init_from.startswith((TIMM, HUB, LOCAL)):
        return _of_released(find_released(init_from))
    path = Path(init_from)
    if (path / "config.yaml").is_file():
        return _of_run(RunFolder(path), moved or Moved())
    if (path / "config.json").is_file():
        return _of_released(released_folder(path, name=init_from))
    if (path / "model.safetensors").is_file():
        path = path / "model.safetensors"
    of: dict[str, Any] = {}
    if not path.is_file() and "@" in init_from:
        file, _, backbone = init_from.rpartition("@")
        path, of = Path(file), {"backbone": backbone}
    if not path.is_file():
        known = ["auto", "scratch", *map(str, folders()), *timm_names()]
        raise ConfigError(
            f"--init-from: {init_from} is no run, exported folder or weights file, and no name "
            f"such as timm:resnet50{nearest(init_from, known)}"
        )
    images = usual_images(backbone) if backbone else {}
    # What timm knows nothing of is a small network of ours, which nobody has released.
    start: Start = "released" if images else "run"
    return InitSource(init_from, path, of | images, f"from {path}", start)


def start_from(
    backbone: nn.Module,
    source: InitSource,
    model: ModelOptions,
    images: ImageSpec,
    *,
    state: Accelerator | PartialState,
) -> Mapping[str, str]:
    """Loads the backbone in place and says in one line what was taken, and what it expects.

    Args:
        backbone: built from `model` and the size of the images.
        source: of the weights.
        model: of the backbone.
        images: what it sees.
        state: of the processes; the first one prints.

    Returns:
        The facts to record, see `InitSource`.

    Raises:
        CheckpointError, ConfigError: as `load_weights` says.
    """
    report = load_weights(backbone, source, model, image_size=images.size)
    note = "" if report is None else f": {report}; {_describe_images(model, images)}"
    state.print(source.note + note, flush=True)
    return source.facts()


def _describe_images(model: ModelOptions, images: ImageSpec) -> str:
    """What a network sees, on one line."""
    mean, std = (" ".join(f"{v:.3g}" for v in values) for values in (images.mean, images.std))
    size = f"{images.size} pixels ({images.interpolation})"
    return f"{model.backbone} sees {size}, mean {mean}, std {std}"


def load_weights(
    backbone: nn.Module, source: InitSource, model: ModelOptions, *, image_size: int
) -> WeightsReport | None:
    """Loads the backbone in place; None from scratch.

    Experts that start from a plain network take from it what they share.

    Args:
        backbone: built from `model` and the image size.
        source: of the weights.
        model: of the backbone, for timm's conversion of weights that do not fit as they are.
        image_size: in pixels.

    Raises:
        CheckpointError: too few tensors match, or some have another shape.
        ConfigError: experts of a plain network would stay as they were drawn.
    """
    if source.weights is None:
        return None
    from ssl_lt.models.backbones import converted  # imports timm, which takes seconds

    convert = partial(converted, options=model, image_size=image_size)
    try:
        return load_backbone_weights(backbone, source.weights, convert=convert)
    except CheckpointError:
        shared = getattr(backbone, "shared_part", None)
        if shared is None:
            raise
    report = load_backbone_weights(shared(), source.weights)
    if not all(parameter.requires_grad for parameter in backbone.parameters()):
        raise ConfigError(f"--tune: {source.name} has no experts whose weights could be kept")
    return report


def load_classifier(classifier: nn.Module, source: InitSource) -> None:
    """Loads the classifier of a fine-tuned run in place.

    Raises:
        ConfigError: what one starts from is no run.
        CheckpointError: it has no classifier, or one of another shape.
    """
    if source.weights is None or not (Path(source.name) / "config.yaml").is_file():
        raise ConfigError(f"--init-classifier: {source.name} is no fine-tuned run")
    start = "classifier."
    saved = {
        name.removeprefix(start): tensor
        for name, tensor in load_file(source.weights).items()
        if name.startswith(start)
    }
    target = classifier.state_dict()
    if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in target.items()}:
        raise CheckpointError(
            f"--init-classifier: {source.name} has no classifier of the same kind and classes"
        )
    classifier.load_state_dict(saved)


def _of_run(run: RunFolder, moved: Moved) -> InitSource:
    weights, step = evaluated_weights(run.checkpoints)
    taken = {flag.name for options in (DataOptions(), ModelOptions()) for flag in flags(options)}
    stored = read_config(run.config)
    values = {name: value for name, value in stored.values.items() if name in taken}
    if stored.verb != "evaluate":
        images = moved_options(run, moved)
        values |= to_mapping(images)
        flips = stored.values.get(FLIPS)
        if flips is not None and images == moved_options(run, replace(moved, data=None)):
            values[FLIPS] = flips
    return InitSource(str(run.path), weights, values, f"from {run.path}, step {step}", "run")


def _of_released(model: ReleasedModel) -> InitSource:
    arguments = dict(model.arguments)
    values: dict[str, Any] = {"backbone": model.backbone, **model.images}
    if (width := arguments.pop("width", None)) is not None:
        values["width"] = width
    if arguments:
        values["model-kwargs"] = [f"{name}={value!r}" for name, value in arguments.items()]
    note = f"from {model.name}" + (f" ({model.license})" if model.license else "")
    start: Start = "run" if model.backbone.endswith("_cifar") else "released"
    return InitSource(model.name, model.file(), values, note, start, model.license)
