"""Training a classifier with a contrast of two more views beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.types import Batch, Epoch, StepOutput, View
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask, step_output
from ssl_lt.finetune.tasks.weak_classes import WeakClasses
from ssl_lt.losses.feature_compression import compressed
from ssl_lt.losses.labelled_rows import LabelledRows, gathered_rows
from ssl_lt.losses.mixed_labels import MixedLabels
from ssl_lt.losses.semantic_labels import SemanticLabels
from ssl_lt.losses.supervised_contrastive import ContrastOptions
from ssl_lt.models.heads import contrast_head, prototype_head


@dataclass(frozen=True)
class Contrast:
    """What is added to a classifier; built outside the task.

    Attributes:
        loss: (`LabelledRows`, prototypes (C, P) or None) -> (A,).
        view: of the two contrastive views.
        head: (B, D) -> (B, P), projection of the features.
        prototype_head: (C, D) -> (C, P), of the classifier's weights; None: no prototypes.
        weight: of the contrast, mu.
        classification_weight: of the classification loss, lambda.
        weak_classes: compresses embeddings; None: off.
        semantic_labels: rectify the labels of mixed images, where there are prototypes; None: off.
    """

    loss: nn.Module
    view: View
    head: nn.Module
    prototype_head: nn.Module | None
    weight: float
    classification_weight: float
    weak_classes: WeakClasses | None = None
    semantic_labels: SemanticLabels | None = None


def build_contrast(loss: nn.Module, parts: FinetuneModules, options: ContrastOptions) -> Contrast:
    """The view and the heads that go with a contrast.

    Args:
        loss: of `Contrast`; it has `uses_prototypes`.
        parts: contrastive view, width of the features and number of classes.
        options: widths of the heads, weights of the losses and compression.
    """
    assert parts.contrastive_view is not None
    widths: dict[str, Any] = {"hidden_dim": options.hidden_dim, "output_dim": options.output_dim}
    head = contrast_head(parts.num_features, **widths)
    prototypes = prototype_head(parts.num_features, **widths) if loss.uses_prototypes else None
    weak_classes = WeakClasses(
        len(parts.counts_per_class),
        factor=options.compression,
        start=options.compression_start,
        held_out_accuracy=parts.held_out_accuracy,
    )
    return Contrast(
        loss,
        parts.contrastive_view,
        head,
        prototypes,
        weight=options.contrast_weight,
        classification_weight=options.classification_weight,
        weak_classes=None if options.compression == 1 else weak_classes,
    )


class ContrastTask(ClassifierTask):
    """`lambda * classification(view 0) + mu * contrast(views 1 and 2, prototypes)`.

    The step of balanced contrastive learning (arXiv:2207.09052) and of those built on it: all
    three views go through the backbone in one batch, so batch norm sees 3B pictures.
    Prototypes are a projection of the classifier's weights, to which the contrast so has a
    gradient. What is classified, evaluated and exported is `backbone` and `classifier`.

    Args:
        parts: networks, view 0, which is classified, and the seed; all of it is trained.
        loss: of the classification, (logits, labels) -> (B,).
        contrast: everything else.
    """

    weights: Tensor

    def __init__(self, parts: FinetuneModules, loss: nn.Module, contrast: Contrast) -> None:
        super().__init__(parts, loss)
        self.contrast_loss, self.contrast_view = contrast.loss, contrast.view
        self.head, self.prototype_head = contrast.head, contrast.prototype_head
        # A tensor, so that a compiled step need not be recompiled where they change.
        weights = torch.tensor([contrast.classification_weight, contrast.weight])
        self.register_buffer("weights", weights, persistent=False)
        self.weak_classes = contrast.weak_classes
        self.semantic_labels = contrast.semantic_labels

    def forward(self, batch: Batch) -> StepOutput:
        """Three views, logits and projections, two losses."""
        batch, x, labels = self.classified(batch)
        views = [x, *(self.view_of(batch, self.contrast_view, number=n) for n in (1, 2))]
        features = self.backbone(torch.cat(views))
        first, others = features.tensor_split([len(batch)])
        logits = self.classifier(first).float()
        if self.semantic_labels is None:
            mixed, projected = None, self.head(others).float()
        else:
            mixed, projected = self.head(features).float().tensor_split([len(batch)])
        # Normalised and compared in fp32: similarities are divided by a small temperature.
        z = F.normalize(projected, dim=1)
        prototypes = self.prototypes()
        with torch.autocast(logits.device.type, enabled=False):
            losses = self.classification(logits, labels, mixed)
            classification = losses.mean()
            rows = gathered_rows(z, batch.labels)
            if self.weak_classes is not None:
                rows = compressed(rows, self.weak_classes.factors)
            contrast = self.contrast(rows, prototypes, batch.index).mean()
        loss = self.weights[0] * classification + self.weights[1] * contrast
        predictions = logits.argmax(dim=1)
        right = predictions == batch.labels
        if self.weak_classes is not None:
            self.weak_classes.observe(batch.labels, right)
        if self.mixer is not None:
            right = labels.right(predictions)
        return step_output(loss, losses, right, classification=classification, contrast=contrast)

    def classification(self, logits: Tensor, labels: MixedLabels, mixed: Tensor | None) -> Tensor:
        """(B,) losses, with labels that the images' (B, P) projections rectify if asked for."""
        if self.semantic_labels is None:
            return labels.average(partial(self.loss, logits))
        losses: Tensor = self.loss(logits, self.semantic_labels(labels, mixed, self.centres()))
        return losses

    def contrast(self, rows: LabelledRows, prototypes: Tensor | None, index: Tensor) -> Tensor:
        """(2B,) losses of both views of the samples `index` (B,)."""
        found: Tensor = self.contrast_loss(rows, prototypes)
        return found

    def centres(self) -> Tensor | None:
        """(C, P), one a class, or None where the loss has none: prototypes of any length."""
        if self.prototype_head is None:
            return None
        # nn.Linear and our cosine classifier both keep one row a class.
        centres: Tensor = self.prototype_head(cast(Tensor, self.classifier.weight)).float()
        return centres

    def prototypes(self) -> Tensor | None:
        """(C, P) unit vectors, one a class, or None where the loss has none."""
        centres = self.centres()
        return None if centres is None else F.normalize(centres, dim=1)

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Lets the weak classes be found."""
        if self.weak_classes is not None:
            self.weak_classes.on_epoch_end(epoch, nn.Sequential(self.backbone, self.classifier))

    def memories(self) -> Sequence[SampleMemory]:
        """What is known of the classes."""
        return () if self.weak_classes is None else (self.weak_classes.memory,)
