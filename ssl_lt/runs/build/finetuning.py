"""From a fine-tuning configuration to its networks, views, loss and task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ssl_lt.augment.mixing import Mixer
from ssl_lt.augment.views import ContrastiveView
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Epoch
from ssl_lt.data.dataset import Data
from ssl_lt.data.loading.class_sampled_plan import ClassRates, ClassSampledPlan
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.evaluate.features.embed import accuracy_on, embed_dataset
from ssl_lt.finetune.balance.class_rates import class_rates
from ssl_lt.finetune.balance.reweighting import ReweightedLoss
from ssl_lt.finetune.experts.task import ExpertTask, expert_classifier, expert_loss
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.finetune.tasks.contrast_task import ContrastTask, build_contrast
from ssl_lt.finetune.tasks.meta_sampled_task import MetaSampledTask
from ssl_lt.models.backbones import build_backbone
from ssl_lt.models.classifiers import CosineClassifier, linear_classifier
from ssl_lt.models.expert_classifiers import ExpertClassifiers
from ssl_lt.models.tuning.apply import apply_tuning
from ssl_lt.runs.build.experts import build_experts, check_experts
from ssl_lt.runs.build.mixing import check_mixing, rectifying, with_partners
from ssl_lt.runs.build.views import classified_view, view_options
from ssl_lt.runs.config.finetune import AnyFinetuneConfig


def build_task(
    config: AnyFinetuneConfig, data: Data, held_out: ImageTable | None = None
) -> ClassifierTask:
    """Networks, loss and views; initial weights follow from the seed.

    Args:
        config: the flags.
        data: what is trained on.
        held_out: validation images, which may choose what is compressed; None: none do.

    Raises:
        ConfigError: flags that do not go together.
    """
    _check_combination(config)
    check_experts(config)
    check_mixing(config)
    parts = build_parts(config, data)
    if held_out is not None:
        accuracy = accuracy_on(held_out, data, precision=config.fit.mixed_precision)
        parts = replace(parts, held_out_accuracy=accuracy)
    options, entry = config.options, config.entry
    if entry.task is not None:
        return entry.task(parts, options)
    build_loss = partial(_classification_loss, config)
    if entry.initial_bias is not None:
        set_biases(parts.classifier, entry.initial_bias(data.num_classes))
    counts = parts.counts_per_class
    if isinstance(parts.classifier, ExpertClassifiers):
        return ExpertTask(parts, expert_loss(build_loss, counts, config.ensemble))
    loss = build_loss(counts)
    if entry.contrast is not None:
        contrast = build_contrast(entry.contrast(counts, options), parts, options)
        return ContrastTask(parts, loss, rectifying(contrast, counts, config))
    if config.sampling.sampler == "meta":
        return MetaSampledTask(parts, loss, config.meta, batch_size=config.fit.batch_size)
    return ClassifierTask(parts, loss)


def _check_combination(config: AnyFinetuneConfig) -> None:
    entry, loss = config.entry, f"--loss {config.loss}"
    if config.tune == "head" and not entry.is_classification:
        raise ConfigError(f"--tune head: {loss} trains the backbone")
    if config.sampling.sampler == "meta" and not entry.is_classification:
        raise ConfigError(f"--sampler meta: {loss} is more than a classification")
    if entry.sampling == "uniform" and config.sampling.sampler != "instance":
        raise ConfigError(f"--sampler: {loss} balances its classifier by itself")
    if config.optim.sam and config.sampling.sampler == "meta":
        raise ConfigError("--sam: --sampler meta learns in each forward pass, and SAM makes two")
    if config.sharpness.sam_classes == "tail" and not entry.is_classification:
        raise ConfigError(f"--sam-classes tail: {loss} is more than a classification")
    if config.sharpness.sam_classes == "tail" and config.mixing.mix != "none":
        raise ConfigError(f"--sam-classes tail: --mix {config.mixing.mix} gives images two classes")
    if config.sharpness.sam_classes == "tail" and config.fit.compile:
        raise ConfigError("--sam-classes tail: needs two backward passes, which --compile has not")
    if entry.task is not None and config.weights.reweight != "none":
        raise ConfigError(f"--reweight: {loss} takes no class weights in its step")


def _classification_loss(config: AnyFinetuneConfig, counts_per_class: Tensor) -> nn.Module:
    """The loss of logits, with class weights where they are asked for."""
    assert config.entry.build is not None
    loss = config.entry.build(counts_per_class, config.options)
    if config.weights.reweight == "none":
        return loss
    return ReweightedLoss(loss, counts_per_class, config.weights)


def set_biases(classifier: nn.Module, value: float) -> None:
    """Sets all biases of linear layers; a cosine classifier has none."""
    for layer in classifier.modules():
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, value)


def build_networks(
    config: AnyFinetuneConfig, counts_per_class: Tensor, *, image_size: int
) -> tuple[nn.Module, int, nn.Module]:
    """The backbone, the width of its features, and the classifier; weights follow from the seed.

    Args:
        config: the flags.
        counts_per_class: (C,) training images of each class.
        image_size: in pixels.

    Raises:
        ConfigError: flags that do not go together.
    """
    num_classes = len(counts_per_class)
    new_classifier: Callable[[int, int], nn.Module] = linear_classifier
    if config.classifier == "cosine":
        new_classifier = partial(CosineClassifier, scale=config.cosine_scale)
    if config.ensemble.experts == "none":
        backbone, num_features = build_backbone(
            config.model,
            image_size=image_size,
            seed=config.run.seed,
            drop_path=config.fit.drop_path,
        )
        classifier = new_classifier(num_features, num_classes)
    else:
        backbone, num_features = build_experts(config, image_size=image_size)
        num_experts = config.ensemble.num_experts
        heads = [
            new_classifier(num_features // num_experts, num_classes) for _ in range(num_experts)
        ]
        classifier = expert_classifier(heads, counts_per_class, config.ensemble)
    apply_tuning(backbone, config.tune, num_classes=num_classes, dim=config.adapter_dim)
    return backbone, num_features, classifier


def build_parts(config: AnyFinetuneConfig, data: Data) -> FinetuneModules:
    """What the task is made of."""
    counts_per_class = torch.tensor(data.split.counts_per_class)
    backbone, num_features, classifier = build_networks(
        config, counts_per_class, image_size=data.image_size
    )
    precision = config.fit.mixed_precision

    def train_features(network: nn.Module) -> tuple[Tensor, Tensor]:
        train = embed_dataset(network, data.train, data, precision=precision)
        return train.features, train.labels

    return FinetuneModules(
        backbone=backbone,
        num_features=num_features,
        classifier=classifier,
        view=classified_view(config, data),
        contrastive_view=None
        if config.entry.views == 1
        else ContrastiveView(view_options(config.view, data), data.spec),
        counts_per_class=counts_per_class,
        tune=config.tune,
        keeps_statistics=config.batch_norm == "keep",
        train_features=train_features,
        seed=config.run.seed,
        mixer=None if config.mixing.mix == "none" else Mixer(config.mixing),
    )


def sampled_plan(
    plan: BatchSchedule, task: ClassifierTask, config: AnyFinetuneConfig, data: Data
) -> BatchSchedule:
    """The plan with the rows that `--sampler` draws, and with partners where they are read.

    Raises:
        ConfigError: `--sampler effective` with a class without images, or images without a partner.
    """
    labels = data.train.labels.cpu()
    if config.sampling.sampler != "instance":
        rates = _rates(plan, task, config, data)
        plan = ClassSampledPlan(plan.num_samples, plan.batch_size, plan.seed, labels, rates)
    return with_partners(plan, labels, config)


def _rates(
    plan: BatchSchedule, task: ClassifierTask, config: AnyFinetuneConfig, data: Data
) -> ClassRates:
    if isinstance(task, MetaSampledTask):
        return task.rates
    counts = torch.tensor(data.split.counts_per_class)
    epochs = [
        Epoch(number, config.fit.num_epochs, plan.steps_per_epoch)
        for number in range(config.fit.num_epochs)
    ]
    return [class_rates(counts, config.sampling, epoch) for epoch in epochs].__getitem__
