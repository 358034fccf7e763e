"""What the retraining methods work on: features of a frozen backbone, and a classifier of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import DataError
from ssl_lt.finetune.retraining.choice import best_strength
from ssl_lt.finetune.retraining.linear import SGDOptions, fit_linear
from ssl_lt.finetune.retraining.sampling import instance_rows
from ssl_lt.losses.logit_adjustment import class_log_prior


@dataclass(frozen=True)
class CachedFeatures:
    """Training and test features, all on one device.

    Attributes:
        features: (N, D) of the training images.
        labels: (N,) int64.
        queries: (M, D) of the test images; their labels are not here.
        held_out: (N,) bool: training images that choose strengths.
        num_classes: C.
        trained: (B, D) -> (B, C), frozen: the run's own classifier, which has been trained on the
            held-out images too; None where the run has none.
        origin: whose the classifier is, for a reader.
        sgd: how classifiers are fitted.
        seed: of everything random.
        validation: (V, D) features and (V,) classes to choose strengths by, in place of
            `held_out`; None where there are none.
        costs: (C, C) of threshold moving; None: by the inverse of the class frequency.
    """

    features: Tensor
    labels: Tensor
    queries: Tensor
    held_out: Tensor
    num_classes: int
    trained: nn.Module | None
    origin: str
    sgd: SGDOptions
    seed: int
    costs: Tensor | None = None
    validation: tuple[Tensor, Tensor] | None = None

    @cached_property
    def counts_per_class(self) -> Tensor:
        """(C,) int64 training images."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    @cached_property
    def log_prior(self) -> Tensor:
        """(C,) `log pi`."""
        return class_log_prior(self.counts_per_class)

    @cached_property
    def classifier(self) -> nn.Module:
        """The run's own classifier, or a plain linear one fitted to the training features."""
        everything = torch.ones_like(self.held_out)
        return self._fitted(everything) if self.trained is None else self.trained

    @cached_property
    def _classifier_for_choice(self) -> nn.Module:
        """The same, but one fitted here has not seen the held-out images."""
        return self._fitted(~self.held_out) if self.trained is None else self.trained

    def _fitted(self, rows: Tensor) -> nn.Module:
        return fit_linear(
            self.features[rows],
            self.labels[rows],
            num_classes=self.num_classes,
            options=self.sgd,
            sampling=instance_rows,
            seed=self.seed,
        )

    def choose(
        self,
        strengths: tuple[float, ...],
        predict: Callable[[nn.Module, Tensor, float], Tensor],
    ) -> tuple[float, str]:
        """A strength, and how it was found.

        Args:
            strengths: candidates; one is taken as it is.
            predict: classifier, (n, D) features, strength -> (n,) int64 classes.

        Raises:
            DataError: no training image is held out, and there are several candidates.
        """
        if len(strengths) == 1:
            return strengths[0], f"tau {strengths[0]:g} as given"
        if self.validation is not None:
            x, labels = self.validation
            trained = self.classifier
            best = best_strength(sorted(strengths), lambda tau: predict(trained, x, tau), labels)
            return best, f"tau {best:g} chosen on {len(labels):,} validation images"
        if not bool(self.held_out.any()):
            raise DataError(
                "--taus: no class has two training images, so none can be held out to choose; "
                "give one value"
            )
        classifier, x = self._classifier_for_choice, self.features[self.held_out]
        labels = self.labels[self.held_out]
        best = best_strength(sorted(strengths), lambda tau: predict(classifier, x, tau), labels)
        seen = "that the run was trained on" if self.trained is not None else "held out"
        return best, f"tau {best:g} chosen on {len(labels):,} training images {seen}"
