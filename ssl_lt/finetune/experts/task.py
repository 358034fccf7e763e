"""Training a classifier of several experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ssl_lt.core.types import Batch, StepOutput
from ssl_lt.finetune.experts.groups import image_shares, nested_groups
from ssl_lt.finetune.experts.options import ExpertOptions
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask, step_output
from ssl_lt.losses.complementary_experts import ComplementaryExpertsLoss
from ssl_lt.losses.expert_diversity import DiverseExpertsLoss
from ssl_lt.models.expert_classifiers import ComplementaryClassifiers, ExpertClassifiers

# (C,) training images of each class -> (logits (B, C), labels (B,)) -> (B,).
BuildLoss = Callable[[Tensor], nn.Module]


class ExpertTask(ClassifierTask):
    """One augmented view, logits of each expert, a loss of all of them a sample.

    Args:
        parts: its backbone gives (B, E * D), the features of the experts one after the other; its
            classifier is their heads, and how they become one prediction.
        loss: (E, B, C) logits, (B,) labels -> (B,).
    """

    classifier: ExpertClassifiers

    def forward(self, batch: Batch) -> StepOutput:
        """View, logits of all experts, mean loss."""
        _, x, labels = self.classified(batch)
        features = self.backbone(x)
        expert_logits = self.classifier.per_expert(features).float()
        with torch.autocast(expert_logits.device.type, enabled=False):
            losses = labels.average(partial(self.loss, expert_logits))
            predictions = self.classifier.combined(expert_logits.detach()).argmax(dim=1)
        return step_output(losses.mean(), losses, labels.right(predictions))


def expert_classifier(
    heads: Sequence[nn.Module], counts_per_class: Tensor, options: ExpertOptions
) -> ExpertClassifiers:
    """The heads as one classifier.

    Raises:
        ConfigError: an expert is left without a class.
    """
    if options.experts == "ride":
        return ExpertClassifiers(heads)
    return ComplementaryClassifiers(heads, _groups(counts_per_class, options))


def expert_loss(
    build: BuildLoss, counts_per_class: Tensor, options: ExpertOptions
) -> DiverseExpertsLoss | ComplementaryExpertsLoss:
    """The loss of all experts, from that of one.

    Raises:
        ConfigError: an expert is left without a class.
    """
    if options.experts == "ride":
        return DiverseExpertsLoss(
            build(counts_per_class),
            counts_per_class,
            weight=options.diversity_weight,
            temperature=options.diversity_temperature,
            strength=options.class_temperature,
            start=options.class_temperature_start,
        )
    groups = _groups(counts_per_class, options)
    rates = image_shares(counts_per_class, groups)
    return ComplementaryExpertsLoss(
        [build(counts_per_class[own]) for own in groups],
        groups,
        torch.ones_like(rates) if options.expert_rates == "equal" else rates,
        weight=options.interference_weight,
    )


def _groups(counts_per_class: Tensor, options: ExpertOptions) -> Tensor:
    return nested_groups(
        counts_per_class, num_experts=options.num_experts, rule=options.expert_groups
    )
