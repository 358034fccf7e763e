"""Training a classifier, end to end or on a frozen backbone."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ssl_lt.core.random import sample_keys
from ssl_lt.core.task import EpochAware, TrainTask
from ssl_lt.core.types import Batch, Epoch, StepOutput, View
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.losses.mixed_labels import MixedLabels
from ssl_lt.models.batch_norm import batch_norms


class ClassifierTask(TrainTask):
    """One augmented view, mixed with others where asked for, logits, a loss a sample.

    Args:
        parts: networks, view, what is tuned, and the seed.
        loss: (logits, labels) -> (B,).
    """

    epoch_number: Tensor

    def __init__(self, parts: FinetuneModules, loss: nn.Module) -> None:
        super().__init__()
        self.backbone, self.classifier, self.loss = parts.backbone, parts.classifier, loss
        self.view, self.tune, self.seed = parts.view, parts.tune, parts.seed
        self.mixer, self.keeps_statistics = parts.mixer, parts.keeps_statistics
        self.register_buffer("epoch_number", torch.zeros((), dtype=torch.int64), persistent=False)

    def train(self, mode: bool = True) -> ClassifierTask:  # noqa: FBT001, FBT002  (torch's own)
        """A backbone of which only a part learns stays in evaluation mode.

        So batch norms keep their statistics: those of few images would be worse. Where every
        weight learns they may keep them too.
        """
        super().train(mode)
        self.hold_still(self.backbone)
        return self

    def hold_still(self, backbone: nn.Module) -> None:
        """Puts what `train` says into evaluation mode."""
        if self.tune != "all":
            backbone.eval()
        elif self.keeps_statistics:
            for _, layer in batch_norms(backbone):
                layer.eval()

    def forward(self, batch: Batch) -> StepOutput:
        """View, logits, mean loss."""
        _, x, labels = self.classified(batch)
        logits = self.classifier(self.backbone(x)).float()
        with torch.autocast(logits.device.type, enabled=False):
            losses = labels.average(partial(self.loss, logits))
        return step_output(losses.mean(), losses, labels.right(logits.argmax(dim=1)))

    def classified(self, batch: Batch) -> tuple[Batch, Tensor, MixedLabels]:
        """The batch without partners; view 0 of its images and their labels, mixed if asked for."""
        views = self.view_of(batch, self.view, number=0)
        if self.mixer is None:
            return batch, views, MixedLabels(batch.labels)
        partner = self.mixer.partner_rows(len(batch), device=batch.index.device)
        own = batch.first(len(partner))
        keys = sample_keys(own.drawn, seed=self.seed, epoch=self.epoch_number, view=0)
        mixed, own_share = self.mixer(views[: len(own)], views[partner], keys)
        return own, mixed, MixedLabels(own.labels, batch.labels[partner], own_share)

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


def step_output(loss: Tensor, losses: Tensor, right: Tensor, **terms: Tensor) -> StepOutput:
    """What a step gives the engine.

    Args:
        loss: scalar with gradient.
        losses: (B,) of the samples.
        right: (B,) bool or float, whether the prediction is the label.
        **terms: parts of the loss to log beside the accuracy.
    """
    terms["train_accuracy"] = right.float().mean()
    return StepOutput(loss, {k: v.detach() for k, v in terms.items()}, losses)
