"""ELM: margins of the logits and of the embeddings (arXiv:2204.13208)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.checks import check_range
from ssl_lt.core.processes.distributed import gather_rows, own_rows
from ssl_lt.core.types import Batch, StepOutput
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask, step_output
from ssl_lt.losses.embedding_margin import embedding_margin
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.logit_adjustment import (
    LogitAdjustment,
    LogitAdjustmentOptions,
    class_log_prior,
)


@dataclass(frozen=True)
class ElmOptions(LogitAdjustmentOptions):
    """Options of ELM; all but tau are ours, as the equation is (see `embedding_margin`)."""

    tau: float = 1.0
    """How much of the log-prior is added to the logits."""
    embedding_tau: float = 1.0
    """How much of the log-prior makes the margins between embeddings; 0: the same for all."""
    embedding_weight: float = 0.5
    """Weight of the embedding regulariser, lambda; 0: logit adjustment."""
    temperature: float = 0.1
    """Similarities between embeddings are divided by it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges = {"embedding_tau": "[0, inf)", "embedding_weight": "[0, inf)"}
        check_range(self, {**ranges, "temperature": "(0, inf)"})


class ElmTask(ClassifierTask):
    """`LA(tau) + lambda * embedding_margin`, both of the one view that is classified.

    The embeddings are what the classifier sees, normalised: the margins are to shape those, so
    there is no projection between.

    Args:
        parts: of the task.
        options: strengths, weight and temperature.

    Raises:
        ConfigError: a class without images.
    """

    log_frequency: Tensor

    def __init__(self, parts: FinetuneModules, options: ElmOptions) -> None:
        super().__init__(parts, LogitAdjustment(parts.counts_per_class, options))
        self.weight, self.temperature = options.embedding_weight, options.temperature
        # Follows from the data, so it is not saved with the weights.
        log_frequency = options.embedding_tau * class_log_prior(parts.counts_per_class)
        self.register_buffer("log_frequency", log_frequency, persistent=False)

    def forward(self, batch: Batch) -> StepOutput:
        """View, logits, two losses."""
        features = self.backbone(self.view_of(batch, self.view, number=0))
        logits = self.classifier(features).float()
        # Normalised and compared in fp32: similarities are divided by a small temperature.
        z, labels = F.normalize(features.float(), dim=1), batch.labels
        with torch.autocast(logits.device.type, enabled=False):
            losses = self.loss(logits, labels)
            classification = losses.mean()
            own = own_rows(len(labels), device=labels.device)
            rows = LabelledRows(z, labels, gather_rows(z), gather_rows(labels), own)
            embedding = embedding_margin(rows, self.log_frequency, temperature=self.temperature)
        embedding = embedding.mean()
        loss, right = classification + self.weight * embedding, logits.argmax(dim=1) == labels
        return step_output(loss, losses, right, classification=classification, embedding=embedding)
