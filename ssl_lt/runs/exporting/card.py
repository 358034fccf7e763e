"""What the model card of a run says: of its network, and of how that was trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ssl_lt.data.dataset import Data
from ssl_lt.data.sources.hub import name_on_hub
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models import onnx
from ssl_lt.models.classifiers import CosineClassifier
from ssl_lt.models.expert_classifiers import ComplementaryClassifiers
from ssl_lt.models.export import CLASSIFIER
from ssl_lt.models.tuning.merge import has_to_stay
from ssl_lt.report.pages.card import ModelFacts, TrainingFacts
from ssl_lt.runs.config.export import ExportConfig
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.stored import TrainConfig, effective_mapping, read_config
from ssl_lt.runs.exporting.network import ExportModules
from ssl_lt.runs.inference.facts import Temperature
from ssl_lt.runs.life.result import weights_of


def model_facts(
    run: RunFolder,
    parts: ExportModules,
    data: Data,
    config: ExportConfig,
    *,
    temperature: Temperature | None,
    checks: Sequence[str],
) -> ModelFacts:
    """Of the network that is exported.

    Args:
        run: it is of.
        parts: of it.
        data: it was trained on, with or without its images.
        config: of the export.
        temperature: of its classifier, if one was fitted.
        checks: what was compared.
    """
    from ssl_lt.models.backbones import OUR_BACKBONES

    architecture = str(parts.network.pretrained_cfg["architecture"])  # type: ignore[index]
    images, kind = data.spec, "logits" if parts.ends_in_logits else "features"
    output = f"{data.num_classes} logits" if parts.ends_in_logits else "features"
    onnx_note = (
        f"`{onnx.MODEL}` (opset {onnx.OPSET}): input `images`, float32 of shape (batch, 3, "
        f"{images.size}, {images.size}), any batch; output `{kind}`."
    )
    calibration = ""
    if temperature is not None:
        calibration = (
            f"{temperature.value:.3f}, fitted on {temperature.num_images:,} images "
            f"({temperature.images})"
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
        onnx_note=onnx_note if config.onnx else "",
        checks=tuple(checks),
        has_adapters=has_to_stay(parts.network) is not None,
        note="" if run.is_finished else "Its training was not finished.",
        temperature=calibration,
        repository=config.push or "",
    )


def training_facts(run: RunFolder, config: TrainConfig, data: Data) -> TrainingFacts:
    """Of the run that trained it."""
    stored, values = read_config(run.config), effective_mapping(config)
    tuned = isinstance(config, FinetuneConfig)
    if isinstance(config, FinetuneConfig):
        method = f"loss: {config.loss}"
    else:
        method = f"method: {' + '.join((config.method, *config.plugins))}"
    epochs = stored.epochs_before + config.fit.num_epochs
    width = f", width {values['width']}" if values.get("width") is not None else ""
    recipe = [
        method,
        f"epochs: {epochs}, in batches of {values['batch-size']} images; weights: "
        f"{weights_of(run, values)}",
        f"backbone: {values['backbone']}{width}, at {data.spec.size} x {data.spec.size} pixels",
    ]
    if values.get("tune", "all") != "all":
        recipe.append(f"trained of the backbone: --tune {values['tune']}")
    hub = name_on_hub(config.data.data, near=stored.directories)
    return TrainingFacts(
        summary="Fine-tuned with labels." if tuned else "Pretrained without labels.",
        recipe=tuple(recipe),
        started_from=stored.started_from,
        command=stored.command,
        datasets=() if hub is None else (hub,),
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


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"
