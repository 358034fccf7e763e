"""Training a classifier on a frozen backbone with a sampler that learns beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.types import Batch, Epoch, StepOutput
from ssl_lt.finetune.balance.meta_sampler import MetaSampler, MetaSamplerOptions
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask


class MetaSampledTask(ClassifierTask):
    """`ClassifierTask`, and before each step one of the meta sampler.

    Args:
        parts: with `tune` "head".
        loss: (logits, labels) -> (B,), of the classifier and of the steps the sampler tries.
        options: of the sampler.
        batch_size: global, over all ranks: every rank tries a whole batch.

    Raises:
        ConfigError: the backbone is not frozen, so its features would not stay.
    """

    def __init__(
        self,
        parts: FinetuneModules,
        loss: nn.Module,
        options: MetaSamplerOptions,
        *,
        batch_size: int,
    ) -> None:
        if parts.tune != "head":
            raise ConfigError("--sampler meta: needs --tune head: it keeps the backbone's features")
        super().__init__(parts, loss)
        self.train_features = parts.train_features
        self.sampler = MetaSampler(
            parts.counts_per_class, options, batch_size=batch_size, seed=parts.seed
        )
        # Here and not as a decorator, which would import the compiler whatever the command.
        self.learn = torch.compiler.disable(self.sampler.learn)  # type: ignore[no-untyped-call]

    def rates(self, epoch: int) -> Tensor:
        """(C,) probability that a draw is of each class, in the epoch under way and no other."""
        return self.sampler.rates

    def forward(self, batch: Batch) -> StepOutput:
        """The sampler's step, then the classifier's."""
        self.learn(self.classifier, self.loss)
        return super().forward(batch)

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Computes the features, once: the backbone does not change."""
        super().on_epoch_start(epoch)
        if self.sampler.bank is None:
            features, labels = self.train_features(self.backbone)
            self.sampler.set_features(features, labels, device=self.epoch_number.device)

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Lets the rates of the next epoch follow what was learned."""
        super().on_epoch_end(epoch)
        self.sampler.on_epoch_end()

    def memories(self) -> Sequence[SampleMemory]:
        """What the sampler knows."""
        return (*super().memories(), self.sampler.memory)
