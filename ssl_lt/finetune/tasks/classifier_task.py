"""Training a classifier, end to end or on a frozen backbone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lt.core.random import sample_keys
from ssl_lt.core.task import EpochAware, TrainTask
from ssl_lt.core.types import Batch, Epoch, StepOutput, View


class ClassifierTask(TrainTask):
    """One augmented view, logits, a loss a sample.

    Args:
        backbone: (B, 3, S, S) -> (B, D).
        classifier: (B, D) -> (B, C).
        loss: (logits, labels) -> (B,).
        view: the augmentation.
        trained: "all", or "classifier": the backbone keeps weights and running statistics.
        seed: of the run.
    """

    epoch_number: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        loss: nn.Module,
        view: View,
        *,
        trained: Literal["all", "classifier"],
        seed: int,
    ) -> None:
        super().__init__()
        self.backbone, self.classifier, self.loss, self.view = backbone, classifier, loss, view
        self.trained, self.seed = trained, seed
        self.backbone.requires_grad_(trained == "all")
        self.register_buffer("epoch_number", torch.zeros((), dtype=torch.int64), persistent=False)

    def train(self, mode: bool = True) -> ClassifierTask:  # noqa: FBT001, FBT002  (torch's own)
        """A frozen backbone stays in evaluation mode, its running statistics with it."""
        super().train(mode)
        if self.trained == "classifier":
            self.backbone.eval()
        return self

    def forward(self, batch: Batch) -> StepOutput:
        """View, logits, mean loss."""
        x = self.view_of(batch, self.view, number=0)
        logits = self.classifier(self.backbone(x)).float()
        with torch.autocast(logits.device.type, enabled=False):
            losses = self.loss(logits, batch.labels)
        right = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        return StepOutput(losses.mean(), {"train_accuracy": right}, losses.detach())

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Tells the views, and the parts that ask for it, which epoch it is."""
        self.epoch_number.fill_(epoch.number)
        for part in self.modules():
            if isinstance(part, EpochAware):
                part.on_epoch_start(epoch)

    def view_of(self, batch: Batch, view: View, *, number: int) -> Tensor:
        """(B, 3, S, S): the `number`-th view of each sample."""
        keys = sample_keys(batch.drawn, seed=self.seed, epoch=self.epoch_number, view=number)
        # Pixels are resampled by matrix products, which autocast would round to 8 bits.
        with torch.no_grad(), torch.autocast(batch.images.device.type, enabled=False):
            if batch.images.ndim == 5:
                return view.after_crop(batch.images[:, number], keys)
            return view(batch.images, keys)
