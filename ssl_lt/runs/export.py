"""`ssl-lt export`: a run's network as a folder that timm loads, with a model card, and as ONNX."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.folders import check_replaceable, replace_dir_atomically
from ssl_lt.core.disk.plain import to_plain
from ssl_lt.data.dataset import Data
from ssl_lt.data.sources.source import Source
from ssl_lt.data.splits.split import read_split
from ssl_lt.data.tables.table import PixelTable
from ssl_lt.engine.checkpoints.chosen import evaluated_weights
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models import onnx
from ssl_lt.models.classifiers import CosineClassifier
from ssl_lt.models.expert_classifiers import ComplementaryClassifiers, kind_of_classifier
from ssl_lt.models.export import (
    ABOUT,
    CLASSIFIER,
    RELOAD_TOLERANCE,
    WEIGHTS,
    check_same,
    save_classifier,
    save_for_timm,
    with_classifier,
)
from ssl_lt.models.tuning.exported import load_exported
from ssl_lt.models.tuning.merge import has_to_stay, merged
from ssl_lt.report.pages.card import ModelFacts, model_card
from ssl_lt.report.records.results import RunResult
from ssl_lt.runs.config.export import ExportConfig
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.stored import TrainConfig, effective_mapping, read_config
from ssl_lt.runs.inference.facts import Facts, facts_of, has_classifier, read_temperature
from ssl_lt.runs.life.find import find_run
from ssl_lt.runs.life.place import Moved, seen_images
from ssl_lt.runs.life.result import describe_data, stored_result, weights_of
from ssl_lt.runs.life.saved_run import load_network, open_run_data, run_config_of

_CARD = "README.md"
_BATCH_SIZE = 8


@dataclass(frozen=True)
class ExportModules:
    """What is exported, in evaluation mode on the CPU.

    Attributes:
        network: for timm: the backbone, with the classifier where it has a place for it; what
            `--tune` inserted is merged.
        classifier: that has to go into a file of its own, or None.
        trained: the network as the run trained it: (B, 3, S, S) -> features or logits.
    """

    network: nn.Module
    classifier: nn.Module | None
    trained: nn.Module

    @property
    def ends_in_logits(self) -> bool:
        """There is a classifier, in whichever place."""
        return self.classifier is not None or bool(getattr(self.network, "num_classes", 0))

    @property
    def exported(self) -> nn.Module:
        """Network and classifier: gives what `trained` gives."""
        if self.classifier is None:
            return self.network
        return nn.Sequential(self.network, self.classifier).eval()


def export(config: ExportConfig) -> None:
    """Writes a run's network as a folder that timm loads, with a model card.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    if config.onnx:
        onnx.check_installed()
    run = find_run(config.run)
    output = config.output or run.exported_model
    check_replaceable(output, marker=WEIGHTS, flag="--output")
    result = stored_result(run)
    run_config = run_config_of(run, moved=Moved(), num_workers=0)
    data = open_run_data(run, run_config) if result is None else _remembered(run, result)
    parts = _parts(run, run_config, data)
    batch = _batch(data.image_size)
    with torch.no_grad():
        expected = parts.trained(batch)
    about = to_plain(_usage(run, run_config, data, parts))
    with replace_dir_atomically(output) as folder:
        checks = _write_network(parts, folder, data, batch, expected, about=about)
        if config.onnx:
            checks.append(_write_onnx(parts, folder, batch, expected, about=about))
        facts = _facts(run, parts, data, checks, with_onnx=config.onnx)
        card = model_card(
            facts,
            describe_data(data) if result is None else result.data,
            result,
            training=_training(run, run_config),
            command=read_config(run.config).command,
        )
        write_text_atomically(folder / _CARD, card)
    for line in checks:
        print(f"checked: {line}")
    print(f"exported: {output.resolve()}")


def _parts(run: RunFolder, config: TrainConfig, data: Data) -> ExportModules:
    """The network of the newest checkpoint.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    saved = load_network(run, config, data)
    backbone = copy.deepcopy(saved.backbone).cpu().eval()
    if saved.task is None or not has_classifier(config):
        return ExportModules(merged(backbone), None, backbone)
    classifier = copy.deepcopy(saved.task.classifier).cpu().eval()
    trained = nn.Sequential(backbone, classifier).eval()
    plain = merged(backbone)
    joined = with_classifier(plain, classifier)
    return (
        ExportModules(plain, classifier, trained)
        if joined is None
        else ExportModules(joined, None, trained)
    )


def _remembered(run: RunFolder, result: RunResult) -> Data:
    """The data of a finished run without its images: their number, classes, and what is seen."""
    split, counts = read_split(run.split), result.data.counts_per_class
    seen = seen_images(run.exported)
    number = sum(counts) if counts else len(split.indices)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)) if counts else None
    table = PixelTable(
        torch.zeros(number, 3, 1, 1, dtype=torch.uint8),
        torch.full((number,), -1) if labels is None else labels,
    )
    source = Source(split.source, result.data.class_names, table)
    options = replace(read_config(run.config).config.data, **seen)
    return Data(source, replace(split, counts_per_class=counts), table, options)


def _batch(image_size: int) -> Tensor:
    """(B, 3, S, S) of noise, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_BATCH_SIZE, 3, image_size, image_size, generator=generator)


def _usage(run: RunFolder, config: TrainConfig, data: Data, parts: ExportModules) -> Facts:
    """What the run knows of its use, for a network that may have another classifier, or none."""
    found = facts_of(config, data)
    if not parts.ends_in_logits:
        return replace(found, log_prior=())
    _, step = evaluated_weights(run.checkpoints)
    kind = None if parts.classifier is None else kind_of_classifier(parts.classifier)
    temperature = read_temperature(run, step=step)
    return replace(found, classifier=kind, temperature=temperature)


def _write_network(
    parts: ExportModules,
    folder: Path,
    data: Data,
    batch: Tensor,
    expected: Tensor,
    *,
    about: Mapping[str, Any],
) -> list[str]:
    """Weights and configuration, read again and compared; says what was found.

    Raises:
        NumericError: what was written does not say what the run's network says.
    """
    names = data.source.class_names if parts.ends_in_logits and parts.classifier is None else ()
    save_for_timm(parts.network, folder, images=data.spec, class_names=names, about=about)
    found = load_exported(folder)
    what = "the network that timm loads" if has_to_stay(found) is None else "the loaded network"
    if parts.classifier is not None:
        save_classifier(parts.classifier, folder)
        last = copy.deepcopy(parts.classifier)
        last.load_state_dict(load_file(folder / CLASSIFIER))
        found, what = nn.Sequential(found, last.eval()), f"{what}, with {CLASSIFIER}"
    with torch.no_grad():
        difference = check_same(found(batch), expected, tolerance=RELOAD_TOLERANCE, what=what)
    return [_check(what, difference, RELOAD_TOLERANCE, len(batch))]


def _write_onnx(
    parts: ExportModules,
    folder: Path,
    batch: Tensor,
    expected: Tensor,
    *,
    about: Mapping[str, Any],
) -> str:
    """The file, run on the batch and on a smaller one.

    Raises:
        ConfigError: the network cannot be written as ONNX.
        NumericError: what was written does not say what the run's network says.
    """
    path, what = folder / onnx.MODEL, f"{onnx.MODEL} in ONNX Runtime"
    output = "logits" if parts.ends_in_logits else "features"
    onnx.save_onnx(parts.exported, path, images=batch, output=output)
    onnx.add_metadata(path, {ABOUT: json.dumps(about), "output": output})
    run = onnx.open_onnx(path)
    differences = [
        check_same(
            run(batch[:size]),
            expected[:size],
            tolerance=onnx.ONNX_TOLERANCE,
            what=f"{what}, {size} images",
        )
        for size in (len(batch), max(1, len(batch) // 3))
    ]
    return _check(what, max(differences), onnx.ONNX_TOLERANCE, len(batch))


def _check(what: str, difference: float, tolerance: float, num_images: int) -> str:
    return (
        f"{what}: differs from the run's network by at most {difference:.1e} of the largest output "
        f"on {num_images} images of noise (allowed: {tolerance:.0e})"
    )


def _facts(
    run: RunFolder, parts: ExportModules, data: Data, checks: Sequence[str], *, with_onnx: bool
) -> ModelFacts:
    from ssl_lt.models.backbones import OUR_BACKBONES

    architecture = str(parts.network.pretrained_cfg["architecture"])  # type: ignore[index]
    images, kind = data.spec, "logits" if parts.ends_in_logits else "features"
    output = f"{data.num_classes} logits" if parts.ends_in_logits else "features"
    onnx_note = (
        f"`{onnx.MODEL}` (opset {onnx.OPSET}): input `images`, float32 of shape (batch, 3, "
        f"{images.size}, {images.size}), any batch; output `{kind}`."
    )
    return ModelFacts(
        name=run.path.name,
        architecture=architecture,
        needs_import=architecture in (*OUR_BACKBONES, "cifar_experts"),
        output=output,
        is_classifier=parts.ends_in_logits,
        classifier_note=_classifier_note(parts),
        images=(
            f"RGB, {images.size} x {images.size} pixels"
            + ("" if images.crop == 1 else f", the middle {images.crop:g} of the shorter side"),
            f"pixels in 0 ... 1, minus {_numbers(images.mean)}, over {_numbers(images.std)}",
            "`timm.data.resolve_model_data_config(model)` says the same",
        ),
        onnx_note=onnx_note if with_onnx else "",
        checks=tuple(checks),
        has_adapters=has_to_stay(parts.network) is not None,
        note="" if run.is_finished else "Its training was not finished.",
    )


def _classifier_note(parts: ExportModules) -> str:
    if parts.classifier is None:
        return ""
    kind = type(parts.classifier)
    how = "a head, `heads.{e}.*`, on each of equal parts of the features; logits are their mean"
    if isinstance(parts.classifier, CosineClassifier):
        how = f"logits are {parts.classifier.scale:g} times the cosine of features and `weight`"
    elif isinstance(parts.classifier, ComplementaryClassifiers):
        how = "a head, `heads.{e}.*`, on each of equal parts of the features, put together by"
    elif isinstance(parts.classifier, nn.Linear):
        how = "logits are the features times `weight`, plus `bias`"
    return (
        f"timm gives features; the classifier is in `{CLASSIFIER}`, since the architecture has no "
        f"place for it: {how} (`{kind.__module__}.{kind.__qualname__}`)."
    )


def _training(run: RunFolder, config: TrainConfig) -> str:
    weights = weights_of(run, effective_mapping(config))
    epochs = read_config(run.config).epochs_before + config.fit.num_epochs
    how = f"{epochs} epochs; its weights: {weights}."
    if isinstance(config, FinetuneConfig):
        return f"Fine-tuned with labels, loss {config.loss}, {how}"
    method = " + ".join((config.method, *config.plugins))
    return f"Pretrained without labels: {method}, {how}"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"
