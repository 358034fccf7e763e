"""Trained networks by where they are: a run, an exported folder or file, released weights."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_lt.core.errors import CheckpointError, ConfigError, first_line
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.options import DataOptions
from ssl_lt.engine.checkpoints.chosen import evaluated_weights
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.checkpoints.state import check_tensors
from ssl_lt.models import onnx
from ssl_lt.models.backbones import build_backbone, feature_dim
from ssl_lt.models.expert_classifiers import ClassifierKind, new_classifier
from ssl_lt.models.export import ABOUT, CLASSIFIER, CONFIG, WEIGHTS
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.released import images_of
from ssl_lt.models.tuning.exported import load_exported
from ssl_lt.models.weights import load_backbone_weights
from ssl_lt.runs.build.finetuning import build_networks
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.parse import from_mapping
from ssl_lt.runs.config.stored import read_config
from ssl_lt.runs.inference.facts import (
    Facts,
    facts_from,
    facts_of,
    read_facts,
    read_temperature,
)
from ssl_lt.runs.inference.model import OnnxModel, TrainedModel
from ssl_lt.runs.life.find import find_run
from ssl_lt.runs.life.init_from import find_source, load_weights
from ssl_lt.runs.life.saved_run import open_run_data


def load_trained(place: str) -> TrainedModel:
    """A network on the CPU, without the data it was trained on.

    Args:
        place: a run, what `ssl-lt export` or a finished run wrote (`exported`), one of their files
            (`.safetensors`, `.onnx`), or auto: the newest run.

    Raises:
        ConfigError: there is nothing of the kind.
        CheckpointError, DataError: it is damaged or incomplete.
    """
    path = Path(place)
    with torch.random.fork_rng(devices=[]):  # networks are drawn before they are filled
        if place == "auto" or (path / "config.yaml").is_file():
            return _of_run(find_run(place))
        if (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
            return _of_folder(path, name=place, beside=path)
        if path.suffix == ".onnx" and path.is_file():
            return _of_onnx(path)
        if path.suffix == ".safetensors" and path.is_file():
            return _of_file(path)
    raise ConfigError(
        f"--run: {place} is no run (no config.yaml in it), no folder that ssl-lt export wrote, and "
        "none of its files (.safetensors, .onnx)"
    )


def load_backbone(place: str, *, backbone: str | None) -> TrainedModel:
    """The same for features alone, of anything that `--init-from` takes.

    Args:
        place: as for `load_trained`, or released weights by name, or a file of others.
        backbone: `--backbone`, which says what such a file is of.

    Raises:
        ConfigError, CheckpointError: as `load_trained`, `find_source` and `load_weights` say.
    """
    path = Path(place)
    is_ours = path.suffix == ".safetensors" and path.is_file() and _header(path) is not None
    has_config = any((path / name).is_file() for name in ("config.yaml", CONFIG))
    if place == "auto" or has_config or is_ours or path.suffix == ".onnx":
        if backbone is not None:
            raise ConfigError(f"--backbone: {place} says itself which network it is")
        return load_trained(place)
    source = find_source(place, backbone=backbone)
    if source.weights is None:
        raise ConfigError("--init-from: scratch has learned nothing")
    values = dict(source.values)
    values.setdefault("backbone", backbone or ModelOptions.backbone)
    names = {"backbone", "width", "model-kwargs"}
    model = from_mapping(
        ModelOptions, {k: v for k, v in values.items() if k in names}, default=ModelOptions()
    )
    spec = _released_images(values)
    with torch.random.fork_rng(devices=[]):
        network, _ = build_backbone(model, image_size=spec.size, seed=0)
        load_weights(network, source, model, image_size=spec.size)
    return TrainedModel(network, None, Facts(spec), name=place)


def _released_images(values: Mapping[str, Any]) -> ImageSpec:
    """What released weights expect; ImageNet's where they do not say."""
    usual = DataOptions()
    mean, std = (values.get(key) for key in ("mean", "std"))
    return ImageSpec(
        size=int(values.get("image-size", 224)),
        mean=cast(Any, tuple(mean or (0.485, 0.456, 0.406))),
        std=cast(Any, tuple(std or (0.229, 0.224, 0.225))),
        interpolation=values.get("interpolation", usual.interpolation),
        crop=float(values.get("crop-pct", usual.crop_pct)),
    )


def _of_run(run: RunFolder) -> TrainedModel:
    config = read_config(run.config).config
    weights, step = evaluated_weights(run.checkpoints)
    if run.inference.is_file():
        facts = read_facts(run.inference)
    else:  # of an earlier version
        facts = facts_of(config, open_run_data(run, config))
    name = str(run.path)
    if not isinstance(config, FinetuneConfig):
        backbone, _ = build_backbone(config.model, image_size=facts.images.size, seed=0)
        load_backbone_weights(backbone, weights)
        return TrainedModel(backbone, None, facts, name=name)
    counts = torch.tensor(facts.counts_per_class)
    backbone, _, classifier = build_networks(config, counts, image_size=facts.images.size)
    networks = nn.ModuleDict({"backbone": backbone, "classifier": classifier})
    tensors = {k: t for k, t in load_file(weights).items() if k.partition(".")[0] in networks}
    _fill(networks, tensors)
    if not config.trains_classifier:
        return TrainedModel(backbone, None, facts, name=name)
    temperature = read_temperature(run, step=step)
    return TrainedModel(backbone, classifier, replace(facts, temperature=temperature), name=name)


def _of_folder(folder: Path, *, name: str, beside: Path) -> TrainedModel:
    """What `ssl-lt export` wrote, or a finished run.

    Args:
        folder: with `config.json` and weights.
        name: for people.
        beside: where a classifier is that has a file of its own.
    """
    where = f"{name}/{CONFIG}" if folder == beside else name
    try:
        content = json.loads((folder / CONFIG).read_text("utf-8"))
        network: Any = load_exported(folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{where}: cannot be loaded: {first_line(error)}") from error
    if ABOUT not in content:
        spec = _released_images(images_of(content.get("pretrained_cfg", content)))
        return TrainedModel(_headless(network), None, Facts(spec), name=name)
    facts = facts_from(content[ABOUT], of=where)
    classifier: nn.Module | None = None
    if facts.classifier is not None:
        classifier = _classifier(facts.classifier, network, facts, beside / CLASSIFIER)
    elif network.num_classes and facts.log_prior:
        classifier = copy.deepcopy(network.get_classifier())
    return TrainedModel(_headless(network), classifier, facts, name=name)


def _of_file(path: Path) -> TrainedModel:
    """A file of an exported folder, which is taken for the folder it was in."""
    text = _header(path)
    if text is None:
        raise ConfigError(
            f"--run: {path} does not say what network it is of: ssl-lt export writes one that does"
        )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / CONFIG).write_text(text, "utf-8")
        (folder / WEIGHTS).symlink_to(path.resolve())
        return _of_folder(folder, name=str(path), beside=path.parent)


def _of_onnx(path: Path) -> TrainedModel:
    network = onnx.open_onnx(path)
    if ABOUT not in network.metadata:
        raise ConfigError(f"--run: {path} was not written by ssl-lt export --onnx")
    try:
        plain = json.loads(network.metadata[ABOUT])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return OnnxModel(path, network, facts_from(plain, of=str(path)))


def _classifier(kind: ClassifierKind, network: Any, facts: Facts, path: Path) -> nn.Module:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, and the classifier is in it")
    classifier = new_classifier(kind, feature_dim(network), len(facts.class_names))
    _fill(classifier, load_file(path))
    return classifier


def _fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    check_tensors(tensors, network.state_dict(), of="model")
    network.load_state_dict(dict(tensors))


def _headless(network: Any) -> nn.Module:
    """The network in place, without the classifier that it ends in."""
    if network.num_classes:
        network.reset_classifier(0)
    return cast(nn.Module, network.eval())


def _header(path: Path) -> str | None:
    """The `config.json` that the weights hold; None where they do not.

    Raises:
        CheckpointError: it is no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(CONFIG)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights: {error}") from error
