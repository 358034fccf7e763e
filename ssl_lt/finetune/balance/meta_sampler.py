"""A sampler that learns how often to draw each class (meta sampler of arXiv:2007.10740).

Class j has a logit `a_j`; an image of it is drawn with a probability proportional to
`r_j = sigmoid(a_j)`, and so the class to `n_j r_j`. Before each step the sampler tries one: it
draws a batch, takes one step of SGD with it on a copy of the classifier, and moves `a` to where
that step would have made the cross-entropy of a class-balanced batch smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn import functional as F

from ssl_lt.core.checks import check_range
from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.options import option
from ssl_lt.core.random import draw_id, integers, sample_keys, seed_of, uniform
from ssl_lt.losses.cross_entropy import cross_entropy

_SEED = draw_id("meta sampler")
_GUMBEL = draw_id("drawn classes")
_DRAWN_ROW = draw_id("drawn rows")
_BALANCED_ROW = draw_id("balanced rows")
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8  # of Adam


@dataclass(frozen=True)
class MetaSamplerOptions:
    """Learning rates of the meta sampler."""

    lr: float = option(0.01, page="all")
    """Adam's rate on the logits of the classes."""
    inner_lr: float = option(0.1, page="all")
    """Rate of the step that the sampler tries on the classifier."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a rate that is not positive."""
        check_range(self, {"lr": "(0, inf)", "inner_lr": "(0, inf)"}, prefix="meta.")


@dataclass(frozen=True)
class LabelledFeatures:
    """What the classifier is tried on: `features` (B, D) and `labels` (B,) int64."""

    features: Tensor
    labels: Tensor


def class_logits(logits: Tensor, counts_per_class: Tensor) -> Tensor:
    """(C,) `log(n_j sigmoid(a_j))`: its softmax is the probability that a class is drawn."""
    return counts_per_class.log() + F.logsigmoid(logits)


def straight_through(logits: Tensor, drawn: Tensor) -> Tensor:
    """Ones, with the gradient of the Gumbel-softmax at the class that was drawn.

    Args:
        logits: (B, C) `log P_j + g_bj` with Gumbel noise g; temperature 1.
        drawn: (B,) int64, the argmax of each row.

    Returns:
        (B,) ones.
    """
    soft = torch.softmax(logits, dim=1).gather(1, drawn[:, None])[:, 0]
    return 1 + soft - soft.detach()


def moved_weights(
    classifier: nn.Module,
    loss: nn.Module,
    rows: LabelledFeatures,
    weights: Tensor,
    *,
    lr: float,
) -> dict[str, Tensor]:
    """`theta - lr grad_theta mean_b w_b l_b(theta)`, differentiable in the weights `w` (B,)."""
    theta = {name: parameter.detach() for name, parameter in classifier.named_parameters()}

    def objective(theta: dict[str, Tensor]) -> Tensor:
        logits = functional_call(classifier, theta, (rows.features,))
        losses: Tensor = loss(logits, rows.labels)
        return (weights * losses).mean()

    gradient = grad(objective)(theta)
    return {name: theta[name] - lr * gradient[name] for name in theta}


class MetaSampler:
    """Logits of the classes, Adam's moments, and the rates of the epoch under way.

    It works on the features of the training images, which a frozen backbone computes once: the
    released code, too, trains it on the classifier alone. Where that code draws, tries and trains
    on one batch after the other, here
    - the batches that are tried come from those features (not augmented), on every rank the same;
    - what is learned takes effect in the next epoch, so that the rows of an epoch stay a function
      of its number and the saved rates;
    - the Gumbel noise is on classes and not on images: the largest of `n` Gumbel
      numbers is distributed as one plus `log n`, so classes are drawn with the same probabilities;
    - the step that is tried is plain SGD with a rate of its own. Adam does not see its scale.
    `a` starts at 0, where images are drawn uniformly, as in the released configurations.

    Args:
        counts_per_class: (C,) training images of each class.
        options: rates.
        batch_size: rows of each batch that is drawn.
        seed: of the run.
    """

    def __init__(
        self,
        counts_per_class: Tensor,
        options: MetaSamplerOptions,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        self.options, self.batch_size = options, batch_size
        self.counts_per_class, self.seed = counts_per_class, seed_of(seed, _SEED)
        zeros = torch.zeros(len(counts_per_class))
        tables = {
            "logits": zeros,
            "mean": zeros.clone(),
            "square": zeros.clone(),
            "steps": torch.zeros((), dtype=torch.int64),
            "rates": counts_per_class / counts_per_class.sum(),
        }
        self.memory = SampleMemory("meta_sampler", tables)
        self.bank: LabelledFeatures | None = None
        # Classes that have images; in the step, the host would have to wait for their number.
        self.present = torch.nonzero(counts_per_class)[:, 0]

    @property
    def rates(self) -> Tensor:
        """(C,) probability of each class in the epoch under way."""
        return self.memory.tables["rates"]

    def set_features(self, features: Tensor, labels: Tensor, *, device: torch.device) -> None:
        """Takes the (N, D) features of all training images and their (N,) labels."""
        order = torch.argsort(labels, stable=True)
        self.bank = LabelledFeatures(features[order].to(device), labels[order].to(device))
        self.counts_per_class = self.counts_per_class.to(device)
        self.present = self.present.to(device)

    def learn(self, classifier: nn.Module, loss: nn.Module) -> None:
        """One step of Adam on the logits.

        Args:
            classifier: (B, D) -> (B, C); it stays as it is.
            loss: of the step that is tried, (logits, labels) -> (B,).
        """
        noise, balanced = self._draws()
        logits = self.memory.tables["logits"]
        drawn = (class_logits(logits, self.counts_per_class) + noise).argmax(dim=1)
        rows = self._rows_of(drawn, _DRAWN_ROW)

        def outer(logits: Tensor) -> Tensor:
            weights = straight_through(class_logits(logits, self.counts_per_class) + noise, drawn)
            theta = moved_weights(classifier, loss, rows, weights, lr=self.options.inner_lr)
            outputs = functional_call(classifier, theta, (balanced.features,))
            return cross_entropy(outputs, balanced.labels).mean()

        with torch.autocast(logits.device.type, enabled=False):
            self._adam(grad(outer)(logits))

    def on_epoch_end(self) -> None:
        """The logits as they are now say what the next epoch draws."""
        logits = self.memory.tables["logits"]
        self.rates.copy_(torch.softmax(class_logits(logits, self.counts_per_class), dim=0))

    def _draws(self) -> tuple[Tensor, LabelledFeatures]:
        """(B, C) Gumbel noise, and a batch that goes round the classes that have images."""
        # `uniform` counts in steps of 2^-24; off 0 by half a step, its logarithm is finite.
        u = uniform(self._keys, _GUMBEL, len(self.counts_per_class)).clamp(min=2.0**-25)
        place = torch.arange(self.batch_size, device=self.present.device)
        turn = self.memory.tables["steps"] * self.batch_size + place
        classes = self.present[turn % len(self.present)]
        return -torch.log(-torch.log(u)), self._rows_of(classes, _BALANCED_ROW)

    @property
    def _keys(self) -> Tensor:
        steps = self.memory.tables["steps"]
        place = torch.arange(self.batch_size, device=steps.device)
        return sample_keys(place, seed=self.seed, epoch=steps, view=0)

    def _rows_of(self, classes: Tensor, draw: int) -> LabelledFeatures:
        """An image of each class, drawn uniformly."""
        assert self.bank is not None, "set_features comes first"
        starts = self.counts_per_class.cumsum(0) - self.counts_per_class
        number = integers(self._keys, draw, self.counts_per_class[classes])
        return LabelledFeatures(self.bank.features[starts[classes] + number], classes)

    def _adam(self, gradient: Tensor) -> None:
        tables = self.memory.tables
        steps = tables["steps"].add_(1)
        mean = tables["mean"].mul_(_BETA1).add_(gradient, alpha=1 - _BETA1)
        square = tables["square"].mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        deviation = (square / (1 - _BETA2**steps)).sqrt().add_(_EPSILON)
        tables["logits"].sub_(self.options.lr * mean / (1 - _BETA1**steps) / deviation)
