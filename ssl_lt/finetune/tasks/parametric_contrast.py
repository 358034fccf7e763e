"""Training a classifier whose rows are keys of a contrast: PaCo and GPaCo.

PaCo (arXiv:2107.12028) classifies one view, the query, and compares its projection with those of
the batch's queries, of another view in a momentum encoder, and of the momentum encoder's earlier
views. GPaCo (arXiv:2209.12400) drops that encoder and with it the other view. Our reading of what
remains: one view, and a queue of earlier queries of the one network, without gradient.

MoCo shuffles the key encoder's pictures between processes, because its batch norms would else
give positives away. Here all batch norms, the key encoder's too, have the statistics of the whole
batch, or all keep those of the weights, so nothing is shuffled and N processes equal one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.processes.distributed import gather_rows, own_rows
from ssl_lt.core.types import Batch, Epoch, StepOutput
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask, step_output
from ssl_lt.finetune.tasks.key_queue import KeyQueue
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.parametric_contrastive import (
    MomentumContrastiveOptions,
    ParametricContrastiveLoss,
    ParametricContrastiveOptions,
    SmoothedContrastiveOptions,
)
from ssl_lt.models.heads import contrast_head
from ssl_lt.models.momentum_encoder import MomentumEncoder


class ParametricContrastTask(ClassifierTask):
    """Logits and queries of one view; keys of the batch and of a queue.

    What is classified, evaluated and exported is `backbone` and `classifier`, the query's.

    Args:
        parts: networks and views.
        loss: (logits, `LabelledRows`) -> (B,).
        head: (B, D) -> (B, P), projection of the features.
        queue: of keys (P,).
        key_encoder: PaCo's copy of backbone and head, which sees the contrastive view; None:
            queries are the keys, as in GPaCo.
    """

    def __init__(
        self,
        parts: FinetuneModules,
        loss: nn.Module,
        *,
        head: nn.Module,
        queue: KeyQueue,
        key_encoder: MomentumEncoder | None,
    ) -> None:
        super().__init__(parts, loss)
        self.head, self.queue = head, queue
        self.key_encoder, self.key_view = key_encoder, parts.contrastive_view

    def forward(self, batch: Batch) -> StepOutput:
        """View, logits, query; keys; mean loss."""
        features = self.backbone(self.view_of(batch, self.view, number=0))
        logits = self.classifier(features).float()
        # Normalised and compared in fp32: similarities are divided by a small temperature.
        q = F.normalize(self.head(features).float(), dim=1)
        keys, labels = [gather_rows(q)], gather_rows(batch.labels)
        if self.key_encoder is not None:
            keys.append(gather_rows(self.momentum_keys(batch)))
        with torch.autocast(logits.device.type, enabled=False):
            rows = LabelledRows(
                anchors=q,
                labels=batch.labels,
                keys=torch.cat([*keys, self.queue.keys]),
                key_labels=torch.cat([labels.repeat(len(keys)), self.queue.labels]),
                own=own_rows(len(batch), device=q.device),
            )
            losses = self.loss(logits, rows)
        self.queue.push(keys[-1], labels)
        return step_output(losses.mean(), losses, logits.argmax(dim=1) == batch.labels)

    def momentum_keys(self, batch: Batch) -> Tensor:
        """(B, P) unit vectors of view 1, from the key encoder after it has moved."""
        assert self.key_encoder is not None
        assert self.key_view is not None
        self.key_encoder.follow(self.backbone, self.head)
        x = self.view_of(batch, self.key_view, number=1)
        return F.normalize(self.key_encoder(x).float(), dim=1)

    def train(self, mode: bool = True) -> ParametricContrastTask:  # noqa: FBT001, FBT002
        """What holds for the backbone holds for the key encoder's copy of it."""
        super().train(mode)
        if self.key_encoder is not None:
            self.hold_still(self.key_encoder.copies[0])
        return self

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Before the first step of all, the key encoder is the network: weights may be loaded."""
        super().on_epoch_start(epoch)
        if self.key_encoder is not None and self.queue.is_empty():
            self.key_encoder.restart(self.backbone, self.head)

    def memories(self) -> Sequence[SampleMemory]:
        """The queue."""
        return (self.queue.memory,)


def paco(parts: FinetuneModules, options: MomentumContrastiveOptions) -> ParametricContrastTask:
    """PaCo: its key encoder is a copy of backbone and head.

    Raises:
        ConfigError: a class without images.
    """
    head = _head(parts, options)
    return ParametricContrastTask(
        parts,
        ParametricContrastiveLoss(parts.counts_per_class, options, smoothing=0.0),
        head=head,
        queue=KeyQueue(options.queue_size, options.output_dim),
        key_encoder=MomentumEncoder(parts.backbone, head, momentum=options.key_momentum),
    )


def gpaco(parts: FinetuneModules, options: SmoothedContrastiveOptions) -> ParametricContrastTask:
    """GPaCo: no second encoder, smoothed targets.

    Raises:
        ConfigError: a class without images.
    """
    return ParametricContrastTask(
        parts,
        ParametricContrastiveLoss(parts.counts_per_class, options, smoothing=options.smoothing),
        head=_head(parts, options),
        queue=KeyQueue(options.queue_size, options.output_dim),
        key_encoder=None,
    )


def _head(parts: FinetuneModules, options: ParametricContrastiveOptions) -> nn.Module:
    """Projection of the features."""
    hidden_dim = options.hidden_dim or parts.num_features
    return contrast_head(parts.num_features, hidden_dim=hidden_dim, output_dim=options.output_dim)
