"""Training a classifier whose features stay near the centroids of their classes: DRO-LT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_lt.core.kmeans import cluster_means
from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.processes.distributed import gather_rows, mean_over_ranks, own_rows
from ssl_lt.core.types import Batch, Epoch, StepOutput
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask, step_output
from ssl_lt.losses.distributional_robustness import (
    DistributionalRobustnessOptions,
    distributional_robustness,
    frequency_weights,
)
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.logit_adjustment import LogitAdjustment


class RobustTask(ClassifierTask):
    """`LA(tau) + robust_weight * DRO`, both of one view's features (arXiv:2104.03066).

    The paper trains in three stages: cross-entropy; features with cross-entropy and this term on
    class-balanced batches; the classifier alone on such batches. Here it is one, in which
    `robust_after` is the first stage and the log-prior stands for the balanced batches. Centroids
    are those of the training images as they are, not augmented, at the start of each epoch.

    Args:
        parts: networks, view, counts and where features come from.
        options: of the loss.

    Raises:
        ConfigError: a class has no images.
    """

    classification_weights: Tensor
    robust_class_weights: Tensor | None
    is_robust: Tensor

    def __init__(self, parts: FinetuneModules, options: DistributionalRobustnessOptions) -> None:
        super().__init__(parts, LogitAdjustment(parts.counts_per_class, options))
        self.options, self.train_features = options, parts.train_features
        num_classes = len(parts.counts_per_class)
        self.radii = nn.Parameter(torch.full((num_classes,), options.radius))
        frequency = frequency_weights(parts.counts_per_class)
        weights = frequency if options.class_weights == "frequency" else torch.ones(num_classes)
        self.register_buffer("classification_weights", weights, persistent=False)
        weighted = options.robust_class_weights == "frequency"
        self.register_buffer(
            "robust_class_weights", frequency.clone() if weighted else None, persistent=False
        )
        self.register_buffer("is_robust", torch.zeros(()), persistent=False)
        self.memory = SampleMemory(
            "centroids",
            {
                "centroids": torch.zeros(num_classes, parts.num_features),
                # For which epoch they were made; -1: for none yet.
                "epoch": torch.tensor(-1),
            },
        )

    def forward(self, batch: Batch) -> StepOutput:
        """View, features, logits, two losses."""
        features = self.backbone(self.view_of(batch, self.view, number=0))
        logits = self.classifier(features).float()
        features = features.float()
        with torch.autocast(logits.device.type, enabled=False):
            weights = self.classification_weights[batch.labels]
            weights = weights / mean_over_ranks(weights.mean())
            losses = weights * self.loss(logits, batch.labels)
            classification = losses.mean()
            rows = LabelledRows(
                anchors=features,
                labels=batch.labels,
                keys=gather_rows(features),
                key_labels=gather_rows(batch.labels),
                own=own_rows(len(batch), device=features.device),
            )
            # Times 0 and not left out before its epoch: DDP waits for the gradient of the radii.
            robustness = self.is_robust * self.robustness(rows).mean()
        loss = classification + self.options.robust_weight * robustness
        right = logits.argmax(dim=1) == batch.labels
        return step_output(
            loss, losses, right, classification=classification, robustness=robustness
        )

    def robustness(self, rows: LabelledRows) -> Tensor:
        """(A,) losses of the anchors, of all ranks' rows."""
        return distributional_robustness(
            rows,
            self.memory.tables["centroids"].to(rows.anchors.dtype),
            self.radii,
            temperature=self.options.robust_temperature,
            class_weights=self.robust_class_weights,
        )

    def on_epoch_start(self, epoch: Epoch) -> None:
        """From its epoch on, takes the centroids; upon resume within an epoch they are there."""
        super().on_epoch_start(epoch)
        is_robust = epoch.number >= self.options.robust_after * epoch.total
        self.is_robust.fill_(float(is_robust))
        tables = self.memory.tables
        if not is_robust or int(tables["epoch"]) == epoch.number:
            return
        features, labels = self.train_features(self.backbone)
        device, num_classes = tables["centroids"].device, len(tables["centroids"])
        means = cluster_means(features.to(device), labels.to(device), num_classes)
        tables["centroids"].copy_(means)
        tables["epoch"].fill_(epoch.number)

    def memories(self) -> Sequence[SampleMemory]:
        """The centroids in use."""
        return (self.memory,)
